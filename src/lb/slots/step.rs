//! What becomes of a map of slots when pods come and go, and when time passes.

use std::collections::{BTreeMap, BTreeSet};

use crate::lb::slots::{Pod, PodState, SLOT_LIMIT, Slot, SlotMap, Spare};

impl SlotMap {
    /// The map that follows this one, and when to ask again if nothing happens before.
    ///
    /// `pods` are all that are there, in any order, `now` is in seconds since the epoch. A pod waits for `spare_seconds` before it opens a
    /// slot of its own, and as long a slot waits for a pod. At the same time a second step with the same pods changes nothing.
    #[must_use]
    pub fn step(&self, pods: &[Pod<'_>], now: u64, spare_seconds: u64) -> (Self, Option<u64>) {
        let pods = by_id(pods);
        let mut next = self.clone();
        next.put_in_order(now);
        let is_first = next.slots.is_empty();
        next.free_slots(&pods, now);
        next.give_back(&pods, now);
        next.count_spares(&pods, now);
        next.fill_vacant(now);
        // Not before vacant slots were filled: a slot that is still there is still in everybody's tables.
        next.slots.retain(|slot| slot.vacant_since.is_none_or(|since| since.saturating_add(spare_seconds) > now));
        let due = |spare: &Spare| is_first || spare.since.saturating_add(spare_seconds) <= now;
        next.open_slots(due, now);
        let due = next.next_due(spare_seconds);
        (next, due)
    }

    /// A pod that is gone or leaves has no slot.
    fn free_slots(&mut self, pods: &BTreeMap<&str, PodState>, now: u64) {
        for slot in &mut self.slots {
            if let Some(gone) = slot.holder.take_if(|holder| !stays(pods, &holder.pod)) {
                slot.vacate(gone.pod, now);
            }
        }
    }

    /// A pod that returns takes its own slot before anybody else does.
    fn give_back(&mut self, pods: &BTreeMap<&str, PodState>, now: u64) {
        let mut holders: BTreeSet<Box<str>> =
            self.slots.iter().filter_map(|slot| slot.holder.as_ref().map(|holder| holder.pod.clone())).collect();
        for slot in &mut self.slots {
            let returned = slot.left_by.as_deref().filter(|pod| pods.get(pod) == Some(&PodState::Ready));
            if let Some(pod) = returned.map(Box::<str>::from)
                && holders.insert(pod.clone())
            {
                *slot = Slot::held_by(slot.number, pod, now);
            }
        }
    }

    /// All ready pods without a slot are spares, the new ones from now on.
    fn count_spares(&mut self, pods: &BTreeMap<&str, PodState>, now: u64) {
        let holders: BTreeSet<&str> = self.slots.iter().filter_map(|slot| slot.holder.as_ref().map(|holder| &*holder.pod)).collect();
        let known: BTreeMap<&str, u64> = self.spares.iter().map(|spare| (&*spare.pod, spare.since)).collect();
        let waits = |(pod, state): (&&str, &PodState)| *state == PodState::Ready && !holders.contains(pod);
        let mut spares: Vec<Spare> = pods
            .iter()
            .filter(|pod| waits(*pod))
            .map(|(pod, _)| Spare { pod: (*pod).into(), since: known.get(pod).copied().unwrap_or(now) })
            .collect();
        // Stable: those of one time stay in the order of their ids.
        spares.sort_by_key(|spare| spare.since);
        self.spares = spares;
    }

    /// The slot that is vacant for longest goes to the spare that waits for longest, and so on.
    fn fill_vacant(&mut self, now: u64) {
        let mut vacant: Vec<&mut Slot> = self.slots.iter_mut().filter(|slot| slot.holder.is_none()).collect();
        vacant.sort_by_key(|slot| (slot.vacant_since, slot.number));
        let filled = vacant.len().min(self.spares.len());
        for (slot, spare) in vacant.into_iter().zip(self.spares.drain(..filled)) {
            *slot = Slot::held_by(slot.number, spare.pod, now);
        }
    }

    /// Spares that have waited open slots of the lowest free numbers, as many as there is room for.
    fn open_slots(&mut self, has_waited: impl Fn(&Spare) -> bool, now: u64) {
        let room = SLOT_LIMIT.saturating_sub(self.slots.len());
        let opened = self.spares.iter().take_while(|spare| has_waited(spare)).count().min(room);
        let used: BTreeSet<u32> = self.slots.iter().map(|slot| slot.number).collect();
        let free = (0..).filter(|number| !used.contains(number));
        self.slots.extend(free.zip(self.spares.drain(..opened)).map(|(number, spare)| Slot::held_by(number, spare.pod, now)));
        self.slots.sort_by_key(|slot| slot.number);
    }

    /// When the next slot is dropped or the next spare opens one.
    fn next_due(&self, spare_seconds: u64) -> Option<u64> {
        let vacant = self.slots.iter().filter_map(|slot| slot.vacant_since);
        let has_room = self.slots.len() < SLOT_LIMIT;
        let spares = self.spares.iter().filter(|_| has_room).map(|spare| spare.since);
        vacant.chain(spares).min().map(|since| since.saturating_add(spare_seconds))
    }
}

fn stays(pods: &BTreeMap<&str, PodState>, pod: &str) -> bool {
    match pods.get(pod) {
        Some(PodState::Ready | PodState::NotReady) => true,
        Some(PodState::Leaving) | None => false,
    }
}

/// Each pod once.
fn by_id<'a>(pods: &[Pod<'a>]) -> BTreeMap<&'a str, PodState> {
    let mut states: BTreeMap<&str, PodState> = BTreeMap::new();
    for pod in pods {
        let state = states.entry(pod.id).or_insert(pod.state);
        *state = (*state).max(pod.state);
    }
    states
}
