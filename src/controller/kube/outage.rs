//! What is logged while the API server does not answer: one line when it begins and one when it is over, whatever asks it.

use std::{
    collections::BTreeSet,
    error::Error,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::time::Instant;

use super::client::{CallError, chain};

/// Who gets no answer. It outlives the tasks that ask.
#[derive(Debug, Default)]
pub(super) struct Outage {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    waiting: BTreeSet<String>,
    since: Option<Instant>,
    /// Whose questions are refused, and who was told so.
    refused: BTreeSet<String>,
}

/// What a failure is worth in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weight {
    /// It is about this question alone: the API server has refused it.
    Own,
    /// The same, and it was told.
    OwnAgain,
    /// The first sign that there is no answer.
    Begin,
    /// One more that gets no answer.
    Known,
}

// === impl Outage ===

impl Outage {
    /// `what`, such as a kind, cannot be had; what was logged.
    pub(super) fn failed(&self, what: &str, error: &(dyn Error + 'static)) -> Weight {
        let weight = self.weigh(what, error, Instant::now());
        match weight {
            Weight::Own => {
                tracing::warn!(error = &*chain(error), "{what} cannot be read; what is known keeps serving, and it is tried again")
            }
            Weight::Begin => tracing::warn!(
                error = &*chain(error),
                "the API server does not answer (first: {what}); what is known keeps serving, and it is tried again"
            ),
            Weight::OwnAgain | Weight::Known => tracing::debug!(error = &*chain(error), "{what}: no answer, or it is refused again"),
        }
        weight
    }

    /// `what` can be had again.
    pub(super) fn works(&self, what: &str) {
        self.answered(what);
        if self.lock().refused.remove(what) {
            tracing::info!("{what} can be read again");
        }
    }

    /// `what` has an answer: it may be the beginning of one only, and nothing more may come of it for hours.
    pub(super) fn answered(&self, what: &str) {
        if let Some(since) = self.recover(what) {
            tracing::info!("the API server answers again, after {:.1} s", since.elapsed().as_secs_f64());
        }
    }

    fn weigh(&self, what: &str, error: &(dyn Error + 'static), now: Instant) -> Weight {
        let mut state = self.lock();
        if is_answer(error) {
            return if state.refused.insert(what.to_owned()) { Weight::Own } else { Weight::OwnAgain };
        }
        let first = state.waiting.is_empty();
        state.waiting.insert(what.to_owned());
        state.since.get_or_insert(now);
        if first { Weight::Begin } else { Weight::Known }
    }

    /// Since when nobody had an answer, if this was the last one to wait.
    fn recover(&self, what: &str) -> Option<Instant> {
        let mut state = self.lock();
        let waited = state.waiting.remove(what);
        if waited && state.waiting.is_empty() { state.since.take() } else { None }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the API server has answered, with a refusal.
fn is_answer(error: &(dyn Error + 'static)) -> bool {
    let mut errors = std::iter::successors(Some(error), |error| (*error).source());
    errors.any(|error| {
        let error = match error.downcast_ref::<CallError>() {
            Some(CallError::Api(error)) => Some(error),
            Some(CallError::Shared(error)) => return is_answer(&**error),
            Some(CallError::Deadline) => None,
            None => error.downcast_ref::<kube::Error>(),
        };
        // What stands before the API server answers for it, or it is starting.
        matches!(error, Some(kube::Error::Api(status)) if !matches!(status.code, 502..=504))
    })
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    #[test]
    fn an_outage_is_told_when_it_begins_and_when_it_is_over() {
        let outage = Outage::default();
        let now = Instant::now();
        let weigh = |what: &str| outage.weigh(what, &CallError::Deadline, now);
        assert_eq!([weigh("Gateway"), weigh("HTTPRoute"), weigh("Gateway")], [Weight::Begin, Weight::Known, Weight::Known]);
        assert_eq!([outage.recover("Gateway"), outage.recover("Gateway")], [None, None]);
        assert_eq!(outage.recover("HTTPRoute"), Some(now));
        assert_eq!(weigh("Lease"), Weight::Begin, "a new one");
    }

    #[test]
    fn a_refusal_is_no_outage() {
        let outage = Outage::default();
        for (code, weight) in [(403, Weight::Own), (500, Weight::Own), (503, Weight::Begin)] {
            let error = kube::Error::Api(Box::new(Status { code, ..Status::default() }));
            assert_eq!(outage.weigh("Gateway", &kube::runtime::watcher::Error::WatchStartFailed(error), Instant::now()), weight, "{code}");
            let _ = outage.recover("Gateway");
            outage.works("Gateway");
        }
    }

    #[test]
    fn a_refusal_is_told_once_until_it_is_over() {
        let outage = Outage::default();
        let refusal = kube::Error::Api(Box::new(Status { code: 403, ..Status::default() }));
        let weigh = || outage.weigh("Gateway", &refusal, Instant::now());
        assert_eq!([weigh(), weigh()], [Weight::Own, Weight::OwnAgain]);
        outage.answered("Gateway");
        assert_eq!(weigh(), Weight::OwnAgain, "an answer may be a refusal");
        outage.works("Gateway");
        assert_eq!(weigh(), Weight::Own);
    }
}
