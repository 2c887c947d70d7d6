//! Istio's DestinationRules with a consistent hash. Its Envoy hashes as Clingfish does, so that sessions keep their pods.

use serde_json::Value;

use crate::base::{ObjectName, text::word};

use super::super::{
    document::{Subject, items, members, text},
    installation::Installation,
    output::Output,
    report::Effect,
};
use super::{
    policy::{Affinity, Target, envoy_cookie, header, maglev, query_parameter, ring, source_ip},
    route::lost,
};

pub(super) const GROUP: &str = "networking.istio.io";

/// Turns the rules into AffinityPolicies.
pub(super) fn read(installation: &Installation, output: &mut Output) {
    for (subject, rule) in installation.of(GROUP, "DestinationRule") {
        let Some(service) = service(&subject.namespace, text(rule, "/spec/host")) else {
            let what = format!("spec.host {} is no Service of this cluster", word(text(rule, "/spec/host")));
            output.note(Effect::Lost, subject.to_string(), what);
            continue;
        };
        let policy = rule.pointer("/spec/trafficPolicy");
        let others: Vec<_> = policy.iter().flat_map(|policy| members(policy, "")).map(|(name, _)| name.clone()).collect();
        let others: Vec<_> = others.into_iter().filter(|name| !["loadBalancer", "portLevelSettings"].contains(&name.as_str())).collect();
        lost(subject, "spec.trafficPolicy", &others, output);
        let whole = policy.and_then(|policy| affinity(subject, policy, output));
        if let Some(affinity) = whole {
            write(subject, &service, None, &affinity, output);
        }
        for (index, settings) in policy.iter().flat_map(|policy| items(policy, "/portLevelSettings")) {
            let Some(affinity) = affinity(subject, settings, output) else { continue };
            match port_name(&service, settings.pointer("/port/number"), installation) {
                Some(port) => write(subject, &service, Some(port), &affinity, output),
                None => {
                    let what =
                        format!("spec.trafficPolicy.portLevelSettings[{index}]: the name of the port is not known: export Services too");
                    output.note(Effect::Lost, subject.to_string(), what);
                }
            }
        }
        for (_, subset) in items(rule, "/spec/subsets").filter(|(_, subset)| subset.get("trafficPolicy").is_some()) {
            let what = format!("subset {}: make a Service for its pods, and an AffinityPolicy for that", word(text(subset, "/name")));
            output.note(Effect::ToDo, subject.to_string(), what);
        }
    }
}

fn write(subject: &Subject, service: &ObjectName, port: Option<String>, affinity: &Affinity, output: &mut Output) {
    let name = match &port {
        Some(port) => format!("{}-{port}", subject.name),
        None => subject.name.clone(),
    };
    affinity.write(&ObjectName::new(&*service.namespace, name), &[Target::service(&service.name, port)], output);
}

/// The Service that a host names: `name`, `name.namespace` or `name.namespace.svc.cluster.local`.
pub(super) fn service(namespace: &str, host: &str) -> Option<ObjectName> {
    let mut labels = host.split('.');
    let name = labels.next().filter(|name| !name.is_empty() && *name != "*")?;
    let of = labels.next();
    match labels.next() {
        None | Some("svc") => Some(ObjectName::new(of.unwrap_or(namespace), name)),
        Some(_) => None,
    }
}

fn port_name(service: &ObjectName, number: Option<&Value>, installation: &Installation) -> Option<String> {
    let service = installation.get("", "Service", service)?;
    let mut ports = items(service, "/spec/ports").filter(|(_, port)| port.get("port") == number);
    ports.next()?.1.get("name")?.as_str().map(str::to_owned)
}

fn affinity(subject: &Subject, policy: &Value, output: &mut Output) -> Option<Affinity> {
    let balancer = policy.get("loadBalancer")?;
    let others: Vec<_> =
        members(balancer, "").map(|(name, _)| name.clone()).filter(|name| !["simple", "consistentHash"].contains(&name.as_str())).collect();
    lost(subject, "loadBalancer", &others, output);
    let hash = balancer.get("consistentHash")?;
    let key = match (hash.get("httpHeaderName"), hash.get("httpCookie"), hash.get("useSourceIp"), hash.get("httpQueryParameterName")) {
        (Some(name), _, _, _) => header(name.as_str()?),
        (None, Some(cookie), _, _) => {
            let attributes =
                members(cookie, "").map(|(name, _)| name.clone()).filter(|name| !["name", "path", "ttl"].contains(&name.as_str()));
            lost(subject, "loadBalancer.consistentHash.httpCookie", &attributes.collect::<Vec<_>>(), output);
            envoy_cookie(cookie).key()
        }
        (None, None, Some(Value::Bool(true)), _) => source_ip(),
        (None, None, _, Some(name)) => query_parameter(name.as_str()?),
        (None, None, _, None) => {
            output.note(Effect::Lost, subject.to_string(), "loadBalancer.consistentHash has no key that is known");
            return None;
        }
    };
    let minimum = hash.pointer("/ringHash/minimumRingSize").or_else(|| hash.get("minimumRingSize"));
    let algorithm = match hash.get("maglev") {
        Some(table) => maglev(table.get("tableSize")),
        None => ring(minimum, None),
    };
    Some(Affinity { algorithm: Some(algorithm), ..Affinity::by(key) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_that_are_services() {
        for (host, expected) in [
            ("cart", Some("shop/cart")),
            ("cart.other", Some("other/cart")),
            ("cart.other.svc.cluster.local", Some("other/cart")),
            ("cart.other.svc", Some("other/cart")),
            ("api.example.com", None),
            ("*.example.com", None),
            ("", None),
        ] {
            assert_eq!(service("shop", host).map(|name| name.to_string()).as_deref(), expected, "{host}");
        }
    }
}
