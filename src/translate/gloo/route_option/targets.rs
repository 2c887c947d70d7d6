//! Which routes a RouteOption targets.

use crate::api::RouteOption;
use crate::base::{Kind, ObjectRef};

/// How much of a route a RouteOption targets. The narrower comes first, as for policies of the Gateway API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::translate) enum TargetScope {
    /// The rule by its name.
    Rule,
    /// The whole route.
    Route,
}

/// Whether a RouteOption targets a rule by its name, or with its whole route; `None`: neither.
pub(in crate::translate) fn target_scope(option: &RouteOption, route: &ObjectRef, rule: Option<&str>) -> Option<TargetScope> {
    let of_route = target_refs(option).filter(|(target, _)| target == route);
    let scopes = of_route.filter_map(|(_, section)| match section {
        None => Some(TargetScope::Route),
        Some(section) => (rule == Some(section)).then_some(TargetScope::Rule),
    });
    scopes.min()
}

/// The routes that a RouteOption targets: those of its own namespace.
pub(in crate::translate) fn targets(option: &RouteOption) -> impl Iterator<Item = ObjectRef> {
    target_refs(option).map(|(route, _)| route)
}

/// The routes that a RouteOption targets, each with the name of the rule if it is only one.
pub(in crate::translate::gloo) fn target_refs(option: &RouteOption) -> impl Iterator<Item = (ObjectRef, Option<&str>)> {
    let own = option.metadata.namespace.as_deref().unwrap_or_default();
    let refs = option.spec.target_refs.iter().flatten();
    let effective = refs.filter(move |target| target.namespace.as_deref().is_none_or(|namespace| namespace.is_empty() || namespace == own));
    effective.filter_map(move |target| {
        let kind = Kind::from_group_kind(&target.group, &target.kind).filter(|kind| kind.is_route())?;
        Some((ObjectRef::new(kind, own, target.name.as_str()), target.section_name.as_deref().filter(|section| !section.is_empty())))
    })
}
