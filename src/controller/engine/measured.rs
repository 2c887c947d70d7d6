//! What is measured of a snapshot when it is published.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use crate::base::ObjectName;
use crate::snapshot::{Balancer, BindProtocol, Cluster, Remapped, Snapshot, TableKind, TableState};
use crate::telemetry::{CertificateExpiry, Metrics};

/// When the first certificate of each HTTPS listener expires.
pub(super) fn certificate_expiries(snapshot: &Snapshot) -> Vec<CertificateExpiry> {
    // A port may be bound on several addresses.
    let mut expiries = BTreeMap::new();
    for bind in snapshot.binds.values() {
        let (BindProtocol::Https(termination) | BindProtocol::Tls(termination)) = &bind.protocol else { continue };
        for (_, listener) in termination.listeners() {
            if let Some(not_after) = listener.certificates.iter().map(|certificate| certificate.not_after).min() {
                expiries.insert((&*bind.gateway, &listener.name), not_after);
            }
        }
    }
    let expiry = |((gateway, listener), not_after): ((&ObjectName, &Arc<str>), i64)| CertificateExpiry {
        gateway: gateway.to_string(),
        listener: Arc::clone(listener),
        not_after,
    };
    expiries.into_iter().map(expiry).collect()
}

/// Counts the hash tables that differ between two snapshots, and the keys that they move. A table that serves until another one is built does
/// not count.
pub(super) fn count_tables(
    metrics: &Metrics,
    before: &Snapshot,
    after: &Snapshot,
    handed_in: &[(Arc<Balancer>, Option<Remapped>)],
    duration: Duration,
) {
    let (mut rings, mut maglevs) = (0, 0);
    for (index, cluster) in after.clusters.iter().enumerate() {
        let Some(cluster) = cluster else { continue };
        let old = before.clusters.get(index).and_then(Option::as_ref);
        if cluster.table_state != TableState::Built || old.is_some_and(|old| Arc::ptr_eq(&old.balancer, &cluster.balancer)) {
            continue;
        }
        if let Some((_, remapped)) = handed_in.iter().find(|(table, _)| Arc::ptr_eq(table, &cluster.balancer)) {
            remapped.iter().for_each(|remapped| metrics.control().remapped(remapped.moved, remapped.needless));
            continue;
        }
        match cluster.balancer.table().map(|table| table.kind) {
            Some(TableKind::Ring) => rings += 1,
            Some(TableKind::Maglev) => maglevs += 1,
            None => continue,
        }
        if let Some(old) =
            old.filter(|old| old.name == cluster.name && old.table_state == TableState::Built && old.balancer.table().is_some())
        {
            let remapped = old.balancer.remapped(&cluster.balancer, |host| host_text(old, host), |host| host_text(cluster, host));
            metrics.control().remapped(remapped.moved, remapped.needless);
        }
    }
    if rings + maglevs > 0 {
        metrics.control().tables_built(rings, maglevs, duration);
    }
}

fn host_text(cluster: &Cluster, host: u32) -> Option<&str> {
    cluster.hosts.get(host as usize).map(|host| &*host.text)
}
