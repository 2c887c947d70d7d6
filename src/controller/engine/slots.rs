//! Time, and maps of slots where this process is its own leader.

use std::time::Duration;

use crate::api::{AffinitySlots, Object};
use crate::translate::Change;

use super::Engine;

/// Translations in a row that make maps of slots for themselves: the second one finds them made.
const SLOT_TURNS: usize = 3;

/// Least time between two looks at the clock.
const LEAST_PATIENCE: Duration = Duration::from_millis(20);

// === impl Engine: time and slots ===

impl Engine {
    /// Before it starts: maps of slots that an earlier process kept.
    pub fn restore_slots(&mut self, slots: impl IntoIterator<Item = AffinitySlots>) {
        self.pending.extend(slots.into_iter().map(|slots| Change::apply(Box::new(Object::AffinitySlots(slots)))));
    }

    /// Time until something is to be done though nobody asks.
    pub(super) fn patience(&self) -> Duration {
        let due = self.translation.as_ref().and_then(|translation| translation.due);
        let wait = due.map(|due| self.config.clock.until(due).max(LEAST_PATIENCE));
        wait.map_or(self.config.clock.interval, |wait| wait.min(self.config.clock.interval))
    }

    /// Where this process is its own leader: translates once more with the maps of slots that ought to be there.
    pub(super) fn make_slots(&mut self) {
        for _ in 1..SLOT_TURNS {
            if !self.make_each() || !self.survive() {
                return;
            }
        }
    }

    /// Makes the maps what they ought to be. Returns whether any was not.
    fn make_each(&mut self) -> bool {
        let (Some(keeper), Some(translation)) = (&mut self.config.slots, &self.translation) else { return false };
        for write in translation.slots.values() {
            keeper(write);
            self.pending.push_back(Change::apply(Box::new(Object::AffinitySlots(write.object()))));
        }
        !translation.slots.is_empty()
    }
}
