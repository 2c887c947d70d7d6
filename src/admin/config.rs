//! The document of `GET /config`: stable, sorted, without a secret.

use serde_json::{Map, Value, json};

use crate::snapshot::dump;

use super::StatusReport;

/// The whole document. Without a report the controller does not answer; what is served is shown all the same.
pub(super) fn document(report: &StatusReport, answered: bool) -> Value {
    let statuses: Map<String, Value> =
        report.statuses.iter().map(|(object, status)| (object.to_string(), serde_json::to_value(status).unwrap_or_default())).collect();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "generation": report.generation,
        "controller": if answered { "answers" } else { "does not answer: statuses and notices are missing" },
        "snapshot": dump(&report.snapshot),
        "statuses": statuses,
        "notices": report.notices,
    })
}
