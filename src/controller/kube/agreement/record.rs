//! For how long replicas disagree about where keys go, and about which tables. Decided purely from what they say.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use tokio::time::Instant;

use crate::base::TableDigests;
use crate::snapshot::Agreement;

/// So long a change may take from one replica to the next.
pub(super) const LAG: Duration = Duration::from_secs(1);

/// So long a table has to be the same before it is no longer told that it differs.
const SETTLED: Duration = Duration::from_secs(5);

/// When each replica was last heard to agree.
#[derive(Debug, Default)]
pub(super) struct Record {
    peers: BTreeMap<IpAddr, Heard>,
}

#[derive(Clone, Debug)]
struct Heard {
    agrees: bool,
    /// When it last agreed, or was first heard of.
    agreed: Instant,
    /// Tables that differ, or did lately, by the digest of their backend's name.
    tables: BTreeMap<u64, Differing>,
}

/// A table that differs, or did lately.
#[derive(Clone, Copy, Debug)]
struct Differing {
    differs: bool,
    /// When it was first seen so, at every look since.
    since: Instant,
    /// Since when it is told to differ, in seconds since the epoch.
    told: Option<u64>,
}

// === impl Record ===

impl Record {
    /// A replica has this number, as it says; `own`: the digests here, read after its answer. Returns whether it agrees.
    pub(super) fn hear(&mut self, peer: IpAddr, combined: u64, own: &TableDigests, now: Instant) -> bool {
        let heard = self.peers.entry(peer).or_insert_with(|| Heard { agrees: true, agreed: now, tables: BTreeMap::new() });
        heard.agrees = own.agrees(combined, LAG, now);
        if heard.agrees {
            heard.agreed = now;
            heard.look(|_| false, now, None);
        }
        heard.agrees
    }

    /// A replica that disagrees has these tables, as it says; `own`: the digests here, read after its answer. `second`: now, in seconds since
    /// the epoch.
    pub(super) fn hear_tables(&mut self, peer: IpAddr, theirs: &BTreeMap<u64, u64>, own: &TableDigests, now: Instant, second: u64) {
        let Some(heard) = self.peers.get_mut(&peer) else { return };
        let differs = |table: &u64| own.tables.get(table) != theirs.get(table);
        let all: BTreeSet<u64> = own.tables.keys().chain(theirs.keys()).copied().filter(differs).collect();
        for table in all {
            heard.tables.entry(table).or_insert(Differing { differs: true, since: now, told: None });
        }
        heard.look(|table| differs(&table), now, Some(second));
    }

    /// What is to be told of all of them.
    pub(super) fn agreement(&self) -> Agreement {
        let mut disagreements = BTreeMap::<u64, BTreeMap<IpAddr, u64>>::new();
        for (peer, heard) in &self.peers {
            for (table, since) in heard.tables.iter().filter_map(|(table, differing)| Some((table, differing.told?))) {
                disagreements.entry(*table).or_default().insert(*peer, since);
            }
        }
        Agreement { compared: !self.peers.is_empty(), disagreements }
    }

    /// Replicas that disagree at this moment.
    pub(super) fn disagreeing_peers(&self) -> BTreeSet<IpAddr> {
        self.peers.iter().filter(|(_, heard)| !heard.agrees).map(|(peer, _)| *peer).collect()
    }

    /// Only these replicas answer.
    pub(super) fn retain(&mut self, answers: impl Fn(&IpAddr) -> bool) {
        self.peers.retain(|peer, _| answers(peer));
    }

    /// Replicas that answer.
    pub(super) fn compared(&self) -> usize {
        self.peers.len()
    }

    /// For how long the one has disagreed that does so longest; zero where all agree.
    pub(super) fn disagreeing(&self, now: Instant) -> Duration {
        let disagree = self.peers.values().filter(|heard| !heard.agrees);
        disagree.map(|heard| now.saturating_duration_since(heard.agreed)).max().unwrap_or_default()
    }
}

// === impl Heard ===

impl Heard {
    /// Its tables were looked at. One that has differed at every look for longer than a change takes is told, and one that has been the same
    /// for a while is forgotten.
    fn look(&mut self, differs: impl Fn(u64) -> bool, now: Instant, second: Option<u64>) {
        self.tables.retain(|table, differing| {
            let differs = differs(*table);
            if differs != differing.differs {
                (differing.differs, differing.since) = (differs, now);
            }
            let time = now.saturating_duration_since(differing.since);
            if differs && time >= LAG && differing.told.is_none() {
                differing.told = second.map(|second| second.saturating_sub(time.as_secs()));
            }
            differs || (differing.told.is_some() && time < SETTLED)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disagreement_lasts_from_the_last_agreement_to_the_next() {
        let start = Instant::now();
        let at = |tenths: u32| start + Duration::from_millis(100) * tenths;
        let (a, b) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let own = TableDigests::default().next(1, [(1, Some(1))], start);
        let mut record = Record::default();
        assert!(record.hear(a, own.combined, &own, at(0)));
        assert!(record.hear(b, own.combined, &own, at(0)));
        assert_eq!((record.compared(), record.disagreeing(at(0))), (2, Duration::ZERO));
        assert!(!record.hear(b, own.combined ^ 1, &own, at(5)));
        assert_eq!(record.disagreeing(at(15)), Duration::from_millis(1500));
        assert!(record.hear(a, own.combined, &own, at(15)));
        assert_eq!(record.disagreeing(at(15)), Duration::from_millis(1500), "one of them is enough");
        let next = own.next(2, [(1, Some(2))], at(20));
        assert!(record.hear(b, next.combined, &next, at(20)), "b was ahead");
        assert_eq!(record.disagreeing(at(20)), Duration::ZERO);
        assert!(record.hear(a, own.combined, &next, at(25)), "a lags");
        assert!(!record.hear(a, own.combined, &next, at(35)), "for too long");
        record.retain(|peer| *peer == b);
        assert_eq!((record.compared(), record.disagreeing(at(40))), (1, Duration::ZERO), "who is gone does not disagree");
    }

    #[test]
    fn tables_that_differ_for_long_are_told_once_and_until_they_have_settled() {
        let start = Instant::now();
        let at = |tenths: u32| start + Duration::from_millis(100) * tenths;
        let peer = IpAddr::from([10, 0, 0, 1]);
        let own = TableDigests::default().next(1, [(1, Some(10)), (2, Some(20)), (3, Some(30))], start);
        let mut record = Record::default();
        let mut look = |theirs: &[(u64, u64)], tenths: u32| {
            let theirs: BTreeMap<u64, u64> = theirs.iter().copied().collect();
            if record.hear(peer, own.combined ^ u64::from(theirs != own.tables), &own, at(tenths)) {
                assert_eq!(record.disagreeing_peers(), BTreeSet::new());
            } else {
                assert_eq!(record.disagreeing_peers(), BTreeSet::from([peer]));
                record.hear_tables(peer, &theirs, &own, at(tenths), 1_000 + u64::from(tenths / 10));
            }
            record.agreement().disagreements.into_iter().map(|(table, peers)| (table, peers[&peer])).collect::<Vec<_>>()
        };
        let (same, other) = ([(1, 10), (2, 20), (3, 30)], [(1, 10), (2, 21), (3, 30)]);
        assert_eq!(look(&same, 0), []);
        assert_eq!(look(&other, 10), [], "a change takes its time");
        assert_eq!(look(&other, 15), []);
        assert_eq!(look(&[(1, 10), (2, 21), (3, 31)], 20), [(2, 1_001)], "the third only begins to differ");
        assert_eq!(look(&[(1, 10), (2, 21)], 25), [(2, 1_001)]);
        assert_eq!(look(&[(1, 10), (2, 22)], 30), [(2, 1_001), (3, 1_002)], "one that is missing differs, and the time stays");
        assert_eq!(look(&other, 35), [(2, 1_001), (3, 1_002)], "nobody is told of a third that comes and goes");
        assert_eq!(look(&same, 40), [(2, 1_001), (3, 1_002)]);
        assert_eq!(look(&same, 84), [(2, 1_001), (3, 1_002)]);
        assert_eq!(look(&other, 86), [(2, 1_001)], "the third has settled");
        assert_eq!(look(&same, 90), [(2, 1_001)]);
        assert_eq!(look(&same, 140), []);
        assert_eq!(look(&other, 145), [], "it begins anew");
        record.retain(|_| false);
        assert_eq!(record.agreement(), Agreement::default());
    }

    #[test]
    fn tables_in_which_both_are_never_told_apart_for_long_are_not_told() {
        let start = Instant::now();
        let peer = IpAddr::from([10, 0, 0, 1]);
        let own = TableDigests::default().next(1, [(1, Some(10)), (2, Some(20))], start);
        let mut record = Record::default();
        for turn in 0..100_u32 {
            let now = start + Duration::from_millis(500) * turn;
            assert!(!record.hear(peer, own.combined ^ 1, &own, now));
            // Always one of the two is behind, as while many pods come and go.
            let theirs = BTreeMap::from([(1, 10 + u64::from(turn % 2)), (2, 20 + u64::from((turn + 1) % 2))]);
            record.hear_tables(peer, &theirs, &own, now, 0);
            assert!(record.agreement().disagreements.is_empty(), "turn {turn}");
        }
    }
}
