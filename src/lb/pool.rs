//! The hosts that a request may go to, and how one of them is chosen.

use std::ops::ControlFlow;

use crate::lb::admission::{Admission, Partial};
use crate::lb::admits::Admits;
use crate::lb::choice::Choice;
use crate::lb::config::Policy;
use crate::lb::draw::{below, next_random};
use crate::lb::host::LbHost;
use crate::lb::member::Member;
use crate::lb::selector::Selector;
use crate::lb::table::{GONE, Table};

/// Hosts of one priority level that are selected together, with their table.
#[derive(Debug)]
pub(super) struct Pool {
    /// The hosts in the order of their weights' normalisation.
    pub(super) members: Box<[u32]>,
    pub(super) selector: Selector,
    /// Hosts without an entry in the table: for requests without a key, and for those that failed elsewhere.
    pub(super) outside: Box<[u32]>,
    /// What makes the choice another one than the table's own. One field for all of it: a plain table asks once.
    exceptions: Option<Box<Exceptions>>,
}

/// Why a choice is not the one of the table.
#[derive(Debug, Default)]
struct Exceptions {
    /// For a table of other hosts: the present index of each of these, or `GONE`.
    renamed: Option<Box<[u32]>>,
    /// For hosts that do not take all of their hashes.
    admission: Option<Admissions>,
}

/// What hosts take, and the table for everything else.
#[derive(Debug)]
struct Admissions {
    /// By host.
    admits: Box<[Admits]>,
    selector: Selector,
    renamed: Option<Box<[u32]>>,
}

impl Admissions {
    fn table(&self) -> Table<'_> {
        Table { selector: &self.selector, renamed: self.renamed.as_deref() }
    }
}

impl Pool {
    /// From a valid policy.
    pub(super) fn build(hosts: &[LbHost], admission: &Admission, policy: &Policy, has_localities: bool) -> Self {
        let selector = |members: &[Member]| Selector::build(hosts, members, policy, has_localities);
        let exceptions = admission.partial.as_ref().map(|partial| {
            let admission = Admissions { admits: partial.admits.clone(), selector: selector(&partial.fallback), renamed: None };
            Box::new(Exceptions { renamed: None, admission: Some(admission) })
        });
        Self {
            members: indexes(&admission.members),
            selector: selector(&admission.members),
            outside: admission.outside.clone(),
            exceptions,
        }
    }

    /// The same table for other hosts: those that stay keep their entries, those that are gone leave theirs to whoever follows in the table,
    /// and new ones have none. So it is with the hashes that a host does not take, in the table that there is for them, else in this one.
    /// `now` gives the present index of a host. `None`: there is no table, or nobody stays.
    pub(super) fn carried_over(&self, admission: &Admission, host_count: u32, now: impl Fn(u32) -> Option<u32>) -> Option<Self> {
        let rename = |host: u32| if host == GONE { GONE } else { now(host).unwrap_or(GONE) };
        let renamed = |table: Table<'_>| match table.renamed {
            Some(renamed) => renamed.iter().map(|host| rename(*host)).collect::<Box<[u32]>>(),
            None => (0..host_count).map(rename).collect(),
        };
        let admissions = |partial: &Partial| {
            let takes_all = |host: u32| partial.admits.get(host as usize) == Some(&Admits::All);
            self.fallback().into_iter().chain([self.table()]).find_map(|before| {
                let renamed = renamed(before).iter().map(|host| if takes_all(*host) { *host } else { GONE }).collect();
                let after = Admissions { admits: partial.admits.clone(), selector: before.selector.shared()?, renamed: Some(renamed) };
                after.table().owner(0).is_some().then_some(after)
            })
        };
        let admitted = match &admission.partial {
            None => None,
            Some(partial) => Some(admissions(partial)?),
        };
        let exceptions = Exceptions { renamed: Some(renamed(self.table())), admission: admitted };
        let selector = self.selector.shared()?;
        let pool = Self {
            members: indexes(&admission.members),
            selector,
            outside: admission.outside.clone(),
            exceptions: Some(Box::new(exceptions)),
        };
        // A host may stay that has no entry.
        pool.table().owner(0).is_some().then_some(pool)
    }

    /// The host of a hash; `None` without hosts, or if the policy has no table.
    pub(super) fn choose_by_hash(&self, hash: u64, attempt: u32) -> Option<Choice> {
        let choice = self.selector.choose_by_hash(hash, attempt)?;
        if self.exceptions.is_none() { Some(choice) } else { self.choose_exceptionally(choice, hash, attempt) }
    }

    /// A host without an entry in the table, with the share that such hosts have of all: of a random number.
    pub(super) fn choose_outside(&self, random: u64) -> Option<Choice> {
        let mut state = random;
        let count = (self.outside.len() + self.present().count()) as u64;
        let drawn = below(count, next_random(&mut state));
        self.outside.get(drawn as usize).map(|host| Choice { host: *host, entry: 0 })
    }

    /// The host of a hash whose entry is known. The choice names the entry that the hash falls on, whichever table gives the host.
    #[cold]
    fn choose_exceptionally(&self, choice: Choice, hash: u64, attempt: u32) -> Option<Choice> {
        let table = self.table();
        let choice = if table.renamed.is_none() { choice } else { table.owner(choice.entry as usize)? };
        if self.admits(choice.host).takes(hash) {
            return Some(choice);
        }
        Some(Choice { host: self.fallback()?.choose_by_hash(hash, attempt)?.host, ..choice })
    }

    /// The table, in which every host stands as if it took all of its hashes.
    pub(super) fn table(&self) -> Table<'_> {
        let renamed = self.exceptions.as_ref().and_then(|exceptions| exceptions.renamed.as_deref());
        Table { selector: &self.selector, renamed }
    }

    /// The table for hashes that are not taken, if there are such.
    pub(super) fn fallback(&self) -> Option<Table<'_>> {
        self.admissions().map(Admissions::table)
    }

    /// What a host takes of the hashes that fall on it.
    pub(super) fn admits(&self, host: u32) -> Admits {
        self.admissions().map_or(Admits::All, |admission| admission.admits.get(host as usize).copied().unwrap_or_default())
    }

    fn admissions(&self) -> Option<&Admissions> {
        self.exceptions.as_ref()?.admission.as_ref()
    }

    /// The members that a request can go to at all.
    pub(super) fn present(&self) -> impl DoubleEndedIterator<Item = u32> {
        self.members.iter().copied().filter(|host| self.admits(*host) != Admits::None)
    }

    /// The host by any policy; those of a hash take the random number for one.
    pub(super) fn choose(&self, random: u64, turn: u64, active: impl Fn(usize) -> u32) -> Option<Choice> {
        match &self.selector {
            Selector::Ring(_) | Selector::Maglev(_) => self.choose_by_hash(random, 0),
            Selector::RoundRobin(schedule) => schedule.choose(turn),
            Selector::Random(choice) => choice.choose(&self.members, random),
            Selector::LeastRequest(least) => least.choose(&self.members, random, active),
        }
    }

    /// Visits the hosts of a hash's first `count` attempts until told to stop; none if the policy has no table.
    pub(super) fn attempts(&self, hash: u64, count: usize, mut visit: impl FnMut(u32) -> ControlFlow<()>) {
        // Stopped or not, there is nothing more to do.
        if self.fallback().is_some() {
            let attempts = (0..count as u32).filter_map(|attempt| self.choose_by_hash(hash, attempt));
            let _ = attempts.map(|choice| choice.host).try_for_each(visit);
            return;
        }
        let table = self.table();
        let visit = |host: u32| table.present(host).map_or(ControlFlow::Continue(()), &mut visit);
        let _ = match &self.selector {
            Selector::Ring(ring) => ring.attempts(hash).take(count).try_for_each(visit),
            Selector::Maglev(maglev) => {
                (0..count as u32).filter_map(|attempt| maglev.choose(hash, attempt)).map(|choice| choice.host).try_for_each(visit)
            }
            Selector::RoundRobin(_) | Selector::Random(_) | Selector::LeastRequest(_) => ControlFlow::Continue(()),
        };
    }

    /// The number of entries that attempts walk through.
    pub(super) fn table_size(&self) -> usize {
        self.selector.size()
    }
}

fn indexes(members: &[Member]) -> Box<[u32]> {
    members.iter().map(|member| member.host).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use crate::lb::draw::next_random;
    use crate::lb::{Balancer, BalancerConfig, LbHost, MaglevConfig, Policy, RingConfig};

    fn hosts(numbers: &[usize]) -> Vec<LbHost> {
        numbers.iter().map(|n| LbHost::new(format!("10.0.0.{n}:80"))).collect()
    }

    /// What the table of some hosts gives others until theirs is built.
    fn carry(table: &Balancer, of: &[usize], to: &[usize], config: &BalancerConfig) -> Option<Balancer> {
        let now = |host: u32| to.iter().position(|n| *n == of[host as usize]).map(|host| host as u32);
        table.carried_over(&hosts(to), config, now).unwrap()
    }

    fn numbers(set: &BTreeSet<usize>) -> Vec<usize> {
        set.iter().copied().collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn keys_stay_with_hosts_that_stay_and_nobody_goes_to_one_that_is_gone(
            policy in prop_oneof![Just(Policy::RingHash(RingConfig { minimum_ring_size: 200, ..RingConfig::default() })),
                Just(Policy::Maglev(MaglevConfig { table_size: 307 }))],
            before in prop::collection::btree_set(0..12_usize, 1..9),
            meanwhile in prop::collection::btree_set(0..12_usize, 1..9),
            after in prop::collection::btree_set(0..12_usize, 1..9),
            seed: u64,
        ) {
            let config = BalancerConfig { policy, ..BalancerConfig::default() };
            let (before, meanwhile, after) = (numbers(&before), numbers(&meanwhile), numbers(&after));
            let built = Balancer::build(&hosts(&before), &config).unwrap();
            let staying: BTreeSet<_> = before.iter().filter(|n| meanwhile.contains(n)).copied().collect();
            let Some(carried) = carry(&built, &before, &meanwhile, &config) else {
                prop_assert!(staying.is_empty());
                return Ok(());
            };
            // Once more, over a table that is carried over itself.
            let still: BTreeSet<_> = staying.iter().filter(|n| after.contains(n)).copied().collect();
            let twice = carry(&carried, &meanwhile, &after, &config);
            prop_assert_eq!(twice.is_none(), still.is_empty());
            let steps = [(Some(&carried), &meanwhile, &staying), (twice.as_ref(), &after, &still)];
            let mut state = seed;
            for hash in (0..200).map(|_| next_random(&mut state)) {
                let old = before[built.choose_by_hash(hash, 0).unwrap().host as usize];
                for (balancer, present, known) in &steps {
                    let Some(balancer) = balancer else { continue };
                    let chosen = present[balancer.choose_by_hash(hash, 0).unwrap().host as usize];
                    prop_assert!(known.contains(&chosen), "{chosen} of {known:?}");
                    prop_assert!(!known.contains(&old) || chosen == old, "{old} stays, and its keys with it");
                    for attempt in 1..4 {
                        let chosen = present[balancer.choose_by_hash(hash, attempt).unwrap().host as usize];
                        prop_assert!(known.contains(&chosen));
                    }
                    let sequence: BTreeSet<_> = balancer.sequence(hash, 20).into_iter().map(|host| present[host as usize]).collect();
                    prop_assert_eq!(sequence, present.iter().copied().collect::<BTreeSet<_>>(), "a retry may go to any host that is there");
                }
            }
            let total: f64 = carried.shares().iter().sum();
            prop_assert!((total - 1.0).abs() < 1e-9, "{total}");
            prop_assert_eq!(built.table().unwrap().size, carried.table().unwrap().size);
        }
    }

    #[test]
    fn the_keys_of_a_host_that_is_gone_go_where_a_ring_without_it_sends_them() {
        // As many points for each of three hosts as for each of two: then the next table moves nobody a second time.
        let ring = |size| BalancerConfig {
            policy: Policy::RingHash(RingConfig { minimum_ring_size: size, ..RingConfig::default() }),
            ..BalancerConfig::default()
        };
        let built = Balancer::build(&hosts(&[1, 2, 3]), &ring(300)).unwrap();
        let carried = carry(&built, &[1, 2, 3], &[1, 3], &ring(200)).unwrap();
        let next = Balancer::build(&hosts(&[1, 3]), &ring(200)).unwrap();
        let remapped = carried.remapped(&next, |host| host, |host| host);
        assert!(remapped.moved < 1e-12, "{remapped:?}");
        let moved = built.remapped(&carried, |host| [1, 2, 3][host as usize], |host| [1, 3][host as usize]);
        assert!((moved.moved - built.shares()[1]).abs() < 1e-9 && moved.needless < 1e-12, "{moved:?}");
    }

    #[test]
    fn what_has_no_table_is_not_carried_over() {
        for policy in [Policy::RoundRobin, Policy::Random, Policy::LeastRequest { choice_count: 2 }] {
            let config = BalancerConfig { policy, ..BalancerConfig::default() };
            let built = Balancer::build(&hosts(&[1, 2]), &config).unwrap();
            assert!(carry(&built, &[1, 2], &[1], &config).is_none());
        }
    }
}
