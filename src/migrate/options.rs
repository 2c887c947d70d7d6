//! Options of Gateways and listeners: what they guard stays named on the twins.

use serde_json::Value;

use crate::base::{Kind, ObjectName};
use crate::translate::gloo::fields::is_guard;

use super::{
    document::{GATEWAY_API, Subject, items, members, renamed, replacement, text},
    gateways::Twins,
    installation::Installation,
    output::{Output, Step},
    report::Effect,
    routes::listed,
};

const GROUP: &str = "gateway.solo.io";

/// Kinds whose `targetRefs` name Gateways.
pub(super) const KINDS: [&str; 3] = [Kind::HttpListenerOption.as_str(), Kind::ListenerOption.as_str(), Kind::VirtualHostOption.as_str()];

/// Adds the twins to the targets, and names what is lost.
pub(super) fn attach(installation: &Installation, twins: &Twins, output: &mut Output) {
    for kind in Kind::GATEWAY_OPTIONS {
        for (subject, option) in installation.of(GROUP, kind.as_str()) {
            add_targets(subject, option, twins, output);
            if concerns_gloo(subject, option, installation) {
                tell(kind, subject, option, output);
            } else if items(option, "/spec/targetRefs").next().is_none() {
                tell_aimless(kind, subject, option, output);
            }
        }
    }
}

/// Whether an option is for a Gateway of Gloo's, or for one that the export does not have.
fn concerns_gloo(subject: &Subject, option: &Value, installation: &Installation) -> bool {
    items(option, "/spec/targetRefs").any(|(_, target)| {
        let gateway = target_name(subject, target);
        let is_gloo = installation.gloo_gateways().any(|(known, _)| known.object_name() == gateway);
        is_gloo || installation.get(GATEWAY_API, "Gateway", &gateway).is_none()
    })
}

fn target_name(subject: &Subject, target: &Value) -> ObjectName {
    // Empty is as good as absent, for Gloo too.
    let namespace = Some(text(target, "/namespace")).filter(|namespace| !namespace.is_empty()).unwrap_or(&subject.namespace);
    ObjectName::new(namespace, text(target, "/name"))
}

fn add_targets(subject: &Subject, option: &Value, twins: &Twins, output: &mut Output) {
    let mut document = replacement(option);
    let Some(targets) = document.pointer_mut("/spec/targetRefs").and_then(Value::as_array_mut) else { return };
    let before = targets.len();
    for (_, target) in items(option, "/spec/targetRefs") {
        let is_gateway = (text(target, "/group"), text(target, "/kind")) == (GATEWAY_API, "Gateway");
        let Some(twin) = twins.get(&target_name(subject, target)).filter(|_| is_gateway) else { continue };
        let target = renamed(target, &twin.name);
        if !targets.contains(&target) {
            targets.push(target);
        }
    }
    if targets.len() > before {
        output.file(Step::Changed, document);
    }
}

/// A guard that names no Gateway may be a guard whose targets are misspelled.
fn tell_aimless(kind: Kind, subject: &Subject, option: &Value, output: &mut Output) {
    let set = members(option, "/spec/options").filter(|(_, value)| !value.is_null());
    let guards: Vec<_> = set.filter(|(name, value)| is_guard(kind, name, value)).map(|(name, _)| name.clone()).collect();
    if !guards.is_empty() {
        let what = format!(
            "{} of spec.options: it names no Gateway in spec.targetRefs, so it guards nothing; name them, or delete it",
            listed(guards)
        );
        output.note(Effect::Unguarded, subject.to_string(), what);
    }
}

fn tell(kind: Kind, subject: &Subject, option: &Value, output: &mut Output) {
    let set = members(option, "/spec/options").filter(|(_, value)| !value.is_null());
    let (guards, others): (Vec<_>, Vec<_>) = set.partition(|(name, value)| is_guard(kind, name, value));
    let names = |options: Vec<(&String, &Value)>| listed(options.into_iter().map(|(name, _)| name.clone()));
    if !guards.is_empty() {
        let what = format!(
            "{} of spec.options: Clingfish does not apply it, and the twin's listeners answer 500 while it is there; put another guard in its \
             place before the traffic moves",
            names(guards)
        );
        output.note(Effect::Unguarded, subject.to_string(), what);
    }
    if !others.is_empty() {
        let what =
            format!("{} of spec.options: not applied; the chart's values clients.* and accessLog take the place of some", names(others));
        output.note(Effect::Lost, subject.to_string(), what);
    }
}
