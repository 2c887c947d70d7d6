//! Routes of all kinds: attachment, rules, status.

mod attach;
mod backends;
mod common;
pub(super) mod compiled;
mod conditions;
mod context;
mod cors;
mod filters;
mod grpc;
mod matches;
pub(super) mod option_use;
mod options;
pub(super) mod persistence;
mod policy;
mod reference;
mod rules;
pub(super) mod table;

use std::{collections::BTreeMap, collections::BTreeSet, sync::Arc};

use crate::api::{Route, creation_timestamp};
use crate::base::{ObjectRef, text::several};
use crate::snapshot::{BackendName, ClusterId};
use crate::translate::{
    Condition, ParentStatus, Refused,
    condition::{Refusal, fails, holds, kind, reason},
    gateway::hostname_conflicts,
    last_good,
    patterns::Allowance,
    status::RouteStatus,
};

pub(super) use backends::gap;
pub(super) use common::Common;
pub(super) use compiled::{CompiledRoute, Dependency};
pub(super) use context::RouteContext;

use attach::{Parent, Parents};
use rules::CompiledRule;

/// How many hostnames a message lists.
const MAX_HOSTNAMES: usize = 3;

/// How many Services without endpoints a message tells of.
const MAX_GAPS: usize = 3;

/// What is said of a route.
#[derive(Debug)]
pub(super) struct RouteReport {
    /// Absent where no parent is ours.
    pub(super) status: Option<RouteStatus>,
    pub(super) notices: Vec<String>,
}

/// What the rules of a route amount to in its status.
struct RouteVerdict {
    /// Why none of its rules is served.
    refused: Option<Refusal>,
    /// What of it is answered 500.
    partially: Option<String>,
    /// What of it counts for nothing.
    ignored: Option<String>,
    unresolved: Option<Refusal>,
    /// Services without endpoints, and why.
    gaps: Option<String>,
}

/// Names the regular expressions of a route: the allowance is one that plans.
pub(super) fn plan_patterns(route: &Route, allowance: &Allowance<'_>) {
    for rule in route.rules() {
        matches::compile(rule, allowance);
    }
}

/// Compiles a route. `cluster_id` gives a backend its id.
pub(super) fn compile(
    name: &ObjectRef,
    route: &Route,
    context: &RouteContext<'_>,
    cluster_id: &mut dyn FnMut(&BackendName) -> ClusterId,
) -> (CompiledRoute, RouteReport) {
    let undecodable = context.resources.refused(name);
    let mut parents = attach::resolve(name, route, context);
    if undecodable.is_some_and(|refused| refused.outline) {
        parents.attachments.clear();
    }
    let route_name = Arc::new(name.clone());
    let attached = parents.attachments.iter().any(|attachment| attachment.serves);
    let mut dependencies = parents.dependencies.clone();
    let mut backends = BTreeSet::new();
    let mut acquire = |backend: &BackendName| {
        // A route that is attached nowhere sends nothing: its clusters are not built.
        if !attached {
            return ClusterId(u32::MAX);
        }
        backends.insert(backend.clone());
        cluster_id(backend)
    };
    let rules = match parents.parents.is_empty() {
        true => Vec::new(),
        false => rules::compile_all(&route_name, route, context, &mut acquire, &mut dependencies),
    };
    let mut verdict = verdict(&parents, &rules, surplus(name, &parents, context));
    if !attached {
        // Nothing is sent there, and nobody watches whether endpoints come.
        verdict.gaps = None;
    }
    let all_rules = || rules.iter().map(|rule| rule.index.to_string()).collect::<Vec<_>>().join(", ");
    for closed in parents.parents.iter_mut().filter_map(|parent| parent.closed.as_mut()) {
        *closed = format!("Dropped Rule(s) {}: answered 500 on {closed}", all_rules());
    }
    let status = (!parents.parents.is_empty()).then(|| status(undecodable, route, &parents.parents, &verdict, context));
    let effects = if attached { &rules[..] } else { &[] };
    let notices = effects.iter().flat_map(CompiledRule::ignored).map(|ignored| format!("{name}: {ignored}"));
    let report = RouteReport { status, notices: parents.notices.into_iter().chain(notices).collect() };
    let compiled = CompiledRoute {
        name: route_name,
        age: creation_timestamp(route.metadata()),
        entries: collect(effects, |rule| &rule.entries),
        last_resort: collect(effects, |rule| &rule.last_resort),
        attachments: parents.attachments.into(),
        accepted: verdict.refused.is_none(),
        dependencies: dependencies.into_iter().collect(),
        backends: backends.into_iter().collect(),
        option_uses: option_use::merge(effects.iter().flat_map(|rule| rule.option_uses.iter().cloned())),
        unkeyed: option_use::merge(effects.iter().flat_map(|rule| rule.unkeyed.iter().cloned())),
    };
    (compiled, report)
}

fn collect<T: Clone>(rules: &[CompiledRule], part: impl Fn(&CompiledRule) -> &Vec<T>) -> Box<[T]> {
    rules.iter().flat_map(part).cloned().collect()
}

/// Rules that are left out where others have as many matches for their path as are tried, with the hostnames where that is so.
fn surplus(name: &ObjectRef, parents: &Parents, context: &RouteContext<'_>) -> Vec<(u16, String)> {
    let mut left_out: BTreeMap<u16, BTreeSet<String>> = BTreeMap::new();
    for attachment in &parents.attachments {
        let Some(state) = context.gateways.get(&*attachment.gateway) else { continue };
        for hostname in &attachment.hostnames {
            let conflicts = hostname_conflicts::of_route(state.conflicts_on(attachment.listener, hostname), name);
            for rule in conflicts.surplus.into_iter().flatten() {
                left_out.entry(*rule).or_default().insert(hostname.to_string());
            }
        }
    }
    let limit = context.options.limits.matches_per_path;
    let words = |hostnames: BTreeSet<String>| {
        let listed: Vec<_> = hostnames.iter().take(MAX_HOSTNAMES).map(String::as_str).collect();
        let more = if hostnames.len() > MAX_HOSTNAMES { " and others" } else { "" };
        format!("matches: at most {limit} are tried for one path of a hostname, and with these there are more: {}{more}", listed.join(", "))
    };
    left_out.into_iter().map(|(rule, hostnames)| (rule, words(hostnames))).collect()
}

fn verdict(parents: &Parents, rules: &[CompiledRule], surplus: Vec<(u16, String)>) -> RouteVerdict {
    let dropped: Vec<_> = rules.iter().filter_map(|rule| Some((rule.index, rule.dropped.as_deref()?))).collect();
    let describe = |(index, why): &(u16, &str)| format!("rules[{index}].{why}");
    let refused = (dropped.len() == rules.len() && !rules.is_empty())
        .then(|| Refusal::unsupported(format!("spec.{}", several(dropped.iter().map(describe)))));
    let whole = in_words("answered 500", dropped.iter().map(|(index, why)| (*index, *why)));
    let parts = rules.iter().flat_map(|rule| rule.partially.iter().map(|why| (rule.index, why.as_str())));
    let parts = in_words("the share of the backend is answered 500, the rest is served", parts);
    let left_out = in_words("not served", surplus.iter().map(|(index, why)| (*index, why.as_str())));
    let partially: Vec<String> = whole.into_iter().chain(parts).chain(left_out).collect();
    let partially = (!partially.is_empty()).then(|| partially.join("; "));
    let of_rules = rules.iter().flat_map(CompiledRule::ignored);
    let ignored: Vec<_> = parents.ignored_hostnames.iter().cloned().chain(of_rules).collect();
    let ignored = (!ignored.is_empty()).then(|| format!("ignored: {}", several(&ignored)));
    let unresolved: Vec<_> = rules
        .iter()
        .flat_map(|rule| rule.unresolved.iter().map(move |refusal| (refusal.reason, format!("rules[{}].{}", rule.index, refusal.message))))
        .collect();
    let first = unresolved.first().map(|(reason, _)| *reason);
    let unresolved = first.map(|reason| Refusal::new(reason, several(unresolved.into_iter().map(|(_, message)| message))));
    let gaps: BTreeSet<_> = rules.iter().flat_map(|rule| rule.gaps.iter().map(String::as_str)).collect();
    let gaps = (!gaps.is_empty()).then(|| in_sentences(gaps));
    RouteVerdict { refused, partially, ignored, unresolved, gaps }
}

/// The first few of them.
fn in_sentences(gaps: BTreeSet<&str>) -> String {
    let more = if gaps.len() > MAX_GAPS { "; and more" } else { "" };
    gaps.into_iter().take(MAX_GAPS).collect::<Vec<_>>().join("; ") + more
}

/// What is wrong with rules, beginning as the condition PartiallyInvalid must (Gateway API, `RouteConditionPartiallyInvalid`).
fn in_words<'a>(effect: &str, problems: impl Iterator<Item = (u16, &'a str)>) -> Option<String> {
    let problems: Vec<_> = problems.collect();
    let indexes: BTreeSet<_> = problems.iter().map(|(index, _)| *index).collect();
    let indexes: Vec<_> = indexes.into_iter().map(|index| index.to_string()).collect();
    let described: Vec<_> = problems.iter().map(|(index, why)| format!("rules[{index}].{why}")).collect();
    (!problems.is_empty()).then(|| format!("Dropped Rule(s) {}: {effect}: {}", indexes.join(", "), several(&described)))
}

fn status(
    undecodable: Option<&Refused>,
    route: &Route,
    parents: &[Parent],
    verdict: &RouteVerdict,
    context: &RouteContext<'_>,
) -> RouteStatus {
    let generation = route.metadata().generation;
    let parents = parents.iter().map(|parent| {
        let refused = parent.refused.as_ref().or(verdict.refused.as_ref());
        let mut conditions = conditions(refused, parent.closed.as_deref(), verdict, generation);
        if let (Some(refused), Some(accepted)) = (undecodable, conditions.first_mut()) {
            *accepted = last_good::condition(refused, generation);
        }
        ParentStatus { parent_ref: parent.parent_ref.clone(), controller_name: context.options.controller_name.to_string(), conditions }
    });
    RouteStatus { parents: parents.collect() }
}

/// Accepted, where needed PartiallyInvalid, ResolvedRefs. `closed`: what is answered 500 because of listeners.
fn conditions(refused: Option<&Refusal>, closed: Option<&str>, verdict: &RouteVerdict, generation: Option<i64>) -> Vec<Condition> {
    let accepted = match refused {
        Some(refusal) => fails(kind::ACCEPTED, refusal.reason, refusal.message.clone(), generation),
        None => {
            let ignored = verdict.ignored.as_ref().map(|ignored| format!("; {ignored}")).unwrap_or_default();
            holds(kind::ACCEPTED, reason::ACCEPTED, format!("the route is attached{ignored}"), generation)
        }
    };
    let partially: Vec<_> = closed.into_iter().chain(verdict.partially.as_deref()).filter(|_| refused.is_none()).collect();
    let partially =
        (!partially.is_empty()).then(|| holds(kind::PARTIALLY_INVALID, reason::UNSUPPORTED_VALUE, partially.join("; "), generation));
    let resolved = match &verdict.unresolved {
        Some(refusal) => fails(kind::RESOLVED_REFS, refusal.reason, refusal.message.clone(), generation),
        None => {
            let gaps = verdict.gaps.as_ref().map(|gaps| format!("; requests are answered 503: {gaps}")).unwrap_or_default();
            holds(kind::RESOLVED_REFS, reason::RESOLVED_REFS, format!("all references are resolved{gaps}"), generation)
        }
    };
    match partially {
        Some(partially) => vec![accepted, partially, resolved],
        None => vec![accepted, resolved],
    }
}
