//! Ingresses, with the annotations of the controllers that are known.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::base::{ObjectName, text::word};

use super::super::{
    document::{Subject, items, text},
    installation::Installation,
    output::Output,
    report::Effect,
};
use super::{
    annotations::Annotations,
    haproxy, nginx,
    policy::Affinity,
    route::{Route, Rule, backend},
};

/// What annotations say of the routes of an Ingress.
#[derive(Debug, Default)]
struct Manner {
    affinity: Option<Affinity>,
    /// Whether paths are regular expressions.
    by_regex: bool,
    /// What takes the path's place.
    rewrite: Option<String>,
    /// Whether its routes may be written.
    open: bool,
}

/// The routes of all Ingresses.
pub(super) fn read(installation: &Installation, output: &mut Output) -> Vec<Route> {
    let mut routes = Vec::new();
    for (subject, ingress) in installation.of("networking.k8s.io", "Ingress") {
        let manner = manner(subject, ingress, output);
        let made = of_ingress(subject, ingress, &manner, installation, output);
        if manner.open {
            routes.extend(made);
        }
    }
    routes
}

fn manner(subject: &Subject, ingress: &Value, output: &mut Output) -> Manner {
    let mut manner = Manner { open: true, ..Manner::default() };
    let mut nginx = Annotations::of(ingress, nginx::PREFIX);
    if !nginx.is_empty() {
        manner.affinity = nginx::affinity(subject, &mut nginx, output);
        manner.by_regex = nginx.is_true("use-regex");
        manner.rewrite = nginx.take("rewrite-target").map(str::to_owned);
        if nginx.is_true("canary") {
            let what = "a canary: give the route of its host two backendRefs with weights, and its AffinityPolicy split: Hash; no route is written for it";
            output.note(Effect::ToDo, subject.to_string(), what);
            manner.open = false;
        }
        for (name, why) in [
            ("ssl-redirect", "add a rule with a requestRedirect to the listener for HTTP"),
            ("force-ssl-redirect", "add a rule with a requestRedirect to the listener for HTTP"),
        ] {
            nginx.lose(name, why, subject, output);
        }
        manner.open &= nginx.finish(&nginx::GUARDS, subject, output);
    }
    for prefix in [haproxy::TECHNOLOGIES, haproxy::COMMUNITY] {
        let mut annotations = Annotations::of(ingress, prefix);
        if annotations.is_empty() {
            continue;
        }
        let affinity = match prefix {
            haproxy::TECHNOLOGIES => haproxy::of_technologies(subject, &mut annotations, output),
            _ => haproxy::of_community(subject, &mut annotations, output),
        };
        manner.affinity = manner.affinity.or(affinity);
        manner.open &= annotations.finish(&haproxy::GUARDS, subject, output);
    }
    let traefik = Annotations::of(ingress, "traefik.ingress.kubernetes.io/");
    manner.open &= traefik.finish(&["router.middlewares"], subject, output);
    manner
}

fn of_ingress(subject: &Subject, ingress: &Value, manner: &Manner, installation: &Installation, output: &mut Output) -> Vec<Route> {
    let mut by_host: BTreeMap<String, Vec<Rule>> = BTreeMap::new();
    for (_, rule) in items(ingress, "/spec/rules") {
        for (_, path) in items(rule, "/http/paths") {
            if let Some(made) = of_path(subject, path, manner, installation, output) {
                by_host.entry(text(rule, "/host").to_owned()).or_default().push(made);
            }
        }
    }
    if let Some(backend) = ingress.pointer("/spec/defaultBackend") {
        let rule = of_path(subject, &json!({ "backend": backend }), manner, installation, output);
        by_host.entry(String::new()).or_default().extend(rule);
    }
    let several = by_host.len() > 1;
    let made = by_host.into_iter().enumerate().map(|(index, (host, rules))| Route {
        source: subject.clone(),
        name: if several { format!("{}-host-{}", subject.name, index + 1) } else { subject.name.clone() },
        secret: secret(ingress, &host),
        hostnames: (!host.is_empty()).then_some(host).into_iter().collect(),
        rules,
    });
    made.collect()
}

/// The certificate of a host.
fn secret(ingress: &Value, host: &str) -> Option<String> {
    let mut of_host = items(ingress, "/spec/tls").filter(|(_, tls)| items(tls, "/hosts").any(|(_, one)| one == host));
    of_host.find_map(|(_, tls)| Some(tls.get("secretName")?.as_str()?.to_owned()))
}

fn of_path(subject: &Subject, path: &Value, manner: &Manner, installation: &Installation, output: &mut Output) -> Option<Rule> {
    let service = text(path, "/backend/service/name");
    if service.is_empty() {
        output.note(Effect::Refused, subject.to_string(), "a path without backend.service leads nowhere here");
        return None;
    }
    let port = path.pointer("/backend/service/port");
    let Some(port) = port_number(&subject.namespace, service, port.unwrap_or(&Value::Null), installation) else {
        let what = format!("the number of the port of Service {} is not known: export Services too", word(service));
        output.note(Effect::Refused, subject.to_string(), what);
        return None;
    };
    let mut value = json!({"backendRefs": [backend(service, port, None)]});
    let members = value.as_object_mut()?;
    if let Some(place) = path.get("path").and_then(Value::as_str) {
        let kind = match (text(path, "/pathType"), manner.by_regex) {
            (_, true) => "RegularExpression",
            ("Exact", false) => "Exact",
            (_, false) => "PathPrefix",
        };
        members.insert("matches".to_owned(), json!([{"path": {"type": kind, "value": place}}]));
    }
    match &manner.rewrite {
        Some(target) if target.contains('$') => {
            let what = format!("rewrite-target {}: the Gateway API has no groups in rewrites; no rule is written for it", word(target));
            output.note(Effect::Refused, subject.to_string(), what);
            return None;
        }
        Some(target) => {
            let rewrite = json!({"path": {"type": "ReplaceFullPath", "replaceFullPath": target}});
            members.insert("filters".to_owned(), json!([{"type": "URLRewrite", "urlRewrite": rewrite}]));
        }
        None => {}
    }
    Some(Rule { value, affinity: manner.affinity.clone() })
}

/// The number of a port: `{number: 80}`, `{name: http}`, or either alone, as other kinds write it.
pub(super) fn port_number(namespace: &str, service: &str, port: &Value, installation: &Installation) -> Option<u64> {
    if let Some(number) = port.as_u64().or_else(|| port.get("number")?.as_u64()) {
        return Some(number);
    }
    let service = installation.get("", "Service", &ObjectName::new(namespace, service))?;
    let name = port.as_str().or_else(|| port.get("name")?.as_str());
    let mut ports = items(service, "/spec/ports").filter(|(_, one)| name.is_none_or(|name| text(one, "/name") == name));
    ports.next()?.1.get("port")?.as_u64()
}
