//! From a RouteOption to the options that it sets.

use http::HeaderValue;

use crate::api::{RouteOption, RouteOptions, TargetRef, object_name};
use crate::base::{
    Kind, ObjectName, ObjectRef,
    text::{quoted, word},
};
use crate::translate::gloo::fields::survey_route_option;
use crate::translate::gloo::findings::Findings;
use crate::translate::patterns::Allowance;

use super::{
    compiled::{CompiledRouteOption, OptionValue},
    duration::{duration, unless_zero},
    lb_hash, retries, rewrite,
};

/// The name under which the members of Gloo's oneof of host rewrites are merged.
const HOST_REWRITE: &str = "hostRewrite";

/// All members of that oneof.
const HOST_REWRITES: [&str; 4] = [HOST_REWRITE, "autoHostRewrite", "hostRewriteHeader", "hostRewritePathRegex"];

/// Compiles a RouteOption; `allowance` is for its regular expression.
pub(in crate::translate) fn compile(route_option: &RouteOption, allowance: &Allowance<'_>) -> CompiledRouteOption {
    let mut compiled = CompiledRouteOption { name: object_name(&route_option.metadata), ..CompiledRouteOption::default() };
    let findings = &mut compiled.findings;
    let refused = survey_route_option(&route_option.spec, findings);
    compiled.targets = targets(&compiled.name, route_option.spec.target_refs.as_deref().unwrap_or_default(), findings);

    if let Some(options) = &route_option.spec.options {
        let mut set = Options { options: &mut compiled.options, findings, allowance };
        honoured(options, &mut set);
        not_applied(options, &mut set);
        both_set(options, &mut set);
    }
    for field in refused {
        // What is unknown is nobody else's option: no other RouteOption takes its place.
        let key = if field.is_known { top_level(&field.path).to_owned() } else { field.path };
        compiled.options.insert(key.into(), Box::new(OptionValue::Refused(field.message.as_str().into())));
        compiled.findings.refuse(field.message);
    }
    if compiled.options.is_empty() {
        compiled.findings.warn("field spec.options sets nothing: expected an option, such as lbHash".to_owned());
    }
    compiled
}

/// Takes options in as they are compiled.
struct Options<'a> {
    options: &'a mut std::collections::BTreeMap<Box<str>, Box<OptionValue>>,
    findings: &'a mut Findings,
    allowance: &'a Allowance<'a>,
}

fn honoured(options: &RouteOptions, set: &mut Options<'_>) {
    if let Some(lb_hash) = &options.lb_hash {
        let value = lb_hash::compile(lb_hash, set.findings).map(OptionValue::LbHash);
        set.insert("lbHash", value);
    }
    if let Some(timeout) = options.timeout {
        set.insert("timeout", duration("spec.options.timeout", timeout).map(|timeout| OptionValue::Timeout(unless_zero(timeout))));
    }
    if let Some(timeout) = options.idle_timeout {
        set.insert(
            "idleTimeout",
            duration("spec.options.idleTimeout", timeout).map(|timeout| OptionValue::IdleTimeout(unless_zero(timeout))),
        );
    }
    if let Some(retries) = &options.retries {
        let value = retries::compile(retries, set.findings);
        set.insert("retries", value);
    }
    if let Some(prefix) = &options.prefix_rewrite {
        set.insert("prefixRewrite", rewrite::prefix(prefix).map(OptionValue::Path));
    }
    if let Some(regex) = &options.regex_rewrite {
        set.insert("regexRewrite", rewrite::regex(regex, set.allowance).map(|rewrite| OptionValue::Path(Some(rewrite))));
    }
    if let Some(host) = &options.host_rewrite {
        set.insert(HOST_REWRITE, host_rewrite(host).map(OptionValue::Host));
    }
    if let Some(headers) = &options.header_manipulation {
        let value = rewrite::headers(headers, set.findings).map(|(request, response)| OptionValue::Headers { request, response });
        set.insert("headerManipulation", value);
    }
}

/// Options without a member of their own were answered by the survey; they count in the merge.
fn not_applied(options: &RouteOptions, set: &mut Options<'_>) {
    for (name, value) in &options.other {
        let empty = value.is_null() || value.as_array().is_some_and(Vec::is_empty);
        let empty_map = name == "envoyMetadata" && value.as_object().is_some_and(serde_json::Map::is_empty);
        if !empty && !empty_map {
            let key = if HOST_REWRITES.contains(&name.as_str()) { HOST_REWRITE } else { name };
            set.options.entry(key.into()).or_insert_with(|| Box::new(OptionValue::NotApplied));
        }
    }
    for (index, upgrade) in options.other.get("upgrades").and_then(|upgrades| upgrades.as_array()).into_iter().flatten().enumerate() {
        if upgrade.pointer("/websocket/enabled").and_then(serde_json::Value::as_bool) == Some(false) {
            set.findings.warn(format!(
                "field spec.options.upgrades[{index}].websocket.enabled is accepted but not applied: WebSocket is always on"
            ));
        }
    }
}

/// Fields of which one at most may be set.
fn both_set(options: &RouteOptions, set: &mut Options<'_>) {
    let hosts = HOST_REWRITES.into_iter().filter(|name| {
        let other = options.other.get(*name).is_some_and(|value| !value.is_null());
        other || (*name == HOST_REWRITE && options.host_rewrite.is_some())
    });
    let hosts: Vec<&str> = hosts.collect();
    if hosts.len() > 1 {
        set.insert(HOST_REWRITE, Err(format!("field spec.options has {}: expected one of them", hosts.join(" and "))));
    }
    if options.prefix_rewrite.as_deref().is_some_and(|prefix| !prefix.is_empty()) && options.regex_rewrite.is_some() {
        let message = "field spec.options has prefixRewrite and regexRewrite: expected one of them";
        set.insert("regexRewrite", Err(message.to_owned()));
    }
}

fn host_rewrite(host: &str) -> Result<Option<HeaderValue>, String> {
    if host.is_empty() {
        return Ok(None);
    }
    let wrong = || format!("field spec.options.hostRewrite is {host}: expected a host name, with or without a port", host = quoted(host));
    let authority: http::uri::Authority = host.parse().map_err(|_| wrong())?;
    if host.contains('@') || authority.host().is_empty() {
        return Err(wrong());
    }
    HeaderValue::from_str(host).map(Some).map_err(|_| wrong())
}

/// The routes that a RouteOption's `targetRefs` name; the others are warned of.
fn targets(option: &ObjectName, refs: &[TargetRef], findings: &mut Findings) -> Vec<ObjectRef> {
    let mut targets = Vec::new();
    for (index, target) in refs.iter().enumerate() {
        let field = format!("field spec.targetRefs[{index}]");
        let Some(kind) = Kind::from_group_kind(&target.group, &target.kind).filter(|kind| kind.is_route()) else {
            findings.warn(format!(
                "{field} has group {} and kind {} and has no effect: expected {} and {}",
                quoted(&target.group),
                quoted(&target.kind),
                Kind::HttpRoute.group(),
                Kind::HttpRoute
            ));
            continue;
        };
        if target.name.is_empty() {
            findings.warn(format!("{field}.name is empty and has no effect: expected the name of an {kind}"));
            continue;
        }
        match target.namespace.as_deref() {
            Some(namespace) if !namespace.is_empty() && namespace != &*option.namespace => findings.warn(format!(
                "{field}.namespace is {}: {kind} {} is not touched, a RouteOption acts in its own namespace {}",
                word(namespace),
                ObjectName::new(namespace, target.name.as_str()),
                option.namespace
            )),
            _ => targets.push(ObjectRef::new(kind, option.namespace.clone(), target.name.as_str())),
        }
    }
    targets.sort_unstable();
    targets.dedup();
    targets
}

/// `lbHash` of `spec.options.lbHash.hashPolicies[0]`.
fn top_level(path: &str) -> &str {
    let option = path.strip_prefix("spec.options.").unwrap_or(path);
    option.split(['.', '[']).next().unwrap_or(option)
}

// === impl Options ===

impl Options<'_> {
    /// An option, or what is wrong with it.
    fn insert(&mut self, key: &str, value: Result<OptionValue, String>) {
        let value = value.unwrap_or_else(|message| {
            let refused = OptionValue::Refused(message.as_str().into());
            self.findings.refuse(message);
            refused
        });
        self.options.insert(key.into(), Box::new(value));
    }
}
