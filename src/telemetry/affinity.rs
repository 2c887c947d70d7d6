//! What is counted of sessions: where they move, and why.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::base::MoveCause;

use super::cells::Count;

/// Counters of sessions. One thread looks into changes of tables, and is the only one that writes them.
#[derive(Debug, Default)]
pub struct AffinityMetrics {
    changes: [Count; MoveCause::ALL.len()],
    /// In millionths of a table.
    moved: [Count; MoveCause::ALL.len()],
    needless: [Count; MoveCause::ALL.len()],
    /// In millionths of a pod's fair share; 0 until there is a table.
    least_share: Count,
    most_share: Count,
    digest: Count,
    agreement: Mutex<Option<(usize, Duration)>>,
    refused_slots: Count,
    actual: Mutex<ActualShares>,
}

/// What pods got in fact: the least and the most of any, in shares of what would be fair by its weight; `None`: too little to tell.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ActualShares {
    /// Of the requests with a key.
    pub requests: Option<(f64, f64)>,
    /// Of their sessions.
    pub sessions: Option<(f64, f64)>,
}

// === impl AffinityMetrics ===

impl AffinityMetrics {
    /// A table was replaced: these shares (0 to 1) of its keys moved, and moved needlessly.
    pub fn moved(&self, cause: MoveCause, moved: f64, needlessly: f64) {
        let add = |counts: &[Count], value| counts.iter().skip(cause as usize).take(1).for_each(|count| count.add(value));
        add(&self.changes, 1);
        add(&self.moved, millionths(moved));
        add(&self.needless, millionths(needlessly));
    }

    /// The least and the most that any pod has of its table, in shares of what would be fair by its weight; `None`: there is no table.
    pub fn set_shares(&self, extremes: Option<(f64, f64)>) {
        let (least, most) = extremes.unwrap_or_default();
        self.least_share.set(millionths(least));
        self.most_share.set(millionths(most));
    }

    /// A number that replicas have in common whose tables send every key to the same pod.
    pub fn set_digest(&self, digest: u64) {
        self.digest.set(digest);
    }

    /// How many other replicas were compared, and for how long one of them has disagreed; `None`: this replica does not compare.
    pub fn set_agreement(&self, agreement: Option<(usize, Duration)>) {
        *self.lock_agreement() = agreement;
    }

    /// How many maps of slots the API server refuses.
    pub fn set_refused_slots(&self, count: usize) {
        self.refused_slots.set(count as u64);
    }

    /// What pods got of late.
    pub fn set_actual_shares(&self, shares: ActualShares) {
        *self.actual.lock().unwrap_or_else(PoisonError::into_inner) = shares;
    }

    /// Of what, the extreme, and the share.
    pub(super) fn actual_shares(&self) -> impl Iterator<Item = ([&'static str; 2], f64)> {
        let ActualShares { requests, sessions } = *self.actual.lock().unwrap_or_else(PoisonError::into_inner);
        let both = [("requests", requests), ("sessions", sessions)];
        both.into_iter()
            .filter_map(|(of, extremes)| Some((of, extremes?)))
            .flat_map(|(of, (least, most))| [([of, "least"], least), ([of, "most"], most)])
    }

    pub(super) fn refused_slots(&self) -> u64 {
        self.refused_slots.get()
    }

    pub(super) fn digest(&self) -> u64 {
        self.digest.get()
    }

    pub(super) fn agreement(&self) -> Option<(usize, Duration)> {
        *self.lock_agreement()
    }

    fn lock_agreement(&self) -> MutexGuard<'_, Option<(usize, Duration)>> {
        self.agreement.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn changes(&self) -> [(MoveCause, f64); MoveCause::ALL.len()] {
        MoveCause::ALL.map(|cause| (cause, value(&self.changes, cause) * 1e6))
    }

    pub(super) fn moved_by_cause(&self) -> [(MoveCause, f64); MoveCause::ALL.len()] {
        MoveCause::ALL.map(|cause| (cause, value(&self.moved, cause)))
    }

    pub(super) fn needless_by_cause(&self) -> [(MoveCause, f64); MoveCause::ALL.len()] {
        MoveCause::ALL.map(|cause| (cause, value(&self.needless, cause)))
    }

    /// `least` and `most`; 0 until there is a table.
    pub(super) fn shares(&self) -> [(&'static str, f64); 2] {
        let (least, most) = (self.least_share.get(), self.most_share.get());
        [("least", least as f64 / 1e6), ("most", most as f64 / 1e6)]
    }
}

fn value(counts: &[Count], cause: MoveCause) -> f64 {
    counts.get(cause as usize).map_or(0.0, |count| count.get() as f64 / 1e6)
}

/// Of shares, which are never far beyond the number of pods.
fn millionths(share: f64) -> u64 {
    (share.max(0.0) * 1e6).round() as u64
}
