//! Routes that are in each other's way on one hostname of a listener: claimed by several namespaces, or with too many matches for one path.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::{
    ObjectName,
    text::{quoted, word},
};
use crate::snapshot::{Hostname, PathMatch, RouteEntry};

use super::{HostnameOwnership, Options, http_route::CompiledRoute};

/// How many namespaces a notice lists.
const MAX_LISTED: usize = 3;

/// What the routes of a hostname have to be told because of each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    /// Namespaces whose routes claim the hostname, the first one first; empty where there is only one.
    namespaces: Vec<Box<str>>,
    /// Whether only the first of those serves it.
    first_only: bool,
    /// Rules that are left out, since others have as many matches for their path as are tried.
    surplus: BTreeMap<ObjectName, BTreeSet<u16>>,
}

/// What one route is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Told<'a> {
    /// The namespace that owns the hostname, where that is another one.
    pub(super) owner: Option<&'a str>,
    /// Rules of the route that are left out.
    pub(super) surplus: Option<&'a BTreeSet<u16>>,
}

/// Matches that are tried one after another.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Group<'a> {
    Exact(&'a str),
    Prefix(&'a str),
    Regexes,
}

/// Judges the routes of a hostname, the first one first. `None`: none is in another's way.
pub(super) fn judge(routes: &[&CompiledRoute], options: &Options) -> Option<Verdict> {
    let mut verdict = Verdict { namespaces: namespaces(routes), first_only: false, surplus: BTreeMap::new() };
    verdict.first_only = verdict.is_conflict() && options.hostname_ownership == HostnameOwnership::FirstNamespace;
    let served = routes.iter().filter(|route| verdict.owner_before(&route.name.name).is_none());
    verdict.surplus = surplus(served.copied(), options.limits.matches_per_path);
    (verdict != Verdict::default()).then_some(verdict)
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
fn surplus<'r>(routes: impl Iterator<Item = &'r CompiledRoute> + Clone, limit: usize) -> BTreeMap<ObjectName, BTreeSet<u16>> {
    let mut surplus: BTreeMap<ObjectName, BTreeSet<u16>> = BTreeMap::new();
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
                surplus.entry(route.name.name.clone()).or_default().insert(rule);
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

/// What a route is told by a verdict, if there is one.
pub(super) fn told<'v>(verdict: Option<&'v Verdict>, route: &ObjectName) -> Told<'v> {
    let told = |verdict: &'v Verdict| Told { owner: verdict.owner_before(route), surplus: verdict.surplus.get(route) };
    verdict.map(told).unwrap_or_default()
}

// === impl Verdict ===

impl Verdict {
    /// Whether routes of several namespaces claim the hostname.
    pub(super) fn is_conflict(&self) -> bool {
        !self.namespaces.is_empty()
    }

    /// Whether a rule of a route is served.
    pub(super) fn serves(&self, route: &ObjectName, rule: u16) -> bool {
        self.owner_before(route).is_none() && self.surplus.get(route).is_none_or(|rules| !rules.contains(&rule))
    }

    fn owner_before(&self, route: &ObjectName) -> Option<&str> {
        self.namespaces.first().map(|owner| &**owner).filter(|owner| self.first_only && *owner != &*route.namespace)
    }

    /// What an operator should know of it.
    pub(super) fn notice(&self, gateway: &ObjectName, listener: &str, hostname: &Hostname) -> Option<String> {
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
