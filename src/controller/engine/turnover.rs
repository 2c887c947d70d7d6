//! Which tables a publication replaces, and by what.

use std::{collections::BTreeMap, sync::Arc};

use crate::snapshot::{BackendName, Balancer, Cluster, Remapped, Snapshot, TableState};
use crate::translate::{Resources, unready_pods};

use super::super::moves::TableChange;

/// What sessions move from while the next table is built.
#[derive(Debug, Default)]
pub(super) struct Turnover {
    /// The last clusters whose own table served, of those that go on without one.
    unfinished: BTreeMap<BackendName, Arc<Cluster>>,
}

// === impl Turnover ===

impl Turnover {
    /// The tables in which two snapshots differ. What serves until a table is built is there too, without anything before it.
    pub(super) fn changes(
        &mut self,
        before: &Snapshot,
        after: &Snapshot,
        handed_in: &[(Arc<Balancer>, Option<Remapped>)],
        resources: &Resources,
    ) -> Vec<TableChange> {
        let mut changes = Vec::new();
        for (index, cluster) in after.clusters.iter().enumerate() {
            let Some(cluster) = cluster else { continue };
            let old = before.clusters.get(index).and_then(Option::as_ref).filter(|old| old.name == cluster.name);
            if old.is_some_and(|old| Arc::ptr_eq(&old.balancer, &cluster.balancer) && old.table_state == cluster.table_state) {
                continue;
            }
            let old = old.filter(|old| old.table_state == TableState::Built && old.balancer.table().is_some());
            let from = if cluster.table_state == TableState::Built {
                self.unfinished.remove(&cluster.name).or_else(|| old.cloned())
            } else {
                if let Some(old) = old {
                    self.unfinished.entry(cluster.name.clone()).or_insert_with(|| Arc::clone(old));
                }
                None
            };
            let from = from.filter(|_| cluster.balancer.table().is_some());
            changes.push(TableChange {
                unready: from.as_ref().map(|from| unready_pods(resources, from, cluster)).unwrap_or_default(),
                uid: from.as_ref().and_then(|_| resources.uid(&cluster.name.object())),
                remapped: handed_in.iter().find(|(table, _)| Arc::ptr_eq(table, &cluster.balancer)).and_then(|(_, remapped)| *remapped),
                old: from,
                new: Arc::clone(cluster),
            });
        }
        if !self.unfinished.is_empty() {
            let waits = |name: &BackendName| {
                let mut clusters = after.clusters.iter().flatten();
                clusters.any(|cluster| cluster.name == *name && cluster.table_state != TableState::Built)
            };
            self.unfinished.retain(|name, _| waits(name));
        }
        changes
    }
}
