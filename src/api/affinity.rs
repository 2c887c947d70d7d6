//! `clingfish.dev/v1alpha1` AffinityPolicy: what keeps a session on its pod, for Services and routes without Gloo's types too.

use kube::CustomResource;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Uint, Unmodelled};

/// `spec` of an AffinityPolicy.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "clingfish.dev",
    version = "v1alpha1",
    kind = "AffinityPolicy",
    plural = "affinitypolicies",
    category = "gateway-api",
    shortname = "afp",
    namespaced,
    status = "AffinityPolicyStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "What keeps a session on its pod: the key of a request, the table of the pods, and what happens when pods come and go.",
    printcolumn = r#"{"name": "Targets", "type": "string", "jsonPath": ".spec.targetRefs[*].name"}"#,
    printcolumn = r#"{"name": "Identity", "type": "string", "jsonPath": ".spec.identity"}"#,
    printcolumn = r#"{"name": "Hold", "type": "string", "jsonPath": ".spec.hold"}"#,
    printcolumn = r#"{"name": "Accepted", "type": "string", "jsonPath": ".status.ancestors[*].conditions[?(@.type==\"Accepted\")].status"}"#,
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "!has(self.targetRefs) || self.targetRefs.size() > 0", "message": "targetRefs: expected at least one target"},
    {"rule": "!has(self.combine) || self.combine == 'All' || !has(self.keys) || self.keys.all(k, !has(k.terminal))",
     "message": "keys[].terminal is for combine: All"},
    {"rule": "!has(self.holdIn) || (has(self.hold) && self.hold == 'WhileAlive')", "message": "holdIn is for hold: WhileAlive"}
]))]
pub struct AffinityPolicySpec {
    /// What the policy is for, in its own namespace: Services, Upstreams, or routes of any kind. A policy for a route counts before one for its
    /// backends, a policy for a section before one for the whole object; of two for the same target the older one counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub target_refs: Option<Vec<AffinityTargetRef>>,
    /// Where the key of a session is read. Absent: the keys that the route has otherwise, such as those of a RouteOption.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub keys: Option<Vec<AffinityKey>>,
    /// First: the first key that a request has counts, as does the cookie that is made where there is none. All: the hashes of all keys are
    /// combined, as Envoy combines hash policies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "combine")]
    pub combine: Option<String>,
    /// Where a request without any key goes. Random: to any pod. Connection: to one pod for each connection. Reject: nowhere; it is answered
    /// 400.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "missing")]
    pub missing: Option<String>,
    /// The table that gives a key its pod. Absent: that of the backend if it has one, else Maglev.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub algorithm: Option<AffinityAlgorithm>,
    /// What stands for a pod in the table. Address: its address, as in Envoy. Ordinal: the number at the end of its host name (StatefulSets).
    /// Slot: a number that a pod hands to the pod that replaces it, so that a rollout moves each session once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "identity")]
    pub identity: Option<String>,
    /// For identity Slot: how long a new pod waits for another one to leave before it opens a slot of its own, and how long the slot of a pod
    /// that left waits for an heir, such as 30s (the default). At most 1h.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spare_time: Option<String>,
    /// None: the table alone decides. WhileAlive: a session stays on its pod for as long as that serves, whatever the table says by then; also
    /// on a pod that ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "hold")]
    pub hold: Option<String>,
    /// For hold WhileAlive: what carries the tag of the pod. Absent: the cookie of `keys`, else a cookie of the name clingfish-affinity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold_in: Option<AffinityCarrier>,
    /// Bounds the load that a table may put on one pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load: Option<AffinityLoad>,
    /// Gives a new pod its share in steps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warm_up: Option<AffinityWarmUp>,
    /// What becomes of streams whose pod is another one by now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollout: Option<AffinityRollout>,
    /// How weighted backendRefs share the sessions of a rule. Random: request by request. Hash: by the key, so that a user stays with a version,
    /// and moves at most once while its weight is raised.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "split")]
    pub split: Option<String>,
    /// For split Hash: a header or cookie whose value is the name of a backendRef, for testers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub split_override: Option<AffinityCarrier>,
    /// Fields that there are not: they are refused by name.
    #[serde(flatten)]
    pub other: Unmodelled,
}

/// What an AffinityPolicy is for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct AffinityTargetRef {
    /// API group: empty for a Service, `gloo.solo.io` for an Upstream, `gateway.networking.k8s.io` for routes.
    pub group: String,
    /// Service, Upstream, HTTPRoute, GRPCRoute, TLSRoute, TCPRoute or UDPRoute.
    pub kind: String,
    /// Name of the object.
    pub name: String,
    /// Name of a rule of a route, or of a port of a Service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub section_name: Option<String>,
    /// Fields that there are not: they are refused by name.
    #[serde(flatten)]
    pub other: Unmodelled,
}

/// Where a key is read: exactly one of the members, and `terminal` beside it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "[has(self.cookie), has(self.header), has(self.queryParam), has(self.pathSegment), has(self.jwtClaim), has(self.sourceIP)].filter(x, x).size() == 1",
     "message": "expected exactly one of cookie, header, queryParam, pathSegment, jwtClaim and sourceIP"}
]))]
pub struct AffinityKey {
    /// A cookie.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cookie: Option<AffinityCookie>,
    /// A header.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header: Option<AffinityHeader>,
    /// A parameter of the query.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub query_param: Option<AffinityQueryParam>,
    /// A segment of the path, counted from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_segment: Option<Uint>,
    /// A claim of a JSON Web Token that somebody else has verified. It only groups requests: it proves nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwt_claim: Option<AffinityJwtClaim>,
    /// The client's address.
    #[serde(rename = "sourceIP", skip_serializing_if = "Option::is_none")]
    pub source_ip: Option<AffinitySourceIp>,
    /// With combine All: whether later keys are skipped if there is a hash so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub terminal: Option<bool>,
    /// Fields that there are not: they are refused by name.
    #[serde(flatten)]
    pub other: Unmodelled,
}

/// A cookie as key.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AffinityCookie {
    /// Name of the cookie.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Lifetime of a cookie that is made, such as 1h; 0s: until the browser ends. Absent: a missing cookie is not made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl: Option<String>,
    /// Path of a cookie that is made; absent: `/`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Domain of a cookie that is made; absent: the host of the request alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// SameSite of a cookie that is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "same_site")]
    pub same_site: Option<String>,
    /// Whether a cookie that is made is for HTTPS only. Auto: if the request came by HTTPS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "secure")]
    pub secure: Option<String>,
    /// Whether scripts of a page cannot read a cookie that is made; absent: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_only: Option<bool>,
    /// Fields that there are not: they are refused by name.
    #[serde(flatten)]
    pub other: Unmodelled,
}

/// A header as key.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AffinityHeader {
    /// Name of the header.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What is made of the value before it is hashed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub regex: Option<AffinityRegex>,
    /// Fields that there are not: they are refused by name.
    #[serde(flatten)]
    pub other: Unmodelled,
}

/// Replaces what a pattern finds. A value in which it finds nothing stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AffinityRegex {
    /// A regular expression (RE2).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    /// What takes its place; `\1` is the first group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub substitution: Option<String>,
    /// Fields that there are not: they are refused by name.
    #[serde(flatten)]
    pub other: Unmodelled,
}

/// A parameter of the query as key.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AffinityQueryParam {
    /// Name of the parameter, undecoded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Fields that there are not: they are refused by name.
    #[serde(flatten)]
    pub other: Unmodelled,
}

/// A claim of a token as key.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AffinityJwtClaim {
    /// Name of the claim, such as `sub`. Its value is a string, number or boolean.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claim: Option<String>,
    /// Header with the token; absent: `Authorization`. A scheme before the token, as in `Bearer TOKEN`, is passed over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
    /// Fields that there are not: they are refused by name.
    #[serde(flatten)]
    pub other: Unmodelled,
}

/// The client's address as key.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AffinitySourceIp {
    /// How much of the address counts; absent: all of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix_length: Option<AffinityPrefixLength>,
    /// Fields that there are not: they are refused by name.
    #[serde(flatten)]
    pub other: Unmodelled,
}

/// How much of an address counts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AffinityPrefixLength {
    /// Bits of an IPv4 address, 0 to 32.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipv4: Option<Uint>,
    /// Bits of an IPv6 address, 0 to 128.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipv6: Option<Uint>,
    /// Fields that there are not: they are refused by name.
    #[serde(flatten)]
    pub other: Unmodelled,
}

/// A table: exactly one of the members.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "has(self.maglev) != has(self.ringHash)", "message": "expected exactly one of maglev and ringHash"}
]))]
pub struct AffinityAlgorithm {
    /// Maglev: the table of which a change of pods moves the fewest sessions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maglev: Option<AffinityMaglev>,
    /// Envoy's ring hash.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ring_hash: Option<AffinityRingHash>,
    /// Fields that there are not: they are refused by name.
    #[serde(flatten)]
    pub other: Unmodelled,
}

/// A Maglev table.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AffinityMaglev {
    /// Slots of the table, a prime number of at most 5000011; absent: 65537.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub table_size: Option<Uint>,
    /// Fields that there are not: they are refused by name.
    #[serde(flatten)]
    pub other: Unmodelled,
}

/// A ring.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AffinityRingHash {
    /// The fewest points; absent: 1024.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<Uint>,
    /// The most points; absent: 8388608.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<Uint>,
    /// Fields that there are not: they are refused by name.
    #[serde(flatten)]
    pub other: Unmodelled,
}

/// A cookie or header: exactly one of the members.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "has(self.cookie) != has(self.header)", "message": "expected exactly one of cookie and header"}
]))]
pub struct AffinityCarrier {
    /// A cookie.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cookie: Option<AffinityCookie>,
    /// A header of requests and responses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header: Option<AffinityHeader>,
    /// Fields that there are not: they are refused by name.
    #[serde(flatten)]
    pub other: Unmodelled,
}

/// A bound of load.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AffinityLoad {
    /// Percent of the average load that a pod may have before the next pod of a key is asked, at least 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bound_percent: Option<Uint>,
    /// Fields that there are not: they are refused by name.
    #[serde(flatten)]
    pub other: Unmodelled,
}

/// How a new pod gets its share.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AffinityWarmUp {
    /// Time until the pod has its whole share, such as 2m. At most 24h.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration: Option<String>,
    /// Percent of its share with which the pod begins; absent: 10.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_percent: Option<Uint>,
    /// Fields that there are not: they are refused by name.
    #[serde(flatten)]
    pub other: Unmodelled,
}

/// What becomes of streams (WebSockets, gRPC, TCP) whose key has another pod by now.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AffinityRollout {
    /// Keep: they stay. Close: they are told to go, so that a session is never on two pods for long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "on_remap")]
    pub on_remap: Option<String>,
    /// Time over which they are told, so that they do not come back all at once, such as 30s (the default). At most 1h.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jitter: Option<String>,
    /// Fields that there are not: they are refused by name.
    #[serde(flatten)]
    pub other: Unmodelled,
}

/// `status` of an AffinityPolicy: that of every policy of the Gateway API.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AffinityPolicyStatus {
    /// What is said of the policy at each Gateway through which requests come to its targets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "ancestors")]
    pub ancestors: Vec<Value>,
    /// Fields that there are not.
    #[serde(flatten)]
    pub other: Unmodelled,
}

fn words(values: &[&str]) -> Schema {
    json_schema!({"type": "string", "enum": values})
}

fn combine(_: &mut SchemaGenerator) -> Schema {
    words(&["First", "All"])
}

fn missing(_: &mut SchemaGenerator) -> Schema {
    words(&["Random", "Connection", "Reject"])
}

fn identity(_: &mut SchemaGenerator) -> Schema {
    words(&["Address", "Ordinal", "Slot"])
}

fn hold(_: &mut SchemaGenerator) -> Schema {
    words(&["None", "WhileAlive"])
}

fn split(_: &mut SchemaGenerator) -> Schema {
    words(&["Random", "Hash"])
}

fn same_site(_: &mut SchemaGenerator) -> Schema {
    words(&["Lax", "Strict", "None"])
}

fn secure(_: &mut SchemaGenerator) -> Schema {
    words(&["Auto", "Always", "Never"])
}

fn on_remap(_: &mut SchemaGenerator) -> Schema {
    words(&["Keep", "Close"])
}

fn ancestors(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array", "maxItems": 16,
        "items": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}
    })
}
