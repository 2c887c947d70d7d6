//! What is kept from one change to the next.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    sync::Arc,
};

use tokio::time::Instant;

use crate::base::{ObjectRef, Published, TableDigests};
use crate::snapshot::{BackendName, Cluster, Move, Pods, backend_digest, move_cause, table_digest};
use crate::telemetry::Metrics;

use super::publication::{Moved, Publication, TableChange};

/// Failed pods of a backend that are kept in mind: one that comes back later counts as new.
const MOST_FAILED: usize = 1_000;

/// What is kept from one change to the next.
#[derive(Debug)]
pub(super) struct Ledger {
    metrics: Arc<Metrics>,
    digests: Arc<Published<TableDigests>>,
    backends: BTreeMap<BackendName, Backend>,
}

/// What is kept of a backend.
#[derive(Debug, Default)]
struct Backend {
    /// Pods that were unready when they left.
    failed: Pods,
    /// The least and the most that a pod has of the table, in shares of what would be fair.
    shares: Option<(f64, f64)>,
}

// === impl Ledger ===

impl Ledger {
    pub(super) fn new(metrics: Arc<Metrics>, digests: Arc<Published<TableDigests>>) -> Self {
        Self { metrics, digests, backends: BTreeMap::new() }
    }

    /// Takes a publication in. Returns what is worth telling: of each object the change that moved most.
    pub(super) fn enter(&mut self, publication: Publication) -> Vec<Moved> {
        let mut told: BTreeMap<ObjectRef, Moved> = BTreeMap::new();
        let mut digests: Vec<_> =
            publication.changes.iter().map(|change| (backend_digest(&change.new.name), table_digest(&change.new))).collect();
        for change in publication.changes {
            let moved = self.look_into(change).filter(|moved| moved.moved.remapped.moved > 0.0);
            let Some(moved) = moved else { continue };
            match told.entry(moved.object.clone()) {
                Entry::Occupied(mut most) if moved.moved.remapped.moved > most.get().moved.remapped.moved => drop(most.insert(moved)),
                Entry::Occupied(_) => {}
                Entry::Vacant(place) => drop(place.insert(moved)),
            }
        }
        let clusters = publication.clusters.iter().flatten();
        if self.backends.len() > clusters.clone().count() {
            let names: BTreeSet<&BackendName> = clusters.map(|cluster| &cluster.name).collect();
            digests.extend(self.backends.keys().filter(|name| !names.contains(name)).map(|name| (backend_digest(name), None)));
            self.backends.retain(|name, _| names.contains(name));
        }
        self.publish_digests(publication.generation, digests);
        self.show_shares();
        told.into_values().collect()
    }

    fn look_into(&mut self, change: TableChange) -> Option<Moved> {
        let TableChange { old, new, remapped, unready, uid } = change;
        let backend = self.backends.entry(new.name.clone()).or_default();
        backend.shares = shares(&new);
        let old = old?;
        let address = |cluster: &Cluster, host: u32| cluster.hosts.get(host as usize).map(|host| host.address);
        let remapped =
            remapped.unwrap_or_else(|| old.balancer.remapped(&new.balancer, |host| address(&old, host), |host| address(&new, host)));
        let cause = move_cause(&old, &new, &unready, &backend.failed);
        backend.failed.extend(unready);
        backend.failed.retain(|pod| new.hosts.iter().all(|host| host.pod.as_ref() != Some(pod)));
        if backend.failed.len() > MOST_FAILED {
            backend.failed.clear();
        }
        self.metrics.control().remapped(remapped.moved, remapped.needless);
        self.metrics.affinity().moved(cause, remapped.moved, remapped.needless);
        Some(Moved { object: new.name.object(), uid, moved: Move { cause, hosts: (old.balanced().len(), new.balanced().len()), remapped } })
    }

    fn publish_digests(&self, generation: u64, tables: Vec<(u64, Option<u64>)>) {
        let next = self.digests.load().value.next(generation, tables, Instant::now());
        self.metrics.affinity().set_digest(next.combined);
        self.digests.publish(Arc::new(next));
    }

    fn show_shares(&self) {
        let all = self.backends.values().filter_map(|backend| backend.shares);
        let extremes = all.reduce(|(least, most), (low, high)| (least.min(low), most.max(high)));
        self.metrics.affinity().set_shares(extremes);
    }
}

/// The least and the most that a pod has of a table, in shares of what would be fair by its weight; `None`: there is no table.
fn shares(cluster: &Cluster) -> Option<(f64, f64)> {
    cluster.balancer.table()?;
    let total: f64 = cluster.hosts.iter().map(|host| f64::from(host.weight)).sum();
    let shares = cluster.balancer.shares();
    let relative = cluster.hosts.iter().zip(shares).map(|(host, share)| share * total / f64::from(host.weight.max(1)));
    relative.map(|share| (share, share)).reduce(|(least, most), (low, high)| (least.min(low), most.max(high)))
}
