//! Why sessions move when the hosts of a cluster change, decided from the hosts before and after.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::SocketAddr,
    sync::Arc,
};

use crate::base::MoveCause;

use super::{Cluster, Host, PodRef, Remapped};

/// Pods by their place among those of a backend, as far as they are known.
pub type Pods = BTreeSet<Arc<PodRef>>;

/// What a change of a table did to the keys.
#[derive(Clone, Debug, PartialEq)]
pub struct Move {
    /// Why.
    pub cause: MoveCause,
    /// Hosts before and after.
    pub hosts: (usize, usize),
    /// The keys that it moved.
    pub remapped: Remapped,
}

/// Why the table of `old` became that of `new`. `unready`: pods that are there still, but not ready; `failed`: pods that were unready
/// when they left.
///
/// Only names tell a rollout that has just begun from a scale-up: the pods of a ReplicaSet have a name in common up to the last hyphen.
pub fn move_cause(old: &Cluster, new: &Cluster, unready: &Pods, failed: &Pods) -> MoveCause {
    let left: Vec<&Host> = absent(&old.hosts, &new.hosts);
    let came: Vec<&Host> = absent(&new.hosts, &old.hosts);
    match (left.is_empty(), came.is_empty()) {
        (true, true) => cause_of_same_hosts(old, new),
        (false, false) => MoveCause::Rollout,
        (false, true) if all_in(&left, unready) => MoveCause::PodFailed,
        (true, false) if all_in(&came, failed) => MoveCause::PodRecovered,
        (false, true) if sets(&old.hosts).len() > 1 => MoveCause::Rollout,
        (true, false) if !sets(came).is_subset(&sets(&old.hosts)) => MoveCause::Rollout,
        (false, true) | (true, false) => MoveCause::Scale,
    }
}

fn cause_of_same_hosts(old: &Cluster, new: &Cluster) -> MoveCause {
    let by_identity: BTreeMap<_, _> = new.hosts.iter().map(|host| (identity(host), host)).collect();
    let pairs = || old.hosts.iter().filter_map(|host| Some((host, *by_identity.get(&identity(host))?)));
    if pairs().any(|(old, new)| old.hash_key != new.hash_key) {
        MoveCause::Slots
    } else if pairs().any(|(old, new)| old.weight != new.weight) {
        MoveCause::Weights
    } else if old.balancer_config != new.balancer_config {
        MoveCause::Configuration
    } else {
        MoveCause::WarmUp
    }
}

/// What makes hosts one: a new pod may have the address of an old one.
fn identity(host: &Host) -> (SocketAddr, Option<&PodRef>) {
    (host.address, host.pod.as_deref())
}

/// Those of `hosts` that are not among `others`.
fn absent<'a>(hosts: &'a [Host], others: &[Host]) -> Vec<&'a Host> {
    let others: BTreeSet<_> = others.iter().map(identity).collect();
    hosts.iter().filter(|host| !others.contains(&identity(host))).collect()
}

/// The pods among `old` that are not among `new`.
pub(crate) fn pods_that_left(old: &Cluster, new: &Cluster) -> Pods {
    absent(&old.hosts, &new.hosts).into_iter().filter_map(|host| host.pod.clone()).collect()
}

fn all_in(hosts: &[&Host], pods: &Pods) -> bool {
    hosts.iter().all(|host| host.pod.as_ref().is_some_and(|pod| pods.contains(pod)))
}

/// The ReplicaSets of hosts: the names of their pods up to the last hyphen.
fn sets<'a>(hosts: impl IntoIterator<Item = &'a Host>) -> BTreeSet<Option<&'a str>> {
    hosts.into_iter().map(|host| host.pod.as_ref().map(|pod| pod.name.rsplit_once('-').map_or(&*pod.name, |(set, _)| set))).collect()
}

// === impl Move ===

impl fmt::Display for Move {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cause, hosts: (before, after), remapped } = self;
        match cause {
            MoveCause::Scale => write!(f, "scale {before} -> {after} pods")?,
            MoveCause::Rollout => write!(f, "rollout, {before} -> {after} pods")?,
            MoveCause::PodFailed => write!(f, "pod failed, {before} -> {after} pods")?,
            MoveCause::PodRecovered => write!(f, "pod ready again, {before} -> {after} pods")?,
            MoveCause::Weights => write!(f, "weights of {after} pods")?,
            MoveCause::Slots => write!(f, "slots of {after} pods")?,
            MoveCause::WarmUp => write!(f, "warm-up among {after} pods")?,
            MoveCause::Configuration => write!(f, "another table for {after} pods")?,
        }
        write!(f, ": {} of the sessions moved, {} needlessly", Percent(remapped.moved), Percent(remapped.needless))
    }
}

/// A share in percent, to a tenth. What is less is not called nothing.
struct Percent(f64);

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = self.0 * 100.0;
        match percent {
            _ if percent <= 0.0 => write!(f, "0 %"),
            _ if percent < 0.05 => write!(f, "less than 0.1 %"),
            _ => write!(f, "{percent:.1} %"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Kind, ObjectName};
    use crate::lb::{Balancer, BalancerConfig, LbHost, MaglevConfig, Policy};
    use crate::snapshot::{BackendName, CircuitBreakers, ClusterId, ClusterState, ConnectionOptions, TableState};

    /// A host: name of its pod, last number of its address, its key, its weight.
    type Row = (&'static str, u8, Option<&'static str>, u32);

    /// What happens: hosts before and after, pods that are there but unready, pods that were so when they left, and the cause.
    type Case<'a> = (&'a str, &'a [Row], &'a [Row], &'a [&'a str], &'a [&'a str], MoveCause);

    fn cluster(rows: &[Row], size: u64) -> Cluster {
        let host = |(pod, number, key, weight): &Row| {
            let address = SocketAddr::from(([10, 0, 0, *number], 80));
            let pod = (!pod.is_empty()).then(|| Arc::new(pod_ref(pod)));
            Host {
                address,
                text: address.to_string().into(),
                hash_key: key.map(Into::into),
                pod,
                weight: *weight,
                slot: None,
                placed_since: None,
                admits: crate::lb::Admits::All,
                live: None,
            }
        };
        let hosts: Box<[Host]> = rows.iter().map(host).collect();
        let balancer_config = BalancerConfig { policy: Policy::Maglev(MaglevConfig { table_size: size }), ..BalancerConfig::default() };
        let keys: Vec<LbHost> = hosts.iter().map(|host| LbHost::new(&**host.hash_key.as_ref().unwrap_or(&host.text))).collect();
        Cluster {
            id: ClusterId(0),
            name: BackendName { kind: Kind::Service, name: ObjectName::new("n", "s"), port: None, policy: None, is_persistent: false },
            state: ClusterState::Ready,
            no_hosts: None,
            balancer: Arc::new(Balancer::build(&keys, &balancer_config).unwrap()),
            hosts,
            balancer_config,
            affinity: None,
            held: None,
            vacant: Box::default(),
            table_state: TableState::Built,
            connection: ConnectionOptions::default(),
            close_connections_on_host_set_change: false,
            circuit_breakers: CircuitBreakers::default(),
            live: Arc::default(),
        }
    }

    fn pod_ref(name: &str) -> PodRef {
        PodRef { namespace: "n".into(), name: name.into(), uid: format!("uid of {name}").into() }
    }

    fn pods(names: &[&str]) -> Pods {
        names.iter().map(|name| Arc::new(pod_ref(name))).collect()
    }

    #[test]
    fn causes_follow_from_hosts_and_pods() {
        use MoveCause::*;
        let [a, b, c]: [Row; 3] = [("s-1x-a", 1, None, 1), ("s-1x-b", 2, None, 1), ("s-1x-c", 3, None, 1)];
        let next: Row = ("s-2y-d", 4, None, 1);
        let slot = |(pod, number, _, weight): Row, key| (pod, number, Some(key), weight);
        let bare = |number| ("", number, None, 1);
        let none: &[&str] = &[];
        let table: &[Case<'_>] = &[
            ("more pods of the same set", &[a], &[a, b, c], none, none, Scale),
            ("fewer of them", &[a, b, c], &[a], none, none, Scale),
            ("the first one of another set", &[a, b], &[a, b, next], none, none, Rollout),
            ("of two sets one gets smaller", &[a, b, next], &[a, next], none, none, Rollout),
            ("one for another", &[a, b], &[a, next], none, none, Rollout),
            ("one for another at the same address", &[a], &[("s-1x-z", 1, None, 1)], none, none, Rollout),
            ("it is there, and not ready", &[a, b, c], &[a, b], &["s-1x-c"], none, PodFailed),
            ("one of two that left is not there", &[a, b, c], &[a], &["s-1x-c"], none, Scale),
            ("it is back", &[a, b], &[a, b, c], none, &["s-1x-c"], PodRecovered),
            ("it is back, and so is a new one", &[a], &[a, b, c], none, &["s-1x-c"], Scale),
            ("addresses without pods", &[bare(1)], &[bare(1), bare(2)], none, none, Scale),
            ("another address without a pod", &[bare(1)], &[bare(2)], none, none, Rollout),
            ("another weight", &[a, b], &[a, ("s-1x-b", 2, None, 3)], none, none, Weights),
            ("another slot", &[slot(a, "0"), slot(b, "1")], &[slot(a, "1"), slot(b, "0")], none, none, Slots),
            ("the heir of a slot", &[slot(a, "0"), slot(b, "1")], &[slot(a, "0"), slot(next, "1")], none, none, Rollout),
        ];
        for (what, old, new, unready, failed, expected) in table {
            let cause = move_cause(&cluster(old, 251), &cluster(new, 251), &pods(unready), &pods(failed));
            assert_eq!(cause, *expected, "{what}");
        }
        assert_eq!(move_cause(&cluster(&[a, b], 251), &cluster(&[a, b], 509), &pods(&[]), &pods(&[])), Configuration);
        assert_eq!(move_cause(&cluster(&[a, b], 251), &cluster(&[a, b], 251), &pods(&[]), &pods(&[])), WarmUp, "nothing else differs");
    }

    #[test]
    fn a_move_is_told_in_a_line() {
        let told = |cause, moved, needless| Move { cause, hosts: (3, 5), remapped: Remapped { moved, needless } }.to_string();
        assert_eq!(told(MoveCause::Scale, 0.3987, 0.001), "scale 3 -> 5 pods: 39.9 % of the sessions moved, 0.1 % needlessly");
        assert_eq!(told(MoveCause::PodFailed, 0.2, 0.0), "pod failed, 3 -> 5 pods: 20.0 % of the sessions moved, 0 % needlessly");
        assert_eq!(told(MoveCause::Slots, 1.0, 0.0002), "slots of 5 pods: 100.0 % of the sessions moved, less than 0.1 % needlessly");
    }
}
