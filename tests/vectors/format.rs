//! The files of recorded choices, field by field.

use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "what only tells about the recording is read and not compared")]
pub(crate) struct Vector {
    pub(crate) case: String,
    pub(crate) envoy_version: String,
    pub(crate) note: Option<String>,
    pub(crate) lb: Lb,
    pub(crate) endpoints: Vec<Endpoint>,
    #[serde(default)]
    pub(crate) use_hostname: bool,
    pub(crate) locality_weights: Option<Vec<u32>>,
    #[serde(default)]
    pub(crate) locality_weighted: bool,
    pub(crate) policy: Vec<HashPolicy>,
    pub(crate) expect: Vec<Expectation>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Lb {
    #[serde(rename = "type")]
    pub(crate) kind: LbType,
    pub(crate) min: Option<u64>,
    pub(crate) max: Option<u64>,
    #[serde(rename = "fn")]
    pub(crate) function: Option<HashFunction>,
    pub(crate) table_size: Option<u64>,
    pub(crate) balance: Option<u32>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LbType {
    RingHash,
    Maglev,
}

#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) enum HashFunction {
    #[serde(rename = "DEFAULT_HASH")]
    DefaultHash,
    #[serde(rename = "XX_HASH")]
    XxHash,
    #[serde(rename = "MURMUR_HASH_2")]
    MurmurHash2,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Endpoint {
    pub(crate) addr: String,
    #[serde(default = "one")]
    pub(crate) weight: u32,
    pub(crate) hash_key: Option<String>,
    pub(crate) hostname: Option<String>,
    #[serde(default)]
    pub(crate) locality: u32,
    #[serde(default)]
    pub(crate) priority: u32,
    #[serde(default)]
    pub(crate) health: Health,
}

fn one() -> u32 {
    1
}

/// Envoy's `HealthStatus`.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Health {
    #[default]
    Unknown,
    Healthy,
    Unhealthy,
    Draining,
    Timeout,
    Degraded,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HashPolicy {
    pub(crate) header: Option<String>,
    pub(crate) regex: Option<String>,
    pub(crate) substitution: Option<String>,
    pub(crate) cookie: Option<Cookie>,
    pub(crate) source_ip: Option<bool>,
    pub(crate) query: Option<String>,
    #[serde(default)]
    pub(crate) terminal: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Cookie {
    pub(crate) name: String,
    /// In seconds.
    pub(crate) ttl: Option<f64>,
    pub(crate) path: Option<String>,
    #[serde(default)]
    pub(crate) attributes: Vec<Attribute>,
}

/// `{"name": n, "value": v}` or `[n, v]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Attribute {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) value: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Expectation {
    pub(crate) key: Key,
    pub(crate) request: Option<Request>,
    pub(crate) hash: Option<String>,
    pub(crate) host: Option<String>,
    pub(crate) attempted: Option<Vec<String>>,
    #[serde(default)]
    pub(crate) set_cookie: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Key {
    Text(String),
    Connection(Connection),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Connection {
    pub(crate) remote: String,
    pub(crate) local: String,
    #[serde(default)]
    pub(crate) headers: Vec<(String, String)>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Request {
    #[serde(default)]
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) path: Option<String>,
}
