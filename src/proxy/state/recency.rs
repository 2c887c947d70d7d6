//! Things in the order in which they were last used, in two ranks: what is to make room is found at once, however many there are.

/// Names a thing until it is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) struct RecencyKey(u32);

/// Which of two orders a thing is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) enum Rank {
    /// It makes room first.
    New,
    /// It has shown that it is in use.
    Known,
}

/// Both orders. Inserting, moving and removing cost the same however many things there are.
#[derive(Debug)]
pub(in crate::proxy) struct Recency<T> {
    slots: Vec<Option<Slot<T>>>,
    free: Vec<u32>,
    new: Ends,
    known: Ends,
    len: usize,
}

#[derive(Debug)]
struct Slot<T> {
    item: T,
    rank: Rank,
    before: Option<u32>,
    after: Option<u32>,
}

/// The first and the last of an order.
#[derive(Clone, Copy, Debug, Default)]
struct Ends {
    oldest: Option<u32>,
    newest: Option<u32>,
}

// === impl Recency ===

impl<T> Default for Recency<T> {
    fn default() -> Self {
        Self { slots: Vec::new(), free: Vec::new(), new: Ends::default(), known: Ends::default(), len: 0 }
    }
}

impl<T> Recency<T> {
    /// Keeps a new thing; it is the last of its rank.
    pub(in crate::proxy) fn insert(&mut self, item: T) -> RecencyKey {
        let slot = Slot { item, rank: Rank::New, before: None, after: None };
        let index = match self.free.pop() {
            Some(index) => {
                if let Some(place) = self.slots.get_mut(index as usize) {
                    *place = Some(slot);
                }
                index
            }
            None => {
                self.slots.push(Some(slot));
                u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
            }
        };
        self.len += 1;
        self.append(index, Rank::New);
        RecencyKey(index)
    }

    /// A thing was used: it becomes the last of this rank.
    pub(in crate::proxy) fn touch(&mut self, key: RecencyKey, rank: Rank) {
        if self.slot(key.0).is_some() {
            self.unlink(key.0);
            self.append(key.0, rank);
        }
    }

    /// Takes a thing out.
    pub(in crate::proxy) fn remove(&mut self, key: RecencyKey) -> Option<T> {
        self.slot(key.0)?;
        self.unlink(key.0);
        self.free.push(key.0);
        self.len -= 1;
        let removed = self.slots.get_mut(key.0 as usize).and_then(Option::take);
        if self.len == 0 && self.slots.capacity() > 1024 {
            // Gives memory back after a flood.
            (self.slots, self.free) = Default::default();
        }
        removed.map(|slot| slot.item)
    }

    /// The thing of this rank that was not used for the longest time.
    pub(in crate::proxy) fn oldest(&self, rank: Rank) -> Option<&T> {
        self.slot(self.ends(rank).oldest?).map(|slot| &slot.item)
    }

    /// Everything, in no order.
    pub(in crate::proxy) fn iter(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().flatten().map(|slot| &slot.item)
    }

    /// How many things there are.
    pub(in crate::proxy) fn len(&self) -> usize {
        self.len
    }

    fn slot(&self, index: u32) -> Option<&Slot<T>> {
        self.slots.get(index as usize)?.as_ref()
    }

    fn slot_mut(&mut self, index: u32) -> Option<&mut Slot<T>> {
        self.slots.get_mut(index as usize)?.as_mut()
    }

    fn ends(&self, rank: Rank) -> Ends {
        match rank {
            Rank::New => self.new,
            Rank::Known => self.known,
        }
    }

    fn ends_mut(&mut self, rank: Rank) -> &mut Ends {
        match rank {
            Rank::New => &mut self.new,
            Rank::Known => &mut self.known,
        }
    }

    fn append(&mut self, index: u32, rank: Rank) {
        let newest = self.ends(rank).newest;
        if let Some(slot) = self.slot_mut(index) {
            (slot.rank, slot.before, slot.after) = (rank, newest, None);
        }
        match newest.and_then(|newest| self.slot_mut(newest)) {
            Some(before) => before.after = Some(index),
            None => self.ends_mut(rank).oldest = Some(index),
        }
        self.ends_mut(rank).newest = Some(index);
    }

    fn unlink(&mut self, index: u32) {
        let Some(Slot { rank, before, after, .. }) = self.slot(index) else { return };
        let (rank, before, after) = (*rank, *before, *after);
        match before.and_then(|before| self.slot_mut(before)) {
            Some(slot) => slot.after = after,
            None => self.ends_mut(rank).oldest = after,
        }
        match after.and_then(|after| self.slot_mut(after)) {
            Some(slot) => slot.before = before,
            None => self.ends_mut(rank).newest = before,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Empties an order from its old end.
    fn drained(mut recency: Recency<u32>, keys: &[RecencyKey], rank: Rank) -> Vec<u32> {
        let mut order = Vec::new();
        while let Some(oldest) = recency.oldest(rank).copied() {
            order.push(oldest);
            recency.remove(keys[oldest as usize]);
        }
        order
    }

    #[test]
    fn what_was_used_last_goes_last() {
        let mut recency = Recency::default();
        let keys: Vec<_> = (0..5).map(|item| recency.insert(item)).collect();
        recency.touch(keys[0], Rank::New);
        recency.touch(keys[2], Rank::Known);
        recency.touch(keys[1], Rank::Known);
        recency.touch(keys[2], Rank::Known);
        assert_eq!((recency.oldest(Rank::New), recency.oldest(Rank::Known)), (Some(&3), Some(&1)));
        assert_eq!(recency.remove(keys[3]), Some(3));
        assert_eq!(recency.remove(keys[3]), None);
        assert_eq!(recency.len(), 4);
        assert_eq!(drained(recency, &keys, Rank::New), [4, 0]);
    }

    proptest! {
        #[test]
        fn the_orders_are_those_of_a_list(steps in prop::collection::vec((0_u8..3, 0_usize..8, any::<bool>()), 0..60)) {
            let mut recency = Recency::default();
            let mut keys: Vec<RecencyKey> = Vec::new();
            let mut lists: [Vec<u32>; 2] = Default::default();
            for (step, which, is_known) in steps {
                let there: Vec<u32> = lists.concat();
                let chosen = there.get(which).copied();
                match (step, chosen) {
                    (0, _) | (_, None) => {
                        let item = u32::try_from(keys.len()).unwrap();
                        keys.push(recency.insert(item));
                        lists[0].push(item);
                    }
                    (1, Some(item)) => {
                        lists.iter_mut().for_each(|list| list.retain(|other| *other != item));
                        lists[usize::from(is_known)].push(item);
                        recency.touch(keys[item as usize], if is_known { Rank::Known } else { Rank::New });
                    }
                    (_, Some(item)) => {
                        lists.iter_mut().for_each(|list| list.retain(|other| *other != item));
                        prop_assert_eq!(recency.remove(keys[item as usize]), Some(item));
                    }
                }
                prop_assert_eq!(recency.len(), lists[0].len() + lists[1].len());
                for (rank, list) in [(Rank::New, &lists[0]), (Rank::Known, &lists[1])] {
                    prop_assert_eq!(recency.oldest(rank), list.first());
                }
            }
            let mut all: Vec<u32> = recency.iter().copied().collect();
            all.sort_unstable();
            let mut expected = lists.concat();
            expected.sort_unstable();
            prop_assert_eq!(all, expected);
        }
    }
}
