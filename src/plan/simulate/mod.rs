//! What a change of hosts or weights would do to the keys of a cluster.

mod drain;
mod rollout;
mod split;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::{IpAddr, SocketAddr},
};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::base::Message;
use crate::lb::{Balancer, LbHost, TableError, host_key, xxh64};
use crate::snapshot::{Cluster, vacant_slot};

pub use rollout::{ROLLOUT_KEYS, Rollout, RolloutReport, simulate_rollout};
pub use split::{RuleName, simulate_split};

/// A change to try out. Hosts are removed, then added, then the number is brought to `scale`, then weights are set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SimulatedChange {
    /// Number of hosts afterwards: grows by inventing addresses after the highest, shrinks from the end of the list.
    pub scale: Option<usize>,
    /// Hosts to add, with weight 1.
    pub add: Vec<SocketAddr>,
    /// Hosts to remove.
    pub remove: Vec<SocketAddr>,
    /// Weights to set, at least 1.
    pub weights: Vec<(SocketAddr, u32)>,
    /// A pod that is asked to end: its address, its name or `NAMESPACE/NAME`.
    pub drain: Option<String>,
}

/// What a change would move. Shares are parts of 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SimulationReport {
    /// The backend.
    pub backend: String,
    /// Keys tried.
    pub keys: usize,
    /// Share of keys whose host changes.
    pub moved: f64,
    /// Share of keys that move between two hosts that are there before and after, without a change of weight.
    pub moved_needlessly: f64,
    /// Every host there is before or after, by address.
    pub hosts: Vec<HostShare>,
    /// What the reader should know about the figures.
    pub notes: Vec<String>,
}

/// One host's share of the keys.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HostShare {
    /// Address and port.
    pub host: String,
    /// `NAMESPACE/NAME` of the pod, where known.
    pub pod: Option<String>,
    /// Share before; none for a host that is added.
    pub before: Option<f64>,
    /// Share after; none for a host that is removed.
    pub after: Option<f64>,
}

/// Why a change cannot be tried out.
#[derive(Debug, Error)]
pub enum SimulateError {
    /// The cluster does not choose by hash.
    #[error("{backend} does not choose by hash, so no key belongs to a host; give it ringHash or maglev")]
    NotHashed {
        /// The backend.
        backend: String,
    },
    /// The cluster has no hosts.
    #[error("{backend} has no hosts, there is nothing to move{}", because(why.as_ref()))]
    NoHosts {
        /// The backend.
        backend: String,
        /// Why, where it is known.
        why: Option<Message>,
    },
    /// Nothing was asked for.
    #[error("no change was asked for: expected --scale, --add, --remove, --weight, --drain or --rollout")]
    NoChange,
    /// No key was asked for.
    #[error("the number of keys is 0: expected at least 1")]
    NoKeys,
    /// More hosts than a simulation is for.
    #[error("{scale} hosts are too many: expected at most {MOST_HOSTS}")]
    TooManyHosts {
        /// Hosts asked for.
        scale: usize,
    },
    /// More pods than a rollout is tried out for.
    #[error("{pods} pods are too many for a rollout: expected at most 128")]
    TooManyRolled {
        /// Pods of the backend.
        pods: usize,
    },
    /// A rollout that may not do anything.
    #[error("maxSurge and maxUnavailable are 0: expected one above it, else nothing is replaced")]
    NothingRolls,
    /// A pod to drain is none of the cluster's.
    #[error("{pod} is no pod of {backend}: expected one of {known}")]
    UnknownPod {
        /// What was asked for.
        pod: String,
        /// The backend.
        backend: String,
        /// Its pods.
        known: String,
    },
    /// A host to remove or weigh is none of the cluster's.
    #[error("{address} is none of the hosts of {backend}: expected one of {known}")]
    UnknownHost {
        /// The address.
        address: SocketAddr,
        /// The backend.
        backend: String,
        /// Its hosts.
        known: String,
    },
    /// A host to add is there already.
    #[error("{address} is a host of {backend} already")]
    KnownHost {
        /// The address.
        address: SocketAddr,
        /// The backend.
        backend: String,
    },
    /// A weight of 0.
    #[error("the weight of {address} is 0: expected at least 1; --remove takes a host away")]
    NoWeight {
        /// The address.
        address: SocketAddr,
    },
    /// There is no such rule.
    #[error("no rule {rule} of a route {route} is served: expected NAMESPACE/NAME of one, and its index")]
    NoRule {
        /// The route.
        route: String,
        /// The rule's index.
        rule: u16,
    },
    /// The rule draws its backends at random.
    #[error("{rule} does not split by key, so no user belongs to a backend; give it an AffinityPolicy with split: Hash")]
    NotSplit {
        /// The rule.
        rule: String,
    },
    /// As many weights as backends are needed.
    #[error("{given} weights for {rule}: expected {count}, one for each backendRef")]
    Weights {
        /// The rule.
        rule: String,
        /// Its backends.
        count: usize,
        /// Weights that were given.
        given: usize,
    },
    /// All weights are 0.
    #[error("all weights are 0: expected one above it")]
    Drained,
    /// The table cannot be built with these hosts.
    #[error("the table cannot be built: {0}")]
    Table(#[from] TableError),
}

fn because(why: Option<&Message>) -> String {
    why.map(|why| format!(": {why}")).unwrap_or_default()
}

/// Most hosts that a change may scale to, or add.
const MOST_HOSTS: usize = 10_000;

/// Host addresses with their weights, in the order the balancer gets them.
type Hosts = Vec<(SocketAddr, u32)>;

/// Tries a change out on `keys` keys, the same ones every time.
pub fn simulate(cluster: &Cluster, change: &SimulatedChange, keys: usize) -> Result<SimulationReport, SimulateError> {
    let backend = || cluster.name.to_string();
    if *change == SimulatedChange::default() {
        return Err(SimulateError::NoChange);
    }
    if keys == 0 {
        return Err(SimulateError::NoKeys);
    }
    if !cluster.balancer.uses_hash() {
        return Err(SimulateError::NotHashed { backend: backend() });
    }
    if cluster.balanced().is_empty() {
        return Err(SimulateError::NoHosts { backend: backend(), why: cluster.no_hosts.clone() });
    }
    let before: Hosts = cluster.balanced().iter().map(|host| (host.address, host.weight)).collect();
    let mut notes = Vec::new();
    let mut change = change.clone();
    if let Some(pod) = change.drain.take() {
        let address = drain::address(cluster, &pod);
        let unknown = || SimulateError::UnknownPod { pod: pod.clone(), backend: backend(), known: drain::known(cluster) };
        change.remove.push(address.ok_or_else(unknown)?);
        notes.extend(drain::notes(cluster, &pod));
    }
    let after = changed(&before, &change, &backend(), &mut notes)?;
    let (table_before, table_after) = (build(cluster, &before)?, build(cluster, &after)?);
    let tally = tally(&table_before, &before, &table_after, &after, keys);
    if (0..keys.min(1000)).map(key_hash).any(|hash| host_of(&table_before, hash) != host_of(&cluster.balancer, hash)) {
        notes.push("the hosts are hashed by other keys than their addresses: the shares are typical, not exact".to_owned());
    }
    let share = |count: u64| count as f64 / keys as f64;
    Ok(SimulationReport {
        backend: backend(),
        keys,
        moved: share(tally.moved),
        moved_needlessly: share(tally.needless),
        hosts: shares(cluster, &before, &after, &tally, share),
        notes,
    })
}

/// The table of these hosts. Those that the cluster has keep what stands for them; with slots, one that comes opens the next slot, and one that
/// goes leaves its slot vacant.
fn build(cluster: &Cluster, hosts: &Hosts) -> Result<Balancer, TableError> {
    let known: BTreeMap<SocketAddr, LbHost> = cluster.balanced().iter().map(|host| host.address).zip(cluster.table_hosts()).collect();
    let mut next_slot = cluster.table_hosts().map(|host| host.place).max().map_or(0, |last| last + 1);
    let mut table: Vec<LbHost> = Vec::with_capacity(hosts.len());
    for &(address, weight) in hosts {
        let host = match known.get(&address) {
            Some(host) => host.clone(),
            None if cluster.has_slots() => {
                next_slot += 1;
                LbHost { place: next_slot - 1, ..LbHost::new((next_slot - 1).to_string()) }
            }
            None => LbHost::new(host_key(address)),
        };
        table.push(LbHost { weight, ..host });
    }
    if cluster.has_slots() && !table.is_empty() {
        let gone = known.iter().filter(|(address, _)| !hosts.iter().any(|(stays, _)| stays == *address));
        table.extend(gone.map(|(_, host)| vacant_slot(host.place)));
        table.extend(cluster.vacant.iter().map(|slot| vacant_slot(slot.number)));
    }
    Balancer::build(&table, &cluster.balancer_config)
}

fn changed(before: &Hosts, change: &SimulatedChange, backend: &str, notes: &mut Vec<String>) -> Result<Hosts, SimulateError> {
    let mut hosts = before.clone();
    if change.add.len() > MOST_HOSTS {
        return Err(SimulateError::TooManyHosts { scale: change.add.len() });
    }
    for &address in &change.remove {
        require_known(&hosts, address, backend)?;
        hosts.retain(|(known, _)| *known != address);
    }
    for &address in &change.add {
        if hosts.iter().any(|(known, _)| *known == address) {
            return Err(SimulateError::KnownHost { address, backend: backend.to_owned() });
        }
        hosts.push((address, 1));
    }
    // In the order in which translation gives hosts to a balancer.
    hosts.sort_unstable();
    if let Some(scale) = change.scale {
        if scale > MOST_HOSTS {
            return Err(SimulateError::TooManyHosts { scale });
        }
        scale_to(&mut hosts, scale, notes);
    }
    for &(address, weight) in &change.weights {
        require_known(&hosts, address, backend)?;
        if weight == 0 {
            return Err(SimulateError::NoWeight { address });
        }
        hosts.iter_mut().filter(|(known, _)| *known == address).for_each(|host| host.1 = weight);
    }
    if hosts.is_empty() {
        notes.push("no host is left: every request would be answered 503".to_owned());
    }
    Ok(hosts)
}

fn require_known(hosts: &Hosts, address: SocketAddr, backend: &str) -> Result<(), SimulateError> {
    if hosts.iter().any(|(known, _)| *known == address) {
        return Ok(());
    }
    let known = hosts.iter().map(|(known, _)| known.to_string()).collect::<Vec<_>>().join(", ");
    Err(SimulateError::UnknownHost { address, backend: backend.to_owned(), known })
}

fn scale_to(hosts: &mut Hosts, scale: usize, notes: &mut Vec<String>) {
    if scale < hosts.len() {
        let removed: Vec<String> = hosts.drain(scale..).map(|(address, _)| address.to_string()).collect();
        notes.push(format!("scaled down from the end of the list: {} would go; Kubernetes chooses for itself", removed.join(", ")));
        return;
    }
    let mut invented = Vec::new();
    while hosts.len() < scale {
        let Some(address) = hosts.last().and_then(|(last, _)| Some(SocketAddr::new(successor(last.ip())?, last.port()))) else { break };
        invented.push(address.to_string());
        hosts.push((address, 1));
    }
    if !invented.is_empty() {
        notes.push(format!(
            "these addresses are invented, after the highest one: {}; with others as many keys move, but not the same ones",
            abridged(&invented)
        ));
    }
}

fn abridged(list: &[String]) -> String {
    match list {
        [first, .., last] if list.len() > 4 => format!("{first} to {last}"),
        _ => list.join(", "),
    }
}

fn successor(ip: IpAddr) -> Option<IpAddr> {
    match ip {
        IpAddr::V4(ip) => Some(IpAddr::V4(u32::from(ip).checked_add(1)?.into())),
        IpAddr::V6(ip) => Some(IpAddr::V6(u128::from(ip).checked_add(1)?.into())),
    }
}

#[derive(Default)]
struct Tally {
    moved: u64,
    needless: u64,
    before: BTreeMap<SocketAddr, u64>,
    after: BTreeMap<SocketAddr, u64>,
}

fn tally(table_before: &Balancer, before: &Hosts, table_after: &Balancer, after: &Hosts, keys: usize) -> Tally {
    // A host with another weight has reason to give or take keys.
    let unchanged: BTreeSet<SocketAddr> = before.iter().filter(|host| after.contains(host)).map(|(address, _)| *address).collect();
    let address = |hosts: &Hosts, host: Option<u32>| hosts.get(host? as usize).map(|(address, _)| *address);
    let mut tally = Tally::default();
    for hash in (0..keys).map(key_hash) {
        let old = address(before, host_of(table_before, hash));
        let new = address(after, host_of(table_after, hash));
        old.into_iter().for_each(|host| *tally.before.entry(host).or_default() += 1);
        new.into_iter().for_each(|host| *tally.after.entry(host).or_default() += 1);
        if old != new {
            let stays = |host: Option<SocketAddr>| host.is_some_and(|host| unchanged.contains(&host));
            tally.moved += 1;
            tally.needless += u64::from(stays(old) && stays(new));
        }
    }
    tally
}

fn key_hash(key: usize) -> u64 {
    xxh64(&(key as u64).to_le_bytes(), 0)
}

fn host_of(balancer: &Balancer, hash: u64) -> Option<u32> {
    balancer.choose_by_hash(hash, 0).map(|choice| choice.host)
}

fn shares(cluster: &Cluster, before: &Hosts, after: &Hosts, tally: &Tally, share: impl Fn(u64) -> f64) -> Vec<HostShare> {
    let has = |hosts: &Hosts, address: SocketAddr| hosts.iter().any(|(known, _)| *known == address);
    let count = |counts: &BTreeMap<SocketAddr, u64>, address| share(counts.get(&address).copied().unwrap_or(0));
    let pod = |address| {
        let host = cluster.balanced().iter().find(|host| host.address == address)?;
        host.pod.as_ref().map(|pod| format!("{}/{}", pod.namespace, pod.name))
    };
    let all: BTreeSet<SocketAddr> = before.iter().chain(after).map(|(address, _)| *address).collect();
    let share_of = |address: SocketAddr| HostShare {
        host: address.to_string(),
        pod: pod(address),
        before: has(before, address).then(|| count(&tally.before, address)),
        after: has(after, address).then(|| count(&tally.after, address)),
    };
    all.into_iter().map(share_of).collect()
}

impl fmt::Display for SimulationReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |share: f64| format!("{:.2} %", 100.0 * share);
        writeln!(f, "{}, {} keys", self.backend, self.keys)?;
        writeln!(f, "  moved            {:>9}", percent(self.moved))?;
        writeln!(f, "  moved needlessly {:>9}", percent(self.moved_needlessly))?;
        let width = self.hosts.iter().map(|host| host.host.len()).max().unwrap_or(0).max(4);
        writeln!(f, "  {:width$}  {:>9}  {:>9}  pod", "host", "before", "after")?;
        for host in &self.hosts {
            let cell = |share: Option<f64>| share.map_or_else(|| "-".to_owned(), percent);
            let pod = host.pod.as_deref().unwrap_or("-");
            writeln!(f, "  {:width$}  {:>9}  {:>9}  {pod}", host.host, cell(host.before), cell(host.after))?;
        }
        self.notes.iter().try_for_each(|note| writeln!(f, "note: {note}"))
    }
}
