//! What is counted of the Kubernetes side; all zero and without series outside a cluster.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use crate::base::Heartbeat;

use super::cells::Count;

/// How the write of a status ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusWrite {
    /// Taken by the API server.
    Written,
    /// Somebody else was faster; it is computed again.
    Conflict,
    /// Refused, or no answer.
    Failed,
}

/// Counters of the Kubernetes side.
#[derive(Debug, Default)]
pub struct ClusterMetrics {
    watches: Mutex<BTreeMap<String, Arc<Heartbeat>>>,
    leader: Count,
    controller_name_conflict: Count,
    status_writes: [Count; 3],
    refused_services: Count,
    restarts: Count,
    controller: OnceLock<Heartbeat>,
}

// === impl StatusWrite ===

impl StatusWrite {
    /// All results, in order.
    pub(super) const ALL: [Self; 3] = [Self::Written, Self::Conflict, Self::Failed];

    /// The value of the label.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Written => "written",
            Self::Conflict => "conflict",
            Self::Failed => "failed",
        }
    }
}

// === impl ClusterMetrics ===

impl ClusterMetrics {
    /// The sign of life of the watch of this kind.
    pub fn watch(&self, kind: &str) -> Arc<Heartbeat> {
        Arc::clone(self.watches().entry(kind.to_owned()).or_default())
    }

    /// Whether this process holds the Lease and writes.
    pub fn set_leader(&self, leads: bool) {
        self.leader.set(leads.into());
    }

    /// Whether an older install has our controllerName.
    pub fn set_controller_name_conflict(&self, conflicts: bool) {
        self.controller_name_conflict.set(conflicts.into());
    }

    /// A status was written, or not.
    pub fn status_written(&self, result: StatusWrite) {
        if let Some(count) = self.status_writes.get(result as usize) {
            count.add_shared(1);
        }
    }

    /// How many Services the API server refuses.
    pub fn set_refused_services(&self, count: usize) {
        self.refused_services.set(count as u64);
    }

    /// The controller panicked or ended, and is started again.
    pub fn controller_restarted(&self) {
        self.restarts.add_shared(1);
    }

    /// The controller's loop turns.
    pub fn controller_beats(&self) {
        self.controller.get_or_init(Heartbeat::default).beat();
    }

    /// Time since the API server last answered each watch.
    pub(super) fn watch_ages(&self) -> Vec<(String, Duration)> {
        self.watches().iter().map(|(kind, life)| (kind.clone(), life.age())).collect()
    }

    /// Time since the controller's loop last turned; `None` where there is no controller.
    pub(super) fn controller_age(&self) -> Option<Duration> {
        self.controller.get().map(Heartbeat::age)
    }

    pub(super) fn leader(&self) -> u64 {
        self.leader.get()
    }

    pub(super) fn controller_name_conflict(&self) -> u64 {
        self.controller_name_conflict.get()
    }

    pub(super) fn status_writes(&self, result: StatusWrite) -> u64 {
        self.status_writes.get(result as usize).map_or(0, Count::get)
    }

    pub(super) fn refused_services(&self) -> u64 {
        self.refused_services.get()
    }

    pub(super) fn restarts(&self) -> u64 {
        self.restarts.get()
    }

    fn watches(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Heartbeat>>> {
        self.watches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
