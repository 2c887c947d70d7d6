//! Objects as they were exported: JSON, so that nothing of one that is written back is lost.

use std::fmt;

use serde_json::{Map, Value};

use crate::base::{Kind, ObjectName, text::word};

/// The group of the Gateway API.
pub(super) const GATEWAY_API: &str = "gateway.networking.k8s.io";

/// kubectl's copy of the whole object, in the object.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Group, kind, namespace and name of an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Subject {
    pub(super) group: String,
    pub(super) kind: String,
    pub(super) namespace: String,
    pub(super) name: String,
}

// === impl Subject ===

impl Subject {
    pub(super) fn of(document: &Value) -> Self {
        let api_version = text(document, "/apiVersion");
        let group = api_version.rsplit_once('/').map_or("", |(group, _)| group);
        let (kind, name) = (text(document, "/kind"), text(document, "/metadata/name"));
        let namespace = match text(document, "/metadata/namespace") {
            "" if is_namespaced(group, kind) => "default",
            namespace => namespace,
        };
        Self { group: group.to_owned(), kind: kind.to_owned(), namespace: namespace.to_owned(), name: name.to_owned() }
    }

    pub(super) fn object_name(&self) -> ObjectName {
        ObjectName::new(self.namespace.as_str(), self.name.as_str())
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", word(&self.kind), self.object_name())
    }
}

/// Groups of other gateways and of Kubernetes whose kinds live in namespaces, as far as they are looked at.
const NAMESPACED: [&str; 8] = [
    "clingfish.dev",
    "gateway.envoyproxy.io",
    "gateway.kgateway.dev",
    "networking.istio.io",
    "networking.k8s.io",
    "projectcontour.io",
    "security.istio.io",
    "traefik.io",
];

/// Whether an object of the kind lives in a namespace: all of Gloo's do, of the others it is known where it matters.
fn is_namespaced(group: &str, kind: &str) -> bool {
    let is_known = || kind != "IngressClass" && (group.ends_with("solo.io") || NAMESPACED.contains(&group));
    Kind::from_group_kind(group, kind).map_or_else(is_known, Kind::is_namespaced)
}

/// A string of a document; empty where there is none.
pub(super) fn text<'a>(document: &'a Value, pointer: &str) -> &'a str {
    document.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The items of a list with their indexes; none where there is no list.
pub(super) fn items<'a>(document: &'a Value, pointer: &str) -> impl Iterator<Item = (usize, &'a Value)> {
    document.pointer(pointer).and_then(Value::as_array).into_iter().flatten().enumerate()
}

/// The members of an object; none where there is no object.
pub(super) fn members<'a>(document: &'a Value, pointer: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    document.pointer(pointer).and_then(Value::as_object).into_iter().flatten()
}

/// The Gateway that a parentRef of a route names; `None`: it names something else.
pub(super) fn parent_name(subject: &Subject, parent: &Value) -> Option<ObjectName> {
    let kind = parent.get("kind").and_then(Value::as_str).unwrap_or("Gateway");
    let namespace = parent.get("namespace").and_then(Value::as_str).unwrap_or(&subject.namespace);
    (kind == "Gateway").then(|| ObjectName::new(namespace, text(parent, "/name")))
}

/// The object that takes an exported one's place: without status and without what the API server writes, but with its age, which orders routes.
/// A route keeps its `resourceVersion`, so that nothing is undone that has changed since the export. Gloo's kinds have no status subresource:
/// every status that somebody writes would be such a change.
pub(super) fn replacement(document: &Value) -> Value {
    let has_status_subresource = Subject::of(document).group == GATEWAY_API;
    let mut document = document.clone();
    if let Some(object) = document.as_object_mut() {
        object.remove("status");
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            for written in ["managedFields", "uid", "generation", "selfLink"] {
                metadata.remove(written);
            }
            if !has_status_subresource {
                metadata.remove("resourceVersion");
            }
            without(metadata, "annotations", LAST_APPLIED);
        }
    }
    document
}

/// The same reference to an object of another name.
pub(super) fn renamed(reference: &Value, name: &str) -> Value {
    let mut reference = reference.clone();
    if let Some(members) = reference.as_object_mut() {
        members.insert("name".to_owned(), name.into());
    }
    reference
}

/// Takes a member out of a map of `metadata`, and the map itself where it was the last.
pub(super) fn without(metadata: &mut Map<String, Value>, map: &str, member: &str) {
    let Some(members) = metadata.get_mut(map).and_then(Value::as_object_mut) else { return };
    members.remove(member);
    if members.is_empty() {
        metadata.remove(map);
    }
}

/// Names of annotations or labels that a person, or a tool of his, has written.
pub(super) fn written(document: &Value, map: &str) -> Vec<String> {
    members(document, &format!("/metadata/{map}")).map(|(name, _)| name.clone()).filter(|name| name != LAST_APPLIED).collect()
}
