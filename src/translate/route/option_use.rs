//! What the rules of a route make of RouteOptions and Upstreams, for their statuses.

use smallvec::SmallVec;

use crate::base::ObjectName;

/// How many parts of a route are looked at for one that says the same.
const LOOKED_AT: usize = 8;

/// What rules of a route make of a RouteOption, for its status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::translate) struct OptionUse {
    pub(in crate::translate) option: ObjectName,
    /// Indexes of the rules: all that make the same of it.
    pub(in crate::translate) rules: RuleIndexes,
    /// At least one of its options is used.
    pub(in crate::translate) used: bool,
    /// RouteOptions that come before it.
    pub(in crate::translate) earlier: Vec<ObjectName>,
    /// Its `lbHash` is used, but no backend hashes.
    pub(in crate::translate) hash_without_table: bool,
    /// Its `lbHash` is used within a weighted split.
    pub(in crate::translate) hash_in_split: bool,
    /// Its `lbHash` is used where nothing is forwarded.
    pub(in crate::translate) hash_without_backend: bool,
}

/// Rules of a route that send requests to an Upstream that hashes, without saying what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::translate) struct UnkeyedRules {
    pub(in crate::translate) upstream: ObjectName,
    /// Indexes of the rules.
    pub(in crate::translate) rules: RuleIndexes,
}

/// Indexes of rules within their route.
pub(in crate::translate) type RuleIndexes = SmallVec<[u16; 8]>;

/// What is said of several rules of a route.
pub(super) trait OfRules {
    /// Whether another says the same of other rules.
    fn says_the_same(&self, other: &Self) -> bool;
    /// The rules it is said of.
    fn rules(&mut self) -> &mut RuleIndexes;
}

/// Names rules together of which the same is said.
pub(super) fn merge<T: OfRules>(parts: impl Iterator<Item = T>) -> Box<[T]> {
    let mut merged: Vec<T> = Vec::new();
    for mut part in parts {
        match merged.iter_mut().rev().take(LOOKED_AT).find(|known| known.says_the_same(&part)) {
            Some(known) => known.rules().append(part.rules()),
            None => merged.push(part),
        }
    }
    merged.into()
}

// === what is said of several rules ===

impl OfRules for OptionUse {
    fn says_the_same(&self, other: &Self) -> bool {
        let flags = |one: &Self| (one.used, one.hash_without_table, one.hash_in_split, one.hash_without_backend);
        self.option == other.option && self.earlier == other.earlier && flags(self) == flags(other)
    }

    fn rules(&mut self) -> &mut RuleIndexes {
        &mut self.rules
    }
}

impl OfRules for UnkeyedRules {
    fn says_the_same(&self, other: &Self) -> bool {
        self.upstream == other.upstream
    }

    fn rules(&mut self) -> &mut RuleIndexes {
        &mut self.rules
    }
}
