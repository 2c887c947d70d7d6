//! Parts of raw objects.

use serde_json::Value;

/// A text; empty where there is none.
pub(super) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// A list; empty where there is none.
pub(super) fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// A number; 0 where there is none.
pub(super) fn number(value: &Value, pointer: &str) -> i64 {
    value.pointer(pointer).and_then(Value::as_i64).unwrap_or_default()
}

/// The members of a map, such as labels.
pub(super) fn members<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = (&'a str, &'a Value)> {
    value.pointer(pointer).and_then(Value::as_object).into_iter().flatten().map(|(key, value)| (key.as_str(), value))
}

/// A label or an annotation; `map` is `labels` or `annotations`.
pub(super) fn mark<'a>(object: &'a Value, map: &str, name: &str) -> Option<&'a str> {
    object.pointer("/metadata")?.get(map)?.get(name)?.as_str()
}

/// `namespace/name`, or the name of what has no namespace.
pub(super) fn full_name(object: &Value) -> String {
    let name = text(object, "/metadata/name");
    match text(object, "/metadata/namespace") {
        "" => name.to_owned(),
        namespace => format!("{namespace}/{name}"),
    }
}

/// The condition of a type, if it has this status.
pub(super) fn condition<'a>(conditions: &'a [Value], kind: &str, status: &str) -> Option<&'a Value> {
    conditions.iter().find(|condition| text(condition, "/type") == kind && text(condition, "/status") == status)
}

/// What a condition says: its reason and its message.
pub(super) fn said(condition: &Value) -> String {
    match (text(condition, "/reason"), text(condition, "/message")) {
        (reason, "") => reason.to_owned(),
        (reason, message) => format!("{reason}: {message}"),
    }
}

/// Seconds since the epoch of a time as Kubernetes writes it.
pub(super) fn time(value: &Value, pointer: &str) -> Option<i64> {
    text(value, pointer).parse::<jiff::Timestamp>().ok().map(|time| time.as_second())
}

/// Names in a sentence: the first few, and how many more there are.
pub(super) fn few(names: &[impl AsRef<str>]) -> String {
    const SHOWN: usize = 5;
    let shown = names.iter().take(SHOWN).map(AsRef::as_ref).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// `1 pod`, `2 pods`.
pub(super) fn count(number: usize, one: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {one}s") }
}
