//! Envoy's Maglev: a table of a prime number of slots, which the hosts fill in turns, each along its own permutation.

use crate::lb::choice::Choice;
use crate::lb::error::TableError;
use crate::lb::hash::xxh64;
use crate::lb::host::LbHost;
use crate::lb::index::HostIndexes;
use crate::lb::member::{self, Member};

/// Envoy's limit for the size of a table, in slots; itself a prime.
pub const MAGLEV_SIZE_LIMIT: u64 = 5_000_011;

/// How large a Maglev table is. The default is Envoy's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MaglevConfig {
    /// The number of slots, a prime.
    pub table_size: u64,
}

impl Default for MaglevConfig {
    fn default() -> Self {
        Self { table_size: 65_537 }
    }
}

impl MaglevConfig {
    /// Whether Envoy would take this size.
    pub fn validate(&self) -> Result<(), TableError> {
        if self.table_size > MAGLEV_SIZE_LIMIT || !is_prime(self.table_size) {
            return Err(TableError::MaglevSize { size: self.table_size, limit: MAGLEV_SIZE_LIMIT });
        }
        Ok(())
    }
}

fn is_prime(number: u64) -> bool {
    number >= 2 && (2..).take_while(|divisor| divisor * divisor <= number).all(|divisor| !number.is_multiple_of(divisor))
}

/// A Maglev table: the host of each slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Maglev {
    slots: HostIndexes,
}

impl Maglev {
    /// A table of all hosts given, whatever their health, priority and locality. Their order does not matter.
    pub fn build(hosts: &[LbHost], config: &MaglevConfig) -> Result<Self, TableError> {
        config.validate()?;
        let selected: Vec<u32> = (0..hosts.len() as u32).collect();
        Ok(Self::from_members(hosts, &member::flat(hosts, &selected)?, config))
    }

    /// A table of the members, from a valid configuration.
    pub(super) fn from_members(hosts: &[LbHost], members: &[Member], config: &MaglevConfig) -> Self {
        if members.is_empty() {
            return Self { slots: HostIndexes::zeroed(0, 0) };
        }
        let mut filling = Filling::new(hosts, members, config.table_size);
        if member::equal(members) {
            filling.fill_in_turns();
        } else {
            filling.fill_by_weight();
        }
        Self { slots: filling.slots }
    }

    /// The host of the slot that `hash` falls on. A later attempt changes the hash.
    #[must_use]
    pub fn choose(&self, hash: u64, attempt: u32) -> Option<Choice> {
        let hash = if attempt == 0 { hash } else { hash ^ u64::from(attempt).wrapping_neg() };
        let entry = hash.checked_rem(self.slots.len() as u64)?;
        Some(Choice { host: self.slots.get(entry as usize)?, entry: entry as u32 })
    }

    /// The number of slots; 0 without hosts.
    #[must_use]
    pub fn size(&self) -> usize {
        self.slots.len()
    }

    /// The host of a slot.
    pub(super) fn slot(&self, entry: usize) -> Option<u32> {
        self.slots.get(entry)
    }
}

/// A host's walk through the table.
struct Turn {
    host: u32,
    /// The slot to try next.
    slot: u64,
    /// How far to go from one slot to the next; coprime with the table's size.
    skip: u64,
    /// How many steps it takes to the next slot in the table, once that was worked out.
    steps_to_neighbour: Option<u64>,
    weight: f64,
    /// What `round * weight` has to reach for the host's next turn.
    target: f64,
}

/// A table while it is being filled.
struct Filling {
    turns: Vec<Turn>,
    slots: HostIndexes,
    /// One bit per slot. Small enough to stay in the first cache, which most of the building time is spent in.
    taken: Vec<u64>,
    free: u64,
    /// The free slots, in any order, once they are so few that half of all steps would be spent in finding them.
    last_free: Option<Vec<u64>>,
    size: u64,
}

impl Filling {
    fn new(hosts: &[LbHost], members: &[Member], size: u64) -> Self {
        let turns = by_key(hosts, members)
            .into_iter()
            .map(|(key, member)| Turn {
                host: member.host,
                slot: xxh64(key.as_bytes(), 0) % size,
                skip: xxh64(key.as_bytes(), 1) % (size - 1) + 1,
                steps_to_neighbour: None,
                weight: member.weight,
                target: 0.0,
            })
            .collect();
        Self {
            turns,
            slots: HostIndexes::zeroed(size as usize, hosts.len()),
            taken: vec![0; (size as usize).div_ceil(64)],
            free: size,
            last_free: None,
            size,
        }
    }

    /// Hosts of equal weight take one slot each, again and again.
    fn fill_in_turns(&mut self) {
        let mut turns = std::mem::take(&mut self.turns);
        while self.free > 0 {
            for turn in turns.iter_mut().take(self.free as usize) {
                self.take_slot(turn);
            }
        }
    }

    /// The host of the largest weight takes a slot each round, the others only in rounds in which they are due. Instead
    /// of asking every host in every round, hosts wait for the round that will be theirs.
    fn fill_by_weight(&mut self) {
        let mut turns = std::mem::take(&mut self.turns);
        let largest_weight = turns.iter().fold(0.0, |largest: f64, turn| largest.max(turn.weight));
        // A slot is taken each round, so that no host has to wait for a later one.
        let mut rounds = Rounds::new(self.size, turns.len());
        let mut due: Vec<u32> = (0..turns.len() as u32).collect();
        for round in 1..=self.size {
            due.sort_unstable();
            for position in due.drain(..) {
                if self.free == 0 {
                    return;
                }
                let Some(turn) = turns.get_mut(position as usize) else { continue };
                turn.target += largest_weight;
                self.take_slot(turn);
                rounds.add(round_reaching(turn.target, turn.weight, round), position);
            }
            rounds.collect(round + 1, &mut due);
        }
    }

    fn take_slot(&mut self, turn: &mut Turn) {
        if self.last_free.is_some() {
            self.take_last(turn);
            return;
        }
        loop {
            let slot = turn.slot;
            turn.slot = sum(slot, turn.skip, self.size);
            let Some(word) = self.taken.get_mut(slot as usize / 64) else { return };
            let bit = 1 << (slot % 64);
            if *word & bit == 0 {
                *word |= bit;
                self.slots.set(slot as usize, turn.host);
                self.free -= 1;
                break;
            }
        }
        // A walk comes upon one of `free` slots after `size / free` steps. Asking all of them how far they are is as much work as some
        // sixteen steps for each.
        if 16 * self.free * self.free <= self.size {
            self.last_free = Some(self.free_slots());
        }
    }

    fn free_slots(&self) -> Vec<u64> {
        let not_full = (0..).zip(&self.taken).filter(|(_, word)| **word != u64::MAX);
        let free = not_full.flat_map(|(place, word)| (0..64).filter(move |bit| word & (1 << bit) == 0).map(move |bit| 64 * place + bit));
        free.filter(|slot| *slot < self.size).collect()
    }

    /// Takes the free slot that the walk would come upon first.
    fn take_last(&mut self, turn: &mut Turn) {
        let Some(free) = &mut self.last_free else { return };
        let size = self.size;
        let steps_to_neighbour = *turn.steps_to_neighbour.get_or_insert_with(|| inverse(turn.skip, size));
        let steps_to = |slot: u64| sum(slot, size - turn.slot, size) * steps_to_neighbour % size;
        let Some(nearest) = (0..free.len()).min_by_key(|place| free.get(*place).map(|slot| steps_to(*slot))) else { return };
        let slot = free.swap_remove(nearest);
        turn.slot = sum(slot, turn.skip, size);
        self.slots.set(slot as usize, turn.host);
        self.free -= 1;
    }
}

/// Which hosts are due in which round: each waits for one, so that a list needs no more than who comes next.
struct Rounds {
    /// By round, up to the last one: the position of a host that is due.
    first: Vec<u32>,
    /// By position: another one that is due in the same round.
    next: Vec<u32>,
}

/// The end of a list.
const NOBODY: u32 = u32::MAX;

impl Rounds {
    fn new(last: u64, hosts: usize) -> Self {
        Self { first: vec![NOBODY; last as usize + 1], next: vec![NOBODY; hosts] }
    }

    /// A round that will not come is left out.
    fn add(&mut self, round: u64, position: u32) {
        let (Some(first), Some(next)) = (self.first.get_mut(round as usize), self.next.get_mut(position as usize)) else { return };
        *next = std::mem::replace(first, position);
    }

    /// Who is due, in any order.
    fn collect(&self, round: u64, due: &mut Vec<u32>) {
        let mut position = self.first.get(round as usize).copied().unwrap_or(NOBODY);
        while let Some(next) = self.next.get(position as usize) {
            due.push(position);
            position = *next;
        }
    }
}

/// The members by key; those of one key in the order given.
fn by_key<'a>(hosts: &'a [LbHost], members: &'a [Member]) -> Vec<(&'a str, &'a Member)> {
    let keyed = members.iter().filter_map(|member| Some((hosts.get(member.host as usize)?.key.as_ref(), member)));
    // Few keys differ beyond their first 16 bytes, and numbers are quickly compared.
    let mut sorted: Vec<(u128, &str, &Member)> = keyed.map(|(key, member)| (first_bytes(key), key, member)).collect();
    sorted.sort_by(|a, b| (a.0, a.1).cmp(&(b.0, b.1)));
    sorted.into_iter().map(|(_, key, member)| (key, member)).collect()
}

/// The first 16 bytes of a key as a number that is in the keys' order, or equal.
fn first_bytes(key: &str) -> u128 {
    let mut bytes = [0; 16];
    bytes.iter_mut().zip(key.bytes()).for_each(|(to, from)| *to = from);
    u128::from_be_bytes(bytes)
}

/// The sum of two slots, round the table. Neither is larger than the table.
fn sum(a: u64, b: u64, size: u64) -> u64 {
    let sum = a + b;
    if sum >= size { sum - size } else { sum }
}

/// By what a number has to be multiplied to make 1 of it, modulo a prime: its power of two less than the prime (Fermat).
fn inverse(number: u64, prime: u64) -> u64 {
    let (mut power, mut square, mut exponent) = (1 % prime, number % prime, prime - 2);
    while exponent > 0 {
        if exponent & 1 == 1 {
            power = power * square % prime;
        }
        square = square * square % prime;
        exponent >>= 1;
    }
    power
}

/// The first round after `last` in which `round * weight` is at least `target`, in the doubles that Envoy compares.
fn round_reaching(target: f64, weight: f64, last: u64) -> u64 {
    let mut round = ((target / weight) as u64).max(last + 1);
    while round > last + 1 && (round - 1) as f64 * weight >= target {
        round -= 1;
    }
    while (round as f64) * weight < target {
        round += 1;
    }
    round
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_are_validated() {
        for size in [2, 3, 307, 65_537, MAGLEV_SIZE_LIMIT] {
            assert_eq!(MaglevConfig { table_size: size }.validate(), Ok(()), "{size}");
        }
        for size in [0, 1, 4, 65_536, 5_000_009, 5_000_021, u64::MAX] {
            let refused = TableError::MaglevSize { size, limit: MAGLEV_SIZE_LIMIT };
            assert_eq!(MaglevConfig { table_size: size }.validate(), Err(refused));
        }
    }

    #[test]
    fn attempts_change_the_hash() {
        let hosts: Vec<_> = (0..5).map(|n| LbHost::new(format!("10.0.0.{n}:80"))).collect();
        let table = Maglev::build(&hosts, &MaglevConfig::default()).unwrap();
        assert_eq!(table.choose(65_537 + 5, 0).unwrap().entry, 5);
        assert_eq!(table.choose(7, 1).unwrap().entry, ((7 ^ u64::MAX) % 65_537) as u32);
        assert_eq!(table.choose(7, 2).unwrap().entry, ((7 ^ (u64::MAX - 1)) % 65_537) as u32);
    }

    #[test]
    fn without_hosts_there_is_no_choice() {
        let table = Maglev::build(&[], &MaglevConfig::default()).unwrap();
        assert_eq!((table.size(), table.choose(1, 0), table.choose(1, 1)), (0, None, None));
    }

    /// The table by the letter of the algorithm: every host is asked in every round.
    fn by_the_letter(weights: &[u32], size: u64) -> Vec<u32> {
        let hosts = hosts(weights);
        let selected: Vec<u32> = (0..hosts.len() as u32).collect();
        let members = member::flat(&hosts, &selected).unwrap();
        let largest = members.iter().fold(0.0, |largest: f64, member| largest.max(member.weight));
        let mut order = members;
        order.sort_by_key(|member| hosts[member.host as usize].key.clone());
        let mut state = vec![(0_u64, 0.0_f64); order.len()];
        let mut table = vec![u32::MAX; size as usize];
        let (mut filled, mut round) = (0, 0_u32);
        while filled < size {
            round += 1;
            for (member, (next, target)) in order.iter().zip(&mut state) {
                if filled == size || f64::from(round) * member.weight < *target {
                    continue;
                }
                *target += largest;
                let key = hosts[member.host as usize].key.as_bytes();
                let (offset, skip) = (xxh64(key, 0) % size, xxh64(key, 1) % (size - 1) + 1);
                loop {
                    let slot = ((offset + skip * *next) % size) as usize;
                    *next += 1;
                    if table[slot] == u32::MAX {
                        table[slot] = member.host;
                        break;
                    }
                }
                filled += 1;
            }
        }
        table
    }

    fn hosts(weights: &[u32]) -> Vec<LbHost> {
        weights.iter().enumerate().map(|(n, weight)| LbHost { weight: *weight, ..LbHost::new(format!("10.1.2.{n}:8080")) }).collect()
    }

    #[test]
    fn an_inverse_makes_one() {
        for prime in [2, 3, 13, 65_537, MAGLEV_SIZE_LIMIT] {
            for number in (1..prime).take(40).chain([prime - 1]) {
                assert_eq!(inverse(number, prime) * number % prime, 1, "{number} modulo {prime}");
            }
        }
    }

    #[test]
    fn keys_are_sorted_by_all_of_their_bytes() {
        let keys = ["10.244.100.100:80801", "10.244.100.100:8080", "b", "", "a\0", "a", "10.244.100.100:8080"];
        let hosts: Vec<_> = keys.iter().map(|key| LbHost::new(*key)).collect();
        let selected: Vec<u32> = (0..hosts.len() as u32).collect();
        let members = member::flat(&hosts, &selected).unwrap();
        let order: Vec<_> = by_key(&hosts, &members).iter().map(|(_, member)| member.host).collect();
        assert_eq!(order, [3, 1, 6, 0, 5, 4, 2]);
    }

    #[test]
    fn a_table_of_the_default_size_is_filled_by_the_letter() {
        for weights in [&[1; 3][..], &[1; 700], &[5, 1, 1, 2_000]] {
            let table = Maglev::build(&hosts(weights), &MaglevConfig::default()).unwrap();
            let slots: Vec<_> = (0..table.size()).map(|entry| table.slot(entry).unwrap()).collect();
            assert!(slots == by_the_letter(weights, 65_537), "{} hosts", weights.len());
        }
    }

    /// 65,537 slots of two bytes, for up to 65,536 hosts.
    #[test]
    fn a_table_is_as_small_as_its_hosts_allow() {
        for (count, bytes) in [(3, 65_537), (256, 65_537), (257, 131_074), (5_000, 131_074)] {
            let table = Maglev::build(&hosts(&vec![1; count]), &MaglevConfig::default()).unwrap();
            assert_eq!(table.slots.bytes(), bytes, "{count} hosts");
        }
    }

    proptest! {
        #[test]
        fn queueing_for_rounds_fills_as_asking_every_round(
            weights in prop::collection::vec(prop_oneof![1..4_u32, 1..2000_u32, 1..1_000_000_u32], 1..12),
            size in prop::sample::select(vec![2_u64, 3, 13, 307, 1021, 2003]),
        ) {
            let table = Maglev::build(&hosts(&weights), &MaglevConfig { table_size: size }).unwrap();
            let slots: Vec<_> = (0..table.size()).map(|entry| table.slot(entry).unwrap()).collect();
            prop_assert_eq!(slots, by_the_letter(&weights, size));
        }
    }
}
