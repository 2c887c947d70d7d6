//! Kinds that Clingfish does not read, or does not carry over.

use serde_json::Value;

use crate::base::{ObjectName, text::word};

use super::{
    document::{GATEWAY_API, Subject, items, members, text},
    gateways::parameters_lost,
    installation::Installation,
    options,
    output::Output,
    report::Effect,
    routes::listed,
};

/// Names what is not read, object by object.
pub(super) fn tell(installation: &Installation, output: &mut Output) {
    let classes = installation.gloo_classes();
    for (subject, document) in installation.objects() {
        let note = match (subject.group.as_str(), subject.kind.as_str()) {
            (GATEWAY_API, "GatewayClass") if classes.contains(subject.name.as_str()) => {
                let parameters = document.pointer("/spec/parametersRef");
                parameters.map(|parameters| (Effect::Lost, parameters_lost("spec.parametersRef", parameters, "")))
            }
            (GATEWAY_API, "GRPCRoute" | "TCPRoute" | "TLSRoute" | "UDPRoute") => hangs_on_gloo(subject, document, installation)
                .then(|| (Effect::ToDo, "add the twin of its Gateway to spec.parentRefs: only HTTPRoutes get it here".to_owned())),
            (GATEWAY_API, "ListenerSet") => hangs_on_gloo(subject, document, installation).then(|| {
                (Effect::ToDo, "make one like it whose spec.parentRef is the twin of its Gateway: it can have one parent only".to_owned())
            }),
            ("gateway.networking.x-k8s.io", "XListenerSet") => hangs_on_gloo(subject, document, installation)
                .then(|| (Effect::Refused, "not read: neither its listeners nor the routes that hang on them are served".to_owned())),
            ("gateway.gloo.solo.io", "GatewayParameters") => Some((Effect::Lost, of_parameters(document))),
            ("gateway.gloo.solo.io", "DirectResponse") => Some((Effect::Lost, "not read: rules that name it answer 500".to_owned())),
            ("gateway.solo.io", kind) if kind == "RouteOption" || options::KINDS.contains(&kind) => None,
            ("gloo.solo.io", "Upstream" | "Proxy") => None,
            ("gloo.solo.io", "Settings") => {
                Some((Effect::Lost, format!("not read: {} of spec", listed(members(document, "/spec").map(|(name, _)| name.clone())))))
            }
            ("enterprise.gloo.solo.io" | "ratelimit.solo.io", _) => {
                Some((Effect::Lost, "not read: the options that name it are refused, or named here".to_owned()))
            }
            (group, _) if group.ends_with("solo.io") => Some((Effect::Lost, "not read".to_owned())),
            _ => None,
        };
        if let Some((effect, text)) = note {
            output.note(effect, subject.to_string(), text);
        }
    }
}

/// Whether a route of another kind, or a set of listeners, hangs on a Gateway of Gloo's.
fn hangs_on_gloo(subject: &Subject, route: &Value, installation: &Installation) -> bool {
    let mut parents = items(route, "/spec/parentRefs").map(|(_, parent)| parent).chain(route.pointer("/spec/parentRef")).map(|parent| {
        let namespace = parent.get("namespace").and_then(Value::as_str).unwrap_or(&subject.namespace);
        ObjectName::new(namespace, text(parent, "/name"))
    });
    parents.any(|parent| installation.gloo_gateways().any(|(gateway, _)| gateway.object_name() == parent))
}

/// What GatewayParameters set, each with the chart's value that takes its place.
fn of_parameters(parameters: &Value) -> String {
    let set = members(parameters, "/spec/kube").map(|(name, _)| match name.as_str() {
        "deployment" => "deployment (value replicas)".to_owned(),
        "envoyContainer" => "envoyContainer (value resources)".to_owned(),
        "service" => "service (values service.*)".to_owned(),
        other => word(other).to_string(),
    });
    let set: Vec<_> = set.collect();
    if set.is_empty() { "not read".to_owned() } else { format!("not read; it sets {}", set.join(", ")) }
}
