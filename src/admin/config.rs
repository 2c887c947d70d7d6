//! The document of `GET /config`: stable, sorted, without a secret.

use serde::{Serialize, Serializer, ser::SerializeMap as _};
use serde_json::{Map, Value};

use crate::snapshot::{Dump, Snapshot};

use super::sources::StatusReport;

/// The whole document. It is written piece by piece: the text is large, and a tree of it would be ten times as large.
pub(super) struct Document<'a> {
    pub(super) report: &'a StatusReport,
    /// Without a report the controller does not answer; what is served is shown all the same.
    pub(super) answered: bool,
    /// Shares of the hosts are only there on demand: every table is walked for them.
    pub(super) with_shares: bool,
}

struct Statuses<'a>(&'a StatusReport);

impl Serialize for Document<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let report = self.report;
        let controller = if self.answered { "answers" } else { "does not answer: statuses and notices are missing" };
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("controller", controller)?;
        map.serialize_entry("generation", &report.generation)?;
        map.serialize_entry("notices", &report.notices)?;
        if self.with_shares {
            map.serialize_entry("shares", &shares(&report.snapshot))?;
        }
        map.serialize_entry("snapshot", &Dump::of(&report.snapshot))?;
        map.serialize_entry("statuses", &Statuses(report))?;
        map.serialize_entry("version", env!("CARGO_PKG_VERSION"))?;
        map.end()
    }
}

impl Serialize for Statuses<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // By the text of the name, whose order is not that of the names.
        let mut statuses: Vec<_> = self.0.statuses.iter().map(|(object, status)| (object.to_string(), status)).collect();
        statuses.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        serializer.collect_map(statuses.into_iter().map(|(object, status)| (object, &**status)))
    }
}

/// By cluster and address, the share of keys, or of requests where hosts are not chosen by hash.
fn shares(snapshot: &Snapshot) -> Value {
    let clusters = snapshot.clusters.iter().flatten().map(|cluster| {
        let shares = if cluster.balancer.uses_hash() {
            cluster.balancer.shares()
        } else {
            let total: f64 = cluster.balanced().iter().map(|host| f64::from(host.weight)).sum();
            cluster.balanced().iter().map(|host| f64::from(host.weight) / total).collect()
        };
        let hosts: Map<String, Value> =
            cluster.balanced().iter().zip(shares).map(|(host, share)| (host.text.to_string(), share.into())).collect();
        (cluster.name.cluster_name(), Value::Object(hosts))
    });
    Value::Object(clusters.collect())
}
