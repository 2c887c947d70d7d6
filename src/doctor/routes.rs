//! Routes, RouteOptions and Upstreams that are refused.

use serde_json::Value;

use crate::base::Kind;
use crate::translate::status_key;

use super::{
    gateways::own_gateways,
    gathered::{Asked, Gathered, Unasked},
    objects::{condition, count, full_name, list, number, said, text},
    report::Outcome,
};

/// Routes of all kinds that name a Gateway of the install.
pub(super) fn own_routes(gathered: &Gathered) -> Result<Vec<(Kind, &Value)>, Unasked> {
    let gateways = own_gateways(gathered)?;
    let is_own = |(_, route): &(Kind, &Value)| {
        list(route, "/spec/parentRefs").iter().any(|parent| gateways.iter().any(|gateway| names(parent, route, gateway)))
    };
    Ok(all_routes(gathered)?.into_iter().filter(is_own).collect())
}

fn all_routes(gathered: &Gathered) -> Result<Vec<(Kind, &Value)>, Unasked> {
    let mut routes = Vec::new();
    for (asked, kind) in Asked::ROUTES {
        routes.extend(gathered.list(asked)?.iter().map(|route| (kind, route)));
    }
    Ok(routes)
}

/// Whether a parentRef of a route names the Gateway.
fn names(parent: &Value, route: &Value, gateway: &Value) -> bool {
    let or = |value: &'static str, found: &str| if found.is_empty() { value.to_owned() } else { found.to_owned() };
    let namespace = match text(parent, "/namespace") {
        "" => text(route, "/metadata/namespace"),
        namespace => namespace,
    };
    or("Gateway", text(parent, "/kind")) == "Gateway"
        && or("gateway.networking.k8s.io", text(parent, "/group")) == "gateway.networking.k8s.io"
        && text(parent, "/name") == text(gateway, "/metadata/name")
        && namespace == text(gateway, "/metadata/namespace")
}

pub(super) fn check(gathered: &Gathered, outcome: &mut Outcome) -> Result<(), Unasked> {
    let routes = own_routes(gathered)?;
    for (kind, route) in &routes {
        check_route(*kind, route, gathered, outcome);
    }
    check_missing_parents(gathered, outcome)?;
    let options = gathered.list(Asked::RouteOptions)?;
    let upstreams = gathered.list(Asked::Upstreams)?;
    for (kind, objects) in [("RouteOption", options), ("Upstream", upstreams)] {
        for object in objects {
            check_gloo_status(kind, object, gathered, outcome);
        }
    }
    outcome.looked_at = format!(
        "{}, {} and {} accepted",
        count(routes.len(), "route"),
        count(options.len(), "RouteOption"),
        count(upstreams.len(), "Upstream")
    );
    Ok(())
}

fn check_route(kind: Kind, route: &Value, gathered: &Gathered, outcome: &mut Outcome) {
    let name = format!("{kind} {}", full_name(route));
    let parents: Vec<&Value> = list(route, "/status/parents")
        .iter()
        .filter(|parent| text(parent, "/controllerName") == gathered.install.controller_name)
        .collect();
    let newest = number(route, "/metadata/generation");
    let is_stale = |parent: &&&Value| list(parent, "/conditions").iter().any(|condition| number(condition, "/observedGeneration") < newest);
    if parents.is_empty() || parents.iter().any(|parent| is_stale(&parent)) {
        outcome.finding(name, "nobody has answered for its newest version", "see the checks pods, leader and rights");
        return;
    }
    let mut told: Vec<String> = Vec::new();
    for parent in parents {
        for (kind, bad) in [("Accepted", "False"), ("ResolvedRefs", "False"), ("PartiallyInvalid", "True")] {
            let Some(condition) = condition(list(parent, "/conditions"), kind, bad) else { continue };
            let what = said(condition);
            // Several parents mostly say the same.
            if !told.contains(&what) {
                outcome.finding(
                    &*name,
                    format!("{}: {what}", if kind == "Accepted" { "it is refused" } else { "a part of it is not served" }),
                    remedy(text(condition, "/reason")),
                );
                told.push(what);
            }
        }
    }
}

/// Routes that name a Gateway which is not there: nobody answers for them.
fn check_missing_parents(gathered: &Gathered, outcome: &mut Outcome) -> Result<(), Unasked> {
    let gateways = gathered.list(Asked::Gateways)?;
    for (kind, route) in all_routes(gathered)? {
        for parent in list(route, "/spec/parentRefs") {
            let is_gateway =
                matches!(text(parent, "/kind"), "" | "Gateway") && matches!(text(parent, "/group"), "" | "gateway.networking.k8s.io");
            if is_gateway && !gateways.iter().any(|gateway| names(parent, route, gateway)) {
                let what = format!("it names the Gateway {}, which is not there", text(parent, "/name"));
                outcome.finding(
                    format!("{kind} {}", full_name(route)),
                    what,
                    "correct parentRefs (name and namespace), or make the Gateway",
                );
            }
        }
    }
    Ok(())
}

/// A status as Gloo writes it: a state for each reporter.
fn check_gloo_status(kind: &str, object: &Value, gathered: &Gathered, outcome: &mut Outcome) {
    let install = &gathered.install;
    let key = status_key(install.gloo, &install.namespace, &install.controller_name);
    let Some(status) = object.pointer("/status/statuses").and_then(|statuses| statuses.get(&*key)) else {
        if !gathered.pods.is_empty() {
            outcome.finding(
                format!("{kind} {}", full_name(object)),
                "nobody has answered for it",
                "see the checks pods, leader and rights",
            );
        }
        return;
    };
    let state = status.get("state");
    let is = |word: &str, number: i64| state.is_some_and(|state| state.as_str() == Some(word) || state.as_i64() == Some(number));
    let what = if is("Rejected", 2) {
        "it is refused"
    } else if is("Warning", 3) {
        "it is served, but not all of it"
    } else {
        return;
    };
    outcome.finding(
        format!("{kind} {}", full_name(object)),
        format!("{what}: {}", text(status, "/reason")),
        "mend the field that the message names",
    );
}

fn remedy(reason: &str) -> &'static str {
    match reason {
        "NotAllowedByListeners" => "let the Gateway's listener allow routes of this namespace (allowedRoutes), or move the route",
        "NoMatchingListenerHostname" => "give the route a hostname that the listener has, or widen the listener's",
        "NoMatchingParent" => "correct sectionName or port in parentRefs",
        "RefNotPermitted" => "allow the reference by a ReferenceGrant in the namespace of what is referred to",
        "BackendNotFound" => "make the backend, or correct backendRefs",
        "InvalidKind" => "refer to a Service or an Upstream",
        "UnsupportedProtocol" => "take away the appProtocol of the Service's port: docs/gateway-api.md",
        _ => "mend the field that the message names",
    }
}
