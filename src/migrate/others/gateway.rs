//! The Gateway of routes that had none, and twins of the Gateways of other implementations.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::base::ObjectName;

use super::super::{
    document::{GATEWAY_API, Subject, items, parent_name, replacement, text},
    installation::Installation,
    output::{Output, Step},
    report::Effect,
};
use super::{
    options::OtherOptions,
    route::{HTTPS_PORT, Route},
};

/// Most listeners of a Gateway.
const MOST_LISTENERS: usize = 64;

/// `spec.controllerName` of the implementations whose Gateways get twins.
const CONTROLLERS: [&str; 5] = [
    "gateway.envoyproxy.io/gatewayclass-controller",
    "kgateway.dev/kgateway",
    "istio.io/gateway-controller",
    "projectcontour.io/gateway-controller",
    "traefik.io/gateway-controller",
];

/// Their usual classes, for exports without classes.
const CLASSES: [&str; 6] = ["eg", "envoy-gateway", "kgateway", "istio", "contour", "traefik"];

/// The Gateway that all routes of other kinds hang on, with a listener for each of their certificates.
pub(super) fn write(routes: &[Route], options: &OtherOptions, output: &mut Output) {
    if routes.is_empty() {
        return;
    }
    let everywhere = json!({"namespaces": {"from": "All"}});
    let mut listeners = vec![json!({"name": "http", "port": 80, "protocol": "HTTP", "allowedRoutes": everywhere})];
    let mut secrets: BTreeSet<(&str, &str)> = BTreeSet::new();
    for (hostname, (namespace, secret)) in certificates(routes) {
        if listeners.len() == MOST_LISTENERS {
            let text = format!("no more listeners than {MOST_LISTENERS} fit: add one for {hostname} to another Gateway, or a ListenerSet");
            output.note(Effect::ToDo, gateway(options), text);
            continue;
        }
        listeners.push(json!({
            "name": format!("https-{}", listeners.len()), "port": HTTPS_PORT, "protocol": "HTTPS", "hostname": hostname,
            "tls": {"certificateRefs": [{"name": secret, "namespace": namespace}]}, "allowedRoutes": everywhere,
        }));
        secrets.insert((namespace, secret));
    }
    let mut by_namespace: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
    for (namespace, secret) in secrets.into_iter().filter(|(namespace, _)| **namespace != *options.gateway.namespace) {
        by_namespace.entry(namespace).or_default().push(json!({"group": "", "kind": "Secret", "name": secret}));
    }
    for (namespace, to) in by_namespace {
        let from = json!([{"group": GATEWAY_API, "kind": "Gateway", "namespace": &*options.gateway.namespace}]);
        output.file(
            Step::New,
            json!({
                "apiVersion": format!("{GATEWAY_API}/v1beta1"), "kind": "ReferenceGrant",
                "metadata": {"name": format!("{}-certificates", options.gateway.name), "namespace": namespace},
                "spec": {"from": from, "to": to},
            }),
        );
    }
    output.file(
        Step::New,
        json!({
            "apiVersion": format!("{GATEWAY_API}/v1"), "kind": "Gateway",
            "metadata": {"name": &*options.gateway.name, "namespace": &*options.gateway.namespace},
            "spec": {"gatewayClassName": &*options.class, "listeners": listeners},
        }),
    );
}

fn gateway(options: &OtherOptions) -> String {
    format!("Gateway {}", options.gateway)
}

/// The Secret of each host name, the first one that is named for it.
fn certificates(routes: &[Route]) -> BTreeMap<&str, (&str, &str)> {
    let mut certificates = BTreeMap::new();
    for route in routes {
        for hostname in &route.hostnames {
            if let Some(secret) = &route.secret {
                certificates.entry(hostname.as_str()).or_insert((route.source.namespace.as_str(), secret.as_str()));
            }
        }
    }
    certificates
}

/// Makes a twin of each Gateway of another implementation, and the routes that hang on it too.
pub(super) fn twins(installation: &Installation, options: &OtherOptions, output: &mut Output) {
    let classes =
        installation.of(GATEWAY_API, "GatewayClass").filter(|(_, class)| CONTROLLERS.contains(&text(class, "/spec/controllerName")));
    let classes: BTreeSet<&str> = classes.map(|(subject, _)| subject.name.as_str()).chain(CLASSES).collect();
    let mut twins: BTreeMap<ObjectName, String> = BTreeMap::new();
    for (subject, gateway) in installation.of(GATEWAY_API, "Gateway") {
        if !classes.contains(text(gateway, "/spec/gatewayClassName")) {
            continue;
        }
        let name = format!("{}-clingfish", subject.name);
        let mut spec = gateway.get("spec").cloned().unwrap_or_default();
        if let Some(members) = spec.as_object_mut() {
            members.insert("gatewayClassName".to_owned(), json!(&*options.class));
            for field in ["addresses", "infrastructure"] {
                if members.remove(field).is_some() {
                    output.note(
                        Effect::ToDo,
                        subject.to_string(),
                        format!("spec.{field} is not taken over by its twin: see to it by hand"),
                    );
                }
            }
        }
        output.note(Effect::ToDo, subject.to_string(), format!("{name} is its twin, with an address of its own: move the traffic there"));
        let metadata = json!({"name": name, "namespace": subject.namespace});
        output.file(Step::New, json!({"apiVersion": gateway.get("apiVersion"), "kind": "Gateway", "metadata": metadata, "spec": spec}));
        twins.insert(subject.object_name(), name);
    }
    for kind in ["HTTPRoute", "GRPCRoute", "TCPRoute", "TLSRoute", "UDPRoute"] {
        for (subject, route) in installation.of(GATEWAY_API, kind) {
            attach(subject, route, &twins, output);
        }
    }
}

/// Adds the twins to what a route hangs on.
fn attach(subject: &Subject, route: &Value, twins: &BTreeMap<ObjectName, String>, output: &mut Output) {
    let named: BTreeSet<_> = items(route, "/spec/parentRefs").filter_map(|(_, parent)| parent_name(subject, parent)).collect();
    let new = items(route, "/spec/parentRefs").filter_map(|(_, parent)| {
        let twin = twins.get(&parent_name(subject, parent)?)?;
        let mut parent = parent.clone();
        parent.as_object_mut()?.insert("name".to_owned(), json!(twin));
        (!parent_name(subject, &parent).is_some_and(|name| named.contains(&name))).then_some(parent)
    });
    let new: Vec<Value> = new.collect();
    let mut document = replacement(route);
    let parents = document.pointer_mut("/spec/parentRefs").and_then(Value::as_array_mut);
    if let Some(parents) = parents.filter(|_| !new.is_empty()) {
        parents.extend(new);
        output.file(Step::Changed, document);
    }
}
