//! Clusters: hosts, the table that chooses among them, and what is kept of the previous cluster.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use crate::base::Kind;
use crate::lb::{Balancer, HostHealth, LbHost, Policy, host_key};
use crate::snapshot::{BackendName, Cluster, ClusterId, ClusterState, Host};

use super::endpoints::{Endpoint, EndpointRules, Endpoints, Reach, endpoints, reach, service_port, sort_and_dedup};
use super::upstream::{BackendView, ClusterSettings, CompiledUpstream, UpstreamHosts, is_external_name, service_settings};

/// What a cluster is built from.
#[derive(Debug)]
pub struct ClusterInputs<'a> {
    /// The id under which routes name it.
    pub id: ClusterId,
    /// The backend it stands for.
    pub name: &'a BackendName,
    /// How hosts are chosen and reached.
    pub settings: &'a ClusterSettings,
    /// Requests are answered 500; why.
    pub refused: Option<&'a str>,
    /// The hosts, in order.
    pub endpoints: &'a [Endpoint],
    /// The cluster of the last translation: returned as it is if nothing changed, else a source of counters.
    pub previous: Option<&'a Arc<Cluster>>,
}

/// A cluster, and what an operator should read about it.
#[derive(Clone, Debug)]
pub struct BuiltCluster {
    /// The cluster: the previous one if nothing changed.
    pub cluster: Arc<Cluster>,
    /// Deterministic order.
    pub notices: Vec<String>,
}

/// The cluster of a compiled Upstream.
pub fn upstream_cluster(
    id: ClusterId,
    name: &BackendName,
    upstream: &CompiledUpstream,
    view: &impl BackendView,
    rules: EndpointRules,
    previous: Option<&Arc<Cluster>>,
) -> BuiltCluster {
    let found = match &upstream.hosts {
        UpstreamHosts::None => Endpoints::default(),
        UpstreamHosts::Service(port) => {
            let service = upstream.service.as_ref().and_then(|service| Some((service, view.service(service)?)));
            service.map_or_else(Endpoints::default, |(name, service)| endpoints(service, port, view.slices(name), rules))
        }
        UpstreamHosts::Static(_) => static_endpoints(upstream, view, rules),
    };
    let refused = upstream.refused.as_deref();
    let inputs = ClusterInputs { id, name, settings: &upstream.settings, refused, endpoints: &found.list, previous };
    BuiltCluster { cluster: build(&inputs), notices: refused_notices(name, &found) }
}

/// The cluster of a port of a Service that a route names directly. A Service or port that does not exist gives no hosts: routes answer for that
/// by themselves.
pub fn service_cluster(
    id: ClusterId,
    name: &BackendName,
    view: &impl BackendView,
    rules: EndpointRules,
    previous: Option<&Arc<Cluster>>,
) -> BuiltCluster {
    debug_assert_eq!(name.kind, Kind::Service);
    let service = view.service(&name.name);
    let (settings, mut notices) = service.map(service_settings).unwrap_or_default();
    let external = service.is_some_and(is_external_name);
    let port = service.filter(|_| !external).and_then(|service| Some((service, service_port(service, name.port?)?)));
    let found = port.map_or_else(Endpoints::default, |(service, port)| endpoints(service, port, view.slices(&name.name), rules));
    let refused = external.then(|| format!("{name} is of type ExternalName: expected a Service with endpoints"));
    let inputs = ClusterInputs { id, name, settings: &settings, refused: refused.as_deref(), endpoints: &found.list, previous };
    let cluster = build(&inputs);
    notices.extend(refused_notices(name, &found));
    BuiltCluster { cluster, notices }
}

/// Builds a cluster, or returns the previous one if it is the same.
pub fn build(inputs: &ClusterInputs<'_>) -> Arc<Cluster> {
    let settings = inputs.settings;
    let same_table = inputs.previous.filter(|previous| previous.balancer_config == settings.balancer);
    let state = inputs.refused.map_or(ClusterState::Ready, |reason| ClusterState::Refused(reason.into()));
    if let Some(previous) = same_table
        && previous.id == inputs.id
        && previous.name == *inputs.name
        && previous.state == state
        && previous.connection == settings.connection
        && previous.close_connections_on_host_set_change == settings.close_connections_on_host_set_change
        && previous.hash_hostnames == settings.hash_hostnames
        && same_hosts(&previous.hosts, inputs.endpoints)
    {
        return Arc::clone(previous);
    }
    let lb_hosts: Vec<LbHost> = inputs.endpoints.iter().map(lb_host).collect();
    let (balancer, state) = match Balancer::build(&lb_hosts, &settings.balancer) {
        Ok(balancer) => (balancer, state),
        Err(error) => (Balancer::default(), ClusterState::Refused(format!("{}: no table of its hosts: {error}", inputs.name).into())),
    };
    Arc::new(Cluster {
        id: inputs.id,
        name: inputs.name.clone(),
        state,
        hosts: hosts(inputs),
        balancer,
        balancer_config: settings.balancer.clone(),
        connection: settings.connection.clone(),
        close_connections_on_host_set_change: settings.close_connections_on_host_set_change,
        hash_hostnames: settings.hash_hostnames,
    })
}
