//! Bounded load (Envoy's `hash_balance_factor`): a hash's host is passed over while it has too many requests in flight.

use smallvec::SmallVec;

use crate::lb::error::TableError;
use crate::lb::member::Member;

/// The bound of a balancer.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct LoadBound {
    /// Percent of the average load that a host may have.
    factor: u32,
    /// Normalised weights by host; 0 for hosts that are in no table.
    weights: Box<[f64]>,
}

/// The requests of a cluster, as they are right now.
pub(super) struct Load<A, P> {
    /// In flight to all hosts together.
    pub(super) cluster: u32,
    /// In flight to a host, by its index.
    pub(super) active: A,
    /// Whether there is anybody behind a host's entries. Who is absent keeps its place in the shuffle, so that nobody else's moves.
    pub(super) is_present: P,
}

/// Whether Envoy would take this factor, in percent.
pub(super) fn validate(factor: u32) -> Result<(), TableError> {
    if factor < 100 { Err(TableError::BalanceFactor { factor }) } else { Ok(()) }
}

impl LoadBound {
    pub(super) fn new(factor: u32, host_count: usize) -> Self {
        Self { factor, weights: vec![0.0; host_count].into() }
    }

    pub(super) fn add(&mut self, members: &[Member]) {
        for member in members {
            if let Some(weight) = self.weights.get_mut(member.host as usize) {
                *weight = member.weight;
            }
        }
    }

    /// `first` if its load is within the bound, else the first such host in an order that depends on the hash alone,
    /// else the host that is least beyond its bound.
    pub(super) fn choose<A, P>(&self, hash: u64, first: u32, members: &[u32], load: &Load<A, P>) -> u32
    where
        A: Fn(usize) -> u32,
        P: Fn(u32) -> bool,
    {
        let first_overload = self.overload(first, load);
        if first_overload <= 1.0 {
            return first;
        }
        let mut least = (first_overload, first);
        for host in Shuffled::new(members, hash).filter(|host| (load.is_present)(*host)) {
            let overload = self.overload(host, load);
            if overload <= 1.0 {
                return host;
            }
            if overload < least.0 {
                least = (overload, host);
            }
        }
        least.1
    }

    /// Requests in flight per slot that the host has.
    fn overload<A: Fn(usize) -> u32, P>(&self, host: u32, load: &Load<A, P>) -> f64 {
        let weight = self.weights.get(host as usize).copied().unwrap_or(0.0);
        f64::from((load.active)(host as usize)) / self.slots(weight, load.cluster) as f64
    }

    /// The requests that a host of this weight may have in flight before it is passed over.
    pub(super) fn slots(&self, weight: f64, cluster_active: u32) -> u64 {
        let total = ((u64::from(cluster_active) + 1) * u64::from(self.factor)).div_ceil(100);
        ((total as f64 * weight).ceil() as u64).max(1)
    }
}

/// The members in the order of a shuffle (Fisher and Yates) whose random numbers begin with the hash.
struct Shuffled {
    left: SmallVec<[u32; 64]>,
    random: MersenneTwister,
    next: usize,
}

impl Shuffled {
    fn new(members: &[u32], hash: u64) -> Self {
        let seed = (hash & u64::from(u32::MAX)) as u32;
        Self { left: SmallVec::from_slice(members), random: MersenneTwister::new(seed), next: 0 }
    }

    /// A uniform number below `bound`, as Envoy draws it.
    fn below(&mut self, bound: usize) -> usize {
        let part = (1_u64 << 32) / bound as u64;
        loop {
            let number = (u64::from(self.random.next()) / part) as usize;
            if number < bound {
                return number;
            }
        }
    }
}

impl Iterator for Shuffled {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        let remaining = self.left.len().checked_sub(self.next).filter(|remaining| *remaining > 0)?;
        let drawn = self.next + self.below(remaining);
        self.left.swap(self.next, drawn);
        self.next += 1;
        self.left.get(self.next - 1).copied()
    }
}

const TWISTER_SIZE: usize = 624;

/// MT19937 (Matsumoto and Nishimura 1998), C++'s `std::mt19937`; the state is renewed word by word as it is used.
struct MersenneTwister {
    state: [u32; TWISTER_SIZE],
    next: usize,
}

#[expect(clippy::indexing_slicing, reason = "every index is a remainder by the state's size")]
impl MersenneTwister {
    fn new(seed: u32) -> Self {
        let mut state = [0; TWISTER_SIZE];
        let mut word = seed;
        for (position, slot) in state.iter_mut().enumerate() {
            if position > 0 {
                word = 1_812_433_253_u32.wrapping_mul(word ^ (word >> 30)).wrapping_add(position as u32);
            }
            *slot = word;
        }
        Self { state, next: 0 }
    }

    fn next(&mut self) -> u32 {
        let at = |offset: usize| (self.next + offset) % TWISTER_SIZE;
        let joined = (self.state[at(0)] & 0x8000_0000) | (self.state[at(1)] & 0x7fff_ffff);
        let twisted = (joined >> 1) ^ if joined & 1 == 1 { 0x9908_b0df } else { 0 };
        let mut word = self.state[at(397)] ^ twisted;
        self.state[self.next] = word;
        self.next = (self.next + 1) % TWISTER_SIZE;
        word ^= word >> 11;
        word ^= (word << 7) & 0x9d2c_5680;
        word ^= (word << 15) & 0xefc6_0000;
        word ^ (word >> 18)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_is_cpps() {
        // C++ standard, [rand.predef]: the 10000th number of a default-constructed mt19937 (seed 5489).
        let mut random = MersenneTwister::new(5489);
        assert_eq!(random.next(), 3_499_211_612);
        for _ in 0..9998 {
            random.next();
        }
        assert_eq!(random.next(), 4_123_659_995);
    }

    #[test]
    fn a_shuffle_has_every_member_once() {
        let members: Vec<u32> = (5..105).collect();
        let mut shuffled: Vec<u32> = Shuffled::new(&members, 7).collect();
        assert_ne!(shuffled, members);
        shuffled.sort_unstable();
        assert_eq!(shuffled, members);
        assert_eq!(Shuffled::new(&[], 7).next(), None);
    }

    #[test]
    fn slots_are_the_hosts_part_of_the_load_and_one_at_least() {
        let bound = LoadBound::new(120, 0);
        // (9 + 1) * 1.2 = 12 slots in all.
        for (weight, slots) in [(0.5, 6), (0.51, 7), (0.01, 1), (0.0, 1), (1.0, 12)] {
            assert_eq!(bound.slots(weight, 9), slots, "weight {weight}");
        }
        assert!(LoadBound::new(u32::MAX, 0).slots(1.0, u32::MAX) > u64::from(u32::MAX));
    }

    #[test]
    fn when_all_are_beyond_their_bound_the_least_loaded_is_taken() {
        let mut bound = LoadBound::new(100, 3);
        let members: Vec<Member> = (0..3).map(|host| Member { host, weight: 1.0 / 3.0 }).collect();
        bound.add(&members);
        // A cluster count that lags behind the hosts' counts.
        let load = Load { cluster: 0, active: |host: usize| [9, 7, 8][host], is_present: |_| true };
        for hash in 0..50 {
            assert_eq!(bound.choose(hash, 0, &[0, 1, 2], &load), 1);
        }
    }
}
