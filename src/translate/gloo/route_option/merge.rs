//! Which options a rule gets of several RouteOptions, and what they do to it.

use std::{collections::BTreeMap, time::Duration};

use crate::base::ObjectName;
use crate::snapshot::{Filters, HashPolicy, HeaderOps, PathRewrite, RetryPolicy, RoutePolicy, UrlRewrite};

use super::compiled::{CompiledRouteOption, OptionValue};

/// What a rule gets of its RouteOptions.
#[derive(Clone, Debug, Default)]
pub struct MergedOptions {
    /// `lbHash`, if some RouteOption sets it; it may be empty.
    pub hash: Option<Box<[HashPolicy]>>,
    /// The rule must answer 500.
    pub refused: Option<Refusal>,
    /// One for each RouteOption, in the order of the merge.
    pub contributions: Vec<Contribution>,
    timeout: Option<Option<Duration>>,
    idle_timeout: Option<Option<Duration>>,
    retries: Option<(Option<RetryPolicy>, Option<Duration>)>,
    rewrite: Option<UrlRewrite>,
    request_headers: Option<HeaderOps>,
    response_headers: Option<HeaderOps>,
}

/// Why a rule must answer 500.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The RouteOption at fault.
    pub option: ObjectName,
    /// For `explain`.
    pub reason: Box<str>,
}

/// What a RouteOption gave to a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contribution {
    /// The RouteOption.
    pub option: ObjectName,
    /// It gave at least one option.
    pub used: bool,
    /// It gave `lbHash`.
    pub gave_hash: bool,
    /// RouteOptions that came first with options that it has too. Sorted, each once.
    pub shadowed_by: Vec<ObjectName>,
}

/// Merges RouteOptions given in order: the ExtensionRef filters of the rule as written, then those attached by `targetRefs`, as `policy::in_order` has them.
///
/// Per top-level option the first one that is set counts, without merging inside it.
pub fn merge<'a>(in_order: impl IntoIterator<Item = &'a CompiledRouteOption>) -> MergedOptions {
    let mut merged = MergedOptions::default();
    let mut taken: BTreeMap<&str, &CompiledRouteOption> = BTreeMap::new();
    let mut path_rewritten_by: Option<&ObjectName> = None;
    let mut seen: Vec<&ObjectName> = Vec::new();
    for option in in_order {
        // Attached twice, by filter and by target: once is enough.
        if seen.contains(&&option.name) {
            continue;
        }
        seen.push(&option.name);
        let mut contribution = Contribution { option: option.name.clone(), used: false, gave_hash: false, shadowed_by: Vec::new() };
        for (name, value) in &option.options {
            match taken.get(&**name) {
                Some(first) => contribution.shadowed_by.push(first.name.clone()),
                None => {
                    taken.insert(name, option);
                    contribution.used = true;
                    contribution.gave_hash |= matches!(**value, OptionValue::LbHash(_));
                    merged.take(&option.name, value);
                    if matches!(**value, OptionValue::Path(Some(_)))
                        && let Some(first) = path_rewritten_by.replace(&option.name)
                    {
                        merged
                            .refuse(&option.name, &format!("prefixRewrite and regexRewrite are both set, here and in RouteOption {first}"));
                    }
                }
            }
        }
        contribution.shadowed_by.sort_unstable();
        contribution.shadowed_by.dedup();
        merged.contributions.push(contribution);
    }
    merged
}

// === impl MergedOptions ===

impl MergedOptions {
    fn take(&mut self, option: &ObjectName, value: &OptionValue) {
        match value {
            OptionValue::LbHash(policies) => self.hash = Some(policies.clone()),
            OptionValue::Timeout(timeout) => self.timeout = Some(*timeout),
            OptionValue::IdleTimeout(timeout) => self.idle_timeout = Some(*timeout),
            OptionValue::Retries { policy, per_try_timeout } => self.retries = Some((policy.clone(), *per_try_timeout)),
            OptionValue::Path(path) => self.rewrite_path(path.clone()),
            OptionValue::Host(host) => {
                if let Some(host) = host {
                    self.rewrite.get_or_insert_default().hostname = Some(host.clone());
                }
            }
            OptionValue::Headers { request, response } => {
                self.request_headers = Some(request.clone()).filter(|ops| *ops != HeaderOps::default());
                self.response_headers = Some(response.clone()).filter(|ops| *ops != HeaderOps::default());
            }
            OptionValue::NotApplied => {}
            OptionValue::Refused(reason) => self.refuse(option, reason),
        }
    }

    /// The first reason stays.
    fn refuse(&mut self, option: &ObjectName, reason: &str) {
        let refusal = || Refusal { option: option.clone(), reason: format!("RouteOption {option}: {reason}").into() };
        self.refused.get_or_insert_with(refusal);
    }

    fn rewrite_path(&mut self, path: Option<PathRewrite>) {
        if let Some(path) = path {
            self.rewrite.get_or_insert_default().path = Some(path);
        }
    }

    /// Sets what the options say over what the route says, as in Gloo. The rule's own retries and attempts' timeout stay unless `retries` is set.
    pub fn apply_policy(&self, policy: &mut RoutePolicy) {
        if let Some(hash) = &self.hash {
            policy.hash = hash.clone();
        }
        if let Some(timeout) = self.timeout {
            policy.timeouts.request = timeout;
            policy.timeouts.upload_stall = None;
        }
        if let Some(timeout) = self.idle_timeout {
            policy.timeouts.idle = timeout;
        }
        if let Some((retry, per_try_timeout)) = &self.retries {
            policy.retry = retry.clone();
            policy.timeouts.backend_request = per_try_timeout.or(policy.timeouts.backend_request);
        }
    }

    /// Whether `apply_filters` changes anything.
    pub fn has_filters(&self) -> bool {
        self.rewrite.is_some() || self.request_headers.is_some() || self.response_headers.is_some()
    }

    /// Adds the header changes after the rule's own, and rewrites host and path in the place of the rule's URLRewrite.
    pub fn apply_filters(&self, filters: &mut Filters) {
        if let Some(rewrite) = &self.rewrite {
            let own = filters.rewrite.take().unwrap_or_default();
            filters.rewrite =
                Some(UrlRewrite { hostname: rewrite.hostname.clone().or(own.hostname), path: rewrite.path.clone().or(own.path) });
        }
        append(&mut filters.request_headers, self.request_headers.as_ref());
        append(&mut filters.response_headers, self.response_headers.as_ref());
    }
}

fn append(list: &mut Box<[HeaderOps]>, ops: Option<&HeaderOps>) {
    if let Some(ops) = ops {
        let mut longer = std::mem::take(list).into_vec();
        longer.push(ops.clone());
        *list = longer.into();
    }
}
