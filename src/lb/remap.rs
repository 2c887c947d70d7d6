//! What a change of tables does to the keys: the share that moves, and the share of each host.

use std::collections::HashMap;
use std::hash::Hash;

use crate::lb::admits::PARTS;
use crate::lb::balancer::Balancer;
use crate::lb::draw::next_random;
use crate::lb::pool::Pool;
use crate::lb::selector::Selector;
use crate::lb::table::Table;

/// Hashes looked at where two tables are of different kinds or sizes.
const SAMPLES: u32 = 1 << 14;

/// Parts of the hash space, from 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Remapped {
    /// Keys whose host changes.
    pub moved: f64,
    /// Of these, keys that move from a host that is still there to one that was there already: no change of the hosts
    /// asks for that. A host that warms up asks for the keys that it did not take before.
    pub needless: f64,
}

impl Balancer {
    /// What becomes of the keys when `new` follows this balancer. Hosts are the same if their keys are; nothing moves
    /// where hosts are not chosen by hash before and after.
    ///
    /// Exact for two rings and for two Maglev tables of one size, and one pass over them; else a sample. A host that admits a part of its hashes
    /// counts for that part of each arc or slot.
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
            let mut all = 0;
            let mut lengths = vec![0_u128; self.host_count() as usize];
            pieces(&[pool], |owners, length| {
                all += u128::from(PARTS) * length;
                let [owners] = owners else { return };
                owners.of_hashes(|host, parts| {
                    lengths.iter_mut().skip(host as usize).take(1).for_each(|sum| *sum += u128::from(parts) * length);
                });
            });
            (0..).zip(lengths).filter(|(_, length)| *length > 0).for_each(|(host, length)| add(host, part * length as f64 / all as f64));
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

fn compare(old: &Pool, new: &Pool, tally: &mut Tally<'_>) {
    let comparable = match (&old.selector, &new.selector) {
        (Selector::Ring(a), Selector::Ring(b)) => a.size() > 0 && b.size() > 0,
        (Selector::Maglev(a), Selector::Maglev(b)) => a.size() == b.size(),
        _ => false,
    };
    let is_whole = |pool: &Pool| pool.fallback().is_none() && matches!(pool.selector, Selector::Maglev(_));
    if comparable && is_whole(old) && is_whole(new) {
        // Most tables by far, and this is on the way of every change of them.
        let (before, after) = (old.table(), new.table());
        let host = |table: Table<'_>, entry| table.owner(entry).map(|owner| owner.host);
        (0..old.table_size()).for_each(|entry| tally.add(host(before, entry), host(after, entry), 1));
        return;
    }
    if comparable {
        pieces(&[old, new], |owners, length| {
            if let [old, new] = owners {
                old.compare(new, |old, new, parts| tally.add(old, new, u128::from(parts) * length));
            }
        });
        return;
    }
    let mut state = 0;
    for _ in 0..SAMPLES {
        let hash = next_random(&mut state);
        let host = |pool: &Pool| pool.choose_by_hash(hash, 0).map(|choice| choice.host);
        tally.add(host(old), host(new), 1);
    }
}

/// Who has the hashes of a piece of the hash space.
#[derive(Clone, Copy, Debug, Default)]
struct Owners {
    /// By the table.
    host: Option<u32>,
    /// Of how many of 65,536 of the piece's hashes.
    parts: u32,
    /// Of the other ones.
    fallback: Option<u32>,
}

impl Owners {
    fn new(pool: &Pool, host: Option<u32>, fallback: impl FnOnce() -> Option<u32>) -> Self {
        let parts = host.map_or(0, |host| pool.admits(host).parts());
        Self { host, parts, fallback: if parts < PARTS { fallback() } else { None } }
    }

    fn of_hashes(&self, mut visit: impl FnMut(u32, u32)) {
        self.host.iter().for_each(|host| visit(*host, self.parts));
        self.fallback.iter().for_each(|host| visit(*host, PARTS - self.parts));
    }

    /// The host of a piece's hashes beyond the first `parts`, up to the next change.
    fn beyond(&self, parts: u32) -> Option<u32> {
        if parts < self.parts { self.host } else { self.fallback }
    }

    /// Visits what becomes of the hashes: the same ones are taken first before and after.
    fn compare(&self, new: &Self, mut visit: impl FnMut(Option<u32>, Option<u32>, u32)) {
        let mut start = 0;
        for end in [self.parts.min(new.parts), self.parts.max(new.parts), PARTS] {
            if end > start {
                visit(self.beyond(start), new.beyond(start), end - start);
                start = end;
            }
        }
    }
}

/// The owners of every piece of the hash space that each of the pools gives to one host, or to two if the first does not take all, with the
/// size of the piece. All tables are rings, or all are Maglev tables of one size.
fn pieces(pools: &[&Pool], mut visit: impl FnMut(&[Owners], u128)) {
    let mut found = Vec::with_capacity(pools.len());
    if pools.iter().any(|pool| matches!(pool.selector, Selector::Ring(_))) {
        let rings: Vec<Option<Table<'_>>> = pools.iter().flat_map(|pool| [Some(pool.table()), pool.fallback()]).collect();
        arcs(&rings, |hosts, length| {
            found.clear();
            found.extend(pools.iter().zip(hosts.as_chunks().0).map(|(pool, [host, fallback])| Owners::new(pool, *host, || *fallback)));
            visit(&found, length);
        });
        return;
    }
    let owner = |table: Table<'_>, entry| table.owner(entry).map(|owner| owner.host);
    for entry in 0..pools.first().map_or(0, |pool| pool.table_size()) {
        found.clear();
        let fallback = |pool: &Pool| owner(pool.fallback()?, entry);
        found.extend(pools.iter().map(|pool| Owners::new(pool, owner(pool.table(), entry), || fallback(pool))));
        visit(&found, 1);
    }
}

/// Walks round all rings at once: for every arc that lies between two neighbouring points of any, the host it has in each and the number of
/// hashes on it. A ring that is empty or not there has no hosts.
fn arcs(rings: &[Option<Table<'_>>], mut visit: impl FnMut(&[Option<u32>], u128)) {
    let mut walks: Vec<_> = rings.iter().map(|ring| ring.iter().flat_map(|ring| ring.points()).peekable()).collect();
    let firsts: Vec<Option<u32>> = walks.iter_mut().map(|walk| walk.peek().map(|(_, host)| *host)).collect();
    let mut hosts = vec![None; rings.len()];
    let mut start: u128 = 0;
    while start <= u128::from(u64::MAX) {
        let mut last = u64::MAX;
        for ((walk, host), first) in walks.iter_mut().zip(&mut hosts).zip(&firsts) {
            let next = walk.peek();
            *host = next.map(|(_, host)| *host).or(*first);
            last = next.map_or(last, |(point, _)| last.min(*point));
        }
        let end = u128::from(last) + 1;
        if end > start {
            visit(&hosts, end - start);
            start = end;
        }
        for walk in &mut walks {
            walk.next_if(|(point, _)| *point <= last);
        }
    }
}

/// The hosts of two balancers under common numbers, one for each key.
struct Identities {
    old: Vec<usize>,
    new: Vec<usize>,
    /// By common number: how much of its hashes the host took before, and how much it takes now. 0 if it is not there.
    taken: Vec<(u32, u32)>,
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
        let mut taken = vec![(0, 0); numbers.len()];
        let number_of = |numbers: &[usize], host: u32| numbers.get(host as usize).copied().unwrap_or(usize::MAX);
        for (host, admits) in old.selectable() {
            taken.iter_mut().skip(number_of(&olds, host)).take(1).for_each(|taken| taken.0 = admits.parts());
        }
        for (host, admits) in new.selectable() {
            taken.iter_mut().skip(number_of(&news, host)).take(1).for_each(|taken| taken.1 = admits.parts());
        }
        Self { old: olds, new: news, taken }
    }

    /// Whether nothing asks for a move from the one host to the other: both were there and still are, the first takes no less than before,
    /// and the second no more.
    fn is_needless(&self, from: Option<usize>, to: Option<usize>) -> bool {
        let taken = |number: Option<usize>| number.and_then(|number| self.taken.get(number)).filter(|(old, new)| *old > 0 && *new > 0);
        matches!((taken(from), taken(to)), (Some(from), Some(to)) if from.1 >= from.0 && to.1 <= to.0)
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
            if self.identities.is_needless(old, new) {
                self.needless += hashes;
            }
        }
    }

    fn part(&self, hashes: u128) -> f64 {
        if self.all == 0 { 0.0 } else { hashes as f64 / self.all as f64 }
    }
}
