//! Statuses of Gloo's kinds: what was found wrong, and what the routes make of an object, in Gloo's shape.

use crate::base::{Message, ObjectName, ObjectRef, text::quoted};
use crate::translate::{backend::upstream::CompiledUpstream, status::GlooStatus};

use super::{findings::Findings, route_option::CompiledRouteOption};

/// How many places a message lists.
pub(in crate::translate) const MAX_LISTED: usize = 3;

/// What the routes make of a RouteOption. Rules are named as in `HTTPRoute ns/name rule 0`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteOptionFacts {
    /// Some rule names it in an ExtensionRef filter, or an existing HTTPRoute is its target.
    pub attached: bool,
    /// Some rule uses at least one of its options.
    pub used: bool,
    /// HTTPRoutes of its `targetRefs` that do not exist.
    pub missing_routes: Vec<ObjectRef>,
    /// HTTPRoutes of its `targetRefs` with names of rules that they do not have.
    pub missing_rules: Vec<(ObjectRef, Box<str>)>,
    /// RouteOptions whose options come first where its own are not used.
    pub shadowed_by: Vec<ObjectName>,
    /// Rules that use its `lbHash`, but none of whose backends hashes.
    pub hash_without_table: Vec<String>,
    /// Rules that use its `lbHash` and split requests between several backends.
    pub hash_in_split: Vec<String>,
    /// Rules that use its `lbHash`, but forward nothing: redirects and fixed answers.
    pub hash_without_backend: Vec<String>,
}

/// What the routes make of an Upstream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpstreamFacts {
    /// Rules that send requests here without saying what to hash.
    pub rules_without_key: Vec<String>,
    /// Why it has no ring, though it asks for one.
    pub ring_refusal: Option<Message>,
    /// Why it has no hosts.
    pub no_hosts: Option<Message>,
}

/// The status of a RouteOption. Every one has a status, also where Gloo writes none.
pub fn route_option_status(option: &CompiledRouteOption, facts: &RouteOptionFacts) -> GlooStatus {
    let mut findings = option.findings.clone();
    for route in &facts.missing_routes {
        findings.warn(format!("field spec.targetRefs: {route} does not exist"));
    }
    for (route, rule) in &facts.missing_rules {
        findings.warn(format!("field spec.targetRefs: {route} has no rule with the name {} of sectionName", quoted(rule)));
    }
    if !facts.attached {
        findings.warn(
            "not attached to any rule that is served: expected an HTTPRoute of its namespace in spec.targetRefs, or a rule of an attached \
            HTTPRoute that names it in an ExtensionRef filter"
                .to_owned(),
        );
    } else if !facts.used && !facts.shadowed_by.is_empty() {
        let others = list(facts.shadowed_by.iter().map(|name| format!("RouteOption {name}")));
        findings.warn(format!("it has no effect: all its options are set by {others}, which come first"));
    }
    if !facts.hash_without_table.is_empty() {
        let rules = list(facts.hash_without_table.iter().cloned());
        findings.warn(format!(
            "field spec.options.lbHash has no effect on {rules}: no backend is an Upstream with loadBalancerConfig.ringHash or maglev"
        ));
    }
    if !facts.hash_in_split.is_empty() {
        let rules = list(facts.hash_in_split.iter().cloned());
        findings.warn(format!(
            "field spec.options.lbHash does not hold sessions across the weighted backends of {rules}: the backend is chosen at random, \
             the key counts within it"
        ));
    }
    if !facts.hash_without_backend.is_empty() {
        let rules = list(facts.hash_without_backend.iter().cloned());
        findings.warn(format!("field spec.options.lbHash has no effect on {rules}: nothing is forwarded"));
    }
    findings.status()
}

/// The status of an Upstream.
pub fn upstream_status(upstream: &CompiledUpstream, facts: &UpstreamFacts) -> GlooStatus {
    let mut findings = upstream.findings.clone();
    if let Some(refusal) = &facts.ring_refusal {
        findings.refuse(format!("field spec.loadBalancerConfig.ringHash: {refusal}"));
    }
    if let Some(why) = &facts.no_hosts {
        findings.warn(format!("requests are answered 503: {why}"));
    }
    if upstream.uses_hash() && !facts.rules_without_key.is_empty() {
        let rules = list(facts.rules_without_key.iter().cloned());
        findings.warn(format!(
            "field spec.loadBalancerConfig hashes, but {rules} has no hash key: expected a RouteOption with lbHash; a random host is chosen"
        ));
    }
    findings.status()
}

/// The status of an object of which no version could ever be decoded; `reason` says why.
pub fn undecodable_status(reason: &str) -> GlooStatus {
    Findings { errors: vec![reason.into()], warnings: Vec::new() }.status()
}

/// Some places in words: sorted, each once. The rest is not counted: a status that changed with every route would be written with every route.
fn list(places: impl Iterator<Item = String>) -> String {
    let mut places: Vec<String> = places.collect();
    places.sort_unstable();
    places.dedup();
    let more = places.len() > MAX_LISTED;
    places.truncate(MAX_LISTED);
    let listed = places.join(", ");
    if more { format!("{listed} and more") } else { listed }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_listed_once_and_counted() {
        let places = |names: &[&str]| list(names.iter().map(ToString::to_string));
        assert_eq!(places(&["b", "a", "b"]), "a, b");
        assert_eq!(places(&["e", "d", "c", "b", "a"]), "a, b, c and more");
    }
}
