//! What an Upstream amounts to.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use k8s_openapi::api::core::v1::ServicePort;

use crate::base::ObjectName;
use crate::lb::{BalancerConfig, Policy};
use crate::snapshot::{Affinity, CircuitBreakers, ConnectionOptions};
use crate::translate::gloo::findings::Findings;

/// How the hosts of a backend are chosen and reached.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClusterSettings {
    /// How a host is chosen.
    pub balancer: BalancerConfig,
    /// How it is reached.
    pub connection: ConnectionOptions,
    /// Let pooled connections go when the set of hosts changes.
    pub close_connections_on_host_set_change: bool,
    /// Hash the hosts' names, not their addresses.
    pub hash_hostnames: bool,
    /// What an AffinityPolicy asks for of requests whose rule has none.
    pub affinity: Option<Arc<Affinity>>,
    /// What the cluster may have at once.
    pub circuit_breakers: CircuitBreakers,
}

/// A compiled Upstream.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CompiledUpstream {
    /// How hosts are chosen and reached.
    pub settings: ClusterSettings,
    /// Where they come from.
    pub hosts: UpstreamHosts,
    /// Requests are answered 500; why.
    pub refused: Option<Box<str>>,
    /// For the status.
    pub findings: Findings,
    /// The Service named, whether it exists or not: the Upstream depends on it, on grants in its namespace, and on its slices.
    pub service: Option<ObjectName>,
    /// DNS names of static hosts, to be resolved; the Upstream depends on them.
    pub dns_names: BTreeSet<Box<str>>,
}

/// Where the hosts of an Upstream come from.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum UpstreamHosts {
    /// None: the Upstream is refused, or its Service or port does not exist.
    #[default]
    None,
    /// The endpoints of this port of `CompiledUpstream::service`.
    Service(Box<ServicePort>),
    /// Addresses and names.
    Static(Box<[CompiledHost]>),
}

/// A host of a static Upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompiledHost {
    /// As written: the key with `useHostnameForHashing`.
    pub name: Box<str>,
    /// The address, if `name` is one; else `name` is to be resolved.
    pub address: Option<IpAddr>,
    /// Port.
    pub port: u16,
    /// Weight, at least 1.
    pub weight: u32,
}

// === impl CompiledUpstream ===

impl CompiledUpstream {
    /// Whether a host is chosen by a hash of the request.
    pub fn uses_hash(&self) -> bool {
        matches!(self.settings.balancer.policy, Policy::RingHash(_) | Policy::Maglev(_))
    }
}
