//! Objects as the API server sends them, untyped: what cannot be decoded must not stall a watch, and what we do not know must survive a write.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::{ApiResource, DynamicResourceScope, Resource};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor},
};
use serde_json::{Map, Value};

use crate::base::ObjectName;

/// An object with every field that the API server sent, except `metadata.managedFields`.
#[derive(Clone, Debug)]
pub(super) struct RawObject {
    /// Name, namespace, UID, resourceVersion and generation.
    meta: ObjectMeta,
    document: Value,
}

// === impl RawObject ===

impl RawObject {
    /// Namespace and name.
    pub(super) fn name(&self) -> ObjectName {
        ObjectName::new(self.meta.namespace.as_deref().unwrap_or_default(), self.meta.name.as_deref().unwrap_or_default())
    }

    /// `metadata.resourceVersion`.
    pub(super) fn resource_version(&self) -> &str {
        self.meta.resource_version.as_deref().unwrap_or_default()
    }

    /// The whole object.
    pub(super) fn document(&self) -> &Value {
        &self.document
    }

    /// The whole object, with the apiVersion and kind that items of a list lack.
    pub(super) fn into_document(mut self, resource: &ApiResource) -> Value {
        if let Some(document) = self.document.as_object_mut() {
            document.entry("apiVersion").or_insert_with(|| resource.api_version.clone().into());
            document.entry("kind").or_insert_with(|| resource.kind.clone().into());
        }
        self.document
    }
}

impl From<Value> for RawObject {
    fn from(mut document: Value) -> Self {
        let mut meta = ObjectMeta::default();
        if let Some(Value::Object(metadata)) = document.get_mut("metadata") {
            metadata.remove("managedFields");
            let text = |key: &str| metadata.get(key).and_then(Value::as_str).map(ToOwned::to_owned);
            meta.name = text("name");
            meta.namespace = text("namespace");
            meta.uid = text("uid");
            meta.resource_version = text("resourceVersion");
            meta.generation = metadata.get("generation").and_then(Value::as_i64);
        }
        Self { meta, document }
    }
}

impl<'de> Deserialize<'de> for RawObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Fields { of_metadata: false }).map(Self::from)
    }
}

/// Reads an object or its metadata, and passes over `managedFields` without building them: they are half of what the API server sends.
#[derive(Clone, Copy)]
struct Fields {
    of_metadata: bool,
}

impl<'de> Visitor<'de> for Fields {
    type Value = Value;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut fields = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            let value = match (self.of_metadata, key.as_str()) {
                (true, "managedFields") => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
                (false, "metadata") => map.next_value_seed(Self { of_metadata: true })?,
                _ => map.next_value()?,
            };
            fields.insert(key, value);
        }
        Ok(Value::Object(fields))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
}

impl<'de> DeserializeSeed<'de> for Fields {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Serialize for RawObject {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.document.serialize(serializer)
    }
}

impl Resource for RawObject {
    type DynamicType = ApiResource;
    type Scope = DynamicResourceScope;

    fn kind(resource: &ApiResource) -> Cow<'_, str> {
        resource.kind.as_str().into()
    }

    fn group(resource: &ApiResource) -> Cow<'_, str> {
        resource.group.as_str().into()
    }

    fn version(resource: &ApiResource) -> Cow<'_, str> {
        resource.version.as_str().into()
    }

    fn api_version(resource: &ApiResource) -> Cow<'_, str> {
        resource.api_version.as_str().into()
    }

    fn plural(resource: &ApiResource) -> Cow<'_, str> {
        resource.plural.as_str().into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.meta
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.meta
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn keeps_everything_but_managed_fields() {
        let text = r#"{"metadata": {"managedFields": [1], "name": "a", "namespace": "n", "resourceVersion": "5"}, "odd": {"x": [null]}}"#;
        let object: RawObject = serde_json::from_str(text).unwrap();
        assert!(serde_json::from_str::<RawObject>(r#"{"metadata": null}"#).unwrap().name().name.is_empty());
        assert_eq!((object.name(), object.resource_version()), (ObjectName::new("n", "a"), "5"));
        let resource =
            ApiResource { group: String::new(), version: "v1".into(), api_version: "v1".into(), kind: "Odd".into(), plural: "odds".into() };
        let expected = json!({
            "apiVersion": "v1", "kind": "Odd", "odd": {"x": [null]},
            "metadata": {"name": "a", "namespace": "n", "resourceVersion": "5"},
        });
        assert_eq!(object.into_document(&resource), expected);
    }
}
