//! ListenerSet: listeners that are added to a Gateway, each with the fields of a Gateway's own.

use gateway_api::experimental::{gateways::GatewayListeners, listenersets::ListenerSetParentRef};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};

/// A ListenerSet (Gateway API, `ListenerSet`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListenerSet {
    /// As in the document, so that a kept version can be read again.
    pub api_version: String,
    /// As in the document.
    pub kind: String,
    /// The object's `metadata`.
    pub metadata: ObjectMeta,
    /// The object's `spec`.
    pub spec: ListenerSetSpec,
}

/// `spec` of a ListenerSet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListenerSetSpec {
    /// The Gateway.
    pub parent_ref: ListenerSetParentRef,
    /// The listeners, in the order written.
    pub listeners: Vec<GatewayListeners>,
}
