//! Contour's HTTPProxy. Its Envoy hashes as Clingfish does, so that sessions keep their pods.

use serde_json::{Map, Value, json};

use super::super::{
    document::{Subject, items, members, text},
    installation::Installation,
    output::Output,
    report::Effect,
};
use super::{
    ingress::port_number,
    policy::{Affinity, Cookie, header, query_parameter, ring, source_ip, terminal},
    route::{Route, Rule, backend, lost, unguarded},
};

/// The cookie that Contour's strategy `Cookie` sets.
const COOKIE: &str = "X-Contour-Session-Affinity";

/// Fields that keep somebody out.
const GUARDS: [&str; 7] =
    ["authPolicy", "authorization", "rateLimitPolicy", "ipAllowPolicy", "ipDenyPolicy", "jwtVerificationPolicy", "jwtProviders"];

/// Fields of a route that are taken over here.
const KNOWN: [&str; 6] = ["conditions", "services", "loadBalancerPolicy", "pathRewritePolicy", "timeoutPolicy", "enableWebsockets"];

/// The routes of all HTTPProxies.
pub(super) fn read(installation: &Installation, output: &mut Output) -> Vec<Route> {
    installation
        .of("projectcontour.io", "HTTPProxy")
        .filter_map(|(subject, proxy)| of_proxy(subject, proxy, installation, output))
        .collect()
}

fn of_proxy(subject: &Subject, proxy: &Value, installation: &Installation, output: &mut Output) -> Option<Route> {
    let Some(host) = proxy.pointer("/spec/virtualhost") else {
        output.note(
            Effect::ToDo,
            subject.to_string(),
            "has no virtualhost, and is included by another: write its rules into an HTTPRoute of that host",
        );
        return None;
    };
    if items(proxy, "/spec/includes").next().is_some() {
        output.note(Effect::Refused, subject.to_string(), "spec.includes: not followed; what is included needs HTTPRoutes of its own");
    }
    let mut guards: Vec<&String> = guards(host).collect();
    let rules = items(proxy, "/spec/routes").filter_map(|(index, route)| {
        guards.extend(self::guards(route));
        of_route(subject, index, route, installation, output)
    });
    let rules: Vec<_> = rules.collect();
    if let Some(guard) = guards.first() {
        unguarded(subject, guard, output);
        return None;
    }
    if proxy.pointer("/spec/tcpproxy").is_some() {
        output.note(Effect::Refused, subject.to_string(), "spec.tcpproxy: write a TLSRoute or TCPRoute for it");
    }
    let secret = Some(text(host, "/tls/secretName")).filter(|name| !name.is_empty());
    if let Some((_, name)) = secret.and_then(|secret| secret.split_once('/')) {
        let what = format!("its certificate {name} is in another namespace: give the Gateway's listener that one");
        output.note(Effect::ToDo, subject.to_string(), what);
    }
    Some(Route {
        source: subject.clone(),
        name: subject.name.clone(),
        hostnames: Some(text(host, "/fqdn").to_owned()).filter(|host| !host.is_empty()).into_iter().collect(),
        rules,
        secret: secret.filter(|secret| !secret.contains('/')).map(str::to_owned),
    })
}

fn guards(part: &Value) -> impl Iterator<Item = &String> {
    members(part, "").map(|(name, _)| name).filter(|name| GUARDS.contains(&name.as_str()))
}

fn of_route(subject: &Subject, index: usize, route: &Value, installation: &Installation, output: &mut Output) -> Option<Rule> {
    let place = format!("spec.routes[{index}]");
    let mut rule = Map::new();
    if let Some(matched) = conditions(subject, &place, route, output)? {
        rule.insert("matches".to_owned(), json!([matched]));
    }
    // A service without a weight has none where others have one.
    let weighted = items(route, "/services").any(|(_, service)| service.get("weight").is_some());
    let mut backends = Vec::new();
    for (_, service) in items(route, "/services") {
        let port = service.get("port").unwrap_or(&Value::Null);
        let Some(port) = port_number(&subject.namespace, text(service, "/name"), port, installation) else {
            output.note(Effect::Refused, subject.to_string(), format!("{place}.services: expected a port; no rule is written for it"));
            return None;
        };
        let weight = service.get("weight").and_then(Value::as_u64).or_else(|| weighted.then_some(0));
        backends.push(backend(text(service, "/name"), port, weight));
    }
    rule.insert("backendRefs".to_owned(), json!(backends));
    let replaced = items(route, "/pathRewritePolicy/replacePrefix").next();
    if let Some((_, replaced)) = replaced {
        let rewrite = json!({"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": text(replaced, "/replacement")}});
        rule.insert("filters".to_owned(), json!([{"type": "URLRewrite", "urlRewrite": rewrite}]));
    }
    let timeout = text(route, "/timeoutPolicy/response");
    if !timeout.is_empty() && timeout != "infinity" {
        rule.insert("timeouts".to_owned(), json!({"request": timeout}));
    }
    let others: Vec<_> = members(route, "").map(|(name, _)| name.clone()).filter(|name| !KNOWN.contains(&name.as_str())).collect();
    lost(subject, &place, &others.into_iter().filter(|name| !GUARDS.contains(&name.as_str())).collect::<Vec<_>>(), output);
    let affinity = affinity(subject, &place, route.get("loadBalancerPolicy").unwrap_or(&Value::Null), output);
    Some(Rule { value: Value::Object(rule), affinity })
}

/// The match of a route's conditions, which all have to hold. Nothing where one of them cannot be said here.
fn conditions(subject: &Subject, place: &str, route: &Value, output: &mut Output) -> Option<Option<Value>> {
    let (mut path, mut headers, mut query) = (None, Vec::new(), Vec::new());
    for (_, condition) in items(route, "/conditions") {
        for (name, value) in members(condition, "") {
            let exact = |part: &Value, value: &str| json!({"name": text(part, "/name"), "value": value});
            match (name.as_str(), value.get("exact").and_then(Value::as_str), value.get("regex").and_then(Value::as_str)) {
                ("prefix", _, _) => path = Some(json!({"type": "PathPrefix", "value": value})),
                ("exact", _, _) => path = Some(json!({"type": "Exact", "value": value})),
                ("regex", _, _) => path = Some(json!({"type": "RegularExpression", "value": value})),
                ("header", Some(wanted), _) => headers.push(exact(value, wanted)),
                ("header", None, Some(regex)) => {
                    headers.push(json!({"name": text(value, "/name"), "type": "RegularExpression", "value": regex}));
                }
                ("queryParameter", Some(wanted), _) => query.push(exact(value, wanted)),
                _ => {
                    let what = format!("{place}: a condition on {name} cannot be said in an HTTPRoute; no rule is written for it");
                    output.note(Effect::Refused, subject.to_string(), what);
                    return None;
                }
            }
        }
    }
    let mut matched = Map::new();
    matched.extend(path.map(|path| ("path".to_owned(), path)));
    for (field, conditions) in [("headers", headers), ("queryParams", query)] {
        if !conditions.is_empty() {
            matched.insert(field.to_owned(), json!(conditions));
        }
    }
    Some((!matched.is_empty()).then_some(Value::Object(matched)))
}

fn affinity(subject: &Subject, place: &str, policy: &Value, output: &mut Output) -> Option<Affinity> {
    let table = Some(ring(None, None));
    match text(policy, "/strategy") {
        "Cookie" => {
            let cookie = Cookie { name: COOKIE, ttl: Some("0s".to_owned()), path: "/", ..Cookie::default() };
            Some(Affinity { algorithm: table, ..Affinity::by(cookie.key()) })
        }
        "RequestHash" => {
            let mut keys = Vec::new();
            for (_, one) in items(policy, "/requestHashPolicies") {
                let key = match (one.get("headerHashOptions"), one.get("queryParameterHashOptions"), one.get("hashSourceIP")) {
                    (Some(by), _, _) => header(text(by, "/headerName")),
                    (None, Some(by), _) => query_parameter(text(by, "/parameterName")),
                    (None, None, Some(Value::Bool(true))) => source_ip(),
                    (None, None, _) => continue,
                };
                keys.push(terminal(key, one.get("terminal") == Some(&Value::Bool(true))));
            }
            (!keys.is_empty()).then_some(Affinity { keys, combined: true, algorithm: table, ..Affinity::default() })
        }
        "" | "RoundRobin" | "Random" | "WeightedLeastRequest" => None,
        other => {
            output.note(Effect::Lost, subject.to_string(), format!("{place}.loadBalancerPolicy.strategy {other}: not known"));
            None
        }
    }
}
