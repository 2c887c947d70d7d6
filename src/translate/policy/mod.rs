//! Policies that are attached to objects by `targetRefs`: which one counts for what, and what is said of the others (GEP-713).
//!
//! Pure, and the same for every kind of policy: a section of an object comes before the object as a whole; of the policies for one target the
//! oldest counts, then the first by namespace and name. Where policies add to each other, `in_order` gives all of them by the same rule. What a
//! policy does is none of this module's business.

mod presence;
mod target;

use std::collections::{BTreeMap, BTreeSet};

use crate::base::{ObjectName, ObjectRef};
use crate::translate::{
    Condition,
    condition::{Refusal, reason},
    status::{AncestorStatus, ParentRef, PolicyStatus},
};

pub(super) use presence::{Presence, presence};
pub(super) use target::{Precedence, Target, in_order};

/// Most ancestors in the status of a policy (`maxItems` of the Gateway API).
const MOST_ANCESTORS: usize = 16;

/// A target that a policy does not get, and the policy that has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lost {
    pub(super) target: Target,
    pub(super) to: ObjectName,
}

/// Which policies of a kind count for what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Attachments {
    winners: BTreeMap<Target, ObjectName>,
    lost: BTreeMap<ObjectName, Vec<Lost>>,
    by_object: BTreeMap<ObjectRef, BTreeSet<ObjectName>>,
}

// === impl Attachments ===

impl Attachments {
    /// Decides between policies, each with its targets. Their order does not matter.
    pub(super) fn settle<'a>(policies: impl IntoIterator<Item = (&'a Precedence, &'a [Target])>) -> Self {
        let mut in_order: Vec<_> = policies.into_iter().collect();
        in_order.sort_by_key(|(precedence, _)| *precedence);
        let mut settled = Self::default();
        for (Precedence { name, .. }, targets) in in_order {
            for target in targets {
                settled.by_object.entry(target.object.clone()).or_default().insert(name.clone());
                match settled.winners.get(target) {
                    // The same target twice in one policy.
                    Some(winner) if winner == name => {}
                    Some(winner) => {
                        let lost = Lost { target: target.clone(), to: winner.clone() };
                        settled.lost.entry(name.clone()).or_default().push(lost);
                    }
                    None => drop(settled.winners.insert(target.clone(), name.clone())),
                }
            }
        }
        settled
    }

    /// The policy that counts for a section of an object.
    pub(super) fn of(&self, object: &ObjectRef, section: Option<&str>) -> Option<&ObjectName> {
        Target::around(object, section).find_map(|target| self.winners.get(&target))
    }

    /// The policies that are for an object, or a section of it, whether they count or not.
    pub(super) fn naming(&self, object: &ObjectRef) -> impl Iterator<Item = &ObjectName> {
        self.by_object.get(object).into_iter().flatten()
    }

    /// The objects that policies are for.
    pub(super) fn objects(&self) -> impl Iterator<Item = &ObjectRef> {
        self.by_object.keys()
    }

    /// The targets of an object, each with the policy that counts.
    pub(super) fn winners_of(&self, object: &ObjectRef) -> impl Iterator<Item = (&Target, &ObjectName)> {
        let first = Target { object: object.clone(), section: None };
        let object = object.clone();
        self.winners.range(first..).take_while(move |(target, _)| target.object == object)
    }

    /// Why a policy is not accepted because of others, if so.
    pub(super) fn conflict(&self, policy: &ObjectName) -> Option<Refusal> {
        let lost: Vec<_> = self.lost.get(policy)?.iter().map(Lost::to_string).collect();
        Some(Refusal::new(
            reason::CONFLICTED,
            format!("{}; of policies for the same target the oldest one counts, then the first by name", lost.join("; ")),
        ))
    }
}

/// The status of a policy that says the same at each of these Gateways. Of very many the first ones by name have to do.
pub(super) fn status(gateways: BTreeSet<ObjectName>, controller_name: &str, conditions: &[Condition]) -> PolicyStatus {
    let ancestor = |gateway: ObjectName| AncestorStatus {
        ancestor_ref: ParentRef {
            group: "gateway.networking.k8s.io".to_owned(),
            kind: "Gateway".to_owned(),
            namespace: Some(gateway.namespace.to_string()),
            name: gateway.name.to_string(),
            section_name: None,
            port: None,
        },
        controller_name: controller_name.to_owned(),
        conditions: conditions.to_vec(),
    };
    PolicyStatus { ancestors: gateways.into_iter().take(MOST_ANCESTORS).map(ancestor).collect() }
}

impl std::fmt::Display for Lost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let section = self.target.section.as_deref().map(|section| format!(" section {section}")).unwrap_or_default();
        write!(f, "{}{section} has policy {}", self.target.object, self.to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Kind;

    fn service(name: &str) -> ObjectRef {
        ObjectRef::new(Kind::Service, "n", name)
    }

    fn target(name: &str, section: Option<&str>) -> Target {
        Target { object: service(name), section: section.map(Into::into) }
    }

    fn policy(name: &str, age: Option<i64>) -> Precedence {
        Precedence { age: age.map(|age| jiff::Timestamp::from_second(age).unwrap()), name: ObjectName::new("n", name) }
    }

    /// Who counts, and who has lost something, in whatever order the policies come.
    fn settled(policies: &[(Precedence, Vec<Target>)], name: &str, section: Option<&str>) -> (Option<String>, Vec<String>) {
        let settle = |policies: &mut dyn Iterator<Item = &(Precedence, Vec<Target>)>| {
            Attachments::settle(policies.map(|(precedence, targets)| (precedence, targets.as_slice())))
        };
        let found = settle(&mut policies.iter());
        assert_eq!(found, settle(&mut policies.iter().rev()));
        let lost = found.lost.keys().map(|name| name.name.to_string()).collect();
        (found.of(&service(name), section).map(|name| name.name.to_string()), lost)
    }

    #[test]
    fn a_section_comes_before_the_whole_then_age_then_name() {
        let whole = || vec![target("s", None)];
        let https = || vec![target("s", Some("https"))];
        let policies = [(policy("b", Some(5)), whole()), (policy("a", Some(9)), https())];
        for (section, winner) in [(None, "b"), (Some(""), "b"), (Some("http"), "b"), (Some("https"), "a")] {
            assert_eq!(settled(&policies, "s", section), (Some(winner.to_owned()), vec![]), "{section:?}");
        }
        assert_eq!(settled(&policies, "other", None).0, None);
        for (one, other, winner) in [(Some(5), Some(5), "a"), (Some(9), Some(5), "b"), (Some(5), Some(9), "a"), (Some(5), None, "b")] {
            let policies = [(policy("a", one), https()), (policy("b", other), https())];
            let loser = if winner == "a" { "b" } else { "a" };
            assert_eq!(settled(&policies, "s", Some("https")), (Some(winner.to_owned()), vec![loser.to_owned()]), "{one:?} {other:?}");
        }
    }

    #[test]
    fn all_in_order_begin_with_the_one_that_counts() {
        let policies = [
            (policy("d", Some(1)), vec![target("s", None)]),
            (policy("c", Some(9)), vec![target("s", Some("https"))]),
            (policy("b", Some(1)), vec![target("s", None), target("t", None)]),
            (policy("a", Some(5)), vec![target("s", None), target("s", Some("https"))]),
            (policy("e", None), vec![target("t", None)]),
        ];
        let given = || policies.iter().map(|(precedence, targets)| (precedence, targets.as_slice()));
        let settled = Attachments::settle(given());
        for (name, section, expected) in [
            ("s", Some("https"), &["a", "c", "b", "d"][..]),
            ("s", Some("http"), &["b", "d", "a"]),
            ("s", None, &["b", "d", "a"]),
            ("t", Some(""), &["e", "b"]),
            ("u", None, &[]),
        ] {
            let forward: Vec<_> = in_order(given(), &service(name), section).map(|name| &*name.name).collect();
            let backward: Vec<_> = in_order(given().rev(), &service(name), section).map(|name| &*name.name).collect();
            assert_eq!((forward.as_slice(), backward.as_slice()), (expected, expected), "{name} {section:?}");
            let winner = settled.of(&service(name), section).map(|name| &*name.name);
            assert_eq!(winner, expected.first().copied(), "{name} {section:?}");
        }
    }

    #[test]
    fn a_policy_may_lose_one_target_and_keep_another() {
        let policies = [
            (policy("a", None), vec![target("s", None), target("s", None)]),
            (policy("b", None), vec![target("s", None), target("t", None)]),
        ];
        assert_eq!(settled(&policies, "s", None).0.as_deref(), Some("a"));
        assert_eq!(settled(&policies, "t", None), (Some("b".to_owned()), vec!["b".to_owned()]));
        let found = Attachments::settle(policies.iter().map(|(precedence, targets)| (precedence, targets.as_slice())));
        let conflict = found.conflict(&ObjectName::new("n", "b")).unwrap();
        assert!(conflict.message.starts_with("Service n/s has policy n/a"), "{}", conflict.message);
        assert_eq!(found.conflict(&ObjectName::new("n", "a")), None);
        assert_eq!(found.naming(&service("s")).count(), 2);
    }

    #[test]
    fn a_status_has_at_most_sixteen_ancestors() {
        let gateways = (0..20).map(|index| ObjectName::new("n", format!("g{index:02}"))).collect();
        let status = status(gateways, "c", &[]);
        assert_eq!((status.ancestors.len(), status.ancestors[15].ancestor_ref.name.as_str()), (16, "g15"));
    }
}
