//! References to backends.

/// A reference to a backend, wherever it stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reference<'a> {
    pub(super) group: Option<&'a str>,
    pub(super) kind: Option<&'a str>,
    pub(super) namespace: Option<&'a str>,
    pub(super) name: &'a str,
    pub(super) port: Option<i32>,
}

/// Reads a reference, whatever the generated type is called.
macro_rules! reference {
    ($written:expr) => {
        $crate::translate::route::reference::Reference {
            group: $written.group.as_deref(),
            kind: $written.kind.as_deref(),
            namespace: $written.namespace.as_deref(),
            name: &$written.name,
            port: $written.port,
        }
    };
}

pub(super) use reference;
