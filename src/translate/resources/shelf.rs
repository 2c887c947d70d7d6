//! What can be done with the stored objects of a kind, whatever their type is.

use std::{collections::BTreeMap, sync::Arc};

use serde::Serialize;
use serde_json::Value;

use crate::api::HasMetadata;
use crate::base::{Kind, ObjectName, ObjectRef};

use super::change::PackedForm;

/// Objects by name.
pub(super) type Store<T> = BTreeMap<ObjectName, Arc<T>>;

/// The stored objects of one kind, or of some that have one type.
pub(super) trait Shelf {
    /// Forgets an object.
    fn remove(&mut self, object: &ObjectRef);

    /// `metadata.generation` of an object; `Some(None)` where it has none.
    fn generation(&self, object: &ObjectRef) -> Option<Option<i64>>;

    /// The names of all objects of the kind.
    fn names(&self, kind: Kind) -> Vec<ObjectName>;

    /// An object as it would be written.
    fn document(&self, object: &ObjectRef) -> Option<Value>;
}

impl<T: HasMetadata + Serialize> Shelf for Store<T> {
    fn remove(&mut self, object: &ObjectRef) {
        self.remove_entry(&object.name);
    }

    fn generation(&self, object: &ObjectRef) -> Option<Option<i64>> {
        Some(self.get(&object.name)?.metadata().generation)
    }

    fn names(&self, _: Kind) -> Vec<ObjectName> {
        self.keys().cloned().collect()
    }

    fn document(&self, object: &ObjectRef) -> Option<Value> {
        serde_json::to_value(self.get(&object.name)?).ok()
    }
}

impl<T: HasMetadata + Serialize> Shelf for BTreeMap<ObjectRef, Arc<T>> {
    fn remove(&mut self, object: &ObjectRef) {
        self.remove_entry(object);
    }

    fn generation(&self, object: &ObjectRef) -> Option<Option<i64>> {
        Some(self.get(object)?.metadata().generation)
    }

    fn names(&self, kind: Kind) -> Vec<ObjectName> {
        names_of(kind, self)
    }

    fn document(&self, object: &ObjectRef) -> Option<Value> {
        serde_json::to_value(self.get(object)?).ok()
    }
}

impl Shelf for BTreeMap<ObjectRef, PackedForm> {
    fn remove(&mut self, object: &ObjectRef) {
        self.remove_entry(object);
    }

    fn generation(&self, object: &ObjectRef) -> Option<Option<i64>> {
        Some(self.get(object)?.generation())
    }

    fn names(&self, kind: Kind) -> Vec<ObjectName> {
        names_of(kind, self)
    }

    fn document(&self, object: &ObjectRef) -> Option<Value> {
        Some(self.get(object)?.unpack()?.of_kind(object.kind).document())
    }
}

fn names_of<T>(kind: Kind, objects: &BTreeMap<ObjectRef, T>) -> Vec<ObjectName> {
    let first = ObjectRef { kind, name: ObjectName::default() };
    objects.range(first..).take_while(|(object, _)| object.kind == kind).map(|(object, _)| object.name.clone()).collect()
}
