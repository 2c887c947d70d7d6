//! `gateway.solo.io/v1` VirtualHostOption, ListenerOption and HttpListenerOption: what they target; their options are kept as they came.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize, Serializer, ser::SerializeStruct as _};

use crate::base::Kind;

use super::{TargetRef, Unmodelled};

/// An object of one of `Kind::GATEWAY_OPTIONS`.
#[derive(Clone, Debug, PartialEq)]
pub struct GatewayOption {
    /// Which of them.
    pub kind: Kind,
    /// The object's `metadata`.
    pub metadata: ObjectMeta,
    /// The object's `spec`.
    pub spec: GatewayOptionSpec,
}

/// `spec` of such an object. No value of an option makes it unreadable: that an option is there is what matters.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewayOptionSpec {
    /// Gateways of the same namespace, or listeners of them, which get the options.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_refs: Option<Vec<TargetRef>>,
    /// Everything else, the options among it.
    #[serde(flatten)]
    pub other: Unmodelled,
}

/// The object without its kind.
#[derive(Deserialize)]
pub(in crate::api) struct UnnamedGatewayOption {
    metadata: ObjectMeta,
    spec: GatewayOptionSpec,
}

// === impl GatewayOption ===

impl Serialize for GatewayOption {
    /// As a document that can be decoded.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut document = serializer.serialize_struct("GatewayOption", 4)?;
        document.serialize_field("apiVersion", &format!("{}/v1", self.kind.group()))?;
        document.serialize_field("kind", self.kind.as_str())?;
        document.serialize_field("metadata", &self.metadata)?;
        document.serialize_field("spec", &self.spec)?;
        document.end()
    }
}

// === impl UnnamedGatewayOption ===

impl UnnamedGatewayOption {
    /// The object, which is of this kind.
    pub(in crate::api) fn of_kind(self, kind: Kind) -> GatewayOption {
        let Self { metadata, spec } = self;
        GatewayOption { kind, metadata, spec }
    }
}
