//! For how long replicas disagree about where keys go. Decided purely from what they say.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use tokio::time::Instant;

use crate::base::TableDigests;

/// So long a change may take from one replica to the next.
pub(super) const LAG: Duration = Duration::from_secs(1);

/// When each replica was last heard to agree.
#[derive(Debug, Default)]
pub(super) struct Record {
    peers: BTreeMap<IpAddr, Heard>,
}

#[derive(Clone, Copy, Debug)]
struct Heard {
    agrees: bool,
    /// When it last agreed, or was first heard of.
    agreed: Instant,
}

// === impl Record ===

impl Record {
    /// A replica has this number, as it says; `own`: the digests here, read after its answer. Returns whether it agrees.
    pub(super) fn hear(&mut self, peer: IpAddr, combined: u64, own: &TableDigests, now: Instant) -> bool {
        let heard = self.peers.entry(peer).or_insert(Heard { agrees: true, agreed: now });
        heard.agrees = own.agrees(combined, LAG, now);
        if heard.agrees {
            heard.agreed = now;
        }
        heard.agrees
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
}
