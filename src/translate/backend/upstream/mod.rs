//! Upstream: where requests go and how a host is chosen. Every field is honoured, answered with a warning, or refused by name.

mod hosts;
mod settings;

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use k8s_openapi::api::{
    core::v1::{Service, ServicePort},
    discovery::v1::EndpointSlice,
};

use crate::api::{Upstream, object_name};
use crate::base::{ObjectName, text::several};
use crate::lb::{BalancerConfig, Policy};
use crate::snapshot::{Affinity, CircuitBreakers, ConnectionOptions, UpstreamProtocol};
use crate::translate::gloo::fields::{UPSTREAM_FIELDS, survey};
use crate::translate::gloo::status::Findings;
use crate::translate::options::CrossNamespace;

use super::endpoints::{EndpointRules, StraySlice};

pub(in crate::translate) use hosts::is_external_name;
pub use settings::{annotation_for_tls, service_settings};

/// What translation of backends reads.
pub trait BackendView {
    /// The Service of this name.
    fn service(&self, name: &ObjectName) -> Option<&Service>;
    /// The EndpointSlices of the Service (by label `kubernetes.io/service-name`), in any order.
    fn slices(&self, service: &ObjectName) -> Vec<&EndpointSlice>;
    /// Whether Upstreams of `namespace` may name this Service of another namespace.
    fn may_reference(&self, namespace: &str, service: &ObjectName) -> bool;
    /// Addresses of a DNS name; `None`: not resolved yet.
    fn dns(&self, name: &str) -> Option<Arc<[IpAddr]>>;
    /// An EndpointSlice that may be meant for a Service that has none.
    fn stray_slice(&self, service: &ObjectName) -> Option<StraySlice>;
}

/// Whether Upstreams of `namespace` may name a Service of another namespace: what `BackendView::may_reference` answers. `granted` says whether
/// a ReferenceGrant in the Service's namespace allows it.
pub fn may_cross_namespaces(setting: &CrossNamespace, namespace: &str, granted: impl FnOnce() -> bool) -> bool {
    match setting {
        CrossNamespace::Any => true,
        CrossNamespace::ReleaseNamespace(release) => **release == *namespace || granted(),
        CrossNamespace::Grant => granted(),
    }
}

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

/// Compiles an Upstream.
pub fn compile(upstream: &Upstream, view: &impl BackendView, rules: EndpointRules) -> CompiledUpstream {
    let spec = &upstream.spec;
    let name = object_name(&upstream.metadata);
    let mut compiled = CompiledUpstream::default();
    for field in survey(spec, UPSTREAM_FIELDS, &mut compiled.findings) {
        compiled.findings.refuse(field.message);
    }
    if spec.use_http2 == Some(true) {
        compiled.settings.connection = ConnectionOptions::of(UpstreamProtocol::H2c);
    }
    settings::settings(spec, &mut compiled);
    settings::proxy_protocol(spec, &mut compiled);
    let awaited = match (&spec.kube, &spec.static_hosts) {
        (Some(_), Some(_)) => {
            compiled.findings.refuse("fields spec.kube and spec.static are both set: expected one of them".to_owned());
            None
        }
        (None, None) => {
            // A backend of another kind was refused by name already.
            if compiled.findings.errors.is_empty() {
                compiled.findings.refuse("neither spec.kube nor spec.static is set: expected one of them".to_owned());
            }
            None
        }
        (Some(kube), None) => hosts::service_hosts(&name, kube, view, &mut compiled),
        (None, Some(listed)) => {
            hosts::static_hosts(listed, rules, &mut compiled);
            None
        }
    };
    if !compiled.findings.errors.is_empty() {
        compiled.refused = Some(format!("Upstream {name} is rejected: {}", several(&compiled.findings.errors)).into());
        compiled.hosts = UpstreamHosts::None;
    }
    // A Service that is not there yet is an error to its author, but no refusal: requests are answered 503 until it comes.
    compiled.findings.errors.extend(awaited.map(Into::into));
    compiled
}

// === impl CompiledUpstream ===

impl CompiledUpstream {
    /// Whether a host is chosen by a hash of the request.
    pub fn uses_hash(&self) -> bool {
        matches!(self.settings.balancer.policy, Policy::RingHash(_) | Policy::Maglev(_))
    }
}

#[cfg(test)]
pub(in crate::translate) mod tests;
