//! What became of a policy in the cluster, as conditions: whether its replicas agree, and whether its maps of slots are written.

use std::{collections::BTreeMap, net::IpAddr};

use jiff::Timestamp;

use crate::base::{Message, ObjectName, text::several};
use crate::translate::{
    Condition,
    condition::{fails, holds, kind, reason},
};

/// What became of a policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::translate) struct Outcome {
    /// `None`: nobody has compared replicas yet.
    pub(in crate::translate) agreement: Option<ReplicasOf>,
    /// Maps of slots of its targets that the API server refuses, and why.
    pub(in crate::translate) refused_slots: BTreeMap<ObjectName, Message>,
}

/// What the other replicas have of a policy's tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::translate) enum ReplicasOf {
    /// There are none.
    Sole,
    /// None of them has other tables.
    Agree,
    /// These have others, since when, in seconds since the epoch.
    Disagree(BTreeMap<IpAddr, u64>),
}

// === impl Outcome ===

impl Outcome {
    /// These replicas have other tables for one of its backends, since when.
    pub(in crate::translate) fn disagree<'a>(&mut self, replicas: impl Iterator<Item = (&'a IpAddr, &'a u64)>) {
        let mut replicas = replicas.peekable();
        if replicas.peek().is_none() {
            return;
        }
        let mut since = match self.agreement.take() {
            Some(ReplicasOf::Disagree(since)) => since,
            Some(ReplicasOf::Sole | ReplicasOf::Agree) | None => BTreeMap::new(),
        };
        for (replica, second) in replicas {
            let told = since.entry(*replica).or_insert(*second);
            *told = (*told).min(*second);
        }
        self.agreement = Some(ReplicasOf::Disagree(since));
    }

    /// The conditions that say so. What nobody has found out is not mentioned; that slots are written is not, either.
    pub(super) fn conditions(&self, generation: Option<i64>) -> Vec<Condition> {
        let agreed = self.agreement.as_ref().map(|replicas| match replicas {
            ReplicasOf::Sole => holds(kind::AGREED, reason::SOLE_REPLICA, "there is no other replica", generation),
            ReplicasOf::Agree => {
                holds(kind::AGREED, reason::REPLICAS_AGREE, "no replica has had other tables for more than a second", generation)
            }
            ReplicasOf::Disagree(since) => {
                let words = since.iter().map(|(replica, since)| format!("replica {replica} has had other tables since {}", time(*since)));
                let words = format!("a key may have another pod there: {}", several(words));
                fails(kind::AGREED, reason::REPLICAS_DISAGREE, words, generation)
            }
        });
        let refused = (!self.refused_slots.is_empty()).then(|| {
            let words = self.refused_slots.iter().map(|(name, why)| format!("AffinitySlots {name} cannot be written: {why}"));
            fails(kind::SLOTS_WRITTEN, reason::SLOTS_REFUSED, several(words), generation)
        });
        agreed.into_iter().chain(refused).collect()
    }
}

/// As Kubernetes writes times (RFC 3339), and the same however late it is told.
fn time(second: u64) -> String {
    i64::try_from(second).ok().and_then(|second| Timestamp::from_second(second).ok()).unwrap_or_default().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(outcome: &Outcome) -> Vec<String> {
        let conditions = outcome.conditions(Some(3));
        conditions.iter().map(|c| format!("{}={}/{}: {}", c.condition_type, c.status, c.reason, c.message)).collect()
    }

    #[test]
    fn what_nobody_has_found_out_is_not_told() {
        assert!(said(&Outcome::default()).is_empty());
        let sole = Outcome { agreement: Some(ReplicasOf::Sole), ..Outcome::default() };
        assert_eq!(said(&sole), ["Agreed=True/SoleReplica: there is no other replica"]);
        let agree = Outcome { agreement: Some(ReplicasOf::Agree), ..Outcome::default() };
        assert_eq!(said(&agree), ["Agreed=True/ReplicasAgree: no replica has had other tables for more than a second"]);
    }

    #[test]
    fn who_disagrees_since_when_and_what_is_refused() {
        let since = BTreeMap::from([([10, 0, 0, 7].into(), 1_700_000_000), ([10, 0, 0, 8].into(), 1_700_000_001)]);
        let refused_slots = BTreeMap::from([(ObjectName::new("n", "service-a"), "exceeded quota".into())]);
        let expected = [
            "Agreed=False/ReplicasDisagree: a key may have another pod there: replica 10.0.0.7 has had other tables since \
             2023-11-14T22:13:20Z; replica 10.0.0.8 has had other tables since 2023-11-14T22:13:21Z",
            "SlotsWritten=False/SlotsRefused: AffinitySlots n/service-a cannot be written: exceeded quota",
        ];
        assert_eq!(said(&Outcome { agreement: Some(ReplicasOf::Disagree(since)), refused_slots }), expected);
    }
}
