//! Where a request goes when its host fails. It computes what the proxy does, for many questions about one cluster.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
};

use crate::lb::{Admits, TableKind};
use crate::plan::{ForwardPlan, MAX_HOSTS_PER_REQUEST};
use crate::snapshot::{Cluster, Reduced};

/// Tables that answers about one cluster may take to build, or one for each of its hosts where they are more: enough for all failures of
/// seven hosts.
const MOST_TABLES: usize = 128;

/// A slot of which nobody has asked yet.
const UNKNOWN: u32 = u32::MAX;

/// What is known of clusters that leave a failed host by the table without it, until they are gone and somebody asks again.
#[derive(Debug)]
pub(super) struct Failovers {
    /// Clusters that are told slot by slot; the one asked of last is the last one.
    known: Vec<Failover>,
    /// Slots to keep over all clusters, of four bytes each; a table that is larger is kept alone.
    most_slots: usize,
    by_hash: HashFailover,
}

/// What is known of the one cluster that was asked of last and that is not told slot by slot.
#[derive(Debug, Default)]
struct HashFailover {
    version: Weak<Cluster>,
    /// The tables without these hosts.
    without: BTreeMap<Vec<u32>, Option<Reduced>>,
    /// Points of these rings, or slots of these tables.
    points: usize,
}

/// What is known of one version of a cluster.
#[derive(Debug)]
struct Failover {
    version: Weak<Cluster>,
    /// By the number of hosts that failed, less one: each slot's next host. A host's failure is worked out for all of its slots at once.
    next: Vec<Box<[u32]>>,
}

// === impl Failovers ===

impl Failovers {
    pub(super) fn new(most_slots: usize) -> Self {
        Self { known: Vec::new(), most_slots, by_hash: HashFailover::default() }
    }

    /// The hosts that failed connects lead to, one after the other, without the first one.
    pub(super) fn after(&mut self, forward: &ForwardPlan) -> Vec<u32> {
        match forward.cluster.balancer.table().filter(|_| forward.cluster.leaves_by_table()) {
            Some(table) if !is_told_by_slot(&forward.cluster, table.kind) => self.by_hash.after(forward, self.most_slots),
            Some(table) => {
                let size = usize::try_from(table.size).unwrap_or(usize::MAX).max(1);
                let slot = usize::try_from(forward.selection % table.size.max(1)).unwrap_or_default();
                self.of(&forward.cluster, size).map(|known| known.after(forward, slot)).unwrap_or_default()
            }
            None => forward.hosts().into_iter().skip(1).collect(),
        }
    }

    fn of(&mut self, cluster: &Arc<Cluster>, size: usize) -> Option<&mut Failover> {
        self.known.retain(|known| known.version.strong_count() > 0);
        let asked = match self.known.iter().position(|known| known.version.as_ptr() == Arc::as_ptr(cluster)) {
            Some(index) => self.known.remove(index),
            None => Failover::new(cluster, depth(cluster.balanced().len()).min((self.most_slots / size).max(1)), size),
        };
        while !self.known.is_empty() && self.known.iter().map(Failover::slots).sum::<usize>() + asked.slots() > self.most_slots {
            self.known.remove(0);
        }
        self.known.push(asked);
        self.known.last_mut()
    }
}

// === impl HashFailover ===

impl HashFailover {
    fn after(&mut self, forward: &ForwardPlan, most_points: usize) -> Vec<u32> {
        let cluster = &forward.cluster;
        if self.version.as_ptr() != Arc::as_ptr(cluster) {
            *self = Self { version: Arc::downgrade(cluster), ..Self::default() };
        }
        let mut failed = vec![forward.host];
        for _ in 0..depth(cluster.balanced().len()) {
            match self.without(cluster, &failed, most_points).and_then(|table| table.host(forward.selection)) {
                Some(next) => failed.push(next),
                None => break,
            }
        }
        failed.split_off(1)
    }

    fn without(&mut self, cluster: &Cluster, failed: &[u32], most_points: usize) -> Option<&Reduced> {
        let mut gone = failed.to_vec();
        gone.sort_unstable();
        if !self.without.contains_key(&gone) {
            let reduced = cluster.without(&gone);
            let points = reduced.as_ref().and_then(|reduced| usize::try_from(reduced.size()).ok()).unwrap_or_default();
            if self.points + points > most_points {
                self.without.clear();
                self.points = 0;
            }
            self.points += points;
            self.without.insert(gone.clone(), reduced);
        }
        self.without.get(&gone)?.as_ref()
    }
}

// === impl Failover ===

impl Failover {
    fn new(cluster: &Arc<Cluster>, depth: usize, size: usize) -> Self {
        Self { version: Arc::downgrade(cluster), next: vec![vec![UNKNOWN; size].into(); depth] }
    }

    fn slots(&self) -> usize {
        self.next.iter().map(|next| next.len()).sum()
    }

    fn after(&mut self, forward: &ForwardPlan, slot: usize) -> Vec<u32> {
        let mut failed = vec![forward.host];
        if owner(&forward.cluster, slot) != Some(forward.host) {
            // A bound on the hosts' load made another choice than the table.
            let reduced = forward.cluster.without(&failed);
            return reduced.and_then(|reduced| reduced.host(forward.selection)).into_iter().collect();
        }
        while let Some(next) = self.next(&forward.cluster, slot, &failed) {
            failed.push(next);
        }
        failed.split_off(1)
    }

    /// The host of a slot after these of its hosts have failed.
    fn next(&mut self, cluster: &Cluster, slot: usize, failed: &[u32]) -> Option<u32> {
        let (before, rest) = self.next.split_at_mut_checked(failed.len() - 1)?;
        let next = rest.first_mut()?;
        if *next.get(slot)? == UNKNOWN {
            let reduced = cluster.without(failed)?;
            for (slot, next) in next.iter_mut().enumerate() {
                let has_failed = |host: Option<u32>| host.is_some_and(|host| failed.contains(&host));
                if has_failed(owner(cluster, slot)) && before.iter().all(|before| has_failed(before.get(slot).copied())) {
                    *next = reduced.host(slot as u64).unwrap_or(UNKNOWN);
                }
            }
        }
        next.get(slot).copied().filter(|host| *host != UNKNOWN)
    }
}

/// Whether all hashes that fall on a slot go to one host, and after its failure to one other. The points of a ring are others without a host,
/// and a host that warms up takes some hashes of its slots and leaves the others.
fn is_told_by_slot(cluster: &Cluster, kind: TableKind) -> bool {
    let takes_a_part = |admits: Admits| match admits {
        Admits::Part(_) => true,
        Admits::All | Admits::None | Admits::Keyless => false,
    };
    match kind {
        TableKind::Ring => false,
        TableKind::Maglev => !cluster.balanced().iter().any(|host| takes_a_part(host.admits)),
    }
}

/// A hash that is the slot's number falls on the slot.
fn owner(cluster: &Cluster, slot: usize) -> Option<u32> {
    Some(cluster.balancer.choose_by_hash(slot as u64, 0)?.host)
}

/// Failures in a row to tell of: every set of hosts that failed has a table of its own.
fn depth(hosts: usize) -> usize {
    let longest = hosts.saturating_sub(1).min(MAX_HOSTS_PER_REQUEST - 1);
    let mut sets_of_this_size = 1;
    let mut tables = 0;
    for failed in 1..=longest {
        sets_of_this_size = sets_of_this_size * (hosts + 1 - failed) / failed;
        tables += sets_of_this_size;
        if tables > MOST_TABLES {
            return (failed - 1).max(1);
        }
    }
    longest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lb::{Balancer, LbHost};
    use crate::plan::fixture;

    fn forward(cluster: &Arc<Cluster>, hash: u64, host: u32) -> ForwardPlan {
        ForwardPlan { host, ..fixture::forward_plan(cluster, hash) }
    }

    #[test]
    fn so_many_failures_are_told_as_tables_can_be_built() {
        for (hosts, expected) in [(0, 0), (1, 0), (2, 1), (3, 2), (7, 6), (8, 3), (15, 2), (16, 1), (1_000, 1)] {
            assert_eq!(depth(hosts), expected, "{hosts} hosts");
        }
    }

    #[test]
    fn a_host_that_is_not_the_tables_choice_fails_alone() {
        let cluster = fixture::cluster(0, "httpbin", &["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"], fixture::maglev());
        let mut failovers = Failovers::new(1 << 20);
        let mut after = |selection: u64, host: u32| failovers.after(&forward(&cluster, selection, host));
        for selection in 0..50 {
            let owner = owner(&cluster, selection).unwrap();
            let selection = selection as u64;
            assert_eq!(after(selection, owner).len(), 2);
            for host in (0..3).filter(|host| *host != owner) {
                assert_eq!(after(selection, host), [cluster.without(&[host]).unwrap().host(selection).unwrap()]);
            }
        }
    }

    #[test]
    fn whether_a_host_that_warms_up_takes_a_hash_is_asked_of_the_hash() {
        let addresses = ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80", "10.0.0.4:80"];
        let mut cluster = Arc::try_unwrap(fixture::cluster(0, "httpbin", &addresses, fixture::maglev())).unwrap();
        cluster.hosts[1].admits = Admits::Part(20_000);
        cluster.hosts[3].admits = Admits::Part(40_000);
        let hosts: Vec<LbHost> = cluster.table_hosts().collect();
        cluster.balancer = Arc::new(Balancer::build(&hosts, &cluster.balancer_config).unwrap());
        let cluster = Arc::new(cluster);
        let mut failovers = Failovers::new(1 << 20);
        for key in 0..500_u64 {
            let hash = key.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let forward = forward(&cluster, hash, cluster.balancer.choose_by_hash(hash, 0).unwrap().host);
            let mut failed = vec![forward.host];
            while let Some(next) = cluster.without(&failed).and_then(|reduced| reduced.host(hash)) {
                failed.push(next);
            }
            assert_eq!(failovers.after(&forward), failed[1..], "{hash:x}");
        }
    }

    #[test]
    fn a_ring_is_left_for_the_ring_without_its_hosts() {
        let addresses = ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80", "10.0.0.4:80"];
        let cluster = fixture::cluster(0, "httpbin", &addresses, fixture::ring());
        // Room for a few rings: what does not fit is built again.
        let mut failovers = Failovers::new(3_000);
        for key in 0..200u64 {
            let hash = key.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let host = cluster.balancer.choose_by_hash(hash, 0).unwrap().host;
            let forward = forward(&cluster, hash, host);
            let next = failovers.after(&forward);
            assert_eq!(next.len(), 3);
            let mut failed = vec![host];
            for next in next {
                assert_eq!(Some(next), forward.cluster.without(&failed).unwrap().host(hash));
                failed.push(next);
            }
            assert!(failovers.by_hash.points <= 3_000);
        }
    }

    #[test]
    fn what_is_kept_is_bounded_and_goes_with_its_cluster() {
        const MOST_SLOTS: usize = 1 << 20;
        let mut failovers = Failovers::new(MOST_SLOTS);
        let cluster = |id| fixture::cluster(id, "httpbin", &["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"], fixture::maglev());
        let clusters: Vec<_> = (0..3).map(cluster).collect();
        let size = MOST_SLOTS / 5;
        for cluster in clusters.iter().chain(&clusters) {
            assert_eq!(failovers.of(cluster, size).unwrap().slots(), 2 * size);
        }
        assert_eq!(failovers.known.len(), 2, "the one asked of first has left");
        assert_eq!(failovers.of(&clusters[0], MOST_SLOTS + 1).unwrap().next.len(), 1, "too large for two, but one can be told");
        drop(clusters);
        failovers.of(&cluster(4), size);
        assert_eq!(failovers.known.len(), 1);
    }
}
