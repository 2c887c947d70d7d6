//! A policy with what was worked out for it beforehand.

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

/// A policy with what was worked out for it beforehand.
#[derive(Debug)]
pub(super) enum Selector {
    Ring(Arc<Ring>),
    Maglev(Arc<Maglev>),
    RoundRobin(Schedule),
    Random(RandomChoice),
    LeastRequest(LeastRequest),
}

impl Selector {
    /// From a valid policy.
    pub(super) fn build(hosts: &[LbHost], members: &[Member], policy: &Policy, has_localities: bool) -> Self {
        match policy {
            Policy::RingHash(config) => Self::Ring(Arc::new(Ring::from_members(hosts, members, config))),
            Policy::Maglev(config) => Self::Maglev(Arc::new(Maglev::from_members(hosts, members, config))),
            Policy::RoundRobin => Self::RoundRobin(Schedule::build(hosts, members)),
            Policy::Random => Self::Random(RandomChoice::build(hosts, members, has_localities)),
            Policy::LeastRequest { choice_count } => Self::LeastRequest(LeastRequest::build(members, *choice_count)),
        }
    }

    /// The same table once more, without a copy; `None` if the policy has none.
    pub(super) fn shared(&self) -> Option<Self> {
        match self {
            Self::Ring(ring) => Some(Self::Ring(Arc::clone(ring))),
            Self::Maglev(maglev) => Some(Self::Maglev(Arc::clone(maglev))),
            Self::RoundRobin(_) | Self::Random(_) | Self::LeastRequest(_) => None,
        }
    }

    /// The host of a hash; `None` without hosts, or if the policy has no table.
    pub(super) fn choose_by_hash(&self, hash: u64, attempt: u32) -> Option<Choice> {
        match self {
            Self::Ring(ring) => ring.choose(hash, attempt),
            Self::Maglev(maglev) => maglev.choose(hash, attempt),
            Self::RoundRobin(_) | Self::Random(_) | Self::LeastRequest(_) => None,
        }
    }

    /// The host that an entry was made for.
    pub(super) fn entry(&self, entry: usize) -> Option<u32> {
        match self {
            Self::Ring(ring) => ring.point(entry).map(|(_, host)| host),
            Self::Maglev(maglev) => maglev.slot(entry),
            Self::RoundRobin(_) | Self::Random(_) | Self::LeastRequest(_) => None,
        }
    }

    /// The number of entries that attempts walk through.
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Ring(ring) => ring.size(),
            Self::Maglev(maglev) => maglev.size(),
            Self::RoundRobin(_) | Self::Random(_) | Self::LeastRequest(_) => 0,
        }
    }
}
