//! The objects of an export, by kind and name.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::base::ObjectName;

use super::document::{Subject, items, text};

/// `spec.controllerName` of Gloo's classes.
const GLOO_CONTROLLER: &str = "solo.io/gloo-gateway";

/// Gloo's class, also where the export does not have it.
const GLOO_CLASS: &str = "gloo-gateway";

pub(super) const GATEWAY_API: &str = "gateway.networking.k8s.io";

/// What was exported.
#[derive(Debug)]
pub(super) struct Installation {
    objects: BTreeMap<Subject, Value>,
}

// === impl Installation ===

impl Installation {
    /// Of an object that is there twice the first one counts.
    pub(super) fn new(documents: Vec<Value>) -> Self {
        let mut objects = BTreeMap::new();
        let mut waiting = documents;
        waiting.reverse();
        while let Some(document) = waiting.pop() {
            match list(document) {
                Ok(items) => waiting.extend(items.into_iter().rev()),
                Err(document) => {
                    let subject = Subject::of(&document);
                    if !subject.name.is_empty() {
                        objects.entry(subject).or_insert(document);
                    }
                }
            }
        }
        Self { objects }
    }

    pub(super) fn objects(&self) -> impl Iterator<Item = (&Subject, &Value)> {
        self.objects.iter()
    }

    pub(super) fn of<'a>(&'a self, group: &'a str, kind: &'a str) -> impl Iterator<Item = (&'a Subject, &'a Value)> {
        self.objects.iter().filter(move |(subject, _)| subject.group == group && subject.kind == kind)
    }

    pub(super) fn get(&self, group: &str, kind: &str, name: &ObjectName) -> Option<&Value> {
        let (namespace, name) = (name.namespace.to_string(), name.name.to_string());
        self.objects.get(&Subject { group: group.to_owned(), kind: kind.to_owned(), namespace, name })
    }

    /// Names of Gloo's classes.
    pub(super) fn gloo_classes(&self) -> BTreeSet<&str> {
        let classes = self.of(GATEWAY_API, "GatewayClass");
        let glooish = classes.filter(|(_, class)| text(class, "/spec/controllerName") == GLOO_CONTROLLER);
        glooish.map(|(subject, _)| subject.name.as_str()).chain([GLOO_CLASS]).collect()
    }

    /// Gateways of Gloo's classes.
    pub(super) fn gloo_gateways(&self) -> impl Iterator<Item = (&Subject, &Value)> {
        let classes = self.gloo_classes();
        self.of(GATEWAY_API, "Gateway").filter(move |(_, gateway)| classes.contains(text(gateway, "/spec/gatewayClassName")))
    }

    /// Whether a ReferenceGrant lets Gateways of a namespace use a Secret.
    pub(super) fn grants_secret(&self, gateways: &str, secret: &ObjectName) -> bool {
        let of_namespace = self.of(GATEWAY_API, "ReferenceGrant").filter(|(subject, _)| *subject.namespace == *secret.namespace);
        let mut grants = of_namespace.map(|(_, grant)| grant);
        grants.any(|grant| {
            let from = items(grant, "/spec/from").any(|(_, from)| {
                (text(from, "/group"), text(from, "/kind"), text(from, "/namespace")) == (GATEWAY_API, "Gateway", gateways)
            });
            let is_meant = |to: &Value| text(to, "/name").is_empty() || *text(to, "/name") == *secret.name;
            let to = items(grant, "/spec/to").any(|(_, to)| (text(to, "/group"), text(to, "/kind")) == ("", "Secret") && is_meant(to));
            from && to
        })
    }
}

/// The items of a list as `kubectl` writes it.
fn list(mut document: Value) -> Result<Vec<Value>, Value> {
    let is_list = text(&document, "/kind").ends_with("List");
    match document.get_mut("items").filter(|_| is_list).map(Value::take) {
        Some(Value::Array(items)) => Ok(items),
        Some(other) => Ok(if other.is_null() { Vec::new() } else { vec![other] }),
        None => Err(document),
    }
}
