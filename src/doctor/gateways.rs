//! GatewayClasses, Gateways and their addresses.

use serde_json::Value;

use crate::translate::infrastructure::{GATEWAY_ANNOTATION, INSTALL_ANNOTATION};

use super::{
    gathered::{Asked, Gathered, Unasked},
    objects::{condition, count, full_name, list, mark, number, said, text},
    report::Outcome,
};

/// The classes of the install.
pub(super) fn own_classes(gathered: &Gathered) -> Result<Vec<&Value>, Unasked> {
    let classes = gathered.list(Asked::GatewayClasses)?.iter();
    Ok(classes.filter(|class| text(class, "/spec/controllerName") == gathered.install.controller_name).collect())
}

/// The Gateways of the install.
pub(super) fn own_gateways(gathered: &Gathered) -> Result<Vec<&Value>, Unasked> {
    let classes = own_classes(gathered)?;
    let is_own = |gateway: &&Value| classes.iter().any(|class| text(class, "/metadata/name") == text(gateway, "/spec/gatewayClassName"));
    Ok(gathered.list(Asked::Gateways)?.iter().filter(is_own).collect())
}

pub(super) fn check_classes(gathered: &Gathered, outcome: &mut Outcome) -> Result<(), Unasked> {
    let classes = own_classes(gathered)?;
    if classes.is_empty() {
        let what = format!("there is none with controllerName {}: no Gateway is served", gathered.install.controller_name);
        outcome.finding("GatewayClass", what, "set gatewayClass.create=true in the chart's values, or make one");
    }
    for class in &classes {
        let name = format!("GatewayClass {}", full_name(class));
        if is_stale(class, "/status/conditions", "Accepted") {
            outcome.finding(name, "nobody has answered for its newest version", "see the checks pods, leader and rights");
            continue;
        }
        let conditions = list(class, "/status/conditions");
        if let Some(condition) = condition(conditions, "Accepted", "False") {
            outcome.finding(&*name, format!("it is not accepted: {}", said(condition)), "mend the field that the message names");
        }
        if let Some(condition) = condition(conditions, "SupportedVersion", "False") {
            outcome.finding(&*name, said(condition), "install CRDs of a version that the message names");
        }
    }
    // A Gateway of a class that nobody knows waits for ever, and nobody tells.
    for gateway in gathered.list(Asked::Gateways)? {
        let class = text(gateway, "/spec/gatewayClassName");
        if !gathered.list(Asked::GatewayClasses)?.iter().any(|known| text(known, "/metadata/name") == class) {
            let what = format!("there is no GatewayClass {class}: nobody serves it");
            outcome.finding(format!("Gateway {}", full_name(gateway)), what, "correct spec.gatewayClassName, or make the class");
        }
    }
    let names: Vec<&str> = classes.iter().map(|class| text(class, "/metadata/name")).collect();
    outcome.looked_at = format!("{} accepted", names.join(", "));
    Ok(())
}

pub(super) fn check_gateways(gathered: &Gathered, outcome: &mut Outcome) -> Result<(), Unasked> {
    let gateways = own_gateways(gathered)?;
    for gateway in &gateways {
        check_gateway(gateway, gathered, outcome)?;
    }
    outcome.looked_at = format!("{} with addresses", count(gateways.len(), "Gateway"));
    Ok(())
}

fn check_gateway(gateway: &Value, gathered: &Gathered, outcome: &mut Outcome) -> Result<(), Unasked> {
    let name = format!("Gateway {}", full_name(gateway));
    if is_stale(gateway, "/status/conditions", "Programmed") {
        outcome.finding(name, "nobody has answered for its newest version", "see the checks pods, leader and rights");
        return Ok(());
    }
    let conditions = list(gateway, "/status/conditions");
    if let Some(condition) = condition(conditions, "Accepted", "False") {
        outcome.finding(&*name, format!("it is not accepted: {}", said(condition)), "mend the field that the message names");
    }
    let without_address = list(gateway, "/status/addresses").is_empty();
    match condition(conditions, "Programmed", "False") {
        Some(condition) => {
            let what = if without_address { "it has no address" } else { "it is not programmed" };
            let to_do = remedy(gateway, text(condition, "/reason"), gathered)?;
            outcome.finding(&*name, format!("{what}: {}", said(condition)), to_do);
        }
        None if without_address => {
            outcome.finding(&*name, "it has no address", remedy(gateway, "AddressNotAssigned", gathered)?);
        }
        None => {}
    }
    for listener in list(gateway, "/status/listeners") {
        let conditions = list(listener, "/conditions");
        let bad = [("Accepted", "False"), ("ResolvedRefs", "False"), ("Conflicted", "True"), ("Programmed", "False")];
        let bad = bad.into_iter().filter_map(|(kind, status)| condition(conditions, kind, status));
        // The others follow from the first.
        if let Some(condition) = bad.into_iter().next() {
            let what = format!("listener {}: {}", text(listener, "/name"), said(condition));
            outcome.finding(&*name, what, listener_remedy(text(condition, "/reason")));
        }
    }
    Ok(())
}

/// Whether the newest version of an object has no such condition yet.
fn is_stale(object: &Value, conditions: &str, kind: &str) -> bool {
    let newest = number(object, "/metadata/generation");
    let found = list(object, conditions).iter().find(|condition| text(condition, "/type") == kind);
    // A status that nobody has written has the CRD's default.
    found.is_none_or(|condition| {
        number(condition, "/observedGeneration") < newest
            || (text(condition, "/status") == "Unknown" && text(condition, "/reason") == "Pending")
    })
}

/// What to do about a Gateway without an address.
fn remedy(gateway: &Value, reason: &str, gathered: &Gathered) -> Result<String, Unasked> {
    let Some(service) = service_of(gateway, gathered)? else {
        return Ok("see the checks pods, leader and rights: its Service is not there".to_owned());
    };
    let describe = format!("kubectl describe service -n {} {}", text(service, "/metadata/namespace"), text(service, "/metadata/name"));
    Ok(match (reason, text(service, "/spec/type")) {
        ("AddressNotAssigned" | "Pending", "LoadBalancer") if list(service, "/status/loadBalancer/ingress").is_empty() => format!(
            "no controller of load balancers has given its Service an address: {describe}; where the cluster has none, set service.type to \
             NodePort or ClusterIP"
        ),
        _ => format!("mend what the message names; its Service: {describe}"),
    })
}

/// The Service in front of a Gateway.
fn service_of<'a>(gateway: &Value, gathered: &'a Gathered) -> Result<Option<&'a Value>, Unasked> {
    let install = format!("{}/{}", gathered.install.namespace, gathered.install.instance);
    let is_it = |service: &&Value| {
        mark(service, "annotations", INSTALL_ANNOTATION) == Some(&install)
            && mark(service, "annotations", GATEWAY_ANNOTATION) == Some(&full_name(gateway))
            && text(service, "/spec/type") != "ExternalName"
    };
    Ok(gathered.list(Asked::Services)?.iter().find(is_it))
}

fn listener_remedy(reason: &str) -> &'static str {
    match reason {
        "InvalidCACertificateRef" | "InvalidCACertificateKind" | "NoValidCACertificate" => {
            "make the ConfigMap with ca.crt, or correct caCertificateRefs of spec.tls.frontend"
        }
        "InvalidCertificateRef" => "make the Secret with tls.crt and tls.key of a pair, or correct certificateRefs",
        "RefNotPermitted" => "allow the reference by a ReferenceGrant in the namespace of the Secret",
        "PortUnavailable" => "choose another port, or end what holds it",
        "ProtocolConflict" | "HostnameConflict" => "change the port or the hostname of one of the two listeners",
        "UnsupportedProtocol" | "InvalidRouteKinds" => "take away what is not supported: docs/gateway-api.md",
        _ => "mend what the message names",
    }
}
