//! The objects of an export, by kind and name.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::base::{ObjectName, text::word};

use super::{
    document::{GATEWAY_API, Subject, items, text},
    output::Output,
    report::Effect,
};

/// `spec.controllerName` of Gloo's classes.
const GLOO_CONTROLLER: &str = "solo.io/gloo-gateway";

/// Gloo's class, also where the export does not have it.
const GLOO_CLASS: &str = "gloo-gateway";

/// What was exported.
#[derive(Debug)]
pub(super) struct Installation {
    objects: BTreeMap<Subject, Value>,
}

// === impl Installation ===

impl Installation {
    /// Of an object that is there twice the first one counts. What is no object is told.
    pub(super) fn new(documents: Vec<Value>, output: &mut Output) -> Self {
        let mut objects = BTreeMap::new();
        let mut waiting = documents;
        waiting.reverse();
        while let Some(document) = waiting.pop() {
            match list(document) {
                Ok(items) => waiting.extend(items.into_iter().rev()),
                Err(document) => match identified(&document) {
                    Ok(subject) => take(&mut objects, subject, document, output),
                    Err(missing) => {
                        let (kind, name) = (text(&document, "/kind"), text(&document, "/metadata/name"));
                        let which = [kind, name].into_iter().filter(|part| !part.is_empty()).map(|part| word(part).to_string());
                        let which = which.collect::<Vec<_>>().join(" ");
                        let which = if which.is_empty() { String::new() } else { format!(", {which},") };
                        output.note(Effect::Refused, "export", format!("a document{which} has no {missing}, and is not read"));
                    }
                },
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

/// Whose document it is, or the field that says so and is missing.
fn identified(document: &Value) -> Result<Subject, &'static str> {
    let fields = [("/apiVersion", "apiVersion"), ("/kind", "kind"), ("/metadata/name", "metadata.name")];
    match fields.into_iter().find(|(pointer, _)| text(document, pointer).is_empty()) {
        Some((_, missing)) => Err(missing),
        None => Ok(Subject::of(document)),
    }
}

fn take(objects: &mut BTreeMap<Subject, Value>, subject: Subject, document: Value, output: &mut Output) {
    match objects.get(&subject) {
        Some(first) if first.get("spec") == document.get("spec") => {}
        Some(_) => {
            output.note(Effect::ToDo, subject.to_string(), "is in the export more than once, and the first one counts: export again")
        }
        None => drop(objects.insert(subject, document)),
    }
}

/// The items of a list as `kubectl` or the API server writes it: the latter leaves apiVersion and kind of the items to the list.
fn list(mut document: Value) -> Result<Vec<Value>, Value> {
    let api_version = text(&document, "/apiVersion").to_owned();
    let item_kind = text(&document, "/kind").strip_suffix("List").map(str::to_owned);
    match document.get_mut("items").filter(|_| item_kind.is_some()).map(Value::take) {
        Some(Value::Array(mut items)) => {
            if let Some(kind) = item_kind.filter(|kind| !kind.is_empty()) {
                for item in items.iter_mut().filter_map(Value::as_object_mut) {
                    item.entry("apiVersion").or_insert_with(|| api_version.as_str().into());
                    item.entry("kind").or_insert_with(|| kind.as_str().into());
                }
            }
            Ok(items)
        }
        Some(other) => Ok(if other.is_null() { Vec::new() } else { vec![other] }),
        None => Err(document),
    }
}
