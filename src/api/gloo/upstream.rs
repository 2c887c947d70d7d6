//! `gloo.solo.io/v1` Upstream.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Empty, GlooStatusMap, GoDuration, Uint, Unmodelled};

/// `spec` of an Upstream: where requests go, and how.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "gloo.solo.io",
    version = "v1",
    kind = "Upstream",
    plural = "upstreams",
    shortname = "us",
    shortname = "gus",
    category = "gloo-gateway",
    namespaced,
    status = "GlooStatusMap",
    derive = "PartialEq",
    derive = "Default",
    doc = "Where requests go, and how a host is chosen.",
    printcolumn = r#"{"name": "State", "type": "string", "jsonPath": ".status.statuses.*.state"}"#,
    printcolumn = r#"{"name": "Reason", "type": "string", "jsonPath": ".status.statuses.*.reason"}"#,
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct UpstreamSpec {
    /// A port of a Kubernetes Service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kube: Option<KubeUpstream>,
    /// Hosts by address or DNS name.
    #[serde(rename = "static", skip_serializing_if = "Option::is_none")]
    pub static_hosts: Option<StaticUpstream>,
    /// How a host is chosen; absent: round robin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load_balancer_config: Option<LoadBalancerConfig>,
    /// Settings of the connections to the hosts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection_config: Option<ConnectionConfig>,
    /// Limits on what is in flight to the hosts at a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub circuit_breakers: Option<CircuitBreakerConfig>,
    /// HTTP/2 to the hosts: not supported; they are spoken to in HTTP/1.1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub use_http2: Option<bool>,
    /// The PROXY protocol to the hosts: `V1` or `V2`; absent: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy_protocol_version: Option<String>,
    /// Fields that are not modelled.
    #[serde(flatten)]
    pub other: Unmodelled,
}

/// A port of a Kubernetes Service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct KubeUpstream {
    /// Name of the Service.
    pub service_name: String,
    /// Namespace of the Service. It has no default.
    pub service_namespace: String,
    /// Port of the Service, by number.
    pub service_port: Uint,
    /// Fields that are not modelled.
    #[serde(flatten)]
    pub other: Unmodelled,
}

/// Hosts by address or DNS name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct StaticUpstream {
    /// The hosts.
    pub hosts: Vec<StaticHost>,
    /// TLS to the hosts: not supported, so true is rejected. Absent counts as true if any host has port 443.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub use_tls: Option<bool>,
    /// Fields that are not modelled.
    #[serde(flatten)]
    pub other: Unmodelled,
}

/// A host by address or DNS name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct StaticHost {
    /// IP address or DNS name.
    pub addr: String,
    /// Port, 1 to 65535.
    pub port: Uint,
    /// Weight among the hosts, at least 1; absent: 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load_balancing_weight: Option<Uint>,
    /// Fields that are not modelled.
    #[serde(flatten)]
    pub other: Unmodelled,
}

/// How a host is chosen. At most one of the five algorithms.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LoadBalancerConfig {
    /// Each host in turn.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub round_robin: Option<Empty>,
    /// The host with the fewest requests in flight of a few that are picked at random.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub least_request: Option<LeastRequest>,
    /// A host at random.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub random: Option<Empty>,
    /// Consistent hashing on a ring.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ring_hash: Option<RingHash>,
    /// Consistent hashing by a Maglev table.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maglev: Option<Empty>,
    /// If less than this percentage of the hosts is healthy, their health is ignored: 0 to 100; absent: 50, 0: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthy_panic_threshold: Option<f64>,
    /// Accepted without effect: it delays updates in Envoy, and they take effect at once here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub update_merge_window: Option<GoDuration>,
    /// Whether the hosts' names are hashed, and not their addresses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub use_hostname_for_hashing: Option<bool>,
    /// Whether new connections are made when the set of hosts changes. Requests in flight finish on the old ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub close_connections_on_host_set_change: Option<bool>,
    /// Fields that are not modelled.
    #[serde(flatten)]
    pub other: Unmodelled,
}

/// The least busy of a few hosts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LeastRequest {
    /// How many hosts are picked; absent or 0: 2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub choice_count: Option<Uint>,
    /// Fields that are not modelled.
    #[serde(flatten)]
    pub other: Unmodelled,
}

/// Consistent hashing on a ring.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RingHash {
    /// Sizes of the ring.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ring_hash_config: Option<RingHashConfig>,
    /// Fields that are not modelled.
    #[serde(flatten)]
    pub other: Unmodelled,
}

/// Sizes of the ring, in points.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RingHashConfig {
    /// Least number of points; absent or 0: 1024.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub minimum_ring_size: Option<Uint>,
    /// Greatest number of points; absent or 0: 8388608.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maximum_ring_size: Option<Uint>,
    /// Fields that are not modelled.
    #[serde(flatten)]
    pub other: Unmodelled,
}

/// How hosts are connected to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionConfig {
    /// Number of requests after which a connection is closed; absent or 0: unlimited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_requests_per_connection: Option<Uint>,
    /// Time in which a connection must be established; absent: 1 s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect_timeout: Option<GoDuration>,
    /// Settings for all HTTP versions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub common_http_protocol_options: Option<HttpProtocolOptions>,
    /// Fields that are not modelled.
    #[serde(flatten)]
    pub other: Unmodelled,
}

/// Options of all HTTP versions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpProtocolOptions {
    /// Time after which an idle connection is closed; absent: 4 s, 0: one day.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_timeout: Option<GoDuration>,
    /// Fields that are not modelled.
    #[serde(flatten)]
    pub other: Unmodelled,
}

/// What may be in flight to the hosts at once. What is absent is as the gateway's settings say.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CircuitBreakerConfig {
    /// Most connections, idle ones included; absent: 1024, unless a flag says otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_connections: Option<Uint>,
    /// Most requests that wait for a connection; absent: 1024, unless a flag says otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_pending_requests: Option<Uint>,
    /// Most requests; absent: 1024, unless a flag says otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_requests: Option<Uint>,
    /// Most retries; absent: 20 % of the requests in flight and at least 3, unless a flag says otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_retries: Option<Uint>,
    /// Fields that are not modelled.
    #[serde(flatten)]
    pub other: Unmodelled,
}
