//! A cluster: the hosts of one backend, with the table that chooses among them.

use std::{fmt, sync::Arc, time::Duration};

use crate::base::{Kind, Message, ObjectName, ObjectRef};
use crate::lb::{Admits, Balancer, BalancerConfig, LbHost};

use super::{Affinity, CircuitBreakers, ClusterLive, HeldHosts, Host, UpstreamTls, transport::TransportPort};

/// Dense number of a cluster within the snapshots of one process; stable while a route uses the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId(pub u32);

/// The backend of a cluster: `Upstream ns/name`, `Service ns/name:port` or, of UDP, `Service ns/name:port/UDP`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackendName {
    /// `Kind::Upstream` or `Kind::Service`.
    pub kind: Kind,
    /// The object.
    pub name: ObjectName,
    /// The Service's port; `None` for an Upstream.
    pub port: Option<TransportPort>,
    /// The AffinityPolicy of a route that says how its hosts are chosen; `None`: the backend itself does. Its clusters are apart.
    pub policy: Option<Box<ObjectName>>,
    /// It is for rules whose sessions are persistent: its hosts have tags, and serve their sessions to their end. Its clusters are apart.
    pub is_persistent: bool,
}

/// The hosts of one backend and how to choose and reach them.
#[derive(Debug)]
pub struct Cluster {
    /// The dense id under which routes name it.
    pub id: ClusterId,
    /// Its backend.
    pub name: BackendName,
    /// Whether requests may be sent at all.
    pub state: ClusterState,
    /// Why it has no hosts, if it takes requests and has none.
    pub no_hosts: Option<Message>,
    /// The hosts in the order the balancer was built with; `lb::Choice::host` indexes it. Behind them those that no table has: they are about
    /// to end, and serve the sessions that they have.
    pub hosts: Box<[Host]>,
    /// Slots without a host, by number: in the table they follow the hosts, and nobody is sent to them.
    pub vacant: Box<[VacantSlot]>,
    /// The tags of the hosts; `None`: the cluster holds no sessions.
    pub held: Option<Arc<HeldHosts>>,
    /// Chooses among `hosts`.
    pub balancer: Arc<Balancer>,
    /// What `balancer` is built from, beside the hosts, once its table is built. `simulate` builds others from it.
    pub balancer_config: BalancerConfig,
    /// What an AffinityPolicy for the backend asks for, where that of a rule does not.
    pub affinity: Option<Arc<Affinity>>,
    /// Whether `balancer` has the table of these hosts, or another one serves until that is built.
    pub table_state: TableState,
    /// How to reach the hosts.
    pub connection: ConnectionOptions,
    /// Gloo's `closeConnectionsOnHostSetChange`: let every pooled connection of this cluster go when the set of hosts changes.
    pub close_connections_on_host_set_change: bool,
    /// Its limits on connections and requests.
    pub circuit_breakers: CircuitBreakers,
    /// The counts for these limits; shared with its earlier versions.
    pub live: Arc<ClusterLive>,
}

/// A slot that nobody holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VacantSlot {
    /// What is hashed.
    pub number: u32,
    /// Since when it waits for an heir, in seconds since the epoch; `None`: its holder is known and is no host at the moment.
    pub since: Option<u64>,
}

/// The table of a cluster without some of its hosts.
#[derive(Debug)]
pub struct Reduced {
    balancer: Balancer,
    /// The hosts that stay, as indexes into `Cluster::hosts`.
    hosts: Box<[u32]>,
}

/// Whether a cluster takes requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClusterState {
    /// Requests go to its hosts; without any, the answer is 503.
    Ready,
    /// The backend is misconfigured (for example a rejected Upstream): every request is answered 500. Holds the reason.
    Refused(Message),
}

/// What a cluster's requests are balanced by. Large tables take a while to build.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TableState {
    /// The table of its hosts, or a policy that needs none.
    #[default]
    Built,
    /// The table before: hosts that stay keep their keys, those of hosts that are gone go to whoever follows in the table, new hosts have
    /// none.
    CarriedOver,
    /// A small table of its hosts: none of those before is left.
    Provisional,
    /// Nothing: it has had no hosts so far, and gets them with their table.
    Awaited,
}

/// How to reach the hosts of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionOptions {
    /// Time to establish a connection before the next host is tried.
    pub connect_timeout: Duration,
    /// Time after which an idle pooled connection is closed.
    pub idle_timeout: Duration,
    /// Requests after which a connection is not used again; `None`: unlimited.
    pub max_requests_per_connection: Option<u32>,
    /// How hosts are told who the client is, before the first byte of each connection; `None`: they are not.
    pub proxy_protocol: Option<ProxyProtocolVersion>,
    /// Protocol spoken to the hosts.
    pub protocol: UpstreamProtocol,
    /// How TLS is spoken to them; `None`: it is not.
    pub tls: Option<Arc<UpstreamTls>>,
}

/// Versions of the PROXY protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyProtocolVersion {
    /// A line of text.
    V1,
    /// Bytes.
    V2,
}

/// Protocol spoken to the hosts of a cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum UpstreamProtocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2, without an upgrade from HTTP/1.1.
    H2c,
}

// === impl UpstreamProtocol ===

impl UpstreamProtocol {
    /// Its name in ALPN (RFC 7301's registry), for hosts that speak it in TLS.
    pub fn alpn(self) -> &'static str {
        match self {
            Self::Http1 => "http/1.1",
            Self::H2c => "h2",
        }
    }
}

// === impl TableState ===

impl TableState {
    /// What serves until the table is built, in a few words; `None`: it is built.
    pub fn meanwhile(self) -> Option<&'static str> {
        match self {
            Self::Built => None,
            Self::CarriedOver => Some("the table before, without hosts that are gone"),
            Self::Provisional => Some("a small table of the same hosts"),
            Self::Awaited => Some("nothing"),
        }
    }
}

// === impl ClusterId ===

impl ClusterId {
    /// The id as an index into `Snapshot::clusters`.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

// === impl Cluster ===

impl Cluster {
    /// The hosts that the balancer chooses among.
    pub fn balanced(&self) -> &[Host] {
        self.hosts.get(..self.hosts.len().saturating_sub(self.draining_count())).unwrap_or_default()
    }

    /// The hosts that serve the sessions that they have, and get no new ones.
    pub fn draining(&self) -> &[Host] {
        self.hosts.get(self.balanced().len()..).unwrap_or_default()
    }

    fn draining_count(&self) -> usize {
        self.held.as_ref().map_or(0, |held| held.draining())
    }

    /// Whether a request whose host fails goes to the host that the table [`without`](Self::without) it gives: if there is a table. Envoy's
    /// retry sequence ends at another host for many requests, under ring hash too: the points of a ring depend on the number of its hosts.
    pub fn leaves_by_table(&self) -> bool {
        self.balancer.table().is_some()
    }

    /// What the balancer is built from: the hosts, and then the slots without one.
    pub fn table_hosts(&self) -> impl Iterator<Item = LbHost> {
        let host = |host: &Host| LbHost {
            weight: host.weight,
            admits: host.admits,
            place: host.slot.unwrap_or_default(),
            ..LbHost::new(&**host.hash_key.as_ref().unwrap_or(&host.text))
        };
        let vacant = if self.balanced().is_empty() { &[] } else { &*self.vacant };
        self.balanced().iter().map(host).chain(vacant.iter().map(|slot| vacant_slot(slot.number)))
    }

    /// The vacant slot of a place in the table, if it is one.
    pub fn vacant_at(&self, place: u32) -> Option<VacantSlot> {
        self.vacant.get((place as usize).checked_sub(self.balanced().len())?).copied()
    }

    /// Whether slots are hashed and not addresses.
    pub fn has_slots(&self) -> bool {
        !self.vacant.is_empty() || self.balanced().iter().any(|host| host.slot.is_some())
    }

    /// The table that stays when these hosts (indexes into `hosts`) leave: they leave their slots vacant, where they have any. It takes as long
    /// as any table to build. `None`: nobody stays.
    pub fn without(&self, gone: &[u32]) -> Option<Reduced> {
        let stays = |(index, host): (usize, LbHost)| {
            let index = u32::try_from(index).ok()?;
            let is_gone = gone.contains(&index);
            let has_slot = || self.balanced().get(index as usize).is_some_and(|host| host.slot.is_some());
            match is_gone {
                false => Some((index, host)),
                true if has_slot() => Some((index, LbHost { admits: Admits::None, ..host })),
                true => None,
            }
        };
        let (hosts, keys): (Vec<u32>, Vec<LbHost>) = self.table_hosts().enumerate().filter_map(stays).unzip();
        let balancer = Balancer::build(&keys, &self.balancer_config).ok().filter(|_| keys.iter().any(|key| key.admits != Admits::None))?;
        Some(Reduced { balancer, hosts: hosts.into() })
    }
}

/// A slot without a host, as a table has it.
pub fn vacant_slot(number: u32) -> LbHost {
    LbHost { admits: Admits::None, place: number, ..LbHost::new(number.to_string()) }
}

// === impl Reduced ===

impl Reduced {
    /// Slots or points of the table.
    pub fn size(&self) -> u64 {
        self.balancer.table().map_or(0, |table| table.size)
    }

    /// The host of a request's hash, as an index into the `Cluster::hosts` that it was made from.
    pub fn host(&self, hash: u64) -> Option<u32> {
        self.hosts.get(self.balancer.choose_by_hash(hash, 0)?.host as usize).copied()
    }
}

// === impl BackendName ===

impl BackendName {
    /// The Service or Upstream.
    pub fn object(&self) -> ObjectRef {
        ObjectRef { kind: self.kind, name: self.name.clone() }
    }

    /// The name of its cluster, which no other cluster has: a backend may have several, each with hosts chosen in its own way.
    pub fn cluster_name(&self) -> String {
        let by = self.policy.as_ref().map(|policy| format!(" by {policy}")).unwrap_or_default();
        let sessions = if self.is_persistent { " with persistent sessions" } else { "" };
        format!("{self}{by}{sessions}")
    }

    /// [`cluster_name`](Self::cluster_name), where it is another one than the backend's.
    pub fn own_cluster_name(&self) -> Option<String> {
        (self.policy.is_some() || self.is_persistent).then(|| self.cluster_name())
    }
}

impl fmt::Display for BackendName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{} {}:{port}", self.kind, self.name),
            None => write!(f, "{} {}", self.kind, self.name),
        }
    }
}

// === impl ConnectionOptions ===

impl ConnectionOptions {
    /// The defaults for hosts that speak this protocol. A connection of HTTP/2 says when it goes away, so that one may wait for as long as
    /// Envoy lets it: an hour.
    pub fn of(protocol: UpstreamProtocol) -> Self {
        match protocol {
            UpstreamProtocol::Http1 => Self::default(),
            UpstreamProtocol::H2c => Self { protocol, idle_timeout: Duration::from_secs(60 * 60), ..Self::default() },
        }
    }
}

impl Default for ConnectionOptions {
    /// 1 s to connect (one pod must not hold a request longer; the next host of the sequence is tried), 4 s idle (below the shortest
    /// common keep-alive of servers, Node's 5 s).
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(1),
            idle_timeout: Duration::from_secs(4),
            max_requests_per_connection: None,
            proxy_protocol: None,
            protocol: UpstreamProtocol::Http1,
            tls: None,
        }
    }
}
