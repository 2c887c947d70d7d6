//! The hosts that a request may go to, and how one of them is chosen.

use std::ops::ControlFlow;
use std::sync::Arc;

use crate::lb::choice::Choice;
use crate::lb::config::Policy;
use crate::lb::host::LbHost;
use crate::lb::least_request::LeastRequest;
use crate::lb::maglev::Maglev;
use crate::lb::member::Member;
use crate::lb::random::RandomChoice;
use crate::lb::ring::Ring;
use crate::lb::round_robin::Schedule;

/// Hosts of one priority level that are selected together, with their table.
#[derive(Debug)]
pub(super) struct Pool {
    /// The hosts in the order of their weights' normalisation.
    pub(super) members: Box<[u32]>,
    pub(super) selector: Selector,
    /// For a table of other hosts: the present index of each of these, or `GONE`.
    renamed: Option<Box<[u32]>>,
}

/// A host of a table that is no longer there.
const GONE: u32 = u32::MAX;

/// A policy with what was worked out for it beforehand.
#[derive(Debug)]
pub(super) enum Selector {
    Ring(Arc<Ring>),
    Maglev(Arc<Maglev>),
    RoundRobin(Schedule),
    Random(RandomChoice),
    LeastRequest(LeastRequest),
}

impl Pool {
    /// From a valid policy.
    pub(super) fn build(hosts: &[LbHost], members: &[Member], policy: &Policy, has_localities: bool) -> Self {
        let selector = match policy {
            Policy::RingHash(config) => Selector::Ring(Arc::new(Ring::from_members(hosts, members, config))),
            Policy::Maglev(config) => Selector::Maglev(Arc::new(Maglev::from_members(hosts, members, config))),
            Policy::RoundRobin => Selector::RoundRobin(Schedule::build(hosts, members)),
            Policy::Random => Selector::Random(RandomChoice::build(hosts, members, has_localities)),
            Policy::LeastRequest { choice_count } => Selector::LeastRequest(LeastRequest::build(members, *choice_count)),
        };
        Self { members: indexes(members), selector, renamed: None }
    }

    /// The same table for other hosts: those that stay keep their entries, those that are gone leave theirs to whoever follows in the table,
    /// and new ones have none. `now` gives the present index of a host. `None`: there is no table, or nobody stays.
    pub(super) fn carried_over(&self, members: &[Member], host_count: u32, now: impl Fn(u32) -> Option<u32>) -> Option<Self> {
        let selector = match &self.selector {
            Selector::Ring(ring) => Selector::Ring(Arc::clone(ring)),
            Selector::Maglev(maglev) => Selector::Maglev(Arc::clone(maglev)),
            Selector::RoundRobin(_) | Selector::Random(_) | Selector::LeastRequest(_) => return None,
        };
        let rename = |host: u32| if host == GONE { GONE } else { now(host).unwrap_or(GONE) };
        let renamed: Box<[u32]> = match &self.renamed {
            Some(renamed) => renamed.iter().map(|host| rename(*host)).collect(),
            None => (0..host_count).map(rename).collect(),
        };
        let pool = Self { members: indexes(members), selector, renamed: Some(renamed) };
        // A host may stay that has no entry.
        pool.owner(0).is_some().then_some(pool)
    }

    /// The host of a hash; `None` without hosts, or if the policy has no table.
    pub(super) fn choose_by_hash(&self, hash: u64, attempt: u32) -> Option<Choice> {
        let choice = match &self.selector {
            Selector::Ring(ring) => ring.choose(hash, attempt)?,
            Selector::Maglev(maglev) => maglev.choose(hash, attempt)?,
            Selector::RoundRobin(_) | Selector::Random(_) | Selector::LeastRequest(_) => return None,
        };
        if self.renamed.is_none() { Some(choice) } else { self.owner(choice.entry as usize) }
    }

    /// The host of an entry of the table: its own, or if that is gone the host of the next entry whose host is still there.
    pub(super) fn owner(&self, entry: usize) -> Option<Choice> {
        let owner = |entry: usize| Some(Choice { host: self.present(self.entry(entry)?)?, entry: entry as u32 });
        (entry..self.table_size()).chain(0..entry).find_map(owner)
    }

    /// The points of a ring and their hosts, in order; none of hosts that are gone.
    pub(super) fn points(&self) -> impl Iterator<Item = (u64, u32)> {
        let ring = match &self.selector {
            Selector::Ring(ring) => Some(ring),
            Selector::Maglev(_) | Selector::RoundRobin(_) | Selector::Random(_) | Selector::LeastRequest(_) => None,
        };
        ring.into_iter().flat_map(|ring| ring.points()).filter_map(|(point, host)| Some((point, self.present(host)?)))
    }

    /// The present index of a host of the table, if it is still there.
    fn present(&self, host: u32) -> Option<u32> {
        match &self.renamed {
            Some(renamed) => renamed.get(host as usize).copied().filter(|host| *host != GONE),
            None => Some(host),
        }
    }

    /// The host that an entry was made for.
    fn entry(&self, entry: usize) -> Option<u32> {
        match &self.selector {
            Selector::Ring(ring) => ring.point(entry).map(|(_, host)| host),
            Selector::Maglev(maglev) => maglev.slot(entry),
            Selector::RoundRobin(_) | Selector::Random(_) | Selector::LeastRequest(_) => None,
        }
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
        let visit = |host: u32| self.present(host).map_or(ControlFlow::Continue(()), &mut visit);
        // Stopped or not, there is nothing more to do.
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
        match &self.selector {
            Selector::Ring(ring) => ring.size(),
            Selector::Maglev(maglev) => maglev.size(),
            Selector::RoundRobin(_) | Selector::Random(_) | Selector::LeastRequest(_) => 0,
        }
    }
}

fn indexes(members: &[Member]) -> Box<[u32]> {
    members.iter().map(|member| member.host).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use crate::lb::random::next_random;
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
