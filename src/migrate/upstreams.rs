//! Upstreams that would go with Gloo.

use std::collections::BTreeSet;

use crate::base::ObjectName;

use super::{
    document::{replacement, text, without},
    installation::Installation,
    output::{Output, Step},
    report::Effect,
};

/// When Gloo's chart is uninstalled, a job of it deletes the Upstreams of its namespace with this label.
const LABEL: (&str, &str) = ("app", "gloo");

/// Takes the label off. `used`: the Upstreams of routes that hang on twins.
pub(super) fn keep(installation: &Installation, used: &BTreeSet<ObjectName>, output: &mut Output) {
    for (subject, upstream) in installation.of("gloo.solo.io", "Upstream") {
        let labels = upstream.pointer("/metadata/labels");
        if labels.and_then(|labels| labels.get(LABEL.0)).is_some_and(|value| value == LABEL.1) {
            let mut document = replacement(upstream);
            if let Some(metadata) = document.get_mut("metadata").and_then(serde_json::Value::as_object_mut) {
                without(metadata, "labels", LABEL.0);
            }
            let what = "label app=gloo is taken off: what has it in Gloo's namespace is deleted with Gloo's chart";
            output.note(Effect::Differs, subject.to_string(), what);
            output.file(Step::Changed, document);
        }
        if used.contains(&subject.object_name()) && !text(upstream, "/metadata/labels/discovered_by").is_empty() {
            let what = "written by Gloo's discovery, which ends with Gloo: it stays as it is";
            output.note(Effect::Differs, subject.to_string(), what);
        }
    }
}
