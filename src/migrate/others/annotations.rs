//! Annotations of an object with a prefix, taken one by one, so that those nobody takes can be told.

use std::collections::BTreeMap;

use serde_json::Value;

use super::super::{
    document::{Subject, members},
    output::Output,
    report::Effect,
};
use super::route::{lost, unguarded};

/// Annotations that are not taken yet.
#[derive(Debug)]
pub(super) struct Annotations<'a> {
    prefix: &'static str,
    left: BTreeMap<&'a str, &'a str>,
}

// === impl Annotations ===

impl<'a> Annotations<'a> {
    pub(super) fn of(document: &'a Value, prefix: &'static str) -> Self {
        let all = members(document, "/metadata/annotations");
        let left = all.filter_map(|(name, value)| Some((name.strip_prefix(prefix)?, value.as_str()?))).collect();
        Self { prefix, left }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.left.is_empty()
    }

    pub(super) fn take(&mut self, name: &str) -> Option<&'a str> {
        self.left.remove(name)
    }

    pub(super) fn is_true(&mut self, name: &str) -> bool {
        self.take(name) == Some("true")
    }

    /// Tells that one has no effect here, and why.
    pub(super) fn lose(&mut self, name: &str, why: &str, source: &Subject, output: &mut Output) {
        if self.take(name).is_some() {
            output.note(Effect::Lost, source.to_string(), format!("{}{name}: {why}", self.prefix));
        }
    }

    /// Tells what nobody took. Whether routes may be written: what guards them is not lost.
    pub(super) fn finish(self, guards: &[&str], source: &Subject, output: &mut Output) -> bool {
        let full = |name: &&str| format!("{}{name}", self.prefix);
        let (guarding, others): (Vec<&str>, Vec<&str>) =
            self.left.keys().copied().partition(|name| guards.iter().any(|guard| name.starts_with(guard)));
        for name in &guarding {
            unguarded(source, &full(name), output);
        }
        lost(source, "", &others.iter().map(full).collect::<Vec<_>>(), output);
        guarding.is_empty()
    }
}
