//! Which routes a RouteOption targets.

use crate::api::RouteOption;
use crate::base::{Kind, ObjectRef};
use crate::translate::policy::Target;

/// The routes that a RouteOption targets, or rules of them: those of its own namespace.
pub(in crate::translate) fn targets(option: &RouteOption) -> impl Iterator<Item = Target> {
    let own = option.metadata.namespace.as_deref().unwrap_or_default();
    let refs = option.spec.target_refs.iter().flatten();
    let effective = refs.filter(move |target| target.namespace.as_deref().is_none_or(|namespace| namespace.is_empty() || namespace == own));
    effective.filter_map(move |target| {
        let kind = Kind::from_group_kind(&target.group, &target.kind).filter(|kind| kind.is_route())?;
        Some(Target::new(ObjectRef::new(kind, own, target.name.as_str()), target.section_name.as_deref()))
    })
}
