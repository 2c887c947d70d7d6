//! A hand-made snapshot, and a proxy that serves it.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use clingfish::{
    base::{Kind, ObjectName, Published},
    lb::{Balancer, BalancerConfig, LbHost, Policy, WeightedSplit},
    proxy::{ProxyConfig, Running},
    snapshot::{
        Action, Backend, BackendName, Bind, BindAddress, BindProtocol, CircuitBreakers, ClientProfile, Cluster, ClusterId, ClusterLive,
        ClusterState, ConnectionOptions, Filters, Forward, Host, HostMap, HostMapBuilder, HostRoutes, Hostname, Listener, Matcher,
        PathMatch, PathNormalization, RouteEntry, RouteName, RoutePolicy, Rule, Snapshot, TableState, Target,
    },
    telemetry::{AccessLog, Metrics},
};

use super::{Client, eventually};

/// A configuration in the making: every cluster is served under `/` or under a prefix of its own.
#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) binds: Vec<SocketAddr>,
    pub(crate) clusters: Vec<Served>,
    /// What is done to paths.
    pub(crate) path: PathNormalization,
}

/// A cluster with the prefix that leads to it.
#[derive(Clone, Debug)]
pub(crate) struct Served {
    pub(crate) prefix: &'static str,
    pub(crate) hosts: Vec<SocketAddr>,
    pub(crate) options: ConnectionOptions,
    pub(crate) policy: RoutePolicy,
    pub(crate) lb: Policy,
    pub(crate) close_on_change: bool,
    /// The kind of the route.
    pub(crate) kind: Kind,
    /// Filters of the rule.
    pub(crate) filters: Option<Filters>,
    /// Filters of its one backend.
    pub(crate) backend_filters: Option<Filters>,
    /// What the rule does instead of forwarding.
    pub(crate) instead: Option<Action>,
    pub(crate) breakers: CircuitBreakers,
    pub(crate) live: Arc<ClusterLive>,
}

/// A running proxy.
pub(crate) struct Proxy {
    pub(crate) running: Running,
    pub(crate) published: Arc<Published<Snapshot>>,
    pub(crate) metrics: Arc<Metrics>,
    bind: SocketAddr,
}

/// The bind that tests use unless they are about binds.
pub(crate) fn any_port() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

impl World {
    /// Everything goes to these hosts.
    pub(crate) fn to(hosts: &[SocketAddr]) -> Self {
        Self { binds: vec![any_port()], clusters: vec![Served::new("", hosts)], path: PathNormalization::default() }
    }

    /// Changes the first cluster.
    pub(crate) fn with(mut self, change: impl FnOnce(&mut Served)) -> Self {
        change(&mut self.clusters[0]);
        self
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        let clusters: Vec<_> = self.clusters.iter().enumerate().map(|(index, served)| Some(Arc::new(served.cluster(index)))).collect();
        let entries = self.clusters.iter().enumerate().map(|(index, served)| served.entry(index)).collect();
        let mut hosts = HostMapBuilder::new();
        hosts.insert(Hostname::Any, Arc::new(HostRoutes::build(Hostname::Any, entries)));
        let listener = Arc::new(Listener { name: "http".into(), hostname: Hostname::Any, refusal: None, hosts: hosts.build() });
        let binds = self.binds.iter().map(|address| (BindAddress::tcp(*address), Arc::new(bind(*address, &listener, self.path)))).collect();
        Snapshot { binds, clusters: clusters.into() }
    }

    /// Starts a proxy with one worker.
    pub(crate) fn start(&self) -> Proxy {
        self.start_with(ProxyConfig::default())
    }

    pub(crate) fn start_with(&self, config: ProxyConfig) -> Proxy {
        self.start_all(config, None)
    }

    /// Starts a proxy with one worker that logs its requests.
    pub(crate) fn start_logged(&self, log: &AccessLog) -> Proxy {
        self.start_all(ProxyConfig::default(), Some(log))
    }

    pub(crate) fn start_all(&self, config: ProxyConfig, log: Option<&AccessLog>) -> Proxy {
        let published = Arc::new(Published::new(Arc::new(self.snapshot())));
        let metrics = Metrics::new(config.workers);
        let running = clingfish::proxy::start(config, &published, &metrics, log).unwrap();
        let proxy = Proxy { running, published, metrics, bind: self.binds[0] };
        proxy.wait_for(1);
        proxy
    }
}

impl Served {
    pub(crate) fn new(prefix: &'static str, hosts: &[SocketAddr]) -> Self {
        Self {
            prefix,
            hosts: hosts.to_vec(),
            options: ConnectionOptions::default(),
            policy: RoutePolicy::default(),
            // Without a hash policy the first host is random; the order of the hosts is the ring's.
            lb: Policy::RoundRobin,
            close_on_change: false,
            kind: Kind::HttpRoute,
            filters: None,
            backend_filters: None,
            instead: None,
            breakers: CircuitBreakers::default(),
            live: Arc::default(),
        }
    }

    fn cluster(&self, index: usize) -> Cluster {
        let lb_hosts: Vec<_> = self.hosts.iter().map(|address| LbHost::new(address.to_string())).collect();
        let config = BalancerConfig { policy: self.lb.clone(), ..BalancerConfig::default() };
        let hosts = self.hosts.iter().map(|address| Host {
            address: *address,
            text: address.to_string().into(),
            hash_key: None,
            pod: None,
            weight: 1,
            slot: None,
            placed_since: None,
            admits: Default::default(),
            live: None,
        });
        Cluster {
            id: ClusterId(u32::try_from(index).unwrap()),
            name: BackendName {
                kind: Kind::Upstream,
                name: ObjectName::new("test", format!("upstream-{index}")),
                port: None,
                policy: None,
                is_persistent: false,
            },
            state: ClusterState::Ready,
            no_hosts: None,
            hosts: hosts.collect(),
            vacant: Box::default(),
            balancer: Arc::new(Balancer::build(&lb_hosts, &config).unwrap()),
            balancer_config: config,
            held: None,
            affinity: None,
            table_state: TableState::Built,
            connection: self.options.clone(),
            close_connections_on_host_set_change: self.close_on_change,
            circuit_breakers: self.breakers,
            live: Arc::clone(&self.live),
        }
    }

    fn entry(&self, index: usize) -> RouteEntry {
        let name = BackendName {
            kind: Kind::Upstream,
            name: ObjectName::new("test", format!("upstream-{index}")),
            port: None,
            policy: None,
            is_persistent: false,
        };
        let target = Target::Cluster(ClusterId(u32::try_from(index).unwrap()));
        let backend = Backend { name: Arc::new(name), target, filters: self.backend_filters.clone().map(Box::new) };
        let forward = || Action::Forward(Forward { split: WeightedSplit::new(&[1]), hash_split: None, backends: Arc::new([backend]) });
        let rule = Rule {
            route: Arc::new(RouteName { kind: self.kind, name: ObjectName::new("test", "route") }),
            index: u16::try_from(index).unwrap(),
            action: self.instead.clone().unwrap_or_else(forward),
            filters: self.filters.clone().map(Box::new),
            policy: Arc::new(self.policy.clone()),
        };
        RouteEntry { path: PathMatch::Prefix(self.prefix.into()), matcher: Matcher::default(), rule: Arc::new(rule), match_index: 0 }
    }
}

fn bind(address: SocketAddr, listener: &Arc<Listener>, path: PathNormalization) -> Bind {
    let mut listeners: HostMapBuilder<Listener> = HostMapBuilder::new();
    listeners.insert(Hostname::Any, Arc::clone(listener));
    let listeners: HostMap<Listener> = listeners.build();
    Bind {
        address,
        gateway: Arc::new(ObjectName::new("test", "http")),
        port: 8080,
        protocol: BindProtocol::Http,
        profile: Arc::new(ClientProfile {
            use_remote_address: true,
            xff_num_trusted_hops: 0,
            server_header: http::HeaderValue::from_static("clingfish"),
            path,
            headers_with_underscores: Default::default(),
        }),
        host_identity: None,
        listeners,
    }
}

impl Proxy {
    /// Replaces the configuration, without waiting.
    pub(crate) fn publish(&self, world: &World) -> u64 {
        self.published.publish(Arc::new(world.snapshot()))
    }

    /// Replaces the configuration and waits until every worker follows it.
    pub(crate) fn apply(&self, world: &World) {
        let generation = self.publish(world);
        self.wait_for(generation);
    }

    fn wait_for(&self, generation: u64) {
        let bound = self.running.bound();
        eventually("the workers to follow the snapshot", || bound.borrow().generation() >= generation);
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address_of(self.bind)
    }

    pub(crate) fn address_of(&self, bind: SocketAddr) -> SocketAddr {
        self.running.bound().borrow().local(BindAddress::tcp(bind)).expect("bound")
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(self.address())
    }

    /// One number out of the metrics; 0 where the series does not exist.
    pub(crate) fn metric(&self, series: &str) -> f64 {
        let text = self.metrics.render();
        text.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok()).unwrap_or(0.0)
    }

    /// Drains, and says whether everything was finished in time.
    pub(crate) fn drain(self, min: Duration, max: Duration) -> bool {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(self.running.drain(min, max))
    }
}
