//! RouteOptions of a rule: which apply, in which order, and what they make of the rule.

use std::{collections::BTreeSet, sync::Arc};

use gateway_api::experimental::httproutes::HttpRouteRulesFiltersExtensionRef as ExtensionRef;

use crate::base::{Kind, ObjectName, ObjectRef};
use crate::snapshot::{Action, Filters, RetryPolicy, RouteName, RoutePolicy, Timeouts};

use super::{
    super::condition::{Refusal, reason},
    Dependency, RouteContext,
    policy::RuleTimeouts,
    rules::CompiledRule,
};

/// What a rule makes of a RouteOption, for its status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::translate) struct OptionUse {
    pub(in crate::translate) option: ObjectName,
    /// The rule in words.
    pub(in crate::translate) place: String,
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

/// A rule that sends requests to an Upstream that hashes, without saying what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::translate) struct UnkeyedRule {
    pub(in crate::translate) upstream: ObjectName,
    /// The rule in words.
    pub(in crate::translate) place: String,
}

/// What the RouteOptions of a rule amount to before they are merged with the rule.
#[derive(Debug, Default)]
pub(super) struct AttachedOptions {
    pub(super) unresolved: Vec<Refusal>,
    /// Why the rule is answered 500.
    pub(super) refusal: Option<String>,
}

/// Filters and policy of a rule.
pub(super) struct RuleOptions {
    pub(super) filters: Filters,
    pub(super) policy: Arc<RoutePolicy>,
}

pub(super) fn attach(
    route: &RouteName,
    _rule: u16,
    extensions: &[&ExtensionRef],
    context: &RouteContext<'_>,
    dependencies: &mut BTreeSet<Dependency>,
) -> AttachedOptions {
    let mut attached = AttachedOptions::default();
    for extension in extensions {
        if Kind::from_group_kind(&extension.group, &extension.kind) != Some(Kind::RouteOption) {
            let message = format!("filters: extensionRef {}/{} {} is of no kind that is served", extension.group, extension.kind, extension.name);
            attached.refusal.get_or_insert_with(|| message.clone());
            attached.unresolved.push(Refusal::new(reason::INVALID_KIND, message));
            continue;
        }
        let name = ObjectName::new(route.name.namespace.clone(), extension.name.as_str());
        dependencies.insert(Dependency::Object(ObjectRef { kind: Kind::RouteOption, name: name.clone() }));
        if context.resources.route_option(&name).is_none() {
            let message = format!("filters: extensionRef: there is no RouteOption {name}");
            attached.refusal.get_or_insert_with(|| message.clone());
            attached.unresolved.push(Refusal::new(reason::BACKEND_NOT_FOUND, message));
        }
    }
    attached
}

impl AttachedOptions {
    pub(super) fn record_uses(&self, _route: &RouteName, _action: &Action, _context: &RouteContext<'_>, _compiled: &mut CompiledRule) {}

    pub(super) fn over(&self, filters: Filters, timeouts: RuleTimeouts, retry: Option<RetryPolicy>, context: &RouteContext<'_>) -> RuleOptions {
        let policy = RoutePolicy { hash: Box::default(), timeouts: timeouts.over(Timeouts::default()), retry };
        let policy = if policy == **context.default_policy { Arc::clone(context.default_policy) } else { Arc::new(policy) };
        RuleOptions { filters, policy }
    }
}
