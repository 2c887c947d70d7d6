//! Gloo's `Upstream` and `RouteOption`. Fields that are honoured have members; every other field is kept as it came. Of the kinds that target
//! Gateways only the targets are read.

mod crds;
mod gateway_option;
mod route_option;
mod scalars;
mod upstream;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use crds::{CrdError, VERSION_ANNOTATION, crd_documents, crd_values, crds_yaml};
pub(in crate::api) use gateway_option::UnnamedGatewayOption;
pub use gateway_option::{GatewayOption, GatewayOptionSpec};
pub use route_option::{
    Cookie, HashPolicy, HeaderManipulation, HeaderToAdd, HeaderValueOption, LbHash, RegexPattern, RegexRewrite, Retries, RetryBackOff,
    RouteOption, RouteOptionSpec, RouteOptions, TargetRef,
};
pub(in crate::api) use scalars::open_object;
pub use scalars::{GoDuration, Uint};
pub use upstream::{
    CircuitBreakerConfig, ConnectionConfig, HttpProtocolOptions, KubeUpstream, LeastRequest, LoadBalancerConfig, RingHash, RingHashConfig,
    StaticHost, StaticUpstream, Upstream, UpstreamSpec,
};

/// Fields of a message that have no member here: kept, so that a status can name them.
pub type Unmodelled = BTreeMap<String, Value>;

/// A message without fields that are honoured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Empty {
    /// Fields that are not modelled.
    #[serde(flatten)]
    pub other: Unmodelled,
}

/// `status` of Gloo's kinds: one entry for each controller, with `state`, `reason` and `reportedBy`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GlooStatusMap {
    /// The entries, by a key that names the controller.
    #[serde(default)]
    #[schemars(schema_with = "scalars::open_object")]
    pub statuses: BTreeMap<String, Value>,
    /// Fields that are not modelled.
    #[serde(flatten)]
    pub other: Unmodelled,
}

// === impl Empty ===

impl JsonSchema for Empty {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Empty".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        open_object(generator)
    }
}
