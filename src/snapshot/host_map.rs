//! Lookup by hostname: exact, wildcard, any. (Placeholder of the owner's file: keep the names.)

use std::sync::Arc;

/// A hostname of a listener or a route, lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hostname {
    /// Exactly this name.
    Exact(Box<str>),
    /// `*.suffix`: one or more labels before the suffix; holds the suffix without `*.`.
    Wildcard(Box<str>),
    /// No hostname: every request.
    #[default]
    Any,
}

/// Values by hostname. The cost of a lookup does not grow with the number of hostnames, that of replacing one value hardly.
#[derive(Clone, Debug)]
pub struct HostMap<T> {
    entries: Vec<(Hostname, Arc<T>)>,
}

/// Collects the values of a `HostMap`.
#[derive(Debug)]
pub struct HostMapBuilder<T> {
    entries: Vec<(Hostname, Arc<T>)>,
}

impl<T> Default for HostMap<T> {
    fn default() -> Self {
        Self { entries: Vec::new() }
    }
}
