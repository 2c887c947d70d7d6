//! Small snapshots for tests.

use std::{net::SocketAddr, sync::Arc};

use http::{HeaderValue, StatusCode};

use crate::base::{Kind, ObjectName};
use crate::lb::{Balancer, BalancerConfig, LbHost, MaglevConfig, Policy, RingConfig, WeightedSplit, host_key};
use crate::plan::{ForwardPlan, KeySource};
use crate::snapshot::{
    Action, Backend, BackendName, Bind, BindProtocol, CircuitBreakers, ClientProfile, Cluster, ClusterId, ClusterState, ConnectionOptions,
    CookiePolicy, Filters, FixedReply, Forward, HashPolicy, HashSource, Host, HostMapBuilder, HostRoutes, Hostname, Listener, Matcher,
    PathMatch, RouteEntry, RouteName, RoutePolicy, Rule, Snapshot, TableState, Target,
};

pub(super) fn ring() -> Policy {
    Policy::RingHash(RingConfig::default())
}

pub(super) fn maglev() -> Policy {
    Policy::Maglev(MaglevConfig::default())
}

pub(super) fn upstream(name: &str) -> BackendName {
    BackendName { kind: Kind::Upstream, name: ObjectName::new("gloo-system", name), port: None, policy: None, is_persistent: false }
}

pub(super) fn cluster(id: u32, name: &str, addresses: &[&str], policy: Policy) -> Arc<Cluster> {
    let addresses: Vec<SocketAddr> = addresses.iter().map(|address| address.parse().unwrap()).collect();
    let hosts: Vec<LbHost> = addresses.iter().map(|&address| LbHost::new(host_key(address))).collect();
    let config = BalancerConfig { policy, ..BalancerConfig::default() };
    let balancer = Arc::new(Balancer::build(&hosts, &config).unwrap());
    let host = |address: &SocketAddr| Host {
        address: *address,
        text: address.to_string().into(),
        hash_key: None,
        pod: None,
        weight: 1,
        slot: None,
        placed_since: None,
        admits: Default::default(),
        live: None,
    };
    Arc::new(Cluster {
        id: ClusterId(id),
        name: upstream(name),
        state: ClusterState::Ready,
        no_hosts: None,
        hosts: addresses.iter().map(host).collect(),
        vacant: Box::default(),
        balancer,
        balancer_config: config,
        held: None,
        affinity: None,
        table_state: TableState::Built,
        connection: ConnectionOptions::default(),
        close_connections_on_host_set_change: false,
        circuit_breakers: CircuitBreakers::default(),
        live: Arc::default(),
    })
}

/// Of a request with this hash, to the first host.
pub(super) fn forward_plan(cluster: &Arc<Cluster>, hash: u64) -> ForwardPlan {
    ForwardPlan {
        cluster: Arc::clone(cluster),
        hash: Some(hash),
        selection: hash,
        protocol: Default::default(),
        tls: None,
        host: 0,
        entry: 0,
        key_source: KeySource::Header,
        set_cookie: Default::default(),
        session: None,
        follows: None,
    }
}

pub(super) fn refused(id: u32, name: &str) -> Arc<Cluster> {
    let cluster = Arc::try_unwrap(cluster(id, name, &["10.0.0.1:80"], ring())).unwrap();
    Arc::new(Cluster { state: ClusterState::Refused("min > max".into()), ..cluster })
}

pub(super) fn snapshot(binds: Vec<Bind>, clusters: Vec<Arc<Cluster>>) -> Snapshot {
    Snapshot {
        binds: binds.into_iter().map(|bind| (bind.bound_to(), Arc::new(bind))).collect(),
        clusters: clusters.into_iter().map(Some).collect(),
    }
}

pub(super) fn bind_with_profile(use_remote_address: bool, xff_num_trusted_hops: u32) -> Bind {
    let profile = ClientProfile {
        use_remote_address,
        xff_num_trusted_hops,
        server_header: HeaderValue::from_static("envoy"),
        path: Default::default(),
        headers_with_underscores: Default::default(),
    };
    Bind { profile: Arc::new(profile), ..bind(8080, "http", vec![]) }
}

/// A bind with one listener for each hostname.
pub(super) fn bind(port: u16, gateway: &str, listeners: Vec<(&str, Vec<HostRoutes>)>) -> Bind {
    let mut map = HostMapBuilder::new();
    for (index, (hostname, hosts)) in listeners.into_iter().enumerate() {
        let hostname = Hostname::parse(hostname);
        let hosts = hosts.into_iter().map(|routes| (routes.hostname.clone(), Arc::new(routes))).collect::<HostMapBuilder<_>>().build();
        let name = if index == 0 { "http".into() } else { format!("http-{index}").into() };
        map.insert(hostname.clone(), Arc::new(Listener { name, hostname, refusal: None, hosts }));
    }
    Bind {
        address: SocketAddr::from(([0, 0, 0, 0], port)),
        gateway: Arc::new(ObjectName::new("gloo-system", gateway)),
        port,
        protocol: BindProtocol::Http,
        profile: Arc::new(ClientProfile {
            use_remote_address: false,
            xff_num_trusted_hops: 0,
            server_header: HeaderValue::from_static("envoy"),
            path: Default::default(),
            headers_with_underscores: Default::default(),
        }),
        host_identity: None,
        listeners: map.build(),
    }
}

/// Routes of a hostname: one entry and rule for each path prefix.
pub(super) fn routes(hostname: &str, rules: Vec<(&str, Rule)>) -> HostRoutes {
    let entry = |(prefix, rule): (&str, Rule)| RouteEntry {
        path: PathMatch::prefix(prefix),
        matcher: Matcher::default(),
        rule: Arc::new(rule),
        match_index: 0,
    };
    HostRoutes::build(Hostname::parse(hostname), rules.into_iter().map(entry).collect())
}

pub(super) fn rule(index: u16, action: Action, hash: Vec<HashPolicy>) -> Rule {
    Rule {
        route: Arc::new(RouteName { kind: Kind::HttpRoute, name: ObjectName::new("gloo-system", "httpbin") }),
        index,
        action,
        filters: None,
        policy: Arc::new(RoutePolicy { hash: hash.into(), ..RoutePolicy::default() }),
    }
}

pub(super) fn with_filters(rule: Rule, filters: Filters) -> Rule {
    Rule { filters: Some(Box::new(filters)), ..rule }
}

pub(super) fn forward(targets: &[(u32, Target)]) -> Action {
    let weights: Vec<u32> = targets.iter().map(|(weight, _)| *weight).collect();
    let backend = |(_, target): &(u32, Target)| Backend { name: Arc::new(upstream("httpbin")), target: target.clone(), filters: None };
    Action::Forward(Forward { split: WeightedSplit::new(&weights), hash_split: None, backends: targets.iter().map(backend).collect() })
}

pub(super) fn to_cluster(id: u32) -> Action {
    forward(&[(1, Target::Cluster(ClusterId(id)))])
}

pub(super) fn invalid() -> Target {
    Target::Invalid(FixedReply { status: StatusCode::INTERNAL_SERVER_ERROR, reason: "Service default/x does not exist".into() })
}

/// The guide's cookie.
pub(super) fn cookie_policy() -> HashPolicy {
    HashPolicy {
        source: HashSource::Cookie(CookiePolicy {
            name: "hashbasedcookie".into(),
            ttl_seconds: Some(60),
            set_cookie_suffix: "; Max-Age=60; Path=/; HttpOnly".into(),
            secure_over_https: false,
        }),
        terminal: true,
    }
}

/// The guide: one Upstream with three pods behind a ring.
pub(super) fn guide() -> Snapshot {
    let pods = ["10.244.0.3:8080", "10.244.0.4:8080", "10.244.0.5:8080"];
    let routes = routes("httpbin.example", vec![("/", rule(0, to_cluster(0), vec![cookie_policy()]))]);
    snapshot(vec![bind(8080, "http", vec![("", vec![routes])])], vec![cluster(0, "httpbin", &pods, ring())])
}
