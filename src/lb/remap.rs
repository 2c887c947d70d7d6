//! What a change of tables does to the keys: the share that moves, and the share of each host.

use std::collections::HashMap;
use std::hash::Hash;

use crate::lb::balancer::Balancer;
use crate::lb::random::next_random;
use crate::lb::selector::{Pool, Selector};

/// Hashes looked at where two tables are of different kinds or sizes.
const SAMPLES: u32 = 1 << 14;

/// Parts of the hash space, from 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Remapped {
    /// Keys whose host changes.
    pub moved: f64,
    /// Of these, keys that move from a host that is still there to one that was there already: no change of the hosts
    /// asks for that.
    pub needless: f64,
}

impl Balancer {
    /// What becomes of the keys when `new` follows this balancer. Hosts are the same if their keys are; nothing moves
    /// where hosts are not chosen by hash before and after.
    ///
    /// Exact for two rings and for two Maglev tables of one size, and one pass over them; else a sample.
    pub fn remapped<K: Eq + Hash>(&self, new: &Self, key_of_self: impl Fn(u32) -> K, key_of_new: impl Fn(u32) -> K) -> Remapped {
        if !self.uses_hash() || !new.uses_hash() {
            return Remapped::default();
        }
        let identities = Identities::new(self, new, key_of_self, key_of_new);
        let mut remapped = Remapped::default();
        for ((old, new), part) in parts(|hash| Some((self.pool(hash)?, new.pool(hash)?))) {
            let mut tally = Tally::new(&identities);
            compare(old, new, &mut tally);
            remapped.moved += part * tally.part(tally.moved);
            remapped.needless += part * tally.part(tally.needless);
        }
        remapped
    }

    /// The share of the hash space of each host, by index. Zeros where hosts are not chosen by hash.
    #[must_use]
    pub fn shares(&self) -> Vec<f64> {
        let mut shares = vec![0.0; self.host_count() as usize];
        let mut add = |host: u32, share: f64| {
            if let Some(sum) = shares.get_mut(host as usize) {
                *sum += share;
            }
        };
        for ((pool, _), part) in parts(|hash| self.pool(hash).map(|pool| (pool, pool))) {
            match &pool.selector {
                Selector::Ring(_) => arcs(pool, pool, |host, _, length| add(host, part * length as f64 / HASHES)),
                Selector::Maglev(table) => {
                    let slot = part / table.size() as f64;
                    (0..table.size()).filter_map(|entry| pool.owner(entry)).for_each(|owner| add(owner.host, slot));
                }
                Selector::RoundRobin(_) | Selector::Random(_) | Selector::LeastRequest(_) => {}
            }
        }
        shares
    }
}

/// The pools that hashes go to, with the part of the hashes of each pair. A level is chosen by the last two decimal digits
/// of the hash, and among hashes of the same digits a table has all others of their bits.
fn parts<'a>(pools: impl Fn(u64) -> Option<(&'a Pool, &'a Pool)>) -> Vec<((&'a Pool, &'a Pool), f64)> {
    let mut counts: Vec<((&Pool, &Pool), u32)> = Vec::new();
    for pair in (0..100).filter_map(pools) {
        match counts.iter_mut().find(|(known, _)| std::ptr::eq(known.0, pair.0) && std::ptr::eq(known.1, pair.1)) {
            Some((_, count)) => *count += 1,
            None => counts.push((pair, 1)),
        }
    }
    counts.into_iter().map(|(pair, count)| (pair, f64::from(count) / 100.0)).collect()
}

/// The number of hashes, 2^64.
const HASHES: f64 = 18_446_744_073_709_551_616.0;

fn compare(old: &Pool, new: &Pool, tally: &mut Tally<'_>) {
    match (&old.selector, &new.selector) {
        (Selector::Ring(a), Selector::Ring(b)) if a.size() > 0 && b.size() > 0 => {
            arcs(old, new, |old, new, length| tally.add(Some(old), Some(new), length));
        }
        (Selector::Maglev(a), Selector::Maglev(b)) if a.size() == b.size() => slots(old, new, tally),
        _ => {
            let mut state = 0;
            for _ in 0..SAMPLES {
                let hash = next_random(&mut state);
                let host = |pool: &Pool| pool.choose_by_hash(hash, 0).map(|choice| choice.host);
                tally.add(host(old), host(new), 1);
            }
        }
    }
}

fn slots(old: &Pool, new: &Pool, tally: &mut Tally<'_>) {
    let owner = |pool: &Pool, entry| pool.owner(entry).map(|owner| owner.host);
    for entry in 0..old.table_size() {
        tally.add(owner(old, entry), owner(new, entry), 1);
    }
}

/// Walks round both rings at once: for every arc that lies between two neighbouring points of either, the host it has in
/// each and the number of hashes on it. Nothing if a ring is empty.
fn arcs(old: &Pool, new: &Pool, mut visit: impl FnMut(u32, u32, u128)) {
    let (mut old, mut new) = (old.points().peekable(), new.points().peekable());
    let (Some((_, old_first)), Some((_, new_first))) = (old.peek().copied(), new.peek().copied()) else { return };
    let mut start: u128 = 0;
    while start <= u128::from(u64::MAX) {
        // Behind the last point the first one follows.
        let (old_end, old_host) = old.peek().copied().unwrap_or((u64::MAX, old_first));
        let (new_end, new_host) = new.peek().copied().unwrap_or((u64::MAX, new_first));
        let end = u128::from(old_end.min(new_end)) + 1;
        if end > start {
            visit(old_host, new_host, end - start);
            start = end;
        }
        old.next_if(|_| old_end <= new_end);
        new.next_if(|_| new_end <= old_end);
    }
}

/// The hosts of two balancers under common numbers, one for each key.
struct Identities {
    old: Vec<usize>,
    new: Vec<usize>,
    /// By common number: whether the host could be chosen before, and whether it can be now.
    present: Vec<(bool, bool)>,
}

impl Identities {
    fn new<K: Eq + Hash>(old: &Balancer, new: &Balancer, key_of_old: impl Fn(u32) -> K, key_of_new: impl Fn(u32) -> K) -> Self {
        let mut numbers = HashMap::new();
        let mut number = |key| {
            let next = numbers.len();
            *numbers.entry(key).or_insert(next)
        };
        let olds: Vec<usize> = (0..old.host_count()).map(|host| number(key_of_old(host))).collect();
        let news: Vec<usize> = (0..new.host_count()).map(|host| number(key_of_new(host))).collect();
        let mut present = vec![(false, false); numbers.len()];
        let number_of = |numbers: &[usize], host: u32| numbers.get(host as usize).copied().unwrap_or(usize::MAX);
        for host in old.selectable() {
            present.iter_mut().skip(number_of(&olds, host)).take(1).for_each(|present| present.0 = true);
        }
        for host in new.selectable() {
            present.iter_mut().skip(number_of(&news, host)).take(1).for_each(|present| present.1 = true);
        }
        Self { old: olds, new: news, present }
    }

    fn stays(&self, number: Option<usize>) -> bool {
        number.and_then(|number| self.present.get(number)) == Some(&(true, true))
    }
}

/// Adds up hashes by what becomes of them.
struct Tally<'a> {
    identities: &'a Identities,
    all: u128,
    moved: u128,
    needless: u128,
}

impl<'a> Tally<'a> {
    fn new(identities: &'a Identities) -> Self {
        Self { identities, all: 0, moved: 0, needless: 0 }
    }

    fn add(&mut self, old: Option<u32>, new: Option<u32>, hashes: u128) {
        let old = old.and_then(|host| self.identities.old.get(host as usize).copied());
        let new = new.and_then(|host| self.identities.new.get(host as usize).copied());
        self.all += hashes;
        if old != new {
            self.moved += hashes;
            if self.identities.stays(old) && self.identities.stays(new) {
                self.needless += hashes;
            }
        }
    }

    fn part(&self, hashes: u128) -> f64 {
        if self.all == 0 { 0.0 } else { hashes as f64 / self.all as f64 }
    }
}
