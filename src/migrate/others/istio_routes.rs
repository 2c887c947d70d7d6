//! Istio's VirtualServices, as far as HTTPRoutes have the same.

use serde_json::{Map, Value, json};

use crate::base::text::word;

use super::super::{
    document::{Subject, items, members, text},
    installation::Installation,
    output::Output,
    report::Effect,
};
use super::{
    ingress::port_number,
    istio::{GROUP, service},
    route::{Route, Rule, lost},
};

/// Fields of a route that are taken over here.
const KNOWN: [&str; 6] = ["name", "match", "route", "rewrite", "redirect", "timeout"];

/// The routes of VirtualServices that hang on a Gateway of Istio's. Those of the mesh alone are none of a gateway's.
pub(super) fn read(installation: &Installation, output: &mut Output) -> Vec<Route> {
    let mut routes = Vec::new();
    for (subject, virtual_service) in installation.of(GROUP, "VirtualService") {
        let gateways: Vec<&str> = items(virtual_service, "/spec/gateways").filter_map(|(_, name)| name.as_str()).collect();
        if gateways.iter().all(|name| *name == "mesh") {
            output.note(Effect::Lost, subject.to_string(), "is for the mesh alone: no route is written for it");
            continue;
        }
        let others: Vec<_> = members(virtual_service, "/spec").map(|(name, _)| name.clone()).collect();
        lost(subject, "spec", &others.into_iter().filter(|name| ["tcp", "tls"].contains(&name.as_str())).collect::<Vec<_>>(), output);
        let rules = items(virtual_service, "/spec/http").filter_map(|(index, http)| rule(subject, index, http, installation, output));
        let rules: Vec<_> = rules.map(|value| Rule { value, affinity: None }).collect();
        let hosts = items(virtual_service, "/spec/hosts").filter_map(|(_, host)| host.as_str());
        routes.push(Route {
            source: subject.clone(),
            name: subject.name.clone(),
            hostnames: hosts.filter(|host| *host != "*").map(str::to_owned).collect(),
            rules,
            secret: None,
        });
        let what = format!("TLS of {}: add its certificates to the new Gateway's listeners", gateways.join(", "));
        output.note(Effect::ToDo, subject.to_string(), what);
    }
    routes.retain(|route| !route.rules.is_empty());
    routes
}

fn rule(subject: &Subject, index: usize, http: &Value, installation: &Installation, output: &mut Output) -> Option<Value> {
    let place = format!("spec.http[{index}]");
    let others: Vec<_> = members(http, "").map(|(name, _)| name.clone()).filter(|name| !KNOWN.contains(&name.as_str())).collect();
    lost(subject, &place, &others, output);
    let mut rule = Map::new();
    let matches: Option<Vec<Value>> = items(http, "/match").map(|(_, one)| matched(one)).collect();
    let Some(matches) = matches else {
        output.note(
            Effect::Refused,
            subject.to_string(),
            format!("{place}.match cannot be said in an HTTPRoute; no rule is written for it"),
        );
        return None;
    };
    if !matches.is_empty() {
        rule.insert("matches".to_owned(), json!(matches));
    }
    if let Some(redirect) = http.get("redirect") {
        rule.insert("filters".to_owned(), json!([{"type": "RequestRedirect", "requestRedirect": redirected(redirect)}]));
        return Some(Value::Object(rule));
    }
    if let Some(rewrite) = http.get("rewrite") {
        let mut made = Map::new();
        if let Some(uri) = rewrite.get("uri") {
            made.insert("path".to_owned(), json!({"type": "ReplacePrefixMatch", "replacePrefixMatch": uri}));
        }
        made.extend(rewrite.get("authority").map(|authority| ("hostname".to_owned(), authority.clone())));
        rule.insert("filters".to_owned(), json!([{"type": "URLRewrite", "urlRewrite": made}]));
    }
    if let Some(timeout) = http.get("timeout") {
        rule.insert("timeouts".to_owned(), json!({"request": timeout}));
    }
    let mut backends = Vec::new();
    for (_, route) in items(http, "/route") {
        backends.push(backend(subject, &place, route, installation, output)?);
    }
    rule.insert("backendRefs".to_owned(), json!(backends));
    Some(Value::Object(rule))
}

fn backend(subject: &Subject, place: &str, route: &Value, installation: &Installation, output: &mut Output) -> Option<Value> {
    let host = text(route, "/destination/host");
    let Some(name) = service(&subject.namespace, host) else {
        output.note(
            Effect::Refused,
            subject.to_string(),
            format!("{place}: {} is no Service of this cluster; no rule is written for it", word(host)),
        );
        return None;
    };
    if let Some(subset) = route.pointer("/destination/subset").and_then(Value::as_str) {
        let what = format!(
            "{place}: subset {} of Service {name}: make a Service for its pods, and name that; no rule is written for it",
            word(subset)
        );
        output.note(Effect::Refused, subject.to_string(), what);
        return None;
    }
    let Some(port) = port_number(&name.namespace, &name.name, route.pointer("/destination/port").unwrap_or(&Value::Null), installation)
    else {
        let what = format!("{place}: the port of Service {name} is not known: export Services too; no rule is written for it");
        output.note(Effect::Refused, subject.to_string(), what);
        return None;
    };
    let mut backend = super::route::backend(&name.name, port, route.get("weight").and_then(Value::as_u64));
    if *name.namespace != *subject.namespace {
        output.note(
            Effect::ToDo,
            subject.to_string(),
            format!("{place}: Service {name} is in another namespace: write a ReferenceGrant there"),
        );
        if let Some(members) = backend.as_object_mut() {
            members.insert("namespace".to_owned(), json!(&*name.namespace));
        }
    }
    Some(backend)
}

/// A match; `None`: an HTTPRoute cannot say it.
fn matched(one: &Value) -> Option<Value> {
    let mut made = Map::new();
    for (name, value) in members(one, "") {
        match name.as_str() {
            "name" => {}
            "uri" => {
                let (kind, path) = members(value, "").next()?;
                let kind = match kind.as_str() {
                    "exact" => "Exact",
                    "prefix" => "PathPrefix",
                    "regex" => "RegularExpression",
                    _ => return None,
                };
                made.insert("path".to_owned(), json!({"type": kind, "value": path}));
            }
            "method" => drop(made.insert("method".to_owned(), json!(value.get("exact")?.as_str()?))),
            "headers" => drop(made.insert("headers".to_owned(), conditions(value)?)),
            "queryParams" => drop(made.insert("queryParams".to_owned(), conditions(value)?)),
            _ => return None,
        }
    }
    Some(Value::Object(made))
}

fn conditions(all: &Value) -> Option<Value> {
    let one = |(name, condition): (&String, &Value)| {
        let (kind, value) = match (condition.get("exact"), condition.get("regex"), condition.get("prefix").and_then(Value::as_str)) {
            (Some(value), _, _) => ("Exact", value.clone()),
            (None, Some(value), _) => ("RegularExpression", value.clone()),
            (None, None, Some(prefix)) if prefix.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') => {
                ("RegularExpression", json!(format!("{prefix}.*")))
            }
            (None, None, _) => return None,
        };
        Some(json!({"name": name, "type": kind, "value": value}))
    };
    members(all, "").map(one).collect::<Option<Vec<_>>>().map(Value::from)
}

fn redirected(redirect: &Value) -> Value {
    let mut made = Map::new();
    if let Some(uri) = redirect.get("uri") {
        made.insert("path".to_owned(), json!({"type": "ReplaceFullPath", "replaceFullPath": uri}));
    }
    for (theirs, ours) in [("authority", "hostname"), ("scheme", "scheme"), ("port", "port"), ("redirectCode", "statusCode")] {
        made.extend(redirect.get(theirs).map(|value| (ours.to_owned(), value.clone())));
    }
    // Istio's default is another one than the Gateway API's.
    made.entry("statusCode").or_insert_with(|| json!(301));
    Value::Object(made)
}
