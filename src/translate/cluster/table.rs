//! The table of a cluster: kept, handed in, built at once, or asked for while another one serves.

use std::sync::Arc;

use crate::base::Message;
use crate::lb::Balancer;
use crate::snapshot::{Cluster, ClusterState, TableState};
use crate::translate::backend::endpoints::Endpoint;

use super::{
    inputs::ClusterInputs,
    table_requests::{BuiltTable, Known, Serves, TableInputs, Tables},
};

/// What serves a cluster's requests.
pub(super) struct ClusterTable<'a> {
    /// Its hosts: none while their table is awaited.
    pub(super) endpoints: &'a [Endpoint],
    pub(super) balancer: Arc<Balancer>,
    pub(super) table_state: TableState,
    pub(super) state: ClusterState,
    pub(super) no_hosts: Option<Message>,
}

/// Why a cluster has no hosts whose table is awaited.
const AWAITED: &str = "the hash table of its hosts is being built";

/// The table that chooses among the hosts. A cluster that is refused needs neither.
pub(super) fn table<'a>(inputs: &ClusterInputs<'a>, tables: &mut Tables) -> ClusterTable<'a> {
    let given = ClusterTable {
        endpoints: inputs.endpoints,
        balancer: Arc::default(),
        table_state: TableState::Built,
        state: ClusterState::Ready,
        no_hosts: inputs.no_hosts.clone(),
    };
    if let Some(reason) = inputs.refused {
        tables.forget(inputs.name);
        return ClusterTable { endpoints: &[], state: ClusterState::Refused(reason.into()), ..given };
    }
    let wanted = TableInputs {
        addresses: inputs.endpoints.iter().map(|endpoint| endpoint.address).collect(),
        hosts: inputs.balanced().into(),
        has_slots: !inputs.vacant.is_empty() || inputs.endpoints.iter().any(|endpoint| endpoint.slot.is_some()),
        config: inputs.settings.balancer.clone(),
    };
    let previous = inputs.previous.filter(|previous| previous.name == *inputs.name && previous.state == ClusterState::Ready);
    if let Some(previous) = previous.filter(|previous| previous.table_state == TableState::Built && has_table_of(previous, &wanted)) {
        tables.forget(inputs.name);
        return ClusterTable { balancer: Arc::clone(&previous.balancer), ..given };
    }
    let handed_in = tables.take(inputs.name);
    if let Some(BuiltTable { request, table, .. }) = &handed_in
        && *request.inputs == wanted
    {
        tables.forget(inputs.name);
        return match table {
            Some(Ok(balancer)) => ClusterTable { balancer: Arc::clone(balancer), ..given },
            Some(Err(error)) => refused(inputs, given, error),
            None => at_once(inputs, given, &wanted),
        };
    }
    if tables.spend(wanted.entries()) {
        tables.forget(inputs.name);
        return at_once(inputs, given, &wanted);
    }
    let before = previous.filter(|previous| previous.table_state == TableState::Built && previous.balancer.table().is_some());
    let (table_state, balancer) = meanwhile(&wanted, handed_in.as_ref(), previous);
    let serves = match (table_state, inputs.previous) {
        (TableState::Awaited, None) => Serves::First,
        (TableState::Awaited, Some(previous)) if previous.table_state == TableState::Awaited => Serves::Awaited,
        (_, _) => Serves::Something(before),
    };
    tables.want(inputs.name, wanted, &serves);
    match table_state {
        TableState::Awaited => ClusterTable { endpoints: &[], table_state, no_hosts: Some(AWAITED.into()), ..given },
        TableState::Built | TableState::CarriedOver | TableState::Provisional => ClusterTable { balancer, table_state, ..given },
    }
}

fn at_once<'a>(inputs: &ClusterInputs<'_>, given: ClusterTable<'a>, wanted: &TableInputs) -> ClusterTable<'a> {
    match wanted.build() {
        Ok(balancer) => ClusterTable { balancer: Arc::new(balancer), ..given },
        Err(error) => refused(inputs, given, &error),
    }
}

fn refused<'a>(inputs: &ClusterInputs<'_>, given: ClusterTable<'a>, error: &crate::lb::TableError) -> ClusterTable<'a> {
    ClusterTable {
        endpoints: &[],
        state: ClusterState::Refused(format!("{}: no table of its hosts: {error}", inputs.name).into()),
        ..given
    }
}

/// What serves until the table is built. A session stays where it is as long as its host is there; nobody is sent to a host that is gone.
///
/// Where every host is new, no session has anything to lose, and requests are not refused: they go by a small table. A cluster that had no
/// host yet goes on without one, so that its sessions begin on the host that they will keep.
fn meanwhile(wanted: &TableInputs, handed_in: Option<&BuiltTable>, previous: Option<&Arc<Cluster>>) -> (TableState, Arc<Balancer>) {
    // Of hosts that have changed since it was asked for, but newer than the one that serves.
    let stale = handed_in.and_then(|built| match &built.table {
        Some(Ok(table)) => wanted.carry_over(table, &built.request.inputs.known()),
        Some(Err(_)) | None => None,
    });
    if let Some(balancer) = stale {
        return (TableState::CarriedOver, Arc::new(balancer));
    }
    let Some(previous) = previous.filter(|previous| !previous.hosts.is_empty()) else { return (TableState::Awaited, Arc::default()) };
    if has_table_of(previous, wanted) {
        return (previous.table_state, Arc::clone(&previous.balancer));
    }
    if let Some(balancer) = wanted.carry_over(&previous.balancer, &Known::of(previous)) {
        return (TableState::CarriedOver, Arc::new(balancer));
    }
    match Balancer::build(&wanted.hosts, &wanted.config.provisional()) {
        Ok(balancer) => (TableState::Provisional, Arc::new(balancer)),
        // The table itself will be refused for the same reason.
        Err(_) => (TableState::Awaited, Arc::default()),
    }
}

/// Whether the cluster's balancer was made for these hosts and this configuration.
fn has_table_of(cluster: &Cluster, wanted: &TableInputs) -> bool {
    cluster.balancer_config == wanted.config
        && cluster.balanced().len() == wanted.addresses.len()
        && cluster.balanced().iter().zip(&wanted.addresses).all(|(host, address)| host.address == *address)
        && cluster.table_hosts().eq(wanted.hosts.iter().cloned())
}
