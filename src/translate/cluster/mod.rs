//! Clusters: hosts, the table that chooses among them, and what is kept of the previous cluster.

mod held;
pub(super) mod ids;
mod inputs;
mod table;
pub mod table_requests;

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use k8s_openapi::api::core::v1::{Service, ServicePort};

use crate::base::{AffinityKeys, Message, ObjectName, ObjectRef, text::word};
use crate::lb::{Policy, host_key};
use crate::snapshot::{BackendName, Cluster, ClusterId, ClusterLive, Host, UpstreamTls};

use crate::translate::affinity::{AffinitySettings, Identity};
use crate::translate::backend::app_protocol;
use crate::translate::backend::endpoints::{Endpoint, EndpointRules, Endpoints, Gap, Reach, endpoints, reach, service_port};
use crate::translate::backend::upstream::{
    BackendView, ClusterSettings, CompiledHost, CompiledUpstream, UpstreamHosts, is_external_name, service_settings,
};

use crate::translate::slots::{
    desired::Need,
    place::{Placed, place},
    pods::Pods,
};

pub use inputs::{ClusterInputs, RingDemand, RingLimits};

use table::ClusterTable;
use table_requests::Tables;

/// How TLS is spoken to the hosts of a cluster, or why nothing is sent to them.
pub type PortTls = Result<Arc<UpstreamTls>, String>;

/// What policies ask for of a cluster.
#[derive(Clone, Debug, Default)]
pub struct ClusterPolicies {
    /// How TLS is spoken to its hosts; `None`: no BackendTLSPolicy is for it.
    pub tls: Option<PortTls>,
    /// What the AffinityPolicy asks for that counts for it, or why nothing is sent to it; `None`: no policy is for it.
    pub(in crate::translate) affinity: Option<Result<Arc<AffinitySettings>, String>>,
    /// What tags of hosts are made with, where there is anything.
    pub affinity_keys: Option<Arc<AffinityKeys>>,
    /// It is for rules whose sessions are persistent.
    pub is_persistent: bool,
}

/// A cluster, and what an operator should read about it.
#[derive(Clone, Debug)]
pub struct BuiltCluster {
    /// The cluster: the previous one if nothing changed.
    pub cluster: Arc<Cluster>,
    /// Deterministic order.
    pub notices: Vec<String>,
    /// What it asks for of the points of all rings.
    pub ring: RingDemand,
    /// Why it has no hosts, where that stays until somebody changes something.
    pub gap: Option<Gap>,
    /// When one of its hosts takes a larger share, in seconds since the epoch.
    pub due: Option<u64>,
}

/// The cluster of a compiled Upstream.
#[expect(clippy::too_many_arguments, reason = "what it is, what it may have, and what there is of it already")]
pub fn upstream_cluster(
    id: ClusterId,
    name: &BackendName,
    upstream: &CompiledUpstream,
    policies: &ClusterPolicies,
    view: &impl BackendView,
    rules: EndpointRules,
    rings: RingLimits,
    previous: Option<&Arc<Cluster>>,
    tables: &mut Tables,
) -> BuiltCluster {
    let rules = policies.endpoint_rules(rules);
    let (mut found, gap) = match &upstream.hosts {
        UpstreamHosts::None => (Endpoints::default(), None),
        UpstreamHosts::Service(port) => {
            let service = upstream.service.as_ref().and_then(|service| Some((service, view.service(service)?)));
            service.map(|(name, service)| service_endpoints(name, service, port, view, rules)).unwrap_or_default()
        }
        UpstreamHosts::Static(hosts) => (static_endpoints(hosts, &upstream.settings, view, rules), None),
    };
    let placed = policies.place(&mut found.list, name, view, |hosts| pods_of_upstream(upstream, hosts, view));
    let settings = policies.over(&upstream.settings);
    let refused = upstream.refused.as_deref().or_else(|| policies.refusal());
    let no_hosts = (refused.is_none() && found.list.is_empty()).then(|| upstream_without_hosts(upstream, gap.as_ref()));
    let inputs = ClusterInputs {
        id,
        name,
        settings: &settings,
        refused,
        endpoints: &found.list,
        vacant: &placed.vacant,
        draining: &found.draining,
        affinity_keys: policies.keys(),
        no_hosts,
        previous,
    };
    let ring = inputs.ring(rings);
    let cluster = build(&ClusterInputs { refused: refused.or(ring.refusal.as_deref()), ..inputs }, tables);
    let notices =
        refused_notices(name, &found).into_iter().chain(gap_notice(name, gap.as_ref().filter(|_| policies.refusal().is_none()))).collect();
    BuiltCluster { cluster, notices, ring, gap: gap.filter(Gap::is_structural), due: placed.due }
}

/// The cluster of a port of a Service that a route names directly. A Service or port that does not exist gives no hosts: routes answer for that
/// by themselves.
#[expect(clippy::too_many_arguments, reason = "what it is, what it may have, and what there is of it already")]
pub fn service_cluster(
    id: ClusterId,
    name: &BackendName,
    policies: &ClusterPolicies,
    view: &impl BackendView,
    rules: EndpointRules,
    rings: RingLimits,
    previous: Option<&Arc<Cluster>>,
    tables: &mut Tables,
) -> BuiltCluster {
    let rules = policies.endpoint_rules(rules);
    let service = view.service(&name.name);
    let external = service.is_some_and(is_external_name);
    let port = service.filter(|_| !external).and_then(|service| Some((service, service_port(service, name.port?)?)));
    let protocol = port.map(|(service, port)| app_protocol::protocol(service, port)).unwrap_or_default();
    let (settings, mut notices) = service.map(|service| service_settings(service, protocol)).unwrap_or_default();
    let (mut found, gap) = port.map(|(service, port)| service_endpoints(&name.name, service, port, view, rules)).unwrap_or_default();
    let placed = policies.place(&mut found.list, name, view, |_| {
        service.map(|service| Pods::of_service(service, &view.slices(&name.name))).unwrap_or_default()
    });
    let settings = policies.over(&settings);
    let refused = external.then(|| format!("{name} is of type ExternalName: expected a Service with endpoints"));
    let no_hosts = gap.as_ref().map(|gap| Message::from(gap.to_string()));
    let inputs = ClusterInputs {
        id,
        name,
        settings: &settings,
        refused: refused.as_deref().or_else(|| policies.refusal()),
        endpoints: &found.list,
        draining: &found.draining,
        affinity_keys: policies.keys(),
        vacant: &placed.vacant,
        no_hosts,
        previous,
    };
    let ring = inputs.ring(rings);
    let cluster = build(&ClusterInputs { refused: inputs.refused.or(ring.refusal.as_deref()), ..inputs }, tables);
    notices.extend(ring.refusal.iter().map(|refusal| format!("{name}: {refusal}")));
    notices.extend(refused_notices(name, &found));
    notices.extend(gap_notice(name, gap.as_ref().filter(|_| policies.refusal().is_none())));
    BuiltCluster { cluster, notices, ring, gap: gap.filter(Gap::is_structural), due: placed.due }
}

// === impl ClusterPolicies ===

impl ClusterPolicies {
    /// The settings with what the policies ask for laid over them.
    fn over<'a>(&self, settings: &'a ClusterSettings) -> Cow<'a, ClusterSettings> {
        let mut settings = Cow::Borrowed(settings);
        if let Some(Ok(tls)) = &self.tls {
            settings.to_mut().connection.tls = Some(Arc::clone(tls));
        }
        if let Some(Ok(affinity)) = &self.affinity {
            let settings = settings.to_mut();
            affinity.table.apply(&mut settings.balancer);
            settings.affinity = Some(Arc::clone(&affinity.affinity));
        }
        settings
    }

    /// Why nothing is sent to the cluster. Plain text instead of TLS would be unsafe, and sessions would be lost without their affinity.
    fn refusal(&self) -> Option<&str> {
        let of_affinity = self.affinity.as_ref().and_then(|affinity| affinity.as_ref().err());
        self.tls.as_ref().and_then(|tls| tls.as_ref().err()).or(of_affinity).map(String::as_str)
    }

    /// Lays the map of slots over the hosts, where a policy asks for one.
    fn place(
        &self,
        endpoints: &mut [Endpoint],
        name: &BackendName,
        view: &impl BackendView,
        pods: impl FnOnce(&[Endpoint]) -> Pods,
    ) -> Placed {
        let Some(Ok(affinity)) = &self.affinity else { return Placed::default() };
        if Need::of([&**affinity]).is_none() {
            return Placed::default();
        }
        let map = view.slots(&ObjectRef { kind: name.kind, name: name.name.clone() });
        let pods = pods(endpoints);
        place(endpoints, &affinity.table, map, &pods, view.second())
    }

    fn endpoint_rules(&self, rules: EndpointRules) -> EndpointRules {
        let identity = self.affinity.as_ref().and_then(|affinity| affinity.as_ref().ok()).map(|affinity| affinity.table.identity);
        EndpointRules { by_ordinal: identity == Some(Identity::Ordinal), keeps_draining: self.keys().is_some(), ..rules }
    }

    /// What tags of the cluster's hosts are made with; `None`: it holds no sessions.
    fn keys(&self) -> Option<&Arc<AffinityKeys>> {
        let of_affinity = || self.affinity.as_ref()?.as_ref().ok()?.affinity.hold.as_ref();
        self.affinity_keys.as_ref().filter(|_| self.is_persistent || of_affinity().is_some())
    }
}

/// Who is there of the hosts of an Upstream.
pub(in crate::translate) fn pods_of_upstream(upstream: &CompiledUpstream, hosts: &[Endpoint], view: &impl BackendView) -> Pods {
    match (&upstream.hosts, &upstream.service) {
        (UpstreamHosts::Service(_), Some(name)) => {
            view.service(name).map(|service| Pods::of_service(service, &view.slices(name))).unwrap_or_default()
        }
        (UpstreamHosts::Static(_) | UpstreamHosts::None | UpstreamHosts::Service(_), _) => Pods::of_hosts(hosts),
    }
}

/// The hosts of a static Upstream, for whoever asks who is there.
pub(in crate::translate) fn static_hosts(
    hosts: &[CompiledHost],
    settings: &ClusterSettings,
    view: &impl BackendView,
    rules: EndpointRules,
) -> Vec<Endpoint> {
    static_endpoints(hosts, settings, view, rules).list
}

/// The addresses of a port of a Service; where there are none, why.
fn service_endpoints(
    name: &ObjectName,
    service: &Service,
    port: &ServicePort,
    view: &impl BackendView,
    rules: EndpointRules,
) -> (Endpoints, Option<Gap>) {
    let slices = view.slices(name);
    let found = endpoints(service, port, slices.iter().copied(), rules);
    let gap = found.list.is_empty().then(|| Gap::of(name, service, port, &slices, || view.stray_slice(name)));
    (found, gap)
}

/// Why an Upstream has no hosts.
fn upstream_without_hosts(upstream: &CompiledUpstream, gap: Option<&Gap>) -> Message {
    match (&upstream.hosts, gap) {
        (_, Some(gap)) => gap.to_string().into(),
        (UpstreamHosts::Static(hosts), None) => {
            let names: Vec<_> = hosts.iter().filter(|host| host.address.is_none()).map(|host| word(&host.name).to_string()).collect();
            format!("none of its hosts has an address; names: {}", names.join(", ")).into()
        }
        (UpstreamHosts::None | UpstreamHosts::Service(_), None) => {
            let findings = upstream.findings.errors.iter().chain(&upstream.findings.warnings);
            findings.map(Message::as_str).collect::<Vec<_>>().join("; ").into()
        }
    }
}

fn gap_notice(name: &BackendName, gap: Option<&Gap>) -> Option<String> {
    gap.map(|gap| format!("{name} is answered 503: {gap}"))
}

/// Builds a cluster, or returns the previous one if it is the same.
fn build(inputs: &ClusterInputs<'_>, tables: &mut Tables) -> Arc<Cluster> {
    let settings = inputs.settings;
    let ClusterTable { endpoints, balancer, table_state, state, no_hosts } = table::table(inputs, tables);
    let draining = if endpoints.is_empty() { &[] } else { inputs.draining };
    let held = held::held(inputs, endpoints, draining);
    if let Some(previous) = inputs.previous
        && previous.balancer_config == settings.balancer
        && previous.id == inputs.id
        && previous.name == *inputs.name
        && previous.state == state
        && previous.no_hosts == no_hosts
        && previous.connection == settings.connection
        && previous.affinity == settings.affinity
        && previous.close_connections_on_host_set_change == settings.close_connections_on_host_set_change
        && previous.circuit_breakers == settings.circuit_breakers
        && previous.table_state == table_state
        && *previous.vacant == *inputs.vacant
        && (Arc::ptr_eq(&previous.balancer, &balancer) || (previous.hosts.is_empty() && endpoints.is_empty()))
        && previous.held == held
        && same_hosts(previous.balanced(), endpoints)
        && same_hosts(previous.draining(), draining)
    {
        return Arc::clone(previous);
    }
    Arc::new(Cluster {
        id: inputs.id,
        name: inputs.name.clone(),
        state,
        no_hosts,
        hosts: hosts(inputs, endpoints.iter().chain(draining)),
        held,
        vacant: inputs.vacant.into(),
        balancer,
        balancer_config: settings.balancer.clone(),
        affinity: settings.affinity.clone(),
        table_state,
        connection: settings.connection.clone(),
        close_connections_on_host_set_change: settings.close_connections_on_host_set_change,
        circuit_breakers: settings.circuit_breakers,
        live: live(inputs),
    })
}

/// The counters: those of the version before, whatever has changed.
fn live(inputs: &ClusterInputs<'_>) -> Arc<ClusterLive> {
    let before = inputs.previous.filter(|previous| previous.name == *inputs.name);
    before.map(|previous| Arc::clone(&previous.live)).unwrap_or_default()
}

/// The hosts; text and counters are those of the previous cluster where it has the address.
fn hosts<'e>(inputs: &ClusterInputs<'_>, endpoints: impl Iterator<Item = &'e Endpoint>) -> Box<[Host]> {
    let balancer = &inputs.settings.balancer;
    let counted = matches!(balancer.policy, Policy::LeastRequest { .. }) || balancer.hash_balance_factor.is_some();
    let previous: HashMap<SocketAddr, &Host> =
        inputs.previous.into_iter().flat_map(|cluster| &cluster.hosts).map(|host| (host.address, host)).collect();
    let host = |endpoint: &Endpoint| {
        let known = previous.get(&endpoint.address);
        Host {
            address: endpoint.address,
            text: known.map_or_else(|| host_key(endpoint.address).into(), |host| Arc::clone(&host.text)),
            hash_key: endpoint.hash_key.clone(),
            pod: endpoint.pod.clone(),
            weight: endpoint.weight,
            slot: endpoint.slot,
            placed_since: endpoint.placed_since,
            admits: endpoint.admits,
            live: counted.then(|| known.and_then(|host| host.live.clone()).unwrap_or_default()),
        }
    };
    endpoints.map(host).collect()
}

fn same_hosts(hosts: &[Host], endpoints: &[Endpoint]) -> bool {
    let same = |(host, endpoint): (&Host, &Endpoint)| {
        host.address == endpoint.address
            && host.weight == endpoint.weight
            && host.hash_key == endpoint.hash_key
            && host.slot == endpoint.slot
            && host.placed_since == endpoint.placed_since
            && host.admits == endpoint.admits
            && host.pod == endpoint.pod
    };
    hosts.len() == endpoints.len() && hosts.iter().zip(endpoints).all(same)
}

/// The hosts of a static Upstream, names by what they were resolved to.
fn static_endpoints(hosts: &[CompiledHost], settings: &ClusterSettings, view: &impl BackendView, rules: EndpointRules) -> Endpoints {
    let mut found = Endpoints::default();
    for host in hosts {
        let addresses = match host.address {
            Some(address) => Arc::from([address]),
            None => view.dns(&host.name).unwrap_or_default(),
        };
        for ip in addresses.iter().map(IpAddr::to_canonical) {
            match reach(ip, rules) {
                Reach::Reachable => found.list.push(Endpoint {
                    weight: host.weight,
                    hash_key: settings.hash_hostnames.then(|| (*host.name).into()),
                    ..Endpoint::new(SocketAddr::new(ip, host.port))
                }),
                Reach::NoRoute => {}
                Reach::Forbidden => {
                    found.refused.insert(ip);
                }
            }
        }
    }
    // In the order of the resource, as Gloo sends them: a ring can depend on it.
    let mut seen = HashSet::new();
    found.list.retain(|endpoint| seen.insert((endpoint.address, endpoint.hash_key.clone())));
    found
}

fn refused_notices(name: &BackendName, found: &Endpoints) -> Vec<String> {
    let notice =
        |ip: &IpAddr| format!("{name}: endpoint {ip} is left out: requests are not sent to loopback, link-local and multicast addresses");
    found.refused.iter().map(notice).collect()
}

#[cfg(test)]
mod tests;
