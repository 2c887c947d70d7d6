//! `sessionPersistence` (GEP-1619), as rules and policies write it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// How sessions persist. The fields of all versions of the Gateway API: up to 1.6 `sessionName`, `idleTimeout` and `cookieConfig`, later ones
/// `cookie` and `header`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SessionPersistence {
    /// Name of the cookie or the header.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "sessionName")]
    pub session_name: Option<String>,
    /// How long a session lasts at most, as a duration of GEP-2257.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "absoluteTimeout")]
    pub absolute_timeout: Option<String>,
    /// How long a session lasts that is not used, as a duration of GEP-2257.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "idleTimeout")]
    pub idle_timeout: Option<String>,
    /// `Cookie`, which is the default, or `Header`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r#type: Option<String>,
    /// Of a cookie: how long it lives.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "cookieConfig")]
    pub cookie_config: Option<PersistenceCookie>,
    /// Of a cookie: its name, its path, and how long it lives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cookie: Option<PersistenceCookie>,
    /// The header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<PersistenceHeader>,
    /// Fields that no version has.
    #[serde(flatten)]
    pub other: BTreeMap<String, Value>,
}

/// The cookie of a session.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PersistenceCookie {
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// `Session`, which is the default, or `Permanent`.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "lifetimeType")]
    pub lifetime_type: Option<String>,
    /// Fields that no version has.
    #[serde(flatten)]
    pub other: BTreeMap<String, Value>,
}

/// The header of a session.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PersistenceHeader {
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Fields that no version has.
    #[serde(flatten)]
    pub other: BTreeMap<String, Value>,
}
