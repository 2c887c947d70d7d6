//! One host of a cluster: a pod's address and port.

use std::{
    fmt,
    net::SocketAddr,
    sync::{Arc, atomic::AtomicU32},
};

use crate::lb::Admits;

/// An address that serves requests of a cluster.
#[derive(Clone, Debug)]
pub struct Host {
    /// Pod address and target port.
    pub address: SocketAddr,
    /// `address` as text, as logs, `explain` and the hash key write it.
    pub text: Arc<str>,
    /// What is hashed in the place of `text`: the host's name, with Gloo's `useHostnameForHashing`.
    pub hash_key: Option<Arc<str>>,
    /// The pod behind the address, where known.
    pub pod: Option<Arc<PodRef>>,
    /// Load-balancing weight, at least 1.
    pub weight: u32,
    /// The slot whose number is hashed.
    pub slot: Option<u32>,
    /// Since when it has the slot, or waits for one, in seconds since the epoch; where slots are hashed.
    pub placed_since: Option<u64>,
    /// Which of the hashes that fall on it it takes.
    pub admits: Admits,
    /// Counters that outlive snapshots; present only where a balancer or breaker reads them.
    pub live: Option<Arc<HostLive>>,
}

/// The pod behind an address: part of the key of pooled connections, so that a reused address is not taken for the old pod.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodRef {
    /// Namespace of the pod.
    pub namespace: Box<str>,
    /// Name of the pod.
    pub name: Box<str>,
    /// UID of the pod; empty if unknown.
    pub uid: Box<str>,
}

impl fmt::Display for PodRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Live counters of a (cluster, address), one for all workers.
#[derive(Debug, Default)]
pub struct HostLive {
    /// Requests in flight.
    pub active: AtomicU32,
}
