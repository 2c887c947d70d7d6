//! Names of Kubernetes objects.

use std::fmt;

use super::{kind::Kind, text::word};

/// Namespace and name of an object; the namespace is empty for cluster-scoped kinds.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName {
    /// Namespace, empty for cluster-scoped kinds.
    pub namespace: Box<str>,
    /// Name within the namespace.
    pub name: Box<str>,
}

/// Kind, namespace and name: what a message, a status or a dependency points at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectRef {
    /// Kind of the object.
    pub kind: Kind,
    /// Namespace and name of the object.
    pub name: ObjectName,
}

// === impl ObjectName ===

impl ObjectName {
    /// A namespaced name; pass an empty namespace for cluster-scoped kinds.
    pub fn new(namespace: impl Into<Box<str>>, name: impl Into<Box<str>>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for ObjectName {
    /// Names in references are foreign text: nobody has checked them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&*self.namespace, &*self.name) {
            ("", "") => Ok(()),
            ("", name) => word(name).fmt(f),
            (namespace, name) => write!(f, "{}/{}", word(namespace), word(name)),
        }
    }
}

// === impl ObjectRef ===

impl ObjectRef {
    /// A reference to the object of this kind and name.
    pub fn new(kind: Kind, namespace: impl Into<Box<str>>, name: impl Into<Box<str>>) -> Self {
        Self { kind, name: ObjectName::new(namespace, name) }
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}
