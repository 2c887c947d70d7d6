//! XBackendTrafficPolicy of the Gateway API's experimental group (GEP-1619, GEP-3388).

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::session_persistence::SessionPersistence;

/// `gateway.networking.x-k8s.io/v1alpha1` XBackendTrafficPolicy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BackendTrafficPolicy {
    /// Group and version, as written.
    #[serde(rename = "apiVersion")]
    pub api_version: String,
    /// The kind, as written.
    pub kind: String,
    /// The object's `metadata`.
    pub metadata: ObjectMeta,
    /// The object's `spec`.
    pub spec: BackendTrafficPolicySpec,
}

/// `spec` of an XBackendTrafficPolicy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BackendTrafficPolicySpec {
    /// The backends that it is for, of its own namespace.
    #[serde(default, rename = "targetRefs")]
    pub target_refs: Vec<BackendTargetRef>,
    /// How sessions persist of rules that send requests to them.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "sessionPersistence")]
    pub session_persistence: Option<SessionPersistence>,
    /// Other fields.
    #[serde(flatten)]
    pub other: BTreeMap<String, Value>,
}

/// What an XBackendTrafficPolicy is for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BackendTargetRef {
    /// Group of the kind; empty for Services.
    #[serde(default)]
    pub group: String,
    /// The kind.
    pub kind: String,
    /// Name of the object.
    pub name: String,
}
