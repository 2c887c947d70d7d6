//! When limits were last reached. A counter says how often since the process began; whether that is a trouble of now is said here.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// A limit: the counter that counts how often it was reached, and the value of that counter's label, empty where it has none.
pub(super) type Limit = (&'static str, &'static str);

/// What the counters were when somebody looked last.
#[derive(Debug, Default)]
pub(super) struct LimitHistory(Mutex<BTreeMap<Limit, Seen>>);

#[derive(Clone, Copy, Debug)]
struct Seen {
    times: u64,
    /// When they were more than before.
    last: Instant,
}

// === impl LimitHistory ===

impl LimitHistory {
    /// Compares the counters of all limits with what they were. What has grown was reached since: the ages are as exact as this is called often.
    pub(super) fn note(&self, reached: Vec<(Limit, u64)>) {
        let now = Instant::now();
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (limit, times) in reached {
            if seen.get(&limit).map_or(0, |seen| seen.times) != times {
                seen.insert(limit, Seen { times, last: now });
            }
        }
    }

    /// Time since each limit was last reached, of those that were.
    pub(super) fn ages(&self) -> Vec<(Limit, Duration)> {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.iter().map(|(limit, seen)| (*limit, seen.last.elapsed())).collect()
    }
}
