//! The document of `GET /config`: stable, sorted, without a secret.

use serde_json::{Map, Value, json};

use crate::snapshot::{Snapshot, dump};

use super::StatusReport;

/// The whole document. Without a report the controller does not answer; what is served is shown all the same. Shares of the hosts are only
/// there on demand: every table is walked for them.
pub(super) fn document(report: &StatusReport, answered: bool, with_shares: bool) -> Value {
    let statuses: Map<String, Value> =
        report.statuses.iter().map(|(object, status)| (object.to_string(), serde_json::to_value(status).unwrap_or_default())).collect();
    let mut document = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "generation": report.generation,
        "controller": if answered { "answers" } else { "does not answer: statuses and notices are missing" },
        "snapshot": dump(&report.snapshot),
        "statuses": statuses,
        "notices": report.notices,
    });
    if with_shares && let Some(document) = document.as_object_mut() {
        document.insert("shares".into(), shares(&report.snapshot));
    }
    document
}

/// By backend and address, the share of keys, or of requests where hosts are not chosen by hash.
fn shares(snapshot: &Snapshot) -> Value {
    let clusters = snapshot.clusters.iter().flatten().map(|cluster| {
        let shares = if cluster.balancer.uses_hash() {
            cluster.balancer.shares()
        } else {
            let total: f64 = cluster.hosts.iter().map(|host| f64::from(host.weight)).sum();
            cluster.hosts.iter().map(|host| f64::from(host.weight) / total).collect()
        };
        let hosts: Map<String, Value> =
            cluster.hosts.iter().zip(shares).map(|(host, share)| (host.text.to_string(), share.into())).collect();
        (cluster.name.to_string(), Value::Object(hosts))
    });
    Value::Object(clusters.collect())
}
