//! kgateway's BackendConfigPolicy. Its Envoy hashes as Clingfish does, so that sessions keep their pods.

use serde_json::Value;

use crate::base::{ObjectName, text::word};

use super::super::{
    document::{Subject, items, members, text},
    installation::Installation,
    output::Output,
    report::Effect,
};
use super::{
    policy::{Affinity, Cookie, Target, envoy_cookie, header, maglev, ring, same_site, source_ip, terminal, truth},
    route::lost,
};

/// Turns the policies into AffinityPolicies.
pub(super) fn read(installation: &Installation, output: &mut Output) {
    for (subject, policy) in installation.of("gateway.kgateway.dev", "BackendConfigPolicy") {
        let others = members(policy, "/spec").map(|(name, _)| name.clone());
        let others: Vec<_> = others.filter(|name| !["targetRefs", "loadBalancer"].contains(&name.as_str())).collect();
        lost(subject, "spec", &others, output);
        if policy.pointer("/spec/targetSelectors").is_some() {
            output.note(
                Effect::ToDo,
                subject.to_string(),
                "spec.targetSelectors: an AffinityPolicy names its targets; add them to spec.targetRefs",
            );
        }
        let Some(affinity) = policy.pointer("/spec/loadBalancer").and_then(|balancer| affinity(subject, balancer, output)) else {
            continue;
        };
        let mut targets = Vec::new();
        for (_, target) in items(policy, "/spec/targetRefs") {
            match (text(target, "/group"), text(target, "/kind")) {
                ("" | "core", "Service") => {
                    let port = target.get("sectionName").and_then(Value::as_str);
                    targets.push(Target::service(text(target, "/name"), port.map(str::to_owned)));
                }
                (_, kind) => {
                    let what = format!("its target {} {} is not read: give its pods a Service", word(kind), word(text(target, "/name")));
                    output.note(Effect::Lost, subject.to_string(), what);
                }
            }
        }
        if !targets.is_empty() {
            affinity.write(&ObjectName::new(subject.namespace.as_str(), subject.name.as_str()), &targets, output);
        }
    }
}

fn affinity(subject: &Subject, balancer: &Value, output: &mut Output) -> Option<Affinity> {
    let known = ["ringHash", "maglev", "leastRequest", "roundRobin", "random"];
    let others: Vec<_> = members(balancer, "").map(|(name, _)| name.clone()).filter(|name| !known.contains(&name.as_str())).collect();
    lost(subject, "spec.loadBalancer", &others, output);
    let (table, algorithm) = match (balancer.get("ringHash"), balancer.get("maglev")) {
        (Some(table), _) => (table, ring(table.get("minimumRingSize"), table.get("maximumRingSize"))),
        (None, Some(table)) => (table, maglev(None)),
        (None, None) => return None,
    };
    if table.get("useHostnameForHashing").and_then(truth) == Some(true) {
        output.note(Effect::Lost, subject.to_string(), "useHostnameForHashing: pods stand in the table with their addresses; see identity");
    }
    let keys: Vec<_> = items(table, "/hashPolicies").filter_map(|(_, one)| key(subject, one, output)).collect();
    if keys.is_empty() {
        output.note(Effect::ToDo, subject.to_string(), "has no hashPolicies of its own: the keys are those of the routes; add spec.keys");
    }
    Some(Affinity { keys, combined: true, algorithm: Some(algorithm), ..Affinity::default() })
}

fn key(subject: &Subject, policy: &Value, output: &mut Output) -> Option<Value> {
    let key = match (policy.get("header"), policy.get("cookie"), policy.get("sourceIP")) {
        (Some(by), _, _) => header(text(by, "/name")),
        (None, Some(cookie), _) => Cookie {
            same_site: same_site(text(cookie, "/sameSite")),
            secure: cookie.get("secure").and_then(truth),
            http_only: cookie.get("httpOnly").and_then(truth),
            ..envoy_cookie(cookie)
        }
        .key(),
        (None, None, Some(_)) => source_ip(),
        (None, None, None) => {
            output.note(Effect::Lost, subject.to_string(), "a hash policy without header, cookie or sourceIP is not known");
            return None;
        }
    };
    Some(terminal(key, policy.get("terminal").and_then(truth) == Some(true)))
}
