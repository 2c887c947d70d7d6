//! A ConfigMap of the install: how it is, and how it becomes what it ought to be.

use std::collections::BTreeMap;

use k8s_openapi::{api::core::v1::ConfigMap, apimachinery::pkg::apis::meta::v1::OwnerReference};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::{Map, Value, json};

use crate::base::ObjectName;

use super::client::{CallError, FIELD_MANAGER, call};

/// A ConfigMap as it is.
#[derive(Clone, Debug, Default)]
pub(super) struct StoredMap {
    /// `metadata.resourceVersion`.
    pub(super) resource_version: String,
    /// `data`.
    pub(super) data: BTreeMap<String, String>,
    /// UIDs of `metadata.ownerReferences`.
    pub(super) owners: Vec<String>,
}

/// A write that is due.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum MapWrite {
    Create(BTreeMap<String, String>),
    Patch { resource_version: String, data: Map<String, Value>, owner: Option<OwnerReference> },
}

// === impl StoredMap ===

impl From<ConfigMap> for StoredMap {
    fn from(map: ConfigMap) -> Self {
        let owners = map.metadata.owner_references.unwrap_or_default();
        Self {
            resource_version: map.metadata.resource_version.unwrap_or_default(),
            data: map.data.unwrap_or_default(),
            owners: owners.into_iter().map(|owner| owner.uid).collect(),
        }
    }
}

impl StoredMap {
    /// The owner that it ought to have and does not: with the one that it has it would be deleted.
    pub(super) fn missing_owner(&self, owner: Option<&OwnerReference>) -> Option<OwnerReference> {
        owner.filter(|owner| !self.owners.contains(&owner.uid)).cloned()
    }
}

// === impl MapWrite ===

impl MapWrite {
    /// What makes data and owner those that are wanted; a patch may hold nothing.
    pub(super) fn new(wanted: BTreeMap<String, String>, stored: Option<&StoredMap>, owner: Option<&OwnerReference>) -> Self {
        let Some(stored) = stored else { return Self::Create(wanted) };
        let mut data: Map<String, Value> = Map::new();
        data.extend(
            wanted.iter().filter(|(key, value)| stored.data.get(*key) != Some(value)).map(|(key, value)| (key.clone(), json!(value))),
        );
        data.extend(stored.data.keys().filter(|key| !wanted.contains_key(*key)).map(|key| (key.clone(), Value::Null)));
        Self::Patch { resource_version: stored.resource_version.clone(), data, owner: stored.missing_owner(owner) }
    }

    /// Writes; how the ConfigMap is afterwards.
    pub(super) async fn send(self, client: &Client, name: &ObjectName, owner: Option<&OwnerReference>) -> Result<StoredMap, CallError> {
        let api: Api<ConfigMap> = Api::namespaced(client.clone(), &name.namespace);
        let stored = match self {
            Self::Create(data) => {
                let mut map = ConfigMap { data: Some(data), ..ConfigMap::default() };
                map.metadata.name = Some(name.name.to_string());
                map.metadata.owner_references = owner.cloned().map(|owner| vec![owner]);
                let parameters = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
                call(api.create(&parameters, &map)).await?
            }
            Self::Patch { resource_version, data, owner } => {
                let mut metadata = Map::from_iter([("resourceVersion".to_owned(), json!(resource_version))]);
                metadata.extend(owner.map(|owner| ("ownerReferences".to_owned(), json!([owner]))));
                let patch = json!({"metadata": metadata, "data": data});
                let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
                call(api.patch(&name.name, &parameters, &Patch::Merge(patch))).await?
            }
        };
        Ok(stored.into())
    }
}
