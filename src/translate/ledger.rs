//! A resource that is limited for the whole process: which objects ask for how much of it, and which get none.
//!
//! This depends on what they ask for, and not on the order in which they asked: those that ask for the least come first, then the oldest,
//! then by name. So no object loses what it has because another one asks for much.

use std::collections::{BTreeMap, BTreeSet};

/// Who asks for how much. `K` is ordered as names are.
#[derive(Debug)]
pub(super) struct Ledger<K> {
    demands: BTreeMap<K, Demand>,
    /// Sum of the demands.
    total: u64,
    /// Sum of the demands of those who have to do without.
    refused_total: u64,
    refused: BTreeSet<K>,
    /// Those who were told to do without until all demands are known.
    waiting: BTreeSet<K>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Demand {
    amount: u64,
    /// None counts as the oldest.
    age: Option<jiff::Timestamp>,
}

// === impl Ledger ===

impl<K> Default for Ledger<K> {
    fn default() -> Self {
        Self { demands: BTreeMap::new(), total: 0, refused_total: 0, refused: BTreeSet::new(), waiting: BTreeSet::new() }
    }
}

impl<K: Clone + Ord> Ledger<K> {
    /// How much this one may take at the moment. One that wants more says so with `demand`, and is asked again if `settle` finds that there
    /// is more.
    pub(super) fn available(&self, key: &K, limit: u64) -> u64 {
        if self.refused.contains(key) {
            return 0;
        }
        let own = self.demands.get(key).map_or(0, |demand| demand.amount);
        limit.saturating_sub(self.total - self.refused_total - own)
    }

    /// This one asks for so much; for nothing: it is forgotten. `denied`: it was told to do without some of it.
    pub(super) fn demand(&mut self, key: &K, amount: u64, age: Option<jiff::Timestamp>, denied: bool) {
        let old = if amount == 0 { self.demands.remove(key) } else { self.demands.insert(key.clone(), Demand { amount, age }) };
        let old = old.map_or(0, |old| old.amount);
        self.total = self.total + amount - old;
        if self.refused.contains(key) {
            self.refused_total = self.refused_total + amount - old;
            if amount == 0 {
                self.refused.remove(key);
            }
        } else if denied {
            self.waiting.insert(key.clone());
        } else {
            self.waiting.remove(key);
        }
    }

    /// Decides anew who has to do without; those for whom that changes come back, to be asked again.
    pub(super) fn settle(&mut self, limit: u64) -> BTreeSet<K> {
        let told = &std::mem::take(&mut self.refused) | &std::mem::take(&mut self.waiting);
        self.refused_total = 0;
        if self.total > limit {
            let mut ranked: Vec<_> = self.demands.iter().map(|(key, demand)| (*demand, key)).collect();
            ranked.sort_unstable();
            let mut sum = 0_u64;
            for (demand, key) in ranked {
                sum = sum.saturating_add(demand.amount);
                if sum > limit {
                    self.refused.insert(key.clone());
                    self.refused_total += demand.amount;
                }
            }
        }
        &told ^ &self.refused
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMIT: u64 = 100;

    /// Asks as its users do: what is available decides what is told, and those that `settle` names ask again.
    fn ask(ledger: &mut Ledger<u8>, has: &mut BTreeMap<u8, bool>, key: u8, amount: u64) {
        let granted = ledger.available(&key, LIMIT) >= amount;
        ledger.demand(&key, amount, None, !granted);
        has.insert(key, granted || amount == 0);
    }

    fn settle(ledger: &mut Ledger<u8>, has: &mut BTreeMap<u8, bool>, amounts: &BTreeMap<u8, u64>) {
        for key in ledger.settle(LIMIT) {
            ask(ledger, has, key, amounts.get(&key).copied().unwrap_or_default());
        }
        assert!(ledger.settle(LIMIT).is_empty(), "the second time nothing changes");
    }

    #[test]
    fn who_wants_much_does_without_and_nobody_else() {
        let (mut ledger, mut has) = (Ledger::default(), BTreeMap::new());
        let mut amounts = BTreeMap::new();
        for (key, amount, expected) in
            [(1, 60, &[1][..]), (2, 30, &[1, 2]), (3, 30, &[2, 3]), (0, 90, &[2, 3]), (2, 0, &[1, 3]), (3, 5, &[1, 3]), (1, 0, &[0, 3])]
        {
            amounts.insert(key, amount);
            ask(&mut ledger, &mut has, key, amount);
            settle(&mut ledger, &mut has, &amounts);
            let served: Vec<u8> = amounts.keys().copied().filter(|key| has[key] && amounts[key] > 0).collect();
            assert_eq!(served, expected, "{key} asks for {amount}");
        }
    }

    proptest! {
        #[test]
        fn the_order_of_asking_makes_no_difference(steps in prop::collection::vec((0..6_u8, 0..60_u64, any::<bool>()), 1..30)) {
            let (mut ledger, mut has, mut amounts) = (Ledger::default(), BTreeMap::new(), BTreeMap::new());
            for (key, amount, pause) in steps {
                amounts.insert(key, amount);
                ask(&mut ledger, &mut has, key, amount);
                if pause {
                    settle(&mut ledger, &mut has, &amounts);
                }
            }
            settle(&mut ledger, &mut has, &amounts);
            let (mut fresh, mut fresh_has) = (Ledger::default(), BTreeMap::new());
            for (key, amount) in &amounts {
                ask(&mut fresh, &mut fresh_has, *key, *amount);
            }
            settle(&mut fresh, &mut fresh_has, &amounts);
            prop_assert_eq!(&has, &fresh_has);
            let taken: u64 = amounts.iter().filter(|(key, _)| has[key]).map(|(_, amount)| amount).sum();
            prop_assert!(taken <= LIMIT);
        }
    }
}
