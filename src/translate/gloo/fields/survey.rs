//! Looks through the fields that an object sets: what of them is answered by a warning or by a refusal.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use crate::translate::gloo::findings::Findings;

use super::field::{Answer, Field};

/// `true` must not be skipped, `false` says what is done anyway.
pub(super) const USE_TLS: &str = "spec.static.useTls";

/// A field that is set and is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::translate) struct RefusedField {
    /// Dotted path, with indexes.
    pub(in crate::translate) path: String,
    /// Whether Gloo has a field of this path.
    pub(in crate::translate::gloo) is_known: bool,
    /// As the status says it.
    pub(in crate::translate) message: String,
}

/// Looks through the fields that `spec` sets: warnings go into `findings`, the fields that are refused come back.
pub(in crate::translate) fn survey(spec: &impl Serialize, table: &'static [Field], findings: &mut Findings) -> Vec<RefusedField> {
    survey_with(spec, table, &[table], findings)
}

/// The same; the fields of `guards` must not be skipped where they stand in another place.
pub(super) fn survey_with(
    spec: &impl Serialize,
    table: &'static [Field],
    guards: &[&'static [Field]],
    findings: &mut Findings,
) -> Vec<RefusedField> {
    let mut survey = Survey { table, guards, findings, refused: Vec::new(), refused_names: None };
    // A type that was made from JSON has string keys only, which is all that could fail.
    let value = serde_json::to_value(spec).unwrap_or_default();
    survey.below(&value, "spec", "spec", false);
    survey.refused
}

struct Survey<'a> {
    table: &'static [Field],
    guards: &'a [&'static [Field]],
    findings: &'a mut Findings,
    refused: Vec<RefusedField>,
    /// Made when the first unknown field is met.
    refused_names: Option<BTreeMap<String, &'static Field>>,
}

impl Survey<'_> {
    /// `path` has indexes, `key` has `[]` in their place. `answered`: an ancestor already has an answer that holds for what has none of its own.
    fn below(&mut self, value: &Value, path: &str, key: &str, answered: bool) {
        match value {
            Value::Object(members) => {
                for (name, member) in members {
                    self.at(member, &format!("{path}.{name}"), &format!("{key}.{name}"), answered);
                }
            }
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.at(item, &format!("{path}[{index}]"), &format!("{key}[]"), answered);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    fn at(&mut self, value: &Value, path: &str, key: &str, answered: bool) {
        if value.is_null() || value.as_array().is_some_and(Vec::is_empty) {
            return;
        }
        let exact = self.table.iter().find(|field| field.path == key);
        let deeper = self.table.iter().any(|field| is_below(field.path, key));
        match exact.map(|field| (field.answer, field.note)) {
            Some((Answer::Refused, note)) => {
                let message = format!("field {path} is not supported: {note}");
                self.refused.push(RefusedField { path: path.to_owned(), is_known: true, message });
            }
            Some((Answer::NotApplied, _)) if is_extensions(key) && self.holds_guards(path, value) => {}
            Some((Answer::NotApplied, _)) => {
                self.findings.warn(format!("field {path} is accepted but not applied"));
                self.below(value, path, key, true);
            }
            // An object that is honoured may have members that are not known.
            Some((Answer::Honoured | Answer::Partly, _)) if deeper || value.is_object() => self.below(value, path, key, false),
            Some((Answer::Honoured | Answer::Partly | Answer::Ignored, _)) => {}
            None if deeper => self.below(value, path, key, answered),
            None if answered => self.answered(path, key, value),
            None => self.unknown(path, value),
        }
    }

    /// A field that Gloo has none of, where all that is not refused is answered already: only a guard must not be passed over.
    fn answered(&mut self, path: &str, key: &str, value: &Value) {
        if !holds_free_names(key) {
            self.holds_guards(path, value);
        }
    }

    /// A field whose name is that of a refused one, spelled otherwise or in another place, was meant to guard something.
    fn unknown(&mut self, path: &str, value: &Value) {
        if self.holds_guards(path, value) {
            return;
        }
        let (parent, name) = (parent_of(path).map(plain_name), plain_name(path));
        let mut known = self.table.iter().flat_map(|field| prefixes(field.path));
        let meant = known.find(|known| plain_name(known) == name && parent_of(known).map(plain_name) == parent);
        let expected = meant.map(|known| format!(": expected {known}")).unwrap_or_default();
        self.findings.warn(format!("field {path} is unknown and has no effect{expected}"));
    }

    /// Whether fields at or below this one must not be skipped; they are refused.
    fn holds_guards(&mut self, path: &str, value: &Value) -> bool {
        let mut guards = Vec::new();
        self.guards(path, value, &mut guards);
        let any = !guards.is_empty();
        self.refused.extend(guards);
        any
    }

    /// Fields at and below an unknown one with the name of a refused one.
    fn guards(&mut self, path: &str, value: &Value, found: &mut Vec<RefusedField>) {
        let guards = self.guards;
        let names = self.refused_names.get_or_insert_with(|| refused_names(guards));
        if let Some(field) = names.get(&plain_name(path)).filter(|field| field.path != USE_TLS || *value != Value::Bool(false)) {
            let message = format!("field {path} is unknown and must not be skipped: expected {}; {}", field.path, field.note);
            found.push(RefusedField { path: path.to_owned(), is_known: false, message });
            return;
        }
        match value {
            Value::Object(members) => members.iter().for_each(|(name, member)| self.guards(&format!("{path}.{name}"), member, found)),
            Value::Array(items) => {
                items.iter().enumerate().for_each(|(index, item)| self.guards(&format!("{path}[{index}]"), item, found));
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
}

/// Where Gloo's plugins have their configuration, whatever its shape: security options had their place there before they got fields of their own.
fn is_extensions(key: &str) -> bool {
    key.ends_with(".extensions")
}

/// Fields below which names are the user's own, so that none of them means an option of Gloo's: a filter's metadata may be called `rbac`.
const FREE_NAMES: [&str; 5] = [
    "spec.options.envoyMetadata",
    "spec.kube.selector",
    "spec.kube.serviceSpec",
    "spec.static.hosts[].metadata",
    "spec.static.serviceSpec",
];

fn holds_free_names(key: &str) -> bool {
    FREE_NAMES.iter().any(|field| is_below(key, field))
}

/// The fields that must not be skipped, by their plain names.
fn refused_names(guards: &[&'static [Field]]) -> BTreeMap<String, &'static Field> {
    let refused = guards.iter().flat_map(|table| table.iter()).filter(|field| field.answer == Answer::Refused || field.path == USE_TLS);
    refused.map(|field| (plain_name(field.path), field)).collect()
}

/// `spec`, `spec.options`, `spec.options.lbHash` and so on.
fn prefixes(path: &'static str) -> impl Iterator<Item = &'static str> {
    let ends = path.match_indices('.').map(|(end, _)| end).chain([path.len()]);
    ends.filter_map(|end| path.get(..end))
}

fn parent_of(path: &str) -> Option<&str> {
    path.rsplit_once('.').map(|(parent, _)| parent)
}

/// The last part of a path, without regard to how it is spelled: Gloo's own notation knows two ways.
pub(in crate::translate) fn plain_name(path: &str) -> String {
    let name = path.rsplit('.').next().unwrap_or(path);
    let name = name.split('[').next().unwrap_or(name);
    name.chars().filter(|letter| letter.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// Whether a table's path lies below `key`.
fn is_below(path: &str, key: &str) -> bool {
    path.strip_prefix(key).is_some_and(|rest| rest.starts_with('.') || rest.starts_with("[]"))
}
