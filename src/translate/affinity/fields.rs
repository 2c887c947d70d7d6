//! Reads the members that many fields of an AffinityPolicy have.

use std::{collections::BTreeMap, time::Duration};

use serde_json::Value;

use crate::api::{GoDuration, Uint};
use crate::base::text::quoted;

/// What is wrong with a policy: a field and what was expected of it.
pub(super) type Wrong = String;

/// One of some words.
pub(super) fn word<'w>(field: &str, value: Option<&'w str>, words: &[&str]) -> Result<Option<&'w str>, Wrong> {
    match value {
        Some(value) if !words.contains(&value) => Err(format!("{field} is {}: expected {}", quoted(value), words.join(" or "))),
        Some(_) | None => Ok(value),
    }
}

pub(super) fn number(field: &str, value: Uint, least: u32, most: u32) -> Result<u32, Wrong> {
    let number = u32::try_from(value.0).ok().filter(|number| (least..=most).contains(number));
    number.ok_or_else(|| format!("{field} is {}: expected {least} to {most}", value.0))
}

/// A duration of Go's or GEP-2257's notation, at most `longest`.
pub(super) fn duration(field: &str, text: &str, longest: Duration) -> Result<Duration, Wrong> {
    let parsed = GoDuration::parse(text).map_err(|why| format!("{field}: {why}"))?;
    let duration = u64::try_from(parsed.0).map(Duration::from_nanos).ok().filter(|duration| *duration <= longest);
    duration.ok_or_else(|| format!("{field} is {}: expected 0s to {}s", quoted(text), longest.as_secs()))
}

pub(super) fn missing(field: &str, member: &str, expected: &str) -> Wrong {
    format!("{field}.{member} is missing: expected {expected}")
}

/// Refuses fields that there are not: one that is misspelled would quietly do nothing.
pub(super) fn unknown(field: &str, other: &BTreeMap<String, Value>) -> Result<(), Wrong> {
    match other.keys().next() {
        Some(name) => Err(format!("{field}: there is no field {}; expected those of AffinityPolicy v1alpha1", quoted(name))),
        None => Ok(()),
    }
}
