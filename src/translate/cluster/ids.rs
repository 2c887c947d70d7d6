//! Clusters by dense id: which backends routes use, and the cluster of each.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::base::{Kind, ObjectName};
use crate::snapshot::{BackendName, Cluster, ClusterId};

/// The clusters that routes use.
#[derive(Debug, Default)]
pub(in crate::translate) struct ClusterTable {
    ids: BTreeMap<BackendName, ClusterId>,
    slots: Vec<Slot>,
    free: BTreeSet<ClusterId>,
    /// Backends without a cluster yet, or no longer used.
    unsettled: BTreeSet<BackendName>,
    /// Backends that no route uses any more, though routes that are served may: they keep their clusters until `bury`.
    retired: BTreeSet<BackendName>,
    /// Backends that were retired and are used again.
    returned: BTreeSet<BackendName>,
}

#[derive(Debug, Default)]
struct Slot {
    /// Routes that use it.
    routes: u32,
    cluster: Option<Arc<Cluster>>,
}

// === impl ClusterTable ===

impl ClusterTable {
    /// The id of a backend, given out if it has none: the least that is free.
    pub(in crate::translate) fn id(&mut self, backend: &BackendName) -> ClusterId {
        if let Some(id) = self.ids.get(backend) {
            return *id;
        }
        let id = self.free.pop_first().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            ClusterId(u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX))
        });
        self.ids.insert(backend.clone(), id);
        self.unsettled.insert(backend.clone());
        id
    }

    /// The id of a backend that routes use.
    pub(in crate::translate) fn known(&self, backend: &BackendName) -> Option<ClusterId> {
        self.ids.get(backend).copied()
    }

    /// Counts a route that uses the backend.
    pub(in crate::translate) fn retain(&mut self, backend: &BackendName) {
        let id = self.id(backend);
        if let Some(slot) = self.slots.get_mut(id.index()) {
            slot.routes += 1;
        }
        if self.retired.remove(backend) {
            self.returned.insert(backend.clone());
        }
    }

    /// Uncounts a route that used the backend.
    pub(in crate::translate) fn release(&mut self, backend: &BackendName) {
        let Some(slot) = self.ids.get(backend).and_then(|id| self.slots.get_mut(id.index())) else { return };
        slot.routes = slot.routes.saturating_sub(1);
        if slot.routes == 0 {
            self.unsettled.insert(backend.clone());
        }
    }

    /// Retires backends that no route uses any more. Returns those that need their first cluster or are used again, and those that retire.
    pub(in crate::translate) fn settle(&mut self) -> (Vec<BackendName>, Vec<BackendName>) {
        let (mut fresh, mut gone): (Vec<_>, _) = (std::mem::take(&mut self.returned).into_iter().collect(), Vec::new());
        for backend in std::mem::take(&mut self.unsettled) {
            let Some(id) = self.known(&backend) else { continue };
            let Some(slot) = self.slots.get_mut(id.index()) else { continue };
            if slot.routes > 0 {
                if slot.cluster.is_none() {
                    fresh.push(backend);
                }
                continue;
            }
            self.retired.insert(backend.clone());
            gone.push(backend);
        }
        (fresh, gone)
    }

    /// Whether no route uses the backend any more.
    pub(in crate::translate) fn is_retired(&self, backend: &BackendName) -> bool {
        self.retired.contains(backend)
    }

    /// Lets go of the clusters of retired backends, which come back.
    pub(in crate::translate) fn bury(&mut self) -> BTreeSet<BackendName> {
        for backend in &self.retired {
            let Some(id) = self.ids.remove(backend) else { continue };
            if let Some(slot) = self.slots.get_mut(id.index()) {
                slot.cluster = None;
            }
            self.free.insert(id);
        }
        std::mem::take(&mut self.retired)
    }

    /// The backends of an object: an Upstream or the ports of a Service, also those for which an AffinityPolicy of a route counts.
    pub(in crate::translate) fn of(&self, kind: Kind, name: &ObjectName) -> Vec<BackendName> {
        let first = BackendName { kind, name: name.clone(), port: None, policy: None, is_persistent: false };
        let is_of = |backend: &&BackendName| backend.kind == kind && backend.name == *name;
        self.ids.range(first..).map(|(backend, _)| backend).take_while(is_of).cloned().collect()
    }

    /// All backends.
    pub(in crate::translate) fn backends(&self) -> impl Iterator<Item = &BackendName> {
        self.ids.keys()
    }

    /// The cluster of a backend.
    pub(in crate::translate) fn cluster(&self, id: ClusterId) -> Option<&Arc<Cluster>> {
        self.slots.get(id.index())?.cluster.as_ref()
    }

    /// Puts a cluster in its place. Returns whether it is another one than before.
    pub(in crate::translate) fn put(&mut self, cluster: Arc<Cluster>) -> bool {
        let Some(slot) = self.slots.get_mut(cluster.id.index()) else { return false };
        let changed = slot.cluster.as_ref().is_none_or(|old| !Arc::ptr_eq(old, &cluster));
        slot.cluster = Some(cluster);
        changed
    }

    /// All clusters by id, as the snapshot has them.
    pub(in crate::translate) fn array(&self) -> Arc<[Option<Arc<Cluster>>]> {
        self.slots.iter().map(|slot| slot.cluster.clone()).collect()
    }
}
