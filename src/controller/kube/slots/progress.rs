//! Which maps of slots are due, what became of their last writes, and which of them the API server refuses. Decided purely from both.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

use crate::api::AffinitySlotsSpec;
use crate::base::{Backoff, Message, ObjectName};
use crate::translate::SlotWrite;

/// Waits after a write that failed.
const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_MOST: Duration = Duration::from_secs(30);

/// Time that the watch has to bring what was written before it is written again.
const ECHO: Duration = Duration::from_secs(2);

/// What became of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It is stored.
    Written,
    /// Somebody else has changed the object: what the watch brings says what to write.
    Conflict,
    /// The API server was not reached, or its failure says nothing of the object.
    Failed,
    /// The API server does not take it, in its words.
    Refused(Message),
}

/// What is on its way.
#[derive(Debug, Default)]
pub(super) struct Progress {
    sent: BTreeMap<ObjectName, Sent>,
}

/// What became of the last write of an object.
#[derive(Debug)]
struct Sent {
    spec: AffinitySlotsSpec,
    /// When it may be written again.
    again: Instant,
    /// Until then another content has to wait, too.
    holds_all: bool,
    backoff: Backoff,
    refusal: Option<Message>,
}

// === impl Progress ===

impl Progress {
    /// Forgets everything: somebody else writes.
    pub(super) fn clear(&mut self) {
        self.sent.clear();
    }

    /// Only these ought to be written.
    pub(super) fn retain(&mut self, is_desired: impl Fn(&ObjectName) -> bool) {
        self.sent.retain(|name, _| is_desired(name));
    }

    /// When a write is due; `None`: now.
    pub(super) fn due(&self, write: &SlotWrite, now: Instant) -> Option<Instant> {
        let last = self.sent.get(&write.name)?;
        (last.again > now && (last.holds_all || last.spec == write.spec)).then_some(last.again)
    }

    /// A write has ended; `random` is of [0, 1). Returns when it is due again.
    pub(super) fn end(&mut self, write: &SlotWrite, outcome: Outcome, now: Instant, random: f64) -> Instant {
        let before = self.sent.remove(&write.name);
        let (mut backoff, refusal) =
            before.map_or_else(|| (Backoff::new(RETRY_FIRST, RETRY_MOST), None), |before| (before.backoff, before.refusal));
        let wait = match &outcome {
            Outcome::Written => {
                backoff.reset();
                ECHO
            }
            Outcome::Conflict | Outcome::Failed | Outcome::Refused(_) => backoff.next_wait(random),
        };
        let (holds_all, refusal) = match outcome {
            Outcome::Written => (false, None),
            // Neither says anything of whether the object would be taken.
            Outcome::Conflict => (false, refusal),
            Outcome::Failed => (true, refusal),
            Outcome::Refused(words) => (true, Some(words)),
        };
        let again = now + wait;
        self.sent.insert(write.name.clone(), Sent { spec: write.spec.clone(), again, holds_all, backoff, refusal });
        again
    }

    /// Why the API server does not take maps, by their names.
    pub(super) fn refusals(&self) -> BTreeMap<ObjectName, Message> {
        self.sent.iter().filter_map(|(name, sent)| Some((name.clone(), sent.refusal.clone()?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::base::{Kind, ObjectRef};

    fn write(name: &str, renumbered: &str) -> SlotWrite {
        SlotWrite {
            target: ObjectRef::new(Kind::Service, "n", name),
            target_uid: None,
            name: ObjectName::new("n", name),
            spec: AffinitySlotsSpec { renumbered: Some(renumbered.into()), ..AffinitySlotsSpec::default() },
            stored: None,
        }
    }

    #[test]
    fn what_was_written_waits_for_the_watch_and_what_differs_does_not() {
        let (mut progress, now) = (Progress::default(), Instant::now());
        assert_eq!(progress.due(&write("a", "1"), now), None, "nothing was sent");
        let again = progress.end(&write("a", "1"), Outcome::Written, now, 0.5);
        assert_eq!(again, now + ECHO);
        assert_eq!(progress.due(&write("a", "1"), now), Some(again));
        assert_eq!(progress.due(&write("a", "2"), now), None, "pods have come meanwhile");
        assert_eq!(progress.due(&write("b", "1"), now), None, "another one");
        assert_eq!(progress.due(&write("a", "1"), again), None, "the watch has not brought it");
    }

    #[test]
    fn after_a_failure_everything_waits_and_after_a_conflict_only_the_same() {
        for (outcome, other_waits) in
            [(Outcome::Failed, true), (Outcome::Refused("quota".into()), true), (Outcome::Conflict, false), (Outcome::Written, false)]
        {
            let (mut progress, now) = (Progress::default(), Instant::now());
            let again = progress.end(&write("a", "1"), outcome.clone(), now, 0.5);
            assert!(again > now, "{outcome:?}");
            assert_eq!(progress.due(&write("a", "1"), now), Some(again), "{outcome:?}");
            assert_eq!(progress.due(&write("a", "2"), now).is_some(), other_waits, "{outcome:?}");
        }
    }

    #[test]
    fn a_refusal_is_told_until_the_map_is_written_or_not_wanted() {
        let (mut progress, now) = (Progress::default(), Instant::now());
        let told = |progress: &Progress| progress.refusals().into_values().map(|words| words.to_string()).collect::<Vec<_>>();
        progress.end(&write("a", "1"), Outcome::Failed, now, 0.5);
        assert_eq!(told(&progress), [""; 0], "a server that does not answer refuses nothing");
        progress.end(&write("a", "1"), Outcome::Refused("exceeded quota".into()), now, 0.5);
        for outcome in [Outcome::Failed, Outcome::Conflict] {
            progress.end(&write("a", "1"), outcome, now, 0.5);
            assert_eq!(told(&progress), ["exceeded quota"]);
        }
        progress.end(&write("a", "2"), Outcome::Written, now, 0.5);
        assert_eq!(told(&progress), [""; 0]);
        progress.end(&write("a", "2"), Outcome::Refused("forbidden".into()), now, 0.5);
        progress.retain(|name| &*name.name != "a");
        assert_eq!(told(&progress), [""; 0], "nobody wants it any more");
    }

    proptest! {
        /// Whatever pods do, a server that fails is asked no more often than the waits allow; the waits grow to 30 seconds.
        #[test]
        fn a_server_that_fails_is_not_hammered(steps in proptest::collection::vec((0_u64..500, 0_u8..4), 1..400)) {
            let (mut progress, start) = (Progress::default(), Instant::now());
            let (mut now, mut tries) = (start, 0_u32);
            for (wait, content) in steps {
                now += Duration::from_millis(wait);
                let write = write("a", &content.to_string());
                if progress.due(&write, now).is_none() {
                    tries += 1;
                    progress.end(&write, Outcome::Failed, now, 0.0);
                }
            }
            let mut backoff = Backoff::new(RETRY_FIRST, RETRY_MOST);
            let least: Duration = (1..tries).map(|_| backoff.next_wait(0.0)).sum();
            prop_assert!(now.saturating_duration_since(start) >= least, "{tries} tries");
        }
    }
}
