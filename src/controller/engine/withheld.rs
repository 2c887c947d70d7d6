//! Routes that wait for the tables of new backends: a route that moves to a backend must not be refused until its table is built.
//!
//! What clusters know of their hosts does not wait with them.

use std::{collections::BTreeSet, sync::Arc};

use crate::base::ObjectRef;
use crate::snapshot::{Cluster, Snapshot};
use crate::translate::Translation;

/// What is not published yet.
#[derive(Debug, Default)]
pub(super) struct Withheld {
    /// While something is: the last table that it waits for.
    until: Option<u64>,
    /// Objects whose statuses changed meanwhile.
    statuses: BTreeSet<ObjectRef>,
    /// Tables of new backends that were asked for up to here hold nothing up any more. So routes wait once at most, however many new
    /// backends come.
    let_go: u64,
}

// === impl Withheld ===

impl Withheld {
    /// What is to be published of a translation that follows on a snapshot. `changed_statuses` of the translation become those since the last
    /// one that was published as a whole.
    pub(super) fn publish(&mut self, before: &Arc<Snapshot>, translation: &mut Translation) -> Arc<Snapshot> {
        let until = *self.until.get_or_insert_with(|| translation.last_table_request());
        let waits = translation.wanted_tables().any(|table| table.fresh && table.since > self.let_go && table.since <= until);
        self.statuses.extend(translation.changed_statuses.drain(..));
        if waits {
            return with_routes_of(before, &translation.snapshot);
        }
        self.until = None;
        self.let_go = translation.last_table_request();
        translation.changed_statuses = std::mem::take(&mut self.statuses).into_iter().collect();
        Arc::clone(&translation.snapshot)
    }

    /// Whether routes are withheld.
    pub(super) fn is_some(&self) -> bool {
        self.until.is_some()
    }
}

/// The routes of one snapshot with the clusters of a later one. Where another backend has the number of a cluster by now, the routes go on
/// with the one that they know.
fn with_routes_of(before: &Arc<Snapshot>, after: &Snapshot) -> Arc<Snapshot> {
    let at = |clusters: &Arc<[Option<Arc<Cluster>>]>, index: usize| clusters.get(index).and_then(Clone::clone);
    let length = before.clusters.len().max(after.clusters.len());
    let cluster = |index| match (at(&before.clusters, index), at(&after.clusters, index)) {
        (Some(old), Some(new)) if old.name != new.name => Some(old),
        (Some(old), None) => Some(old),
        (_, new) => new,
    };
    let clusters: Arc<[_]> = (0..length).map(cluster).collect();
    let same = |(one, other): (&Option<Arc<Cluster>>, &Option<Arc<Cluster>>)| match (one, other) {
        (Some(one), Some(other)) => Arc::ptr_eq(one, other),
        (one, other) => one.is_none() && other.is_none(),
    };
    if clusters.len() == before.clusters.len() && clusters.iter().zip(&*before.clusters).all(same) {
        return Arc::clone(before);
    }
    Arc::new(Snapshot { binds: before.binds.clone(), clusters })
}
