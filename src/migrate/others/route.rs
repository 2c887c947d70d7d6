//! HTTPRoutes in the making, for routes of kinds that the Gateway API does not have.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::base::{ObjectName, text::word};

use super::super::{
    document::{GATEWAY_API, Subject, items, parent_name},
    installation::Installation,
    output::{Output, Step},
    report::Effect,
};
use super::policy::{Affinity, Target};

/// Most rules of an HTTPRoute.
const MOST_RULES: usize = 16;

/// The port of listeners with certificates.
pub(super) const HTTPS_PORT: u16 = 443;

/// A rule in the making.
#[derive(Debug, Default)]
pub(super) struct Rule {
    /// As in `spec.rules`, without a name.
    pub(super) value: Value,
    pub(super) affinity: Option<Affinity>,
}

/// A route in the making.
#[derive(Debug)]
pub(super) struct Route {
    /// What it was.
    pub(super) source: Subject,
    pub(super) name: String,
    pub(super) hostnames: Vec<String>,
    pub(super) rules: Vec<Rule>,
    /// A Secret with a certificate, in the namespace of the route.
    pub(super) secret: Option<String>,
}

/// Makes the routes and their policies, as parts of a Gateway.
pub(super) fn write(routes: &[Route], gateway: &ObjectName, installation: &Installation, output: &mut Output) {
    let mut taken = of_others(gateway, installation);
    for route in routes {
        let namespace = &route.source.namespace;
        let mut names = std::iter::once(route.name.clone()).chain((2..).map(|number| format!("{}-{number}", route.name)));
        // All rules of a route and of it alone: one policy for the route.
        let first = route.rules.first().and_then(|rule| rule.affinity.as_ref());
        let alike = route.rules.iter().all(|rule| rule.affinity.as_ref() == first);
        let mut targets: Vec<(&Affinity, Vec<Target>)> = Vec::new();
        for (chunk, rules) in route.rules.chunks(MOST_RULES).enumerate() {
            let Some(name) = names.find(|name| taken.insert((namespace.clone(), name.clone()))) else { continue };
            let named = rules.iter().enumerate().map(|(index, rule)| {
                let section = format!("rule-{}", chunk * MOST_RULES + index + 1);
                (rule, (!alike && rule.affinity.is_some()).then_some(section))
            });
            let named: Vec<_> = named.collect();
            output.file(Step::New, document(route, &name, gateway, &named));
            for (rule, section) in named.into_iter().take(if alike { 1 } else { rules.len() }) {
                let Some(affinity) = &rule.affinity else { continue };
                let target = Target::route(&name, section);
                match targets.iter_mut().find(|(known, _)| *known == affinity) {
                    Some((_, targets)) => targets.push(target),
                    None => targets.push((affinity, vec![target])),
                }
            }
        }
        for (index, (affinity, targets)) in targets.into_iter().enumerate() {
            let name = if index == 0 { route.name.clone() } else { format!("{}-affinity-{}", route.name, index + 1) };
            affinity.write(&ObjectName::new(namespace.as_str(), name), &targets, output);
        }
    }
}

/// Namespaces and names of HTTPRoutes that are there for something else. One that hangs on the Gateway was written by an earlier run.
fn of_others(gateway: &ObjectName, installation: &Installation) -> BTreeSet<(String, String)> {
    let hangs = |subject: &Subject, route: &Value| {
        items(route, "/spec/parentRefs").any(|(_, parent)| parent_name(subject, parent).as_ref() == Some(gateway))
    };
    let routes = installation.of(GATEWAY_API, "HTTPRoute").filter(|(subject, route)| !hangs(subject, route));
    routes.map(|(subject, _)| (subject.namespace.clone(), subject.name.clone())).collect()
}

fn document(route: &Route, name: &str, gateway: &ObjectName, rules: &[(&Rule, Option<String>)]) -> Value {
    let rules = rules.iter().map(|(rule, section)| {
        let mut value = rule.value.clone();
        if let (Some(section), Some(members)) = (section, value.as_object_mut()) {
            members.insert("name".to_owned(), json!(section));
        }
        value
    });
    let mut parent = json!({"name": &*gateway.name, "namespace": &*gateway.namespace});
    // What has a certificate is not served without TLS.
    if let (true, Some(members)) = (route.secret.is_some() && !route.hostnames.is_empty(), parent.as_object_mut()) {
        members.insert("port".to_owned(), json!(HTTPS_PORT));
    }
    let mut spec = json!({"parentRefs": [parent], "rules": rules.collect::<Vec<_>>()});
    if let Some(members) = spec.as_object_mut().filter(|_| !route.hostnames.is_empty()) {
        members.insert("hostnames".to_owned(), json!(route.hostnames));
    }
    json!({
        "apiVersion": format!("{GATEWAY_API}/v1"), "kind": "HTTPRoute",
        "metadata": {"name": name, "namespace": route.source.namespace}, "spec": spec,
    })
}

/// Tells that an object guards something in a way that is not here: its routes are not written, since they would be open.
pub(super) fn unguarded(source: &Subject, what: &str, output: &mut Output) {
    let text = format!("{what} guards its routes, and nothing takes its place: no route is written for it");
    output.note(Effect::Unguarded, source.to_string(), text);
}

/// A backendRef.
pub(super) fn backend(name: &str, port: u64, weight: Option<u64>) -> Value {
    let mut backend = json!({"name": name, "port": port});
    if let (Some(weight), Some(members)) = (weight, backend.as_object_mut()) {
        members.insert("weight".to_owned(), json!(weight));
    }
    backend
}

/// Names of fields that have no effect here, for a note.
pub(super) fn lost(source: &Subject, place: &str, fields: &[String], output: &mut Output) {
    if !fields.is_empty() {
        let fields: Vec<_> = fields.iter().map(|field| word(field).to_string()).collect();
        let place = if place.is_empty() { String::new() } else { format!("{place}: ") };
        output.note(Effect::Lost, source.to_string(), format!("{place}not taken over: {}", fields.join(", ")));
    }
}
