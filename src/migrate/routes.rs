//! HTTPRoutes: the twins beside the Gateways that they hang on, and what behaves differently there.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::base::{
    ObjectName,
    text::{quoted, word},
};

use super::{
    document::{GATEWAY_API, Subject, items, renamed, replacement, text},
    gateways::{Twin, TwinListener, Twins},
    installation::Installation,
    output::{Output, Step},
    report::Effect,
};

/// Most parents of a route (its CRD).
const MOST_PARENTS: usize = 32;

/// Gloo speaks HTTP/2 to ports whose names begin with these (`serviceconverter/use_http2_annotation_converter.go`).
const HTTP2_PORT_NAMES: [&str; 3] = ["grpc", "h2", "http2"];

const HTTP2_ANNOTATION: &str = "gloo.solo.io/h2_service";

/// A parentRef and the twin of the Gateway that it names.
struct Hook<'a> {
    parent: &'a Value,
    gateway: ObjectName,
    twin: &'a Twin,
}

/// Adds the twins to the parents of all routes that hang on their Gateways. Returns the Upstreams that those send to.
pub(super) fn attach(installation: &Installation, twins: &Twins, output: &mut Output) -> BTreeSet<ObjectName> {
    let mut used = BTreeSet::new();
    let patterns = patterns(installation, twins);
    for (subject, route) in installation.of(GATEWAY_API, "HTTPRoute") {
        delegation(subject, route, output);
        let hooks = hooks(subject, route, twins);
        if hooks.is_empty() {
            continue;
        }
        add_parents(subject, route, &hooks, output);
        for (index, rule) in items(route, "/spec/rules") {
            timeouts(subject, index, rule, output);
            redirects(subject, index, rule, &hooks, output);
            query_patterns(subject, index, rule, output);
            http2(subject, index, rule, installation, output);
            used.extend(upstreams(subject, rule));
        }
        let unequal = hooks.iter().any(|hook| patterns.get(&hook.gateway).is_some_and(|lengths| lengths.len() > 1));
        if unequal && regexes(route).next().is_some() {
            let what =
                "regular expressions: of several that match, the longest counts (Gloo: the one with more conditions, then the older)";
            output.note(Effect::Differs, subject.to_string(), what);
        }
    }
    used
}

/// The Upstreams that a rule sends to.
fn upstreams(subject: &Subject, rule: &Value) -> impl Iterator<Item = ObjectName> {
    let upstreams = items(rule, "/backendRefs").filter(|(_, backend)| text(backend, "/kind") == "Upstream");
    let namespace = |backend: &Value| backend.get("namespace").and_then(Value::as_str).unwrap_or(&subject.namespace).to_owned();
    upstreams.map(move |(_, backend)| ObjectName::new(namespace(backend), text(backend, "/name")))
}

/// The parentRefs that name a Gateway with a twin.
fn hooks<'a>(subject: &Subject, route: &'a Value, twins: &'a Twins) -> Vec<Hook<'a>> {
    let hook = |(_, parent): (usize, &'a Value)| {
        let group = parent.get("group").and_then(Value::as_str).unwrap_or(GATEWAY_API);
        let kind = parent.get("kind").and_then(Value::as_str).unwrap_or("Gateway");
        let namespace = parent.get("namespace").and_then(Value::as_str).unwrap_or(&subject.namespace);
        let gateway = ObjectName::new(namespace, text(parent, "/name"));
        let twin = twins.get(&gateway).filter(|_| (group, kind) == (GATEWAY_API, "Gateway"))?;
        Some(Hook { parent, gateway, twin })
    };
    items(route, "/spec/parentRefs").filter_map(hook).collect()
}

/// The twin of each parentRef: the same one, section and port included, with the twin's name.
fn add_parents(subject: &Subject, route: &Value, hooks: &[Hook<'_>], output: &mut Output) {
    let mut document = replacement(route);
    let Some(parents) = document.pointer_mut("/spec/parentRefs").and_then(Value::as_array_mut) else { return };
    let before = parents.len();
    for hook in hooks {
        let parent = renamed(hook.parent, &hook.twin.name);
        if !parents.contains(&parent) {
            parents.push(parent);
        }
    }
    if parents.len() > MOST_PARENTS {
        let why = format!("spec.parentRefs: with the twins there are {}, and {MOST_PARENTS} are the most; split the route", parents.len());
        output.note(Effect::Refused, subject.to_string(), why);
    } else if parents.len() > before {
        output.file(Step::Changed, document);
    }
}

/// Gloo lets a route hang on a route, and send to routes.
fn delegation(subject: &Subject, route: &Value, output: &mut Output) {
    let is_route = |reference: &Value| text(reference, "/kind") == "HTTPRoute";
    for (index, _) in items(route, "/spec/parentRefs").filter(|(_, parent)| is_route(parent)) {
        let why = format!("spec.parentRefs[{index}]: routes that hang on routes (delegation) are not served");
        output.note(Effect::Refused, subject.to_string(), why);
    }
    for (index, rule) in items(route, "/spec/rules") {
        if items(rule, "/backendRefs").any(|(_, backend)| is_route(backend)) {
            let why = format!("spec.rules[{index}].backendRefs: sending to routes (delegation) is not served: the rule answers 500");
            output.note(Effect::Refused, subject.to_string(), why);
        }
    }
}

/// Gloo reads neither of an HTTPRoute.
fn timeouts(subject: &Subject, index: usize, rule: &Value, output: &mut Output) {
    for name in ["request", "backendRequest"] {
        let value = text(rule, &format!("/timeouts/{name}"));
        if !value.is_empty() {
            let what = format!(
                "spec.rules[{index}].timeouts.{name}: {} begins to count, unless a RouteOption's stands in its place (Gloo: without effect)",
                quoted(value)
            );
            output.note(Effect::Differs, subject.to_string(), what);
        }
    }
    if rule.get("retry").is_some_and(Value::is_object) {
        let what = format!("spec.rules[{index}].retry begins to count, unless a RouteOption's stands in its place (Gloo: without effect)");
        output.note(Effect::Differs, subject.to_string(), what);
    }
}

/// The Location names the port that the Gateway API says: the listener's, or the well-known one of `scheme`. Envoy leaves the port of the request's
/// Host, or names none beside a new hostname; and Gloo knows no scheme but `https`.
fn redirects(subject: &Subject, index: usize, rule: &Value, hooks: &[Hook<'_>], output: &mut Output) {
    for (filter, redirect) in items(rule, "/filters").filter_map(|(filter, one)| Some((filter, one.get("requestRedirect")?))) {
        if redirect.get("port").is_some() {
            continue;
        }
        let meant = hooks.iter().flat_map(|hook| hook.twin.listeners.iter().filter(|listener| is_meant(hook.parent, listener)));
        let what = match (text(redirect, "/scheme"), redirect.get("hostname").is_some()) {
            ("", false) => names_ports(meant, "the port that the client used"),
            ("", true) => names_ports(meant, "no port"),
            ("https", true) => None,
            ("https", false) => meant.clone().any(|listener| !is_well_known(listener)).then(|| {
                "the Location names no port, which is 443; give port, if that is another one (Gloo: the port that the client used, unless \
                 it is 80)"
                    .to_owned()
            }),
            (scheme, _) => meant.clone().any(|listener| listener.is_https || !is_well_known(listener)).then(|| {
                format!(
                    "scheme {} begins to count, and the Location names no port, so it is the scheme's own (Gloo: without effect)",
                    quoted(scheme)
                )
            }),
        };
        if let Some(what) = what {
            output.note(Effect::Differs, subject.to_string(), format!("spec.rules[{index}].filters[{filter}].requestRedirect: {what}"));
        }
    }
}

/// That the Location names the ports of these listeners; nothing if they are those that nobody writes.
fn names_ports<'a>(listeners: impl Iterator<Item = &'a TwinListener>, gloo: &str) -> Option<String> {
    let ports: BTreeSet<_> = listeners.filter(|listener| !is_well_known(listener)).map(|listener| listener.port.to_string()).collect();
    let ports = ports.into_iter().collect::<Vec<_>>().join(" or ");
    let why = format!("the Location names the listener's port, {ports}; give port, if clients use another one (Gloo: {gloo})");
    (!ports.is_empty()).then_some(why)
}

/// Whether the port is the one that a URL of its scheme need not name.
fn is_well_known(listener: &TwinListener) -> bool {
    listener.port == if listener.is_https { 443 } else { 80 }
}

/// Gloo takes every value of a query parameter as it is written, whatever its type.
fn query_patterns(subject: &Subject, index: usize, rule: &Value, output: &mut Output) {
    for (place, one) in items(rule, "/matches") {
        for (parameter, _) in items(one, "/queryParams").filter(|(_, parameter)| text(parameter, "/type") == "RegularExpression") {
            let what = format!(
                "spec.rules[{index}].matches[{place}].queryParams[{parameter}]: its value is a regular expression (Gloo: the text itself, so \
                 that it may have matched nothing)"
            );
            output.note(Effect::Differs, subject.to_string(), what);
        }
    }
}

/// Whether a parentRef means the listener.
fn is_meant(parent: &Value, listener: &TwinListener) -> bool {
    let section = text(parent, "/sectionName");
    (section.is_empty() || section == listener.name) && parent.get("port").and_then(Value::as_i64).is_none_or(|port| port == listener.port)
}

/// Services to which Gloo speaks HTTP/2 without their `appProtocol` saying so.
fn http2(subject: &Subject, index: usize, rule: &Value, installation: &Installation, output: &mut Output) {
    for (_, backend) in items(rule, "/backendRefs") {
        let namespace = backend.get("namespace").and_then(Value::as_str).unwrap_or(&subject.namespace);
        let name = ObjectName::new(namespace, text(backend, "/name"));
        let is_service =
            backend.get("kind").and_then(Value::as_str).is_none_or(|kind| kind == "Service") && text(backend, "/group").is_empty();
        let Some(service) = is_service.then(|| installation.get("", "Service", &name)).flatten() else { continue };
        // The annotation is read here too.
        let annotated = service.pointer("/metadata/annotations").and_then(|all| all.get(HTTP2_ANNOTATION)).and_then(Value::as_str);
        if matches!(annotated, Some("true" | "false")) {
            continue;
        }
        let of_number = items(service, "/spec/ports").filter(|(_, port)| port.get("port") == backend.get("port"));
        let mut of_number = of_number.filter(|(_, port)| port.get("appProtocol").is_none_or(Value::is_null));
        let by_name = of_number.any(|(_, port)| HTTP2_PORT_NAMES.iter().any(|begin| text(port, "/name").starts_with(begin)));
        if by_name {
            let what = format!(
                "spec.rules[{index}].backendRefs: Service {name} is spoken to in HTTP/1.1 (Gloo: HTTP/2, by its port's name); one that takes \
                 nothing but HTTP/2 needs appProtocol kubernetes.io/h2c"
            );
            output.note(Effect::Lost, subject.to_string(), what);
        }
    }
}

/// Regular expressions of a route's paths.
fn regexes(route: &Value) -> impl Iterator<Item = &str> {
    let paths = items(route, "/spec/rules").flat_map(|(_, rule)| items(rule, "/matches")).filter_map(|(_, one)| one.get("path"));
    paths.filter(|path| text(path, "/type") == "RegularExpression").map(|path| text(path, "/value"))
}

/// The lengths of the regular expressions that hang on a Gateway.
fn patterns(installation: &Installation, twins: &Twins) -> BTreeMap<ObjectName, BTreeSet<usize>> {
    let mut lengths: BTreeMap<ObjectName, BTreeSet<usize>> = BTreeMap::new();
    for (subject, route) in installation.of(GATEWAY_API, "HTTPRoute") {
        for hook in hooks(subject, route, twins) {
            lengths.entry(hook.gateway).or_default().extend(regexes(route).map(str::len));
        }
    }
    lengths
}

/// The name of a route, Gateway or option for a note.
pub(super) fn listed(names: impl IntoIterator<Item = String>) -> String {
    names.into_iter().map(|name| word(&name).to_string()).collect::<Vec<_>>().join(", ")
}
