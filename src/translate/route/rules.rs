//! Rules of a route: what each does with a request, and what is wrong with it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use http::StatusCode;

use crate::api::{Route, RouteRule};
use crate::base::{
    ObjectRef,
    text::{quoted, several},
};
use crate::snapshot::{Action, BackendName, ClusterId, Filters, FixedReply, Hold, RouteEntry, RouteName, RoutePolicy, Rule};
use crate::translate::condition::Refusal;

use super::{
    backends,
    compiled::Dependency,
    conditions::CompiledMatch,
    context::RouteContext,
    filters::{self, RuleFilters},
    matches,
    option_use::{OptionUse, UnkeyedRules},
    options,
    persistence::{self, Place},
    policy,
};

/// A rule with its entries.
#[derive(Debug, Default)]
pub(super) struct CompiledRule {
    pub(super) index: u16,
    pub(super) entries: Vec<Arc<RouteEntry>>,
    pub(super) last_resort: Vec<Arc<RouteEntry>>,
    /// Why the whole rule is answered 500: something in it is wrong or not served.
    pub(super) dropped: Option<String>,
    /// What of it is answered 500, while the rest is served.
    pub(super) partially: Vec<String>,
    /// Fields that count for nothing, and why.
    pub(super) ignored: Vec<String>,
    /// References that do not hold.
    pub(super) unresolved: Vec<Refusal>,
    /// Services without endpoints, and why.
    pub(super) gaps: Vec<String>,
    pub(super) option_uses: Vec<OptionUse>,
    pub(super) unkeyed: Vec<UnkeyedRules>,
}

/// What a rule does.
struct Effect {
    action: Action,
    filters: Option<Box<Filters>>,
    policy: Arc<RoutePolicy>,
}

// === impl CompiledRule ===

impl CompiledRule {
    /// Fields that count for nothing, from the object's root, and why.
    pub(super) fn ignored(&self) -> impl Iterator<Item = String> {
        self.ignored.iter().map(|why| format!("spec.rules[{}].{why}", self.index))
    }
}

/// Compiles all rules; a route without any has one that matches everything and has no backend.
pub(super) fn compile_all(
    route: &Arc<RouteName>,
    object: &Route,
    context: &RouteContext<'_>,
    cluster_id: &mut dyn FnMut(&BackendName) -> ClusterId,
    dependencies: &mut BTreeSet<Dependency>,
) -> Vec<CompiledRule> {
    let written = object.rules();
    let default = [RouteRule::default()];
    let rules = if written.is_empty() { &default[..] } else { written };
    let mut names = BTreeMap::new();
    let mut alike = BTreeMap::new();
    let mut compiled = Vec::with_capacity(rules.len());
    for (index, rule) in (0..=u16::MAX).zip(rules) {
        let first = rule.name.as_deref().filter(|name| !name.is_empty()).map(|name| *names.entry(name).or_insert(index));
        let repeated = first.filter(|first| *first != index);
        let place = RulePlace { index, repeated, earlier: count(&mut alike, rule) };
        compiled.push(compile(route, place, rule, context, cluster_id, dependencies));
    }
    compiled
}

/// How many rules before this one match what it matches.
fn count(alike: &mut BTreeMap<u64, usize>, rule: &RouteRule) -> usize {
    let alike = alike.entry(persistence::matched(rule)).or_default();
    std::mem::replace(alike, *alike + 1)
}

/// Where a rule stands within its route.
#[derive(Clone, Copy)]
struct RulePlace {
    index: u16,
    /// An earlier rule that has the name.
    repeated: Option<u16>,
    /// How many earlier rules match the same.
    earlier: usize,
}

fn compile(
    route: &Arc<RouteName>,
    place: RulePlace,
    rule: &RouteRule,
    context: &RouteContext<'_>,
    cluster_id: &mut dyn FnMut(&BackendName) -> ClusterId,
    dependencies: &mut BTreeSet<Dependency>,
) -> CompiledRule {
    let RulePlace { index, repeated, .. } = place;
    let mut compiled = CompiledRule { index, ..CompiledRule::default() };
    let matches = matches::compile(rule, context.allowance);
    let name = rule.name.as_deref().unwrap_or_default();
    let repeated = repeated.map(|first| format!("name: {} is the name of rules[{first}]; expected unique names", quoted(name)));
    let problems: Vec<String> = repeated.into_iter().chain(matches.iter().flat_map(|one| one.problems.iter().cloned())).collect();
    let effect = match effect(route, place, rule, context, cluster_id, dependencies, &mut compiled) {
        Ok(effect) if problems.is_empty() => effect,
        Ok(_) => dropped(several(&problems), &mut compiled, context),
        Err(message) => dropped(message, &mut compiled, context),
    };
    let rule = Arc::new(Rule { route: Arc::clone(route), index, action: effect.action, filters: effect.filters, policy: effect.policy });
    for CompiledMatch { index, path, matcher, problems } in matches {
        let entry = Arc::new(RouteEntry { path, matcher, rule: Arc::clone(&rule), match_index: index });
        if problems.is_empty() { compiled.entries.push(entry) } else { compiled.last_resort.push(entry) }
    }
    compiled
}

/// A rule that is wrong answers 500 and nothing else.
fn dropped(message: String, compiled: &mut CompiledRule, context: &RouteContext<'_>) -> Effect {
    let action = respond(&message);
    compiled.dropped = Some(message);
    Effect { action, filters: None, policy: context.common.default_policy() }
}

fn respond(reason: &str) -> Action {
    Action::Respond(FixedReply { status: StatusCode::INTERNAL_SERVER_ERROR, reason: reason.into() })
}

/// What the rule does, apart from what it matches.
///
/// # Errors
/// Field and expectation of what makes the whole rule be answered 500.
fn effect(
    route: &Arc<RouteName>,
    place: RulePlace,
    rule: &RouteRule,
    context: &RouteContext<'_>,
    cluster_id: &mut dyn FnMut(&BackendName) -> ClusterId,
    dependencies: &mut BTreeSet<Dependency>,
    compiled: &mut CompiledRule,
) -> Result<Effect, String> {
    // References are resolved even if a filter is wrong: their condition stands by itself.
    let RuleFilters { mut filters, redirect, extensions, references, mirrors, problem, ignored, .. } = filters::compile_rule(rule);
    compiled.ignored.extend(ignored);
    let options = options::attach(route, rule.name.as_deref(), &extensions, context, dependencies);
    compiled.unresolved.extend(options.unresolved.iter().cloned());
    compiled.unresolved.extend(backends::unresolved(route, &references, context, dependencies));
    let (mirrors, unresolved) = backends::mirrors(route, &mirrors, context, cluster_id, dependencies);
    filters.mirrors = mirrors;
    compiled.unresolved.extend(unresolved);
    let refs = rule.backend_refs.as_deref().unwrap_or_default();
    let affinity = context.affinity.of(route, rule.name.as_deref());
    let settings = affinity.and_then(|counting| counting.settings.ok().map(|settings| (counting.name, settings)));
    let persistence = rule_persistence(route, place, rule, context);
    let table = backends::Tables {
        policy: settings.map(|(name, settings)| (name, &**settings)),
        is_persistent: matches!(persistence, Ok(Some(_))),
    };
    let backends = backends::compile(route, rule, table, context, cluster_id, dependencies);
    compiled.unresolved.extend(backends.unresolved);
    compiled.ignored.extend(backends.ignored);
    compiled.gaps = backends.gaps;
    if let Some(problem) = problem {
        return Err(problem);
    }
    let persistence = persistence?;
    if persistence.is_some()
        && let Some(service) = backends::with_client_ip_affinity(&backends.forward.backends, context)
    {
        return Err(format!(
            "sessionPersistence: Service {service} has sessionAffinity: ClientIP; expected None, the two contradict each other (GEP-1619)"
        ));
    }
    let timeouts = policy::timeouts(rule.timeouts.as_ref())?;
    let retry = policy::retry(rule.retry.as_ref())?;
    let refused = affinity.and_then(|counting| {
        let refusal = counting.settings.err()?;
        Some(format!("AffinityPolicy {}: {}", counting.name, refusal.message))
    });
    let action = match redirect {
        _ if options.refused.is_some() => respond(options.refused.as_deref().unwrap_or_default()),
        _ if refused.is_some() => respond(refused.as_deref().unwrap_or_default()),
        Some(redirect) => Action::Redirect(Box::new(redirect)),
        None if refs.is_empty() => respond("no backendRefs"),
        None if backends.forward.split.is_drained() => respond("all backendRefs have weight 0"),
        None => {
            if backends.problems.len() == refs.len() {
                return Err(several(&backends.problems));
            }
            compiled.partially = backends.problems;
            Action::Forward(backends.forward)
        }
    };
    (compiled.option_uses, compiled.unkeyed) = options.uses(compiled.index, &action, context);
    let affinity = settings.map(|(_, settings)| &settings.affinity);
    let (filters, policy) = options.over(filters, (policy::default_timeouts(route.kind), timeouts), retry, affinity, persistence, context);
    Ok(Effect { action, filters: (!filters.is_empty()).then(|| Box::new(filters)), policy })
}

/// How the sessions of a rule persist.
///
/// # Errors
/// Field and expectation.
fn rule_persistence(
    route: &ObjectRef,
    place: RulePlace,
    rule: &RouteRule,
    context: &RouteContext<'_>,
) -> Result<Option<Arc<Hold>>, String> {
    let scope = || persistence::scope(route, rule, place.earlier);
    if let Some(written) = &rule.session_persistence {
        return persistence::read(written, Place::Rule { scope: &scope() }).map(|hold| Some(Arc::new(hold)));
    }
    // What one backend asks for counts for all: a session is that of a rule, and would be lost between them.
    for backend in backends::named(route, rule) {
        if let Some(written) = context.traffic.of(&backend).map_err(|why| format!("backendRefs: {why}"))? {
            return persistence::read(&written, Place::Policy { scope: &scope() }).map(|hold| Some(Arc::new(hold)));
        }
    }
    Ok(None)
}
