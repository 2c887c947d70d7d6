//! Compares the status that an object ought to have with the one that it has, and makes the patch; none where they say the same. Pure.
//!
//! Others write into the same statuses: their conditions, parents and keys stay byte for byte and in their order.

use serde_json::{Map, Value, json};

use crate::base::{Kind, StatusShape};
use crate::translate::{AncestorStatus, Condition, GatewayStatus, GlooStatuses, ListenerStatus, ParentStatus, Status};

/// Condition types that we write. One of them that is not wanted any more is removed; any other type is somebody else's.
const OURS: [&str; 11] = [
    "Accepted",
    AGREED,
    "Conflicted",
    "InsecureFrontendValidationMode",
    "OverlappingTLSConfig",
    "Overridden",
    "PartiallyInvalid",
    "Programmed",
    "ResolvedRefs",
    "SlotsWritten",
    "SupportedVersion",
];

/// Found out by the leader, some time after it has begun to lead: until then what the leader before it has found stands.
const AGREED: &str = "Agreed";

/// Most ancestors of a policy (`maxItems` of the Gateway API).
const MOST_ANCESTORS: usize = 16;

/// What a merge needs to know beside the two statuses.
#[derive(Clone, Copy, Debug)]
pub(in crate::controller::kube) struct MergeContext<'a> {
    /// Entries of `parents` with this controllerName are ours.
    pub(in crate::controller::kube) controller_name: &'a str,
    /// Namespace of the object: a parentRef without one means it.
    pub(in crate::controller::kube) namespace: &'a str,
    /// Time of conditions that flip, RFC 3339.
    pub(in crate::controller::kube) now: &'a str,
}

/// The `status` of a JSON merge patch that turns `seen` into what is desired; `None` where it says so already.
///
/// `desired` is `None` where translation has no status for the object: our entries of a route's parents vanish, all else is left alone.
pub(in crate::controller::kube) fn status_patch(
    kind: Kind,
    desired: Option<&Status>,
    seen: &Value,
    context: MergeContext<'_>,
) -> Option<Value> {
    match desired {
        None if kind.is_route() => route(&[], seen, context),
        None if kind.facts().status == StatusShape::Policy => policy(&[], seen, context),
        None => None,
        Some(Status::Route(status)) => route(&status.parents, seen, context),
        Some(Status::Policy(status)) => policy(&status.ancestors, seen, context),
        Some(Status::GatewayClass(status)) => {
            let mut patch = Map::new();
            put_list(&mut patch, seen, "conditions", conditions(&status.conditions, seen.get("conditions"), context.now));
            put_list(&mut patch, seen, "supportedFeatures", to_list(&status.supported_features));
            finish(patch)
        }
        Some(Status::Gateway(status)) => gateway(status, seen, context),
        Some(Status::ListenerSet(status)) => {
            let mut patch = Map::new();
            put_conditions_and_listeners(&mut patch, &status.conditions, &status.listeners, seen, context);
            finish(patch)
        }
        Some(Status::Gloo(status)) => gloo(status, seen),
    }
}

/// The `status` of a JSON merge patch for a Gateway that we served and do not serve any more, since its class is another one or is gone: it has
/// no address, and waits for whoever takes it up, as the Gateway API has it for a Gateway that nobody has seen. `None` for other kinds, and
/// where the status is no longer the one that we last wanted: then somebody else has taken it up.
pub(in crate::controller::kube) fn release_patch(kind: Kind, last: &Status, seen: &Value, context: MergeContext<'_>) -> Option<Value> {
    let Status::Gateway(gateway) = last else { return None };
    let ours = gateway.conditions.iter().filter_map(|condition| condition.observed_generation).max();
    let newest = list(seen, "conditions").iter().filter_map(|condition| condition.get("observedGeneration")?.as_i64()).max();
    if kind != Kind::Gateway || newest > ours || status_patch(kind, Some(last), seen, context).is_some() {
        return None;
    }
    Some(json!({
        "conditions": [waiting("Accepted", context.now), waiting("Programmed", context.now)], "addresses": null, "listeners": null,
    }))
}

/// A condition as the Gateway API has it before any controller has seen the object.
pub(in crate::controller::kube) fn waiting(kind: &str, now: &str) -> Value {
    json!({"type": kind, "status": "Unknown", "reason": "Pending", "message": "Waiting for controller", "lastTransitionTime": now})
}

fn gateway(desired: &GatewayStatus, seen: &Value, context: MergeContext<'_>) -> Option<Value> {
    let mut patch = Map::new();
    put_list(&mut patch, seen, "addresses", to_list(&desired.addresses));
    put_conditions_and_listeners(&mut patch, &desired.conditions, &desired.listeners, seen, context);
    let sets = desired.attached_listener_sets;
    if sets.is_some() && seen.get("attachedListenerSets").and_then(Value::as_i64) != sets.map(i64::from) {
        patch.insert("attachedListenerSets".into(), sets.into());
    } else if sets.is_none() && seen.get("attachedListenerSets").is_some_and(|count| !count.is_null()) {
        patch.insert("attachedListenerSets".into(), Value::Null);
    }
    finish(patch)
}

fn put_conditions_and_listeners(
    patch: &mut Map<String, Value>,
    wanted: &[Condition],
    listeners: &[ListenerStatus],
    seen: &Value,
    context: MergeContext<'_>,
) {
    put_list(patch, seen, "conditions", conditions(wanted, seen.get("conditions"), context.now));
    let listeners = listeners.iter().map(|listener| merge_listener(listener, list(seen, "listeners"), context)).collect();
    put_list(patch, seen, "listeners", listeners);
}

fn merge_listener(desired: &ListenerStatus, seen: &[Value], context: MergeContext<'_>) -> Value {
    let before = seen.iter().find(|listener| listener.get("name").and_then(Value::as_str) == Some(&desired.name));
    let mut listener = to_value(desired);
    if let Some(listener) = listener.as_object_mut() {
        let before = before.and_then(|listener| listener.get("conditions"));
        listener.insert("conditions".into(), conditions(&desired.conditions, before, context.now).into());
    }
    listener
}

fn route(desired: &[ParentStatus], seen: &Value, context: MergeContext<'_>) -> Option<Value> {
    let desired = desired.iter().map(|parent| Entry {
        reference: to_value(&parent.parent_ref),
        controller_name: &parent.controller_name,
        conditions: &parent.conditions,
    });
    let mut patch = Map::new();
    put_list(&mut patch, seen, "parents", entries(desired, seen, ("parents", "parentRef"), context));
    finish(patch)
}

fn policy(desired: &[AncestorStatus], seen: &Value, context: MergeContext<'_>) -> Option<Value> {
    let desired = desired.iter().map(|ancestor| Entry {
        reference: to_value(&ancestor.ancestor_ref),
        controller_name: &ancestor.controller_name,
        conditions: &ancestor.conditions,
    });
    let mut ancestors = entries(desired, seen, ("ancestors", "ancestorRef"), context);
    // Those of others stay: of ours the last ones have to do without.
    let is_ours = |entry: &Value| entry.get("controllerName").and_then(Value::as_str) == Some(context.controller_name);
    while ancestors.len() > MOST_ANCESTORS
        && let Some(last) = ancestors.iter().rposition(is_ours)
    {
        ancestors.remove(last);
    }
    let mut patch = Map::new();
    put_list(&mut patch, seen, "ancestors", ancestors);
    finish(patch)
}

/// What we say of an object at one of its parents or ancestors.
struct Entry<'a> {
    reference: Value,
    controller_name: &'a str,
    conditions: &'a [Condition],
}

/// A list of such entries, each with a reference: those of others as they are, ours in the order in which they stand, new ones after them.
fn entries<'a>(
    desired: impl Iterator<Item = Entry<'a>>,
    seen: &Value,
    (field, reference_field): (&str, &str),
    context: MergeContext<'_>,
) -> Vec<Value> {
    let mut wanted: Vec<Option<Entry<'a>>> = desired.map(Some).collect();
    let written = |entry: Entry<'_>, before: Option<&Value>| {
        json!({
            reference_field: entry.reference,
            "controllerName": entry.controller_name,
            "conditions": conditions(entry.conditions, before, context.now),
        })
    };
    let mut entries = Vec::new();
    for entry in list(seen, field) {
        if entry.get("controllerName").and_then(Value::as_str) != Some(context.controller_name) {
            entries.push(entry.clone());
            continue;
        }
        let reference = entry.get(reference_field).unwrap_or(&Value::Null);
        let is_same = |wanted: &&mut Option<Entry<'_>>| {
            wanted.as_ref().is_some_and(|wanted| same_parent(&wanted.reference, reference, context.namespace))
        };
        if let Some(own) = wanted.iter_mut().find(is_same).and_then(Option::take) {
            entries.push(written(own, entry.get("conditions")));
        }
    }
    entries.extend(wanted.into_iter().flatten().map(|own| written(own, None)));
    entries
}

/// Whether two parentRefs name the same parent, defaults filled in.
fn same_parent(one: &Value, other: &Value, namespace: &str) -> bool {
    let text = |reference: &Value, field: &str, default: &str| reference.get(field).and_then(Value::as_str).unwrap_or(default).to_owned();
    let defaults =
        [("group", "gateway.networking.k8s.io"), ("kind", "Gateway"), ("namespace", namespace), ("name", ""), ("sectionName", "")];
    defaults.into_iter().all(|(field, default)| text(one, field, default) == text(other, field, default))
        && one.get("port").and_then(Value::as_i64) == other.get("port").and_then(Value::as_i64)
}

/// Gloo's: `statuses.<key>`, every other key untouched because a merge patch does not name it.
fn gloo(desired: &GlooStatuses, seen: &Value) -> Option<Value> {
    let mut statuses = Map::new();
    for (key, status) in &desired.statuses {
        let before = seen.get("statuses").and_then(|statuses| statuses.get(key));
        let mut own = to_value(status);
        // What an empty reason leaves out must go where an older one stands.
        if let Some(own) = own.as_object_mut()
            && !own.contains_key("reason")
            && before.is_some_and(|before| before.get("reason").is_some())
        {
            own.insert("reason".into(), Value::Null);
        }
        let says_so = own.as_object().is_some_and(|own| {
            own.iter().all(|(field, value)| before.and_then(|before| before.get(field)).unwrap_or(&Value::Null) == value)
        });
        if before.is_none() || !says_so {
            statuses.insert(key.clone(), own);
        }
    }
    (!statuses.is_empty()).then(|| json!({ "statuses": statuses }))
}

/// The conditions in the order in which they stand, new ones after them.
///
/// `lastTransitionTime` moves only when the status flips; a condition that speaks of a later generation than ours is left alone.
fn conditions(desired: &[Condition], before: Option<&Value>, now: &str) -> Vec<Value> {
    let before = before.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let type_of = |condition: &Value| condition.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
    let counts = desired.iter().any(|condition| condition.condition_type == "Accepted" && condition.status == "True");
    let mut result = Vec::new();
    for standing in before {
        let own_type = type_of(standing);
        match desired.iter().find(|condition| condition.condition_type == own_type) {
            Some(condition) => result.push(condition_after(condition, Some(standing), now)),
            None if own_type == AGREED && counts => result.push(standing.clone()),
            None if OURS.contains(&own_type.as_str()) => {}
            None => result.push(standing.clone()),
        }
    }
    let is_new = |condition: &&Condition| !before.iter().any(|standing| type_of(standing) == condition.condition_type);
    result.extend(desired.iter().filter(is_new).map(|condition| condition_after(condition, None, now)));
    result
}

fn condition_after(desired: &Condition, before: Option<&Value>, now: &str) -> Value {
    if let Some(before) = before {
        let generation = before.get("observedGeneration").and_then(Value::as_i64);
        if generation.zip(desired.observed_generation).is_some_and(|(theirs, ours)| theirs > ours) {
            return before.clone();
        }
    }
    let kept = before
        .filter(|before| before.get("status").and_then(Value::as_str) == Some(desired.status))
        .and_then(|before| before.get("lastTransitionTime"));
    let mut condition = to_value(desired);
    if let Some(condition) = condition.as_object_mut() {
        condition.insert("lastTransitionTime".into(), kept.cloned().unwrap_or_else(|| now.into()));
    }
    condition
}

/// Puts the list into the patch where it differs.
fn put_list(patch: &mut Map<String, Value>, seen: &Value, field: &str, wanted: Vec<Value>) {
    let standing = list(seen, field);
    if standing == wanted {
        return;
    }
    patch.insert(field.into(), wanted.into());
}

fn finish(patch: Map<String, Value>) -> Option<Value> {
    (!patch.is_empty()).then_some(Value::Object(patch))
}

fn list<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value.get(field).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn to_value<T: serde::Serialize>(value: &T) -> Value {
    // The types of `translate::status` serialise to plain objects.
    serde_json::to_value(value).unwrap_or_default()
}

fn to_list<T: serde::Serialize>(values: &[T]) -> Vec<Value> {
    values.iter().map(to_value).collect()
}

#[cfg(test)]
mod tests;
