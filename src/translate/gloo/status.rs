//! Statuses of Gloo's kinds: what was found wrong, and what the routes make of an object, in Gloo's shape.

use crate::base::{Message, ObjectName, ObjectRef, text::quoted};
use crate::translate::backend::upstream::CompiledUpstream;
use crate::translate::status::{GlooState, GlooStatus};

use super::route_option::CompiledRouteOption;

/// Bound on `reason`, in bytes: Gloo's.
const MAX_REASON: usize = 1024;

/// How many places a message lists.
pub(in crate::translate) const MAX_LISTED: usize = 3;

/// Who writes the status.
pub const REPORTED_BY: &str = "clingfish";

/// What is wrong with an object. Errors make it Rejected, warnings alone Warning.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// What is wrong, each with field and expectation, in one line.
    pub errors: Vec<Message>,
    /// What has no effect, or another one than its author may think.
    pub warnings: Vec<Message>,
}

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

// === impl Findings ===

impl Findings {
    /// Takes a warning in.
    pub fn warn(&mut self, message: impl Into<Message>) {
        self.warnings.push(message.into());
    }

    /// Takes an error in.
    pub fn refuse(&mut self, message: impl Into<Message>) {
        self.errors.push(message.into());
    }

    /// Gloo's state.
    pub fn state(&self) -> GlooState {
        if !self.errors.is_empty() {
            GlooState::Rejected
        } else if !self.warnings.is_empty() {
            GlooState::Warning
        } else {
            GlooState::Accepted
        }
    }

    /// As a status: the reason is laid out as Gloo lays it out, errors before warnings, and cut to Gloo's bound.
    pub fn status(&self) -> GlooStatus {
        let mut reason = String::new();
        if let count @ 1.. = self.errors.len() {
            let errors = if count == 1 { "error" } else { "errors" };
            reason = format!("{count} {errors} occurred:\n\t* {}\n\n", self.errors.join("\n\t* "));
        }
        if !self.warnings.is_empty() {
            reason.push_str("warning: \n  ");
            reason.push_str(&self.warnings.join("\n"));
        }
        truncate(&mut reason, MAX_REASON);
        GlooStatus { state: self.state(), reason, reported_by: REPORTED_BY.to_owned() }
    }
}

/// Cuts at a character's boundary, at most `limit` bytes with the ellipsis.
fn truncate(text: &mut String, limit: usize) {
    const ELLIPSIS: &str = "...";
    if text.len() > limit {
        let mut end = limit.saturating_sub(ELLIPSIS.len());
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push_str(ELLIPSIS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_laid_out_as_gloos() {
        let findings = |errors: &[&str], warnings: &[&str]| Findings {
            errors: errors.iter().copied().map(Into::into).collect(),
            warnings: warnings.iter().copied().map(Into::into).collect(),
        };
        for (findings, state, reason) in [
            (findings(&[], &[]), GlooState::Accepted, ""),
            (findings(&[], &["a", "b"]), GlooState::Warning, "warning: \n  a\nb"),
            (findings(&["x"], &[]), GlooState::Rejected, "1 error occurred:\n\t* x\n\n"),
            (findings(&["x", "y"], &["a"]), GlooState::Rejected, "2 errors occurred:\n\t* x\n\t* y\n\nwarning: \n  a"),
        ] {
            let status = findings.status();
            assert_eq!((status.state, status.reason.as_str()), (state, reason));
            assert_eq!(status.reported_by, "clingfish");
        }
    }

    #[test]
    fn reasons_are_cut_to_gloos_bound() {
        let status = Findings { errors: vec!["\u{e9}".repeat(500).into(), "\u{e9}".repeat(500).into()], warnings: Vec::new() }.status();
        assert!(status.reason.len() <= MAX_REASON && status.reason.len() > MAX_REASON - 3);
        assert!(status.reason.ends_with("..."));
    }

    #[test]
    fn places_are_listed_once_and_counted() {
        let places = |names: &[&str]| list(names.iter().map(ToString::to_string));
        assert_eq!(places(&["b", "a", "b"]), "a, b");
        assert_eq!(places(&["e", "d", "c", "b", "a"]), "a, b, c and more");
    }
}
