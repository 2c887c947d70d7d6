//! Numbers that replicas share if their tables send every key to the same pod.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use tokio::time::Instant;
use xxhash_rust::xxh64::Xxh64;

/// So many bits of the combined digest are kept: a metric's value is a float.
const BITS: u32 = 48;

/// Earlier digests that are kept in mind.
const RECENT: usize = 128;

/// The digests of all tables, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableDigests {
    /// Generation of the snapshot that changed a table last.
    pub generation: u64,
    /// The digest of each table, by the digest of its backend's name.
    pub tables: BTreeMap<u64, u64>,
    /// All of these in one number of 48 bits.
    pub combined: u64,
    /// Numbers before this one, each with the time at which the next one came. The last one is the newest.
    pub recent: VecDeque<(Instant, u64)>,
}

// === impl TableDigests ===

impl TableDigests {
    /// The digests that come after these; `tables`: those that differ, `None` where there is no table any more.
    #[must_use]
    pub fn next(&self, generation: u64, tables: impl IntoIterator<Item = (u64, Option<u64>)>, now: Instant) -> Self {
        let mut next = Self { generation, ..self.clone() };
        for (name, digest) in tables {
            match digest {
                Some(digest) => drop(next.tables.insert(name, digest)),
                None => drop(next.tables.remove(&name)),
            }
        }
        next.combined = combine(&next.tables);
        if next.combined != self.combined {
            next.recent.push_back((now, self.combined));
            let surplus = next.recent.len().saturating_sub(RECENT);
            next.recent.drain(..surplus);
        }
        next
    }

    /// Whether a replica that had this number just now agrees: it has the same tables, or those that were here up to `lag` ago.
    pub fn agrees(&self, combined: u64, lag: Duration, now: Instant) -> bool {
        let lately = |(ended, digest): &(Instant, u64)| *digest == combined && now.saturating_duration_since(*ended) <= lag;
        combined == self.combined || self.recent.iter().any(lately)
    }
}

fn combine(tables: &BTreeMap<u64, u64>) -> u64 {
    let mut hash = Xxh64::new(0);
    for (name, digest) in tables {
        hash.update(&name.to_le_bytes());
        hash.update(&digest.to_le_bytes());
    }
    hash.digest() & ((1 << BITS) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replicas_agree_by_way_of_what_was_there_lately() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let first = TableDigests::default().next(1, [(7, Some(70)), (8, Some(80))], start);
        let then = first.next(2, [(7, Some(71))], start + second);
        let now = start + second * 3;
        assert_ne!(first.combined, then.combined);
        assert!(then.agrees(then.combined, second, now));
        assert!(then.agrees(first.combined, second * 2, now), "the other one lags by 2 s");
        assert!(!then.agrees(first.combined, second, now), "that is too long ago");
        let ahead = then.next(3, [(7, Some(72))], now);
        assert!(!then.agrees(ahead.combined, second, now), "nobody knows what comes");
        assert_eq!(then.next(3, [(9, None)], now).recent, then.recent, "the same tables in another generation");
        assert_eq!(then.next(4, [(7, Some(70))], now).combined, first.combined, "only what is there counts");
        let mut many = first;
        for round in 0..1_000 {
            many = many.next(round, [(7, Some(round))], now);
        }
        assert_eq!(many.recent.len(), RECENT);
        assert!(many.combined < 1 << BITS);
    }
}
