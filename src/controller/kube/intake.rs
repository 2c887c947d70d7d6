//! Turns events of watches into changes. Pure. It remembers what was sent on, so that of a new list only the differences are sent, and of
//! our own writes nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde_json::{Map, Value};
use xxhash_rust::xxh64::xxh64;

use crate::api::{DecodeError, Document, decode};
use crate::base::{Kind, ObjectName, ObjectRef, StatusShape};
use crate::translate::{Change, infrastructure::is_candidate};

use super::{class_finalizer::SeenClass, discovery::Served, object::RawObject, status::Seen};

/// What one event of a watch, or one list, changes.
#[derive(Debug, Default)]
pub(super) struct WatchDelta {
    /// For translation.
    pub(super) changes: Vec<Change>,
    /// For the status writer: statuses as they are in the cluster, `None` where the object is gone.
    pub(super) statuses: Vec<(ObjectRef, Option<Seen>)>,
    /// Services that may stand in front of Gateways, as they are; `None` where they are gone.
    pub(super) services: Vec<(ObjectName, Option<Value>)>,
    /// GatewayClasses as they are; `None` where they are gone.
    pub(super) classes: Vec<(Box<str>, Option<SeenClass>)>,
}

/// What a watch has sent on.
#[derive(Debug)]
pub(super) struct Intake {
    kind: Kind,
    /// Hash of each object's content as it was sent on; `None`: to be sent on again.
    known: BTreeMap<ObjectName, Option<u64>>,
    /// Names in the list that is being read, and what it changes so far.
    list: Option<(BTreeSet<ObjectName>, WatchDelta)>,
}

// === impl Intake ===

impl Intake {
    /// Nothing was sent on yet.
    pub(super) fn new(kind: Kind) -> Self {
        Self { kind, known: BTreeMap::new(), list: None }
    }

    /// The receiver may have lost some changes: all that the next list holds is sent on again, and what it does not hold counts as deleted.
    pub(super) fn forget_contents(&mut self) {
        self.known.values_mut().for_each(|hash| *hash = None);
        self.list = None;
    }

    /// A list begins.
    pub(super) fn begin_list(&mut self) {
        self.list = Some((BTreeSet::new(), WatchDelta::default()));
    }

    /// An object of the list.
    pub(super) fn list_item(&mut self, object: RawObject, served: &Arc<Served>) {
        let (mut names, mut delta) = self.list.take().unwrap_or_default();
        names.insert(object.name());
        self.take(object, served, &mut delta);
        self.list = Some((names, delta));
    }

    /// The list is complete: the difference to what was sent on, as one batch.
    pub(super) fn end_list(&mut self) -> WatchDelta {
        let (names, mut delta) = self.list.take().unwrap_or_default();
        let gone: Vec<ObjectName> = self.known.keys().filter(|name| !names.contains(*name)).cloned().collect();
        for name in gone {
            self.remove(name, &mut delta);
        }
        delta
    }

    /// The kind itself is gone, and all its objects with it.
    pub(super) fn clear(&mut self) -> WatchDelta {
        self.begin_list();
        self.end_list()
    }

    /// An object came or changed.
    pub(super) fn apply(&mut self, object: RawObject, served: &Arc<Served>) -> WatchDelta {
        let mut delta = WatchDelta::default();
        self.take(object, served, &mut delta);
        delta
    }

    /// An object is gone.
    pub(super) fn delete(&mut self, name: ObjectName) -> WatchDelta {
        let mut delta = WatchDelta::default();
        if self.known.contains_key(&name) {
            self.remove(name, &mut delta);
        }
        delta
    }

    fn take(&mut self, object: RawObject, served: &Arc<Served>, delta: &mut WatchDelta) {
        let name = object.name();
        if has_status_of_ours(self.kind) {
            let reference = ObjectRef { kind: self.kind, name: name.clone() };
            delta.statuses.push((reference, Some(Seen::of(&object, served))));
        }
        if self.kind == Kind::Service && is_candidate(&name) {
            delta.services.push((name.clone(), Some(object.document().clone())));
        }
        if self.kind == Kind::GatewayClass {
            delta.classes.push((name.name.clone(), Some(SeenClass::of(object.document()))));
        }
        let hash = content_hash(object.document(), keeps_generation(self.kind));
        if self.known.get(&name) == Some(&Some(hash)) {
            return;
        }
        self.known.insert(name.clone(), Some(hash));
        delta.changes.push(self.change(name, object.into_document(&served.resource)));
    }

    fn change(&self, name: ObjectName, document: Value) -> Change {
        let object = Some(ObjectRef { kind: self.kind, name });
        let uid: Option<Box<str>> = document.pointer("/metadata/uid").and_then(Value::as_str).map(Into::into);
        let refused = |field: &str, message: String| DecodeError {
            object: object.clone(),
            generation: None,
            uid: uid.clone(),
            field: field.into(),
            message: message.into(),
            outline: None,
        };
        match decode(document) {
            Ok(Document::Object(decoded)) if decoded.kind() == self.kind => Change::apply(decoded),
            Ok(Document::Object(decoded)) => {
                Change::Undecodable(refused("kind", format!("expected {}, found {}", self.kind, decoded.kind())))
            }
            Ok(Document::Other(other)) => Change::Undecodable(refused("apiVersion", format!("{other} is not read by this version"))),
            Ok(Document::List(_)) => Change::Undecodable(refused("kind", format!("expected {}, found a list", self.kind))),
            Err(error) => Change::Undecodable(DecodeError { object: error.object.clone().or(object), uid, ..error }),
        }
    }

    fn remove(&mut self, name: ObjectName, delta: &mut WatchDelta) {
        self.known.remove(&name);
        let reference = ObjectRef { kind: self.kind, name };
        if has_status_of_ours(self.kind) {
            delta.statuses.push((reference.clone(), None));
        }
        if self.kind == Kind::Service && is_candidate(&reference.name) {
            delta.services.push((reference.name.clone(), None));
        }
        if self.kind == Kind::GatewayClass {
            delta.classes.push((reference.name.name.clone(), None));
        }
        delta.changes.push(Change::Delete(reference));
    }
}

/// Kinds into whose status we write.
fn has_status_of_ours(kind: Kind) -> bool {
    kind.facts().status != StatusShape::None
}

/// Whether `metadata.generation` counts as content: statuses echo it. Not with Gloo's kinds: without a status subresource our own write of a
/// status is a new generation.
fn keeps_generation(kind: Kind) -> bool {
    kind.facts().status != StatusShape::Gloo
}

/// Hash of everything but the status and the counters that change with it.
fn content_hash(document: &Value, with_generation: bool) -> u64 {
    let mut text = Content(Vec::with_capacity(1024));
    let Some(document) = document.as_object() else { return 0 };
    for (key, value) in document {
        match (key.as_str(), value) {
            ("status", _) => {}
            ("metadata", Value::Object(metadata)) => text.metadata(metadata, with_generation),
            _ => text.field(key, value),
        }
    }
    xxh64(&text.0, 0)
}

/// What is hashed, in one piece: a hasher that is fed token by token takes several times as long.
struct Content(Vec<u8>);

impl Content {
    fn metadata(&mut self, metadata: &Map<String, Value>, with_generation: bool) {
        for (key, value) in metadata {
            match key.as_str() {
                "resourceVersion" | "managedFields" => {}
                "generation" if !with_generation => {}
                _ => self.field(key, value),
            }
        }
    }

    fn field(&mut self, key: &str, value: &Value) {
        self.0.extend_from_slice(key.as_bytes());
        // Writing into a vector cannot fail, and keys are text.
        let _ = serde_json::to_writer(&mut self.0, value);
        self.0.push(0);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::controller::kube::discovery;

    fn served(kind: Kind) -> Arc<Served> {
        Arc::new(Served { resource: discovery::resource(kind, "v1"), has_status: true })
    }

    fn intake(kind: Kind) -> Intake {
        Intake::new(kind)
    }

    fn upstream(name: &str, version: u64, spec: Value) -> RawObject {
        RawObject::from(json!({
            "apiVersion": "gloo.solo.io/v1", "kind": "Upstream", "spec": spec, "status": {"at": version},
            "metadata": {"name": name, "namespace": "n", "resourceVersion": version.to_string(), "generation": version},
        }))
    }

    fn words(delta: &WatchDelta) -> Vec<String> {
        let word = |change: &Change| match change {
            Change::Apply(object) => format!("apply {}", object.object_ref().name),
            Change::Route(route) => format!("apply {}", route.object().name),
            Change::Delete(object) => format!("delete {}", object.name),
            Change::Undecodable(error) => format!("undecodable {}", error.object.as_ref().unwrap().name),
            Change::Unparsed(_) => "a cluster has no files".to_owned(),
        };
        delta.changes.iter().map(word).collect()
    }

    #[test]
    fn a_new_list_is_the_difference_as_one_batch() {
        let served = served(Kind::Upstream);
        let mut intake = intake(Kind::Upstream);
        intake.begin_list();
        for name in ["a", "b", "c"] {
            intake.list_item(upstream(name, 1, json!({})), &served);
        }
        assert_eq!(words(&intake.end_list()), ["apply n/a", "apply n/b", "apply n/c"]);

        intake.begin_list();
        intake.list_item(upstream("a", 1, json!({})), &served);
        intake.list_item(upstream("c", 2, json!({"kube": {}})), &served);
        intake.list_item(upstream("d", 2, json!({})), &served);
        let delta = intake.end_list();
        assert_eq!(words(&delta), ["apply n/c", "apply n/d", "delete n/b"]);
        assert_eq!(delta.statuses.len(), 4);

        intake.forget_contents();
        intake.begin_list();
        intake.list_item(upstream("a", 1, json!({})), &served);
        assert_eq!(words(&intake.end_list()), ["apply n/a", "delete n/c", "delete n/d"]);
        assert_eq!(words(&intake.clear()), ["delete n/a"]);
    }

    #[test]
    fn a_list_that_was_broken_off_changes_nothing() {
        let served = served(Kind::Upstream);
        let mut intake = intake(Kind::Upstream);
        intake.apply(upstream("a", 1, json!({})), &served);
        intake.begin_list();
        intake.begin_list();
        intake.list_item(upstream("a", 1, json!({})), &served);
        assert!(words(&intake.end_list()).is_empty());
    }

    #[test]
    fn our_own_status_is_no_change() {
        let served = served(Kind::Upstream);
        let mut intake = intake(Kind::Upstream);
        assert_eq!(words(&intake.apply(upstream("a", 1, json!({})), &served)), ["apply n/a"]);
        let delta = intake.apply(upstream("a", 2, json!({})), &served);
        assert!(delta.changes.is_empty() && delta.statuses.len() == 1);
        assert_eq!(words(&intake.apply(upstream("a", 3, json!({"kube": {}})), &served)), ["apply n/a"]);
        assert_eq!(words(&intake.delete(ObjectName::new("n", "a"))), ["delete n/a"]);
        assert!(words(&intake.delete(ObjectName::new("n", "a"))).is_empty());
    }

    #[test]
    fn a_generation_counts_where_a_status_echoes_it() {
        let gateway = |generation: u64| {
            RawObject::from(json!({
                "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": "g", "namespace": "n", "generation": generation},
                "spec": {"gatewayClassName": "c", "listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}]},
            }))
        };
        let served = served(Kind::Gateway);
        let mut intake = intake(Kind::Gateway);
        for (generation, changes) in [(1, 1), (1, 0), (2, 1)] {
            assert_eq!(intake.apply(gateway(generation), &served).changes.len(), changes, "generation {generation}");
        }
    }

    #[test]
    fn what_cannot_be_decoded_is_told_once_and_heals() {
        let served = served(Kind::Upstream);
        let mut intake = intake(Kind::Upstream);
        let broken = || json!({"loadBalancerConfig": {"ringHash": 5}});
        assert_eq!(words(&intake.apply(upstream("a", 1, broken()), &served)), ["undecodable n/a"]);
        assert!(words(&intake.apply(upstream("a", 2, broken()), &served)).is_empty());
        assert_eq!(words(&intake.apply(upstream("a", 3, json!({})), &served)), ["apply n/a"]);
    }
}
