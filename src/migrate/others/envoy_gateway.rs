//! Envoy Gateway's BackendTrafficPolicy. Its Envoy hashes as Clingfish does, so that sessions keep their pods.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::base::{ObjectName, text::word};

use super::super::{
    document::{GATEWAY_API, Subject, items, members, parent_name, text},
    installation::Installation,
    output::Output,
    report::Effect,
};
use super::{
    policy::{Affinity, Target, envoy_cookie, header, maglev, query_parameter, same_site, source_ip},
    route::lost,
};

/// Routes that a policy may be for.
const ROUTES: [&str; 5] = ["HTTPRoute", "GRPCRoute", "TLSRoute", "TCPRoute", "UDPRoute"];

/// Turns the policies into AffinityPolicies.
pub(super) fn read(installation: &Installation, output: &mut Output) {
    let policies: Vec<_> = installation.of("gateway.envoyproxy.io", "BackendTrafficPolicy").collect();
    // A policy for a route counts before one for its Gateway.
    let targeted: BTreeSet<(&str, &str, &str)> = policies.iter().flat_map(|(subject, policy)| named(subject, policy)).collect();
    for (subject, policy) in &policies {
        let others = members(policy, "/spec").map(|(name, _)| name.clone());
        let others: Vec<_> = others.filter(|name| !["targetRef", "targetRefs", "loadBalancer"].contains(&name.as_str())).collect();
        lost(subject, "spec", &others, output);
        let Some(affinity) = policy.pointer("/spec/loadBalancer").and_then(|balancer| affinity(subject, balancer, output)) else {
            continue;
        };
        let targets = targets(subject, policy, &targeted, installation, output);
        if !targets.is_empty() {
            affinity.write(&ObjectName::new(subject.namespace.as_str(), subject.name.as_str()), &targets, output);
        }
    }
}

fn references(policy: &Value) -> impl Iterator<Item = &Value> {
    policy.pointer("/spec/targetRef").into_iter().chain(items(policy, "/spec/targetRefs").map(|(_, target)| target))
}

fn named<'a>(subject: &'a Subject, policy: &'a Value) -> impl Iterator<Item = (&'a str, &'a str, &'a str)> {
    references(policy).map(|target| (subject.namespace.as_str(), text(target, "/kind"), text(target, "/name")))
}

fn targets(
    subject: &Subject,
    policy: &Value,
    targeted: &BTreeSet<(&str, &str, &str)>,
    installation: &Installation,
    output: &mut Output,
) -> Vec<Target> {
    let mut targets = Vec::new();
    for reference in references(policy) {
        let (kind, name) = (text(reference, "/kind"), text(reference, "/name"));
        let section = reference.get("sectionName").and_then(Value::as_str).map(str::to_owned);
        if let Some(kind) = ROUTES.into_iter().find(|known| *known == kind) {
            targets.push(Target { kind, ..Target::route(name, section) });
        } else if kind == "Gateway" {
            let gateway = ObjectName::new(subject.namespace.as_str(), name);
            let hangs = |of: &Subject, route: &Value| {
                items(route, "/spec/parentRefs").any(|(_, parent)| parent_name(of, parent).as_ref() == Some(&gateway))
            };
            for kind in ROUTES {
                for (route, _) in installation.of(GATEWAY_API, kind).filter(|(of, route)| hangs(of, route)) {
                    if route.namespace != subject.namespace {
                        let what = format!("{route} hangs on Gateway {}: write a policy like it in the namespace of the route", word(name));
                        output.note(Effect::ToDo, subject.to_string(), what);
                    } else if !targeted.contains(&(route.namespace.as_str(), kind, route.name.as_str())) {
                        targets.push(Target { kind, ..Target::route(&route.name, None) });
                    }
                }
            }
        } else {
            output.note(Effect::Lost, subject.to_string(), format!("its target {} {} is not read", word(kind), word(name)));
        }
    }
    targets
}

fn affinity(subject: &Subject, balancer: &Value, output: &mut Output) -> Option<Affinity> {
    let others = members(balancer, "").map(|(name, _)| name.clone());
    let others: Vec<_> = others.filter(|name| !["type", "consistentHash"].contains(&name.as_str())).collect();
    if text(balancer, "/type") != "ConsistentHash" {
        return None;
    }
    lost(subject, "spec.loadBalancer", &others, output);
    let hash = balancer.get("consistentHash")?;
    let keys: Vec<Value> = match text(hash, "/type") {
        "SourceIP" => vec![source_ip()],
        "Header" => vec![header(text(hash, "/header/name"))],
        "Headers" => items(hash, "/headers").map(|(_, one)| header(text(one, "/name"))).collect(),
        "QueryParams" => items(hash, "/queryParams").map(|(_, one)| query_parameter(text(one, "/name"))).collect(),
        "Cookie" => vec![cookie(subject, hash.get("cookie")?, output)],
        other => {
            output.note(Effect::Lost, subject.to_string(), format!("spec.loadBalancer.consistentHash.type {} is not known", word(other)));
            return None;
        }
    };
    Some(Affinity { keys, combined: true, algorithm: Some(maglev(hash.get("tableSize"))), ..Affinity::default() })
}

/// Attributes are written as free text there: those that browsers know are taken over.
fn cookie(subject: &Subject, cookie: &Value, output: &mut Output) -> Value {
    let mut made = envoy_cookie(cookie);
    // Envoy Gateway makes the cookie in any case.
    made.ttl.get_or_insert_with(|| "0s".to_owned());
    for (name, value) in members(cookie, "/attributes") {
        let value = value.as_str().unwrap_or_default();
        match name.to_ascii_lowercase().as_str() {
            "samesite" => made.same_site = same_site(value),
            "path" => made.path = value,
            "domain" => made.domain = value,
            "secure" => made.secure = Some(true),
            "httponly" => made.http_only = Some(true),
            _ => lost(subject, "spec.loadBalancer.consistentHash.cookie.attributes", std::slice::from_ref(name), output),
        }
    }
    made.key()
}
