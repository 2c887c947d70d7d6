//! Events: what `kubectl describe` tells of an object whose status has turned bad or well. Decided purely, from the status before and after a write.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{Event, EventSource, ObjectReference},
    apimachinery::pkg::apis::meta::v1::Time,
};
use serde_json::{Map, Value};

use crate::base::{Kind, Message, ObjectRef, StatusShape, text::several};
use crate::translate::infrastructure::is_on_its_way;

use crate::controller::moves::Moved;

use super::super::client::FIELD_MANAGER;

/// What has changed for whoever owns the object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Something is wrong that was not wrong before, or is wrong for another reason.
    Bad {
        /// The condition's reason.
        reason: String,
        /// What is wrong.
        message: Message,
    },
    /// Nothing is wrong any more.
    Well,
}

/// Where something is wrong, with the reason and the message.
type Problems = BTreeMap<String, (String, String)>;

/// What a write of this status patch changes; `None`: nothing that is worth an event.
pub(super) fn change(kind: Kind, before: &Value, patch: &Value, controller_name: &str) -> Option<Change> {
    match kind.facts().status {
        StatusShape::Gateway | StatusShape::ListenerSet | StatusShape::Policy | StatusShape::Route | StatusShape::Gloo => {}
        StatusShape::GatewayClass | StatusShape::None => return None,
    }
    let was = problems(before, controller_name);
    let is = problems(&merged(before, patch), controller_name);
    let new: Vec<_> = is.iter().filter(|(place, problem)| was.get(*place) != Some(problem)).collect();
    match new.first() {
        Some((_, (reason, _))) => {
            let message = several(new.iter().map(|(place, (_, message))| format!("{place}: {message}")));
            Some(Change::Bad { reason: reason.clone(), message: message.into() })
        }
        None if is.is_empty() && !was.is_empty() => Some(Change::Well),
        None => None,
    }
}

/// The status after a JSON merge patch, as far as our patches go: lists are replaced, entries of maps are merged.
fn merged(before: &Value, patch: &Value) -> Value {
    let mut after = before.as_object().cloned().unwrap_or_default();
    for (field, value) in patch.as_object().into_iter().flatten() {
        let entries = value.as_object().filter(|_| after.get(field).is_some_and(Value::is_object));
        match (entries, after.get_mut(field).and_then(Value::as_object_mut)) {
            (Some(entries), Some(known)) => known.extend(entries.clone()),
            _ => drop(after.insert(field.clone(), value.clone())),
        }
    }
    after.into()
}

fn problems(status: &Value, controller_name: &str) -> Problems {
    let list = |field: &str| status.get(field).and_then(Value::as_array).into_iter().flatten();
    let mut problems = Problems::new();
    of_conditions("", status, &mut problems);
    for listener in list("listeners") {
        of_conditions(&format!("listener {} ", text(listener, "name")), listener, &mut problems);
    }
    for parent in list("parents").filter(|parent| text(parent, "controllerName") == controller_name) {
        let reference = parent.get("parentRef").unwrap_or(&Value::Null);
        let section = reference.get("sectionName").and_then(Value::as_str).map(|section| format!("{section} ")).unwrap_or_default();
        of_conditions(&format!("parent {} {section}", text(reference, "name")), parent, &mut problems);
    }
    for ancestor in list("ancestors").filter(|ancestor| text(ancestor, "controllerName") == controller_name) {
        let reference = ancestor.get("ancestorRef").unwrap_or(&Value::Null);
        of_conditions(&format!("ancestor {} ", text(reference, "name")), ancestor, &mut problems);
    }
    for (key, entry) in status.get("statuses").and_then(Value::as_object).into_iter().flat_map(Map::iter) {
        let state = match entry.get("state") {
            Some(Value::String(state)) => state.as_str(),
            Some(Value::Number(number)) if number.as_u64() == Some(2) => "Rejected",
            Some(Value::Number(number)) if number.as_u64() == Some(3) => "Warning",
            _ => continue,
        };
        // The entries of Gloo's own controllers are theirs to tell of.
        if matches!(state, "Rejected" | "Warning") && text(entry, "reportedBy") == FIELD_MANAGER {
            problems.insert(key.clone(), (state.to_owned(), text(entry, "reason").to_owned()));
        }
    }
    problems
}

fn of_conditions(place: &str, holder: &Value, problems: &mut Problems) {
    for condition in holder.get("conditions").and_then(Value::as_array).into_iter().flatten() {
        let (kind, reason) = (text(condition, "type"), text(condition, "reason"));
        let is_bad = match text(condition, "status") {
            "False" => matches!(kind, "Accepted" | "Programmed" | "ResolvedRefs") && !is_on_its_way(reason, text(condition, "message")),
            "True" => matches!(kind, "Conflicted" | "PartiallyInvalid"),
            _ => false,
        };
        if is_bad {
            problems.insert(format!("{place}{kind}"), (reason.to_owned(), text(condition, "message").to_owned()));
        }
    }
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

/// The event of sessions that moved.
pub(super) fn of_move(moved: &Moved, controller_name: &str, identity: &str) -> Event {
    let Moved { object, uid, moved } = moved;
    let facts = object.kind.facts();
    let version = facts.versions.first().map(|version| match facts.group {
        "" => (*version).to_owned(),
        group => format!("{group}/{version}"),
    });
    let reference = ObjectReference { api_version: version, uid: uid.as_deref().map(str::to_owned), ..ObjectReference::default() };
    event(object, reference, ("Normal", "SessionsMoved", &moved.to_string()), controller_name, identity)
}

/// The event as it is written. `written`: the object as the API server has it now; `identity`: this pod.
pub(super) fn document(object: &ObjectRef, written: &Value, change: &Change, controller_name: &str, identity: &str) -> Event {
    let of_object = |field: &str| written.pointer(&format!("/metadata/{field}")).and_then(Value::as_str).map(str::to_owned);
    let (type_, reason, message) = match change {
        Change::Bad { reason, message } => ("Warning", reason.as_str(), message.as_str()),
        Change::Well => ("Normal", "Resolved", "no problem any more"),
    };
    let reference = ObjectReference {
        api_version: written.get("apiVersion").and_then(Value::as_str).map(str::to_owned),
        resource_version: of_object("resourceVersion"),
        uid: of_object("uid"),
        ..ObjectReference::default()
    };
    event(object, reference, (type_, reason, message), controller_name, identity)
}

/// An event of this type, reason and message. `reference`: version and uid of the object.
fn event(
    object: &ObjectRef,
    reference: ObjectReference,
    (type_, reason, message): (&str, &str, &str),
    controller_name: &str,
    identity: &str,
) -> Event {
    let now = jiff::Timestamp::now();
    let namespace = Some(object.name.namespace.to_string());
    let mut event = Event {
        involved_object: ObjectReference {
            kind: Some(object.kind.as_str().to_owned()),
            name: Some(object.name.name.to_string()),
            namespace: namespace.clone(),
            ..reference
        },
        type_: Some(type_.to_owned()),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        count: Some(1),
        first_timestamp: Some(Time(now)),
        last_timestamp: Some(Time(now)),
        source: Some(EventSource { component: Some(FIELD_MANAGER.to_owned()), ..EventSource::default() }),
        reporting_component: Some(controller_name.to_owned()),
        reporting_instance: Some(identity.to_owned()),
        ..Event::default()
    };
    event.metadata.namespace = namespace;
    // As clients of Kubernetes name their events; the object's name may be as long as a name may be.
    let name: String = object.name.name.chars().take(200).collect();
    event.metadata.name = Some(format!("{}.{:x}", name.trim_end_matches(['-', '.']), now.as_nanosecond()));
    event
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::base::MoveCause;
    use crate::snapshot::{Move, Remapped};

    const US: &str = "clingfish.dev/gateway-controller";

    fn condition(kind: &str, status: &str, reason: &str, message: &str) -> Value {
        json!({"type": kind, "status": status, "reason": reason, "message": message})
    }

    fn route(controller: &str, conditions: &[Value]) -> Value {
        json!({"parents": [{"controllerName": controller, "parentRef": {"name": "http"}, "conditions": conditions}]})
    }

    #[test]
    fn what_turns_bad_and_what_turns_well_is_told_once() {
        let good = route(US, &[condition("Accepted", "True", "Accepted", ""), condition("ResolvedRefs", "True", "ResolvedRefs", "")]);
        let missing = |message: &str| route(US, &[condition("ResolvedRefs", "False", "BackendNotFound", message)]);
        let bad = |reason: &str, message: &str| Some(Change::Bad { reason: reason.into(), message: message.into() });
        let none = json!({});
        let of = |before: &Value, after: &Value| change(Kind::HttpRoute, before, after, US);
        assert_eq!(of(&none, &good), None, "a new route that is well");
        assert_eq!(of(&none, &missing("no a")), bad("BackendNotFound", "parent http ResolvedRefs: no a"));
        assert_eq!(of(&good, &missing("no a")), bad("BackendNotFound", "parent http ResolvedRefs: no a"));
        assert_eq!(of(&missing("no a"), &missing("no a")), None, "it was told");
        assert_eq!(of(&missing("no a"), &missing("no b")), bad("BackendNotFound", "parent http ResolvedRefs: no b"));
        assert_eq!(of(&missing("no a"), &good), Some(Change::Well));
        assert_eq!(of(&route("other", &[condition("Accepted", "False", "X", "")]), &good), None, "somebody else's problem");
    }

    #[test]
    fn each_kind_tells_of_its_own_and_what_is_on_its_way_is_no_problem() {
        let gateway = |listener: Value, programmed: Value| json!({"conditions": [programmed], "listeners": [{"name": "https", "conditions": [listener]}]});
        let pending = condition("Programmed", "False", "Pending", "not bound yet");
        let address = condition("Programmed", "False", "AddressNotAssigned", "the load balancer has not given Service s an address yet");
        let refused = condition("Programmed", "False", "AddressNotAssigned", "Service s could not be written: quota");
        let refs = condition("ResolvedRefs", "False", "InvalidCertificateRef", "no Secret");
        let told = change(Kind::Gateway, &json!({}), &gateway(refs.clone(), pending.clone()), US);
        assert_eq!(
            told,
            Some(Change::Bad { reason: "InvalidCertificateRef".into(), message: "listener https ResolvedRefs: no Secret".into() })
        );
        assert_eq!(change(Kind::Gateway, &json!({}), &gateway(pending.clone(), pending), US), None);
        assert_eq!(change(Kind::Gateway, &json!({}), &json!({"conditions": [address]}), US), None);
        assert!(change(Kind::Gateway, &json!({}), &json!({"conditions": [refused]}), US).is_some());
        let gloo = |state: Value| json!({"statuses": {"clingfish": {"state": state, "reason": "field x", "reportedBy": "clingfish"}}});
        let theirs = json!({"statuses": {"gloo-system": {"state": "Rejected", "reason": "y", "reportedBy": "gloo"}}});
        for state in [json!("Rejected"), json!(2)] {
            let told = change(Kind::Upstream, &theirs, &gloo(state.clone()), US);
            assert_eq!(told, Some(Change::Bad { reason: "Rejected".into(), message: "clingfish: field x".into() }));
            assert_eq!(change(Kind::Upstream, &gloo(state), &gloo(json!("Accepted")), US), Some(Change::Well));
        }
        assert_eq!(change(Kind::GatewayClass, &json!({}), &json!({"conditions": [refs]}), US), None);
    }

    #[test]
    fn a_move_of_sessions_is_told_of_its_backend() {
        let moved = |kind| Moved {
            object: ObjectRef::new(kind, "shop", "cart"),
            uid: Some("u".into()),
            moved: Move { cause: MoveCause::Scale, hosts: (3, 5), remapped: Remapped { moved: 0.399, needless: 0.001 } },
        };
        for (kind, version) in [(Kind::Service, "v1"), (Kind::Upstream, "gloo.solo.io/v1")] {
            let event = of_move(&moved(kind), US, "pod-1");
            assert_eq!(event.involved_object.api_version.as_deref(), Some(version));
            assert_eq!(event.involved_object.uid.as_deref(), Some("u"));
            assert_eq!((event.type_.as_deref(), event.reason.as_deref()), (Some("Normal"), Some("SessionsMoved")));
            assert_eq!(event.message.as_deref(), Some("scale 3 -> 5 pods: 39.9 % of the sessions moved, 0.1 % needlessly"));
        }
    }

    #[test]
    fn an_event_names_its_object() {
        let object = ObjectRef::new(Kind::HttpRoute, "team", "x".repeat(253));
        let written = json!({"apiVersion": "gateway.networking.k8s.io/v1", "metadata": {"uid": "u", "resourceVersion": "7"}});
        let event = document(&object, &written, &Change::Well, US, "pod-1");
        assert_eq!(event.involved_object.uid.as_deref(), Some("u"));
        assert_eq!((event.metadata.namespace.as_deref(), event.type_.as_deref()), (Some("team"), Some("Normal")));
        assert!(event.metadata.name.is_some_and(|name| name.len() <= 253));
    }
}
