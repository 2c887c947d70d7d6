//! `gateway.solo.io/v1` RouteOption.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{GlooStatusMap, GoDuration, Uint, Unmodelled};

/// `spec` of a RouteOption: options for rules of HTTPRoutes.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "gateway.solo.io",
    version = "v1",
    kind = "RouteOption",
    plural = "routeoptions",
    shortname = "rto",
    shortname = "rtopts",
    shortname = "grto",
    category = "gloo-gateway",
    namespaced,
    status = "GlooStatusMap",
    derive = "PartialEq",
    derive = "Default",
    doc = "Options for the rules of HTTPRoutes, among them the hash key of session affinity.",
    printcolumn = r#"{"name": "State", "type": "string", "jsonPath": ".status.statuses.*.state"}"#,
    printcolumn = r#"{"name": "Reason", "type": "string", "jsonPath": ".status.statuses.*.reason"}"#,
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct RouteOptionSpec {
    /// The options.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub options: Option<RouteOptions>,
    /// The HTTPRoutes of the same namespace, or rules of these, that get the options.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_refs: Option<Vec<TargetRef>>,
    /// Fields that are not modelled.
    #[serde(flatten)]
    pub other: Unmodelled,
}

/// An HTTPRoute of the same namespace.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct TargetRef {
    /// `gateway.networking.k8s.io`.
    pub group: String,
    /// `HTTPRoute`.
    pub kind: String,
    /// Name of the HTTPRoute.
    pub name: String,
    /// Namespace of the HTTPRoute. Only the RouteOption's own namespace has an effect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Name of a rule of the HTTPRoute. Only this rule gets the options. They win over those of RouteOptions that target the whole route.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub section_name: Option<String>,
    /// Fields that are not modelled.
    #[serde(flatten)]
    pub other: Unmodelled,
}

/// The options.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RouteOptions {
    /// What is hashed, if the Upstream has `ringHash` or `maglev`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lb_hash: Option<LbHash>,
    /// Time from the end of the request to the end of the response; absent: that of the HTTPRoute, else 15 s; 0: unlimited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<GoDuration>,
    /// Longest time without any byte in either direction; absent: 5 minutes, 0: unlimited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_timeout: Option<GoDuration>,
    /// When a request is sent again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retries: Option<Retries>,
    /// Replaces the matched prefix of the path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix_rewrite: Option<String>,
    /// Replaces what a pattern finds in the path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub regex_rewrite: Option<RegexRewrite>,
    /// New value of the header Host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_rewrite: Option<String>,
    /// Changes to headers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header_manipulation: Option<HeaderManipulation>,
    /// Fields that are not modelled.
    #[serde(flatten)]
    pub other: Unmodelled,
}

/// What is hashed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LbHash {
    /// The sources of the key, in order. The hashes of all that are found are combined.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hash_policies: Option<Vec<HashPolicy>>,
    /// Fields that are not modelled.
    #[serde(flatten)]
    pub other: Unmodelled,
}

/// One source of a hash key: exactly one of header, cookie and source IP.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HashPolicy {
    /// Name of a header.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
    /// A cookie.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cookie: Option<Cookie>,
    /// The client's address. `false` counts as no policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_ip: Option<bool>,
    /// Whether later policies are skipped if there is a hash so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub terminal: Option<bool>,
    /// Fields that are not modelled.
    #[serde(flatten)]
    pub other: Unmodelled,
}

/// A cookie as hash key.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Cookie {
    /// Name of the cookie.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Lifetime of a generated cookie; 0: until the browser ends. Absent: a missing cookie is not generated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl: Option<GoDuration>,
    /// Path of the generated cookie.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Fields that are not modelled.
    #[serde(flatten)]
    pub other: Unmodelled,
}

/// When to try again.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Retries {
    /// Envoy's `retry_on`: comma-separated conditions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_on: Option<String>,
    /// Retries after the first attempt; absent or 0: 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_retries: Option<Uint>,
    /// Longest time for one attempt; absent or 0: unlimited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_try_timeout: Option<GoDuration>,
    /// The time between attempts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_back_off: Option<RetryBackOff>,
    /// Statuses after which a request is sent again, if `retryOn` has `retriable-status-codes`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retriable_status_codes: Option<Vec<Uint>>,
    /// Fields that are not modelled.
    #[serde(flatten)]
    pub other: Unmodelled,
}

/// Waits before retries.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RetryBackOff {
    /// Base of the waits; absent: 25 ms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base_interval: Option<GoDuration>,
    /// Longest wait; absent: ten times the base.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_interval: Option<GoDuration>,
    /// Fields that are not modelled.
    #[serde(flatten)]
    pub other: Unmodelled,
}

/// Replaces what a pattern finds in the path.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RegexRewrite {
    /// What is searched for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pattern: Option<RegexPattern>,
    /// What replaces it, with RE2's `\1`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub substitution: String,
    /// Fields that are not modelled.
    #[serde(flatten)]
    pub other: Unmodelled,
}

/// A regular expression.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RegexPattern {
    /// The expression, in RE2's syntax.
    #[serde(default)]
    pub regex: String,
    /// Fields that are not modelled.
    #[serde(flatten)]
    pub other: Unmodelled,
}

/// Changes to headers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HeaderManipulation {
    /// Headers that are added to requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_headers_to_add: Option<Vec<HeaderToAdd>>,
    /// Names of headers that are removed from requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_headers_to_remove: Option<Vec<String>>,
    /// Headers that are added to responses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_headers_to_add: Option<Vec<HeaderToAdd>>,
    /// Names of headers that are removed from responses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_headers_to_remove: Option<Vec<String>>,
    /// Fields that are not modelled.
    #[serde(flatten)]
    pub other: Unmodelled,
}

/// A header to add or to set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HeaderToAdd {
    /// Name and value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header: Option<HeaderValueOption>,
    /// Whether the values that are there stay; absent: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub append: Option<bool>,
    /// Fields that are not modelled.
    #[serde(flatten)]
    pub other: Unmodelled,
}

/// Name and value of a header.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct HeaderValueOption {
    /// Name.
    pub key: String,
    /// Value. Envoy's `%...%` formatters are not supported.
    pub value: String,
    /// Fields that are not modelled.
    #[serde(flatten)]
    pub other: Unmodelled,
}
