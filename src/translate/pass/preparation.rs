//! Compiles the regular expressions of changes before these are translated, since that takes long. Between two of them the engine can do
//! something else.

use std::{collections::VecDeque, sync::Arc};

use crate::api::Object;
use crate::snapshot::Pattern;
use crate::translate::{
    Change, Limits, Translation,
    gloo::route_option,
    patterns::{Key, OBJECT_BUDGET, Plan},
    route,
};

/// Patterns of this price together are compiled within about 3 ms: they are not worth a preparation.
const AT_ONCE: u64 = OBJECT_BUDGET / 16;

/// How a route that has a regular expression says so.
const REGULAR_EXPRESSION: &[u8] = b"RegularExpression";

/// The patterns that changes need and that the last translation does not have. They are kept until this is dropped: the translation that
/// takes the changes in finds them compiled.
#[derive(Debug, Default)]
pub struct Preparation {
    wanted: VecDeque<(Key, u64)>,
    made: Vec<Arc<Pattern>>,
}

// === impl Preparation ===

impl Preparation {
    /// For these changes on top of the last translation.
    pub fn of(changes: &[Change], last: &Translation, limits: &Limits) -> Self {
        let mut plans: Vec<Plan> = changes.iter().filter_map(|change| plan(change, last)).filter(|plan| plan.price > 0).collect();
        // The order in which the budget of the process is shared out: what it does not cover is not compiled at all.
        plans.sort_by_key(|plan| plan.price);
        let mut total = 0_u64;
        plans.retain(|plan| {
            total = total.saturating_add(plan.price);
            total <= limits.pattern_price
        });
        if total <= AT_ONCE {
            return Self::default();
        }
        Self { wanted: plans.into_iter().flat_map(|plan| plan.wanted).collect(), made: Vec::new() }
    }

    /// Whether nothing is left to do.
    pub fn is_done(&self) -> bool {
        self.wanted.is_empty()
    }

    /// Does a piece of the work, some milliseconds at most; `last`: the translation that the next one goes on from.
    pub fn step(&mut self, last: &Translation) {
        if let Some((key, price)) = self.wanted.pop_front() {
            // What is refused is refused again, with its reason, when the change is translated.
            self.made.extend(last.memo.patterns.get(&key, price));
        }
    }
}

/// The patterns that a change is going to need.
fn plan(change: &Change, last: &Translation) -> Option<Plan> {
    let allowance = last.memo.patterns.planning();
    match change {
        Change::Route(route) => route::plan_patterns(&route.unpack_if(REGULAR_EXPRESSION)?, &allowance),
        Change::Apply(object) => match &**object {
            Object::Route(route) => route::plan_patterns(route, &allowance),
            Object::RouteOption(option) => drop(route_option::compile(option, &allowance)),
            Object::AffinityPolicy(_)
            | Object::AffinitySlots(_)
            | Object::EndpointSlice(_)
            | Object::Gateway(_)
            | Object::GatewayClass(_)
            | Object::GatewayParameters(_)
            | Object::GatewayOption(_)
            | Object::ListenerSet(_)
            | Object::Namespace(_)
            | Object::ReferenceGrant(_)
            | Object::BackendTlsPolicy(_)
            | Object::BackendTrafficPolicy(_)
            | Object::ConfigMap(_)
            | Object::Secret(_)
            | Object::Service(_)
            | Object::Upstream(_) => return None,
        },
        Change::Delete(_) | Change::Undecodable(_) | Change::Unparsed(_) => return None,
    }
    Some(allowance.into_plan())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::{self, Document};
    use crate::snapshot::Observed;
    use crate::translate::{Options, Resources, translate};

    fn change(document: serde_json::Value) -> Change {
        match api::decode(document).unwrap() {
            Document::Object(object) => Change::apply(object),
            other => panic!("{other:?}"),
        }
    }

    fn route(number: usize, pattern: &str) -> Change {
        change(json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": format!("r{number}")},
        "spec": {"parentRefs": [{"name": "g"}], "rules": [{"matches": [
            {"path": {"type": "RegularExpression", "value": pattern}},
            {"headers": [{"name": "a", "type": "RegularExpression", "value": format!("h{pattern}")}]},
        ]}]}}))
    }

    fn gateway() -> Change {
        change(json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": "g"},
            "spec": {"gatewayClassName": "clingfish", "listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}]}}))
    }

    fn first(options: &Options) -> (Resources, Translation) {
        let mut resources = Resources::default();
        resources.apply(gateway());
        let first = translate(&resources, &Observed::default(), options, None);
        resources.clear_changes();
        (resources, first)
    }

    #[test]
    fn a_translation_finds_compiled_what_was_prepared() {
        let options = Options::default();
        let (mut resources, last) = first(&options);
        let changes: Vec<_> = (0..40).map(|number| route(number, &format!("/{number}/[a-z]{{60}}"))).collect();
        let mut preparation = Preparation::of(&changes, &last, &options.limits);
        assert_eq!(preparation.wanted.len(), 80, "paths and headers");
        while !preparation.is_done() {
            preparation.step(&last);
        }
        let made: Vec<_> = preparation.made.iter().map(Arc::downgrade).collect();
        changes.into_iter().for_each(|change| resources.apply(change));
        let next = translate(&resources, &Observed::default(), &options, Some(last));
        drop(preparation);
        assert_eq!(made.iter().filter(|pattern| pattern.strong_count() > 0).count(), 80, "the snapshot has the very patterns");
        drop(next);
    }

    #[test]
    fn what_is_known_or_cheap_or_beyond_the_budget_is_not_prepared() {
        let options = Options::default();
        let (mut resources, last) = first(&options);
        assert!(Preparation::of(&[route(0, "/a.*"), gateway()], &last, &options.limits).is_done(), "compiled at once");
        let expensive = |number: usize| route(number, &format!("/{number}/[a-z]{{300}}"));
        let changes: Vec<_> = (0..20).map(expensive).collect();
        assert!(!Preparation::of(&changes, &last, &options.limits).is_done());
        let poor = Limits { pattern_price: AT_ONCE + 1, ..options.limits };
        assert!(Preparation::of(&changes, &last, &poor).wanted.len() < 20);
        changes.into_iter().for_each(|change| resources.apply(change));
        let next = translate(&resources, &Observed::default(), &options, Some(last));
        let changes: Vec<_> = (0..20).map(expensive).collect();
        assert!(Preparation::of(&changes, &next, &options.limits).is_done(), "all are known");
    }
}
