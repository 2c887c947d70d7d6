//! A structural schema of a CRD, as the API server has it.

use std::{
    collections::BTreeMap,
    sync::{LazyLock, Mutex, PoisonError},
};

use regex::Regex;
use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::Value;

use super::rule::Rule;

/// What a value must be. An unknown keyword is an error: nothing that the API server checks is passed over.
///
/// Source: `JSONSchemaProps` of apiextensions.k8s.io/v1.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub(super) struct Schema {
    #[serde(rename = "type")]
    pub(super) value_type: Option<Type>,
    #[serde(rename = "x-kubernetes-int-or-string")]
    pub(super) int_or_string: bool,
    pub(super) nullable: bool,
    pub(super) default: Option<Value>,
    #[serde(rename = "enum")]
    pub(super) one_value_of: Vec<Value>,
    pub(super) minimum: Option<f64>,
    pub(super) maximum: Option<f64>,
    pub(super) min_length: Option<usize>,
    pub(super) max_length: Option<usize>,
    #[serde(deserialize_with = "pattern")]
    pub(super) pattern: Option<Regex>,
    pub(super) format: Option<String>,
    pub(super) min_items: Option<usize>,
    pub(super) max_items: Option<usize>,
    pub(super) items: Option<Box<Self>>,
    #[serde(rename = "x-kubernetes-list-type")]
    pub(super) list_type: ListType,
    #[serde(rename = "x-kubernetes-list-map-keys")]
    pub(super) list_map_keys: Vec<String>,
    /// Tells how two appliers' maps are merged; of no matter here.
    #[serde(rename = "x-kubernetes-map-type")]
    _map_type: Option<String>,
    pub(super) min_properties: Option<usize>,
    pub(super) max_properties: Option<usize>,
    pub(super) required: Vec<String>,
    /// Boxed: a map's nodes have room for eleven.
    pub(super) properties: BTreeMap<String, Box<Self>>,
    pub(super) additional_properties: Option<Box<Self>>,
    #[serde(rename = "x-kubernetes-preserve-unknown-fields")]
    pub(super) preserve_unknown_fields: bool,
    pub(super) any_of: Vec<Self>,
    pub(super) one_of: Vec<Self>,
    pub(super) not: Option<Box<Self>>,
    #[serde(rename = "x-kubernetes-validations")]
    pub(super) validations: Vec<Rule>,
    #[serde(rename = "title")]
    _title: Option<String>,
    #[serde(rename = "description")]
    _description: Option<String>,
}

/// The JSON type of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Type {
    Array,
    Boolean,
    Integer,
    Number,
    Object,
    String,
}

/// How the items of a list are told apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum ListType {
    /// They are not.
    #[default]
    Atomic,
    /// By `list_map_keys`.
    Map,
    /// By their value.
    Set,
}

impl Schema {
    /// The schema of a member of an object of this schema.
    pub(super) fn member(&self, name: &str) -> Option<&Self> {
        self.properties.get(name).map(|schema| &**schema).or(self.additional_properties.as_deref())
    }

    /// The schema of the items of a list of this schema.
    pub(super) fn items(&self) -> Option<&Self> {
        self.items.as_deref()
    }
}

/// Compiled once for all the fields that have the same one.
fn pattern<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Regex>, D::Error> {
    static COMPILED: LazyLock<Mutex<BTreeMap<String, Regex>>> = LazyLock::new(Mutex::default);
    let pattern = String::deserialize(deserializer)?;
    let mut compiled = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = compiled.get(&pattern) {
        return Ok(Some(known.clone()));
    }
    let new = Regex::new(&pattern).map_err(D::Error::custom)?;
    compiled.insert(pattern, new.clone());
    Ok(Some(new))
}
