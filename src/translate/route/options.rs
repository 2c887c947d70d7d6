//! RouteOptions of a rule: which apply, in which order, and what they make of the rule.

use std::{collections::BTreeSet, sync::Arc};

use gateway_api::experimental::httproutes::HttpRouteRulesFiltersExtensionRef as ExtensionRef;

use crate::base::{Kind, ObjectName, ObjectRef, text::word};
use crate::snapshot::{Action, Affinity, Backend, Filters, Hold, RetryPolicy, RouteName, RoutePolicy, Target, Timeouts};
use crate::translate::{
    condition::{Refusal, reason},
    gloo::route_option::{self, CompiledRouteOption, MergedOptions, targets},
    policy::{self, Precedence},
};

use super::{
    compiled::Dependency,
    context::RouteContext,
    option_use::{OptionUse, RuleIndexes, UnkeyedRules},
    policy::RuleTimeouts,
};

/// What the RouteOptions of a rule amount to before they are laid over the rule.
#[derive(Debug, Default)]
pub(super) struct AttachedOptions {
    pub(super) unresolved: Vec<Refusal>,
    /// Why the rule is answered 500.
    pub(super) refused: Option<String>,
    merged: MergedOptions,
}

/// Collects the RouteOptions of a rule: those that its filters name, in their order, then those that target it by its name, then those that
/// target the route, the oldest first.
pub(super) fn attach(
    route: &RouteName,
    rule_name: Option<&str>,
    extensions: &[(usize, &ExtensionRef)],
    context: &RouteContext<'_>,
    dependencies: &mut BTreeSet<Dependency>,
) -> AttachedOptions {
    let mut attached = AttachedOptions::default();
    let mut in_order: Vec<&CompiledRouteOption> = Vec::new();
    for (index, extension) in extensions {
        match resolve(route, extension, context, dependencies) {
            Ok(option) => in_order.push(option),
            Err(Refusal { reason, message }) => {
                let refusal = Refusal::new(reason, format!("filters[{index}].extensionRef: {message}"));
                attached.refused.get_or_insert_with(|| refusal.message.clone());
                attached.unresolved.push(refusal);
            }
        }
    }
    let targeting = context.resources.route_options_of(route);
    let targeting: Vec<_> =
        targeting.map(|option| (Precedence::of(&option.metadata), targets::targets(option).collect::<Vec<_>>())).collect();
    let given = targeting.iter().map(|(precedence, targets)| (precedence, targets.as_slice()));
    in_order.extend(policy::in_order(given, route, rule_name).filter_map(|name| context.gloo.option(name)));
    let names = targeting.into_iter().map(|(precedence, _)| precedence.name);
    dependencies.extend(names.map(|name| Dependency::Object(ObjectRef { kind: Kind::RouteOption, name })));
    attached.merged = route_option::merge(in_order);
    if let Some(refusal) = &attached.merged.refused {
        attached.refused.get_or_insert_with(|| refusal.reason.to_string());
    }
    attached
}

fn resolve<'a>(
    route: &RouteName,
    extension: &ExtensionRef,
    context: &RouteContext<'a>,
    dependencies: &mut BTreeSet<Dependency>,
) -> Result<&'a CompiledRouteOption, Refusal> {
    let name = ObjectName::new(route.name.namespace.clone(), extension.name.as_str());
    if Kind::from_group_kind(&extension.group, &extension.kind) != Some(Kind::RouteOption) {
        let message =
            format!("kind {}/{} is not served; expected gateway.solo.io/RouteOption", word(&extension.group), word(&extension.kind));
        return Err(Refusal::new(reason::INVALID_KIND, message));
    }
    let reference = ObjectRef { kind: Kind::RouteOption, name: name.clone() };
    dependencies.insert(Dependency::Object(reference.clone()));
    let found = context.gloo.option(&name).filter(|_| !context.resources.is_outline(&reference));
    found.ok_or_else(|| {
        let why = context.resources.refused(&reference).map(|refused| format!(" that can be read ({})", refused.message));
        Refusal::new(reason::BACKEND_NOT_FOUND, format!("there is no RouteOption {name}{}", why.unwrap_or_default()))
    })
}

// === impl AttachedOptions ===

impl AttachedOptions {
    /// What the rule of this index makes of RouteOptions and Upstreams, for their statuses.
    pub(super) fn uses(&self, index: u16, action: &Action, context: &RouteContext<'_>) -> (Vec<OptionUse>, Vec<UnkeyedRules>) {
        let rules = || RuleIndexes::from_slice(&[index]);
        let backends: &[Backend] = if let Action::Forward(forward) = action { &forward.backends } else { &[] };
        let reached = || backends.iter().filter(|backend| matches!(backend.target, Target::Cluster(_)));
        let hashes = |backend: &&Backend| backend.name.policy.is_some() || context.gloo.hashes(&backend.name, context.resources);
        let hashing: Vec<_> = reached().filter(hashes).collect();
        let uses = self.merged.contributions.iter().map(|contribution| OptionUse {
            option: contribution.option.clone(),
            rules: rules(),
            used: contribution.used,
            earlier: contribution.shadowed_by.clone(),
            hash_without_table: contribution.gave_hash && reached().next().is_some() && hashing.is_empty(),
            hash_in_split: contribution.gave_hash && backends.len() > 1 && !hashing.is_empty(),
            hash_without_backend: contribution.gave_hash && backends.is_empty() && self.refused.is_none(),
        });
        let has_key = self.merged.hash.as_ref().is_some_and(|policies| !policies.is_empty());
        let upstreams = hashing.iter().filter(|backend| !has_key && backend.name.kind == Kind::Upstream);
        let unkeyed = upstreams.map(|backend| UnkeyedRules { upstream: backend.name.name.clone(), rules: rules() });
        (uses.collect(), unkeyed.collect())
    }

    /// Filters and policy of a rule with the options laid over what the rule says itself.
    pub(super) fn over(
        &self,
        mut filters: Filters,
        (base, timeouts): (Timeouts, RuleTimeouts),
        retry: Option<RetryPolicy>,
        affinity: Option<&Arc<Affinity>>,
        persistence: Option<Arc<Hold>>,
        context: &RouteContext<'_>,
    ) -> (Filters, Arc<RoutePolicy>) {
        self.merged.apply_filters(&mut filters);
        let mut policy =
            RoutePolicy { hash: Box::default(), timeouts: timeouts.over(base), retry, affinity: affinity.cloned(), persistence };
        self.merged.apply_policy(&mut policy);
        // A policy of our own says more than a RouteOption can.
        if let Some(keys) = affinity.and_then(|affinity| affinity.keys.as_ref()) {
            policy.hash = keys.clone();
        }
        (filters, context.common.policy(policy))
    }
}
