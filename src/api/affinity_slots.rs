//! `clingfish.dev/v1alpha1` AffinitySlots: which pod of a Service or Upstream has which slot. Written by the leader, read by all replicas.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Uint, Unmodelled};

/// `spec` of AffinitySlots.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "clingfish.dev",
    version = "v1alpha1",
    kind = "AffinitySlots",
    plural = "affinityslots",
    category = "gateway-api",
    namespaced,
    derive = "PartialEq",
    derive = "Default",
    doc = "Which pod of a Service or Upstream has which slot of its table, and since when its pods are there. The leader of the gateways writes it; nobody else need.",
    printcolumn = r#"{"name": "Target", "type": "string", "jsonPath": ".spec.targetRef.name"}"#,
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct AffinitySlotsSpec {
    /// The Service or Upstream of the same namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_ref: Option<SlotsTargetRef>,
    /// The slots, by number.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4096))]
    pub slots: Vec<SlotEntry>,
    /// Pods that wait for a slot, the longest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4096))]
    pub spares: Vec<SlotHolder>,
    /// When the first of the slots was opened, in seconds since the epoch, where the pods came after the map.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started: Option<Uint>,
    /// Value of the policy's annotation clingfish.dev/renumber-slots for which the slots were numbered anew last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub renumbered: Option<String>,
    /// Fields that there are not: they are refused by name.
    #[serde(flatten)]
    pub other: Unmodelled,
}

/// Whose slots they are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct SlotsTargetRef {
    /// API group: empty for a Service, `gloo.solo.io` for an Upstream.
    pub group: String,
    /// Service or Upstream.
    pub kind: String,
    /// Name of the object.
    pub name: String,
    /// Fields that there are not.
    #[serde(flatten)]
    pub other: Unmodelled,
}

/// A slot.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct SlotEntry {
    /// Its number, which stands for its pod in the table.
    pub number: Uint,
    /// The pod that has it; absent: it waits for an heir.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub holder: Option<SlotHolder>,
    /// Since when it has no pod, in seconds since the epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vacant_since: Option<Uint>,
    /// The pod that held it last: if it returns in time, it gets its slot back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left_by: Option<String>,
    /// Fields that there are not.
    #[serde(flatten)]
    pub other: Unmodelled,
}

/// A pod, and since when it has its slot or waits for one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct SlotHolder {
    /// Uid of the pod, or the address of a host that is no pod.
    pub pod: String,
    /// In seconds since the epoch.
    pub since: Uint,
    /// Fields that there are not.
    #[serde(flatten)]
    pub other: Unmodelled,
}
