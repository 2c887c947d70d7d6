//! The Gateways that are ancestors of policies: through these requests come to what the policies are for.

use std::collections::BTreeSet;

use crate::base::{Kind, ObjectName, ObjectRef};
use crate::translate::route::{CompiledRoute, Dependency};

use super::{Pass, memo::Memo, object};

impl Pass<'_> {
    /// The Gateways through which requests come to these targets: to a Service also by way of Upstreams, to a route by its parents.
    pub(super) fn ancestors<'a>(&self, targets: impl IntoIterator<Item = &'a ObjectRef>) -> BTreeSet<ObjectName> {
        let targets: BTreeSet<&ObjectRef> = targets.into_iter().collect();
        targets.into_iter().flat_map(|target| self.gateways_to(target)).collect()
    }

    fn gateways_to(&self, target: &ObjectRef) -> BTreeSet<ObjectName> {
        let Memo { gloo, routes, .. } = &*self.memo;
        let of = |route: &CompiledRoute| route.attachments.iter().map(|attachment| (*attachment.gateway).clone()).collect::<Vec<_>>();
        if target.kind.is_route() {
            return routes.named(target).into_iter().flat_map(of).collect();
        }
        let upstreams = if target.kind == Kind::Service { gloo.upstreams_of(&target.name) } else { Vec::new() };
        let backends = upstreams.iter().map(|name| object(Kind::Upstream, name)).chain([target.clone()]);
        let users = backends.flat_map(|backend| routes.dependents(&Dependency::Object(backend)).cloned().collect::<Vec<_>>());
        users.filter_map(|route| routes.named(&route)).flat_map(of).collect()
    }
}
