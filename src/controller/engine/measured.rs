//! What is measured of a snapshot when it is published.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use crate::base::ObjectName;
use crate::snapshot::{Balancer, BindProtocol, Remapped, Snapshot, TableKind, TableState};
use crate::telemetry::{CertificateExpiry, Metrics};

use super::super::moves::TableChange;

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

/// Counts the hash tables that a translation has built itself. A table that serves until another one is built does not count.
pub(super) fn count_tables(
    metrics: &Metrics,
    changes: &[TableChange],
    handed_in: &[(Arc<Balancer>, Option<Remapped>)],
    duration: Duration,
) {
    let own = |change: &&TableChange| {
        let is_handed_in = handed_in.iter().any(|(table, _)| Arc::ptr_eq(table, &change.new.balancer));
        change.new.table_state == TableState::Built && !is_handed_in
    };
    let (mut rings, mut maglevs) = (0, 0);
    for change in changes.iter().filter(own) {
        match change.new.balancer.table().map(|table| table.kind) {
            Some(TableKind::Ring) => rings += 1,
            Some(TableKind::Maglev) => maglevs += 1,
            None => {}
        }
    }
    if rings + maglevs > 0 {
        metrics.control().tables_built(rings, maglevs, duration);
    }
}
