//! What is seen and not declared.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

/// Everything that translation reads beside the declared resources.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// Sockets that the workers report. An address that is absent was not tried yet.
    pub bound: BTreeMap<SocketAddr, BindState>,
    /// Addresses of DNS names that static Upstreams use; absent: not resolved yet.
    pub dns: BTreeMap<Box<str>, Arc<[IpAddr]>>,
    /// The machine has an IPv6 address that is neither loopback nor link-local: IPv6 endpoints are reachable.
    pub ipv6: bool,
}

/// What became of binding a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BindState {
    /// All workers listen on it.
    Bound,
    /// It cannot be bound; the system's words.
    Failed(Box<str>),
}
