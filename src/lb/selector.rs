//! The hosts that a request may go to, and how one of them is chosen.

use std::ops::ControlFlow;

use crate::lb::balancer::{Choice, Policy};
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
}

/// A policy with what was worked out for it beforehand.
#[derive(Debug)]
pub(super) enum Selector {
    Ring(Ring),
    Maglev(Maglev),
    RoundRobin(Schedule),
    Random(RandomChoice),
    LeastRequest(LeastRequest),
}

impl Pool {
    /// From a valid policy.
    pub(super) fn build(hosts: &[LbHost], members: &[Member], policy: &Policy, has_localities: bool) -> Self {
        let selector = match policy {
            Policy::RingHash(config) => Selector::Ring(Ring::from_members(hosts, members, config)),
            Policy::Maglev(config) => Selector::Maglev(Maglev::from_members(hosts, members, config)),
            Policy::RoundRobin => Selector::RoundRobin(Schedule::build(hosts, members)),
            Policy::Random => Selector::Random(RandomChoice::build(hosts, members, has_localities)),
            Policy::LeastRequest { choice_count } => Selector::LeastRequest(LeastRequest::build(members, *choice_count)),
        };
        Self { members: members.iter().map(|member| member.host).collect(), selector }
    }

    /// The host of a hash; `None` without hosts, or if the policy has no table.
    pub(super) fn choose_by_hash(&self, hash: u64, attempt: u32) -> Option<Choice> {
        match &self.selector {
            Selector::Ring(ring) => ring.choose(hash, attempt),
            Selector::Maglev(maglev) => maglev.choose(hash, attempt),
            Selector::RoundRobin(_) | Selector::Random(_) | Selector::LeastRequest(_) => None,
        }
    }

    /// The host by any policy; those of a hash take the random number for one.
    pub(super) fn choose(&self, random: u64, turn: u64, active: impl Fn(usize) -> u32) -> Option<Choice> {
        match &self.selector {
            Selector::Ring(ring) => ring.choose(random, 0),
            Selector::Maglev(maglev) => maglev.choose(random, 0),
            Selector::RoundRobin(schedule) => schedule.choose(turn),
            Selector::Random(choice) => choice.choose(&self.members, random),
            Selector::LeastRequest(least) => least.choose(&self.members, random, active),
        }
    }

    /// Visits the hosts of a hash's first `count` attempts until told to stop; none if the policy has no table.
    pub(super) fn attempts(&self, hash: u64, count: usize, visit: impl FnMut(u32) -> ControlFlow<()>) {
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
