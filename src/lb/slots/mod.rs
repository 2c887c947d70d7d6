//! Slots: the places of a cluster's pods, which outlive the pods.
//!
//! What is hashed is the slot's number and not the pod's address, so that a pod that replaces another one inherits its sessions. The map of
//! slots is a value that somebody keeps; [`SlotMap::step`] says what becomes of it when the pods change or time passes. It knows no clock and
//! remembers nothing beside the map, so that a process that takes over goes on where the one before it stopped.

mod step;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

/// How many slots a map may have. Beyond it pods stay spares.
pub const SLOT_LIMIT: usize = 4096;

/// Who holds which slot, and who waits for one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct SlotMap {
    /// By number, each number once.
    pub slots: Vec<Slot>,
    /// By the time from which on they wait, then by pod.
    pub spares: Vec<Spare>,
}

/// A place in the table. It has a holder, or it is vacant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Slot {
    /// What is hashed.
    pub number: u32,
    /// The pod whose slot it is.
    pub holder: Option<Holder>,
    /// Since when nobody holds it, in seconds since the epoch.
    pub vacant_since: Option<u64>,
    /// The pod that held it until it became vacant: it gets the slot back if it returns in time.
    pub left_by: Option<Box<str>>,
}

/// A pod that holds a slot.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Holder {
    /// The pod's uid or address.
    pub pod: Box<str>,
    /// Since when it holds the slot, in seconds since the epoch.
    pub since: u64,
}

/// A ready pod that waits for a slot.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Spare {
    /// The pod's uid or address.
    pub pod: Box<str>,
    /// Since when it waits, in seconds since the epoch.
    pub since: u64,
}

/// A pod as it is seen now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pod<'a> {
    /// Its uid or address.
    pub id: &'a str,
    /// Whether it may hold a slot, or get one.
    pub state: PodState,
}

/// What counts of a pod's state. Of a pod that is listed twice the later of these counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PodState {
    /// It may get a slot, and holds the one it has.
    Ready,
    /// It holds the slot it has, and gets none.
    NotReady,
    /// It terminates: its slot is free.
    Leaving,
}

impl SlotMap {
    /// The slot that a pod holds.
    #[must_use]
    pub fn slot_of(&self, pod: &str) -> Option<&Slot> {
        self.slots.iter().find(|slot| slot.is_held_by(pod))
    }

    /// The same slots with the numbers 0, 1, ... in the same order. This moves sessions, so it is for somebody to decide.
    #[must_use]
    pub fn renumbered(&self) -> Self {
        let mut map = self.clone();
        map.slots.sort_by_key(|slot| slot.number);
        for (number, slot) in (0..).zip(&mut map.slots) {
            slot.number = number;
        }
        map
    }

    /// The map as `step` leaves one behind, whatever was read: each number once, each pod once, no times in the future.
    fn put_in_order(&mut self, now: u64) {
        self.slots.sort_by_key(|slot| slot.number);
        self.slots.dedup_by_key(|slot| slot.number);
        self.slots.truncate(SLOT_LIMIT);
        let mut seen: BTreeSet<Box<str>> = BTreeSet::new();
        for slot in &mut self.slots {
            if let Some(twice) = slot.holder.take_if(|holder| !seen.insert(holder.pod.clone())) {
                slot.vacate(twice.pod, now);
            }
            slot.put_in_order(now);
        }
        self.spares.sort_by(|a, b| (a.since, &a.pod).cmp(&(b.since, &b.pod)));
        self.spares.retain(|spare| seen.insert(spare.pod.clone()));
        self.spares.iter_mut().for_each(|spare| spare.since = spare.since.min(now));
        self.spares.sort_by(|a, b| (a.since, &a.pod).cmp(&(b.since, &b.pod)));
    }
}

impl Slot {
    /// Whether this pod has it.
    fn is_held_by(&self, pod: &str) -> bool {
        self.holder.as_ref().is_some_and(|holder| &*holder.pod == pod)
    }

    fn held_by(number: u32, pod: Box<str>, now: u64) -> Self {
        Self { number, holder: Some(Holder { pod, since: now }), vacant_since: None, left_by: None }
    }

    fn vacate(&mut self, left_by: Box<str>, now: u64) {
        *self = Self { number: self.number, holder: None, vacant_since: Some(now), left_by: Some(left_by) };
    }

    fn put_in_order(&mut self, now: u64) {
        match &mut self.holder {
            Some(holder) => {
                holder.since = holder.since.min(now);
                (self.vacant_since, self.left_by) = (None, None);
            }
            None => self.vacant_since = Some(self.vacant_since.map_or(now, |since| since.min(now))),
        }
    }
}
