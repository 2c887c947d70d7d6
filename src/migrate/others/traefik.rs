//! Traefik: IngressRoutes with sticky services, TraefikServices, and annotations of Services.

use serde_json::{Map, Value, json};

use crate::base::{ObjectName, text::word};

use super::super::{
    document::{Subject, items, members, text},
    installation::Installation,
    output::Output,
    report::Effect,
};
use super::{
    annotations::Annotations,
    ingress::port_number,
    policy::{Affinity, Cookie, Target, same_site, truth},
    route::{Route, Rule, backend, lost, unguarded},
    traefik_rules::{self, Matches},
};

const GROUP: &str = "traefik.io";

/// Of Services.
const PREFIX: &str = "traefik.ingress.kubernetes.io/service.";

/// The middlewares that keep somebody out.
const GUARDS: [&str; 10] = [
    "basicAuth",
    "digestAuth",
    "forwardAuth",
    "ipAllowList",
    "ipWhiteList",
    "inFlightReq",
    "rateLimit",
    "passTLSClientCert",
    "plugin",
    "chain",
];

/// The cookie of a service for which none is named.
const COOKIE: &str = "traefik-sticky";

/// The routes of all IngressRoutes.
pub(super) fn read(installation: &Installation, output: &mut Output) -> Vec<Route> {
    let mut routes = Vec::new();
    for (subject, route) in installation.of(GROUP, "IngressRoute") {
        let others: Vec<_> = members(route, "/spec")
            .map(|(name, _)| name.clone())
            .filter(|name| !["routes", "tls", "entryPoints"].contains(&name.as_str()))
            .collect();
        lost(subject, "spec", &others, output);
        let several = items(route, "/spec/routes").count() > 1;
        let secret = route.pointer("/spec/tls/secretName").and_then(Value::as_str);
        for (index, rule) in items(route, "/spec/routes") {
            let Some((hostnames, rules)) = of_rule(subject, index, rule, installation, output) else { continue };
            let name = if several { format!("{}-{}", subject.name, index + 1) } else { subject.name.clone() };
            routes.push(Route { source: subject.clone(), name, hostnames, rules, secret: secret.map(str::to_owned) });
        }
    }
    routes
}

fn of_rule(
    subject: &Subject,
    index: usize,
    rule: &Value,
    installation: &Installation,
    output: &mut Output,
) -> Option<(Vec<String>, Vec<Rule>)> {
    let place = format!("spec.routes[{index}]");
    let Some(Matches { hostnames, matches }) = traefik_rules::read(text(rule, "/match")) else {
        let what = format!("{place}.match {}: cannot be said in an HTTPRoute; no route is written for it", word(text(rule, "/match")));
        output.note(Effect::Refused, subject.to_string(), what);
        return None;
    };
    for (_, middleware) in items(rule, "/middlewares") {
        let namespace = middleware.get("namespace").and_then(Value::as_str).unwrap_or(&subject.namespace);
        let name = text(middleware, "/name");
        let definition = installation.get(GROUP, "Middleware", &ObjectName::new(namespace, name));
        let kinds: Vec<&str> = definition.iter().flat_map(|one| members(one, "/spec")).map(|(kind, _)| kind.as_str()).collect();
        // One that is not in the export may be a guard.
        if kinds.is_empty() || kinds.iter().any(|kind| GUARDS.contains(kind)) {
            unguarded(subject, &format!("{place}: Middleware {}", word(name)), output);
            return None;
        }
        let what = format!("{place}: Middleware {}: {} is not taken over", word(name), kinds.join(", "));
        output.note(Effect::Lost, subject.to_string(), what);
    }
    let mut value = Map::new();
    if !matches.is_empty() {
        value.insert("matches".to_owned(), json!(matches));
    }
    let (mut backends, mut affinity) = (Vec::new(), None);
    for (_, service) in items(rule, "/services") {
        let sticky = add(subject, &place, service, installation, &mut backends, output)?;
        affinity = affinity.or(sticky);
    }
    value.insert("backendRefs".to_owned(), json!(backends));
    Some((hostnames, vec![Rule { value: Value::Object(value), affinity }]))
}

/// Adds what a reference leads to, and gives its affinity.
fn add(
    subject: &Subject,
    place: &str,
    service: &Value,
    installation: &Installation,
    backends: &mut Vec<Value>,
    output: &mut Output,
) -> Option<Option<Affinity>> {
    let (name, weight) = (text(service, "/name"), service.get("weight").and_then(Value::as_u64));
    if text(service, "/kind") == "TraefikService" {
        let named = installation.get(GROUP, "TraefikService", &ObjectName::new(subject.namespace.as_str(), name));
        let Some(weighted) = named.and_then(|named| named.pointer("/spec/weighted")) else {
            let what = format!("{place}: TraefikService {} is not in the export, or not weighted; no route is written for it", word(name));
            output.note(Effect::Refused, subject.to_string(), what);
            return None;
        };
        let mut affinity = sticky(subject, weighted, output);
        for (_, one) in items(weighted, "/services") {
            let of_one = if text(one, "/kind") == "TraefikService" {
                output.note(
                    Effect::Refused,
                    subject.to_string(),
                    format!("{place}: a TraefikService within another; no route is written for it"),
                );
                return None;
            } else {
                add(subject, place, one, installation, backends, output)?
            };
            affinity = affinity.or(of_one);
        }
        // Sticky with one of the weighted services, as with one of its pods.
        return Some(affinity.map(|affinity| Affinity { splits_by_key: true, ..affinity }));
    }
    let Some(port) = port_number(&subject.namespace, name, service.get("port").unwrap_or(&Value::Null), installation) else {
        let what = format!("{place}: the number of the port of Service {} is not known: export Services too", word(name));
        output.note(Effect::Refused, subject.to_string(), what);
        return None;
    };
    if service.get("namespace").and_then(Value::as_str).is_some_and(|namespace| namespace != subject.namespace) {
        output.note(
            Effect::ToDo,
            subject.to_string(),
            format!("{place}: Service {} is in another namespace: add it, with a ReferenceGrant", word(name)),
        );
    }
    backends.push(backend(name, port, weight));
    Some(sticky(subject, service, output))
}

fn sticky(subject: &Subject, service: &Value, output: &mut Output) -> Option<Affinity> {
    let cookie = service.pointer("/sticky/cookie")?;
    let seconds = cookie.get("maxAge").and_then(Value::as_u64).unwrap_or_default();
    let name = text(cookie, "/name");
    if name.is_empty() {
        output.note(Effect::Differs, subject.to_string(), format!("its cookie has no name, and Traefik makes one up: it is {COOKIE} now"));
    }
    Some(held(
        subject,
        &Cookie {
            name: if name.is_empty() { COOKIE } else { name },
            ttl: Some(format!("{seconds}s")),
            path: text(cookie, "/path"),
            domain: text(cookie, "/domain"),
            same_site: same_site(text(cookie, "/sameSite")),
            secure: cookie.get("secure").and_then(truth),
            http_only: Some(cookie.get("httpOnly").and_then(truth).unwrap_or(false)),
        },
        output,
    ))
}

fn held(subject: &Subject, cookie: &Cookie<'_>, output: &mut Output) -> Affinity {
    let what = "the cookie's value is Traefik's name of a pod: each session gets a pod anew once, when its traffic moves";
    output.note(Effect::Differs, subject.to_string(), what);
    Affinity { holds: true, ..Affinity::by(cookie.key()) }
}

/// Services whose annotations ask for affinity.
pub(super) fn services(installation: &Installation, output: &mut Output) {
    for (subject, service) in installation.of("", "Service") {
        let mut annotations = Annotations::of(service, PREFIX);
        let is_sticky = annotations.is_true("sticky.cookie") | annotations.is_true("sticky");
        if is_sticky {
            let seconds = annotations.take("sticky.cookie.maxage").and_then(|seconds| seconds.parse::<u64>().ok()).unwrap_or_default();
            let cookie = Cookie {
                name: annotations.take("sticky.cookie.name").unwrap_or(COOKIE),
                ttl: Some(format!("{seconds}s")),
                path: annotations.take("sticky.cookie.path").unwrap_or_default(),
                domain: annotations.take("sticky.cookie.domain").unwrap_or_default(),
                same_site: same_site(annotations.take("sticky.cookie.samesite").unwrap_or_default()),
                secure: Some(annotations.is_true("sticky.cookie.secure")),
                http_only: Some(annotations.is_true("sticky.cookie.httponly")),
            };
            let name = ObjectName::new(subject.namespace.as_str(), subject.name.as_str());
            held(subject, &cookie, output).write(&name, &[Target::service(&subject.name, None)], output);
        }
        annotations.finish(&[], subject, output);
    }
}
