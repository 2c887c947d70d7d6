//! Whether the process wants traffic: guards hold it back until what they stand for is done.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::watch;

/// Readiness of the process. Once ready it is only `drain` that ends it.
#[derive(Clone, Debug)]
pub struct Readiness {
    shared: Arc<Shared>,
}

/// Holds readiness back until it is dropped.
#[derive(Debug)]
pub struct ReadinessGuard {
    shared: Arc<Shared>,
    number: u64,
}

/// What `/readyz` answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadinessState {
    /// Not yet; what is waited for, in order of registration.
    Waiting(Vec<&'static str>),
    /// Ready.
    Ready,
    /// Was told to end.
    Draining,
}

#[derive(Debug)]
struct Shared {
    waiting: Mutex<Waiting>,
    state: watch::Sender<ReadinessState>,
}

#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    guards: BTreeMap<u64, &'static str>,
    draining: bool,
}

// === impl Readiness ===

impl Default for Readiness {
    fn default() -> Self {
        Self::new()
    }
}

impl Readiness {
    /// Ready, until the first guard is taken.
    pub fn new() -> Self {
        Self { shared: Arc::new(Shared { waiting: Mutex::default(), state: watch::Sender::new(ReadinessState::Ready) }) }
    }

    /// Holds readiness back; `waiting_for` says why in `/readyz`.
    pub fn guard(&self, waiting_for: &'static str) -> ReadinessGuard {
        let number = self.shared.change(|waiting| {
            waiting.next += 1;
            waiting.guards.insert(waiting.next, waiting_for);
            waiting.next
        });
        ReadinessGuard { shared: Arc::clone(&self.shared), number }
    }

    /// The process ends: no new traffic is wanted, whatever the guards say.
    pub fn drain(&self) {
        self.shared.change(|waiting| waiting.draining = true);
    }

    /// The current state.
    pub fn state(&self) -> ReadinessState {
        self.shared.state.borrow().clone()
    }

    /// Follows the state.
    pub fn watch(&self) -> watch::Receiver<ReadinessState> {
        self.shared.state.subscribe()
    }
}

// === impl ReadinessGuard ===

impl Drop for ReadinessGuard {
    fn drop(&mut self) {
        self.shared.change(|waiting| waiting.guards.remove(&self.number));
    }
}

// === impl Shared ===

impl Shared {
    fn change<R>(&self, change: impl FnOnce(&mut Waiting) -> R) -> R {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let result = change(&mut waiting);
        self.state.send_replace(if waiting.draining {
            ReadinessState::Draining
        } else if waiting.guards.is_empty() {
            ReadinessState::Ready
        } else {
            ReadinessState::Waiting(waiting.guards.values().copied().collect())
        });
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_ready_when_the_last_guard_is_gone_and_never_after_drain() {
        let readiness = Readiness::new();
        let (first, second) = (readiness.guard("the first snapshot"), readiness.guard("the workers"));
        assert_eq!(readiness.state(), ReadinessState::Waiting(vec!["the first snapshot", "the workers"]));
        drop(first);
        assert_eq!(readiness.state(), ReadinessState::Waiting(vec!["the workers"]));
        drop(second);
        assert_eq!(readiness.state(), ReadinessState::Ready);
        readiness.drain();
        let late = readiness.guard("something");
        assert_eq!(readiness.state(), ReadinessState::Draining);
        drop(late);
        assert_eq!(readiness.state(), ReadinessState::Draining);
    }
}
