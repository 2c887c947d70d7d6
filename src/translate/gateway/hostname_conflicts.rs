//! Conflicts between routes of one hostname of a listener: several namespaces claim it, or one path has too many matches.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::{
    ObjectName, ObjectRef,
    text::{quoted, word},
};
use crate::snapshot::{Hostname, PathMatch, RouteEntry};
use crate::translate::{HostnameOwnership, Options, route::compiled::CompiledRoute};

/// How many namespaces a notice lists.
const MAX_LISTED: usize = 3;

/// The conflicts between the routes of a hostname.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::translate) struct HostnameConflicts {
    /// Namespaces whose routes claim the hostname, the first one first; empty where there is only one.
    namespaces: Vec<Box<str>>,
    /// Whether only the first of those serves it.
    first_only: bool,
    /// Rules that are left out, since others have as many matches for their path as are tried.
    surplus: BTreeMap<ObjectRef, BTreeSet<u16>>,
}

/// What the conflicts mean for one route.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::translate) struct RouteConflicts<'a> {
    /// The namespace that owns the hostname, where that is another one.
    pub(in crate::translate) owner: Option<&'a str>,
    /// Rules of the route that are left out.
    pub(in crate::translate) surplus: Option<&'a BTreeSet<u16>>,
}

/// Matches that are tried one after another.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Group<'a> {
    Exact(&'a str),
    Prefix(&'a str),
    Regexes,
}

/// Finds the conflicts between the routes of a hostname, the first one first. `None`: there are none.
pub(in crate::translate) fn find(routes: &[&CompiledRoute], options: &Options) -> Option<HostnameConflicts> {
    let mut conflicts = HostnameConflicts { namespaces: namespaces(routes), first_only: false, surplus: BTreeMap::new() };
    conflicts.first_only = conflicts.is_claimed_by_several() && options.hostname_ownership == HostnameOwnership::FirstNamespace;
    let served = routes.iter().filter(|route| conflicts.owner_before(&route.name).is_none());
    conflicts.surplus = surplus(served.copied(), options.limits.matches_per_path);
    (conflicts != HostnameConflicts::default()).then_some(conflicts)
}

fn namespaces(routes: &[&CompiledRoute]) -> Vec<Box<str>> {
    let all = || routes.iter().map(|route| &route.name.name.namespace);
    let Some(first) = all().next() else { return Vec::new() };
    if all().all(|namespace| namespace == first) {
        return Vec::new();
    }
    let mut seen = BTreeSet::new();
    all().filter(|namespace| seen.insert(*namespace)).cloned().collect()
}

/// Rule by rule, those with which a path would have more than `limit` matches.
fn surplus<'r>(routes: impl Iterator<Item = &'r CompiledRoute> + Clone, limit: usize) -> BTreeMap<ObjectRef, BTreeSet<u16>> {
    let mut surplus: BTreeMap<ObjectRef, BTreeSet<u16>> = BTreeMap::new();
    let matches = |route: &CompiledRoute| route.entries.len() + route.last_resort.len();
    if routes.clone().map(matches).sum::<usize>() <= limit {
        return surplus;
    }
    let mut counts: BTreeMap<Group<'r>, usize> = BTreeMap::new();
    for route in routes {
        let mut rules: BTreeMap<u16, BTreeMap<Group<'r>, usize>> = BTreeMap::new();
        for entry in route.entries.iter().chain(&route.last_resort) {
            *rules.entry(entry.rule.index).or_default().entry(group(entry)).or_default() += 1;
        }
        for (rule, groups) in rules {
            let fits = groups.iter().all(|(group, count)| counts.get(group).copied().unwrap_or_default() + count <= limit);
            if fits {
                groups.into_iter().for_each(|(group, count)| *counts.entry(group).or_default() += count);
            } else {
                surplus.entry((*route.name).clone()).or_default().insert(rule);
            }
        }
    }
    surplus
}

fn group(entry: &RouteEntry) -> Group<'_> {
    match &entry.path {
        PathMatch::Exact(path) => Group::Exact(path),
        PathMatch::Prefix(path) => Group::Prefix(path),
        PathMatch::Regex(_) => Group::Regexes,
    }
}

/// What the conflicts mean for a route.
pub(in crate::translate) fn of_route<'v>(conflicts: Option<&'v HostnameConflicts>, route: &ObjectRef) -> RouteConflicts<'v> {
    let of_route =
        |conflicts: &'v HostnameConflicts| RouteConflicts { owner: conflicts.owner_before(route), surplus: conflicts.surplus.get(route) };
    conflicts.map(of_route).unwrap_or_default()
}

// === impl HostnameConflicts ===

impl HostnameConflicts {
    /// Whether routes of several namespaces claim the hostname.
    pub(super) fn is_claimed_by_several(&self) -> bool {
        !self.namespaces.is_empty()
    }

    /// Whether a rule of a route is served.
    pub(in crate::translate) fn serves(&self, route: &ObjectRef, rule: u16) -> bool {
        self.owner_before(route).is_none() && self.surplus.get(route).is_none_or(|rules| !rules.contains(&rule))
    }

    fn owner_before(&self, route: &ObjectRef) -> Option<&str> {
        self.namespaces.first().map(|owner| &**owner).filter(|owner| self.first_only && *owner != &*route.name.namespace)
    }

    /// What an operator should know of it.
    pub(in crate::translate) fn notice(&self, gateway: &ObjectName, listener: &str, hostname: &Hostname) -> Option<String> {
        let (first, others) = self.namespaces.split_first()?;
        let mut listed: Vec<String> = others.iter().take(MAX_LISTED).map(|namespace| word(namespace).to_string()).collect();
        if others.len() > MAX_LISTED {
            listed.push("others".to_owned());
        }
        let effect = if self.first_only { "only those of the first are served" } else { "all of them are served" };
        Some(format!(
            "Gateway {gateway}: listener {}: hostname {} is claimed by HTTPRoutes of namespace {} and of {}; {effect}",
            word(listener),
            quoted(&hostname.to_string()),
            word(first),
            listed.join(", ")
        ))
    }
}
