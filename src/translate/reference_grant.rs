//! ReferenceGrant: who may refer into another namespace.

use crate::base::Kind;
use crate::translate::Resources;

/// A reference that leaves its namespace.
#[derive(Clone, Copy, Debug)]
pub struct CrossReference<'a> {
    /// Kind that refers.
    pub from: Kind,
    /// Namespace of the object that refers.
    pub from_namespace: &'a str,
    /// Kind referred to.
    pub to: Kind,
    /// Namespace of the object referred to.
    pub to_namespace: &'a str,
    /// Name of the object referred to.
    pub to_name: &'a str,
}

impl CrossReference<'_> {
    /// Whether the reference stays in its namespace or a ReferenceGrant there permits it.
    pub fn is_permitted(&self, resources: &Resources) -> bool {
        self.from_namespace == self.to_namespace || resources.grants_in(self.to_namespace).any(|grant| self.is_granted_by(&grant.spec))
    }

    fn is_granted_by(&self, grant: &gateway_api::experimental::referencegrants::ReferenceGrantSpec) -> bool {
        let from = grant
            .from
            .iter()
            .any(|from| from.group == self.from.group() && from.kind == self.from.as_str() && from.namespace == self.from_namespace);
        from && grant.to.iter().any(|to| {
            // An empty name is no name, as the API server's defaulting would have it.
            let named = to.name.as_deref().filter(|name| !name.is_empty());
            to.group == self.to.group() && to.kind == self.to.as_str() && named.is_none_or(|name| name == self.to_name)
        })
    }
}
