//! Translates declared resources: one pure function makes snapshot, statuses, infrastructure and notices of them.

pub mod backend;
pub mod cluster;
pub mod gateway;
pub mod gloo;
pub mod report;

mod affinity;
mod certificates;
mod condition;
mod framing;
mod hostname;
mod last_good;
mod ledger;
mod notices;
mod options;
mod pass;
mod patterns;
mod policy;
mod recent;
mod reference_grant;
mod resources;
mod route;
mod slots;
mod status;

use std::sync::Arc;

use crate::base::{Kind, Message};
use crate::snapshot::{BackendName, Cluster, ClusterId, ClusterState, Observed};

use cluster::table_requests;

pub use backend::unready::unready_pods;
pub use cluster::table_requests::{BuiltTable, TableInputs, TableRequest};
pub use gateway::infrastructure;
pub use last_good::{LastGood, LastGoodVersion};
pub use notices::Notices;
pub use options::{
    AssumedClasses, CONTROLLER_NAME, CrossNamespace, GLOO_CLASS, HostnameOwnership, Limits, Options, UseRemoteAddress, status_key,
};
pub use pass::{preparation::Preparation, translation::Translation};
pub use reference_grant::CrossReference;
pub use resources::Resources;
pub use resources::change::{Change, Changes, PackedRoute, Refused, Unparsed};
pub use slots::SlotWrite;
pub use status::{
    AncestorStatus, Condition, GatewayAddress, GatewayClassStatus, GatewayStatus, GlooState, GlooStatus, GlooStatuses, ListenerSetStatus,
    ListenerStatus, ParentRef, ParentStatus, PolicyStatus, RouteGroupKind, RouteStatus, Status, SupportedFeature,
};

/// Translates. Pure: no clock, no I/O, no random number; folding single changes gives the same dump as translating from scratch.
///
/// `resources.changes()` says what differs from the state that `previous` was made of; without `previous` everything is translated. `options`
/// must be those that `previous` was made with.
pub fn translate(resources: &Resources, observed: &Observed, options: &Options, previous: Option<Translation>) -> Translation {
    pass::run(gloo::kinds::View { resources, observed, options }, previous)
}

/// The cluster of a backend.
#[derive(Debug)]
pub enum BackendCluster {
    /// With its table.
    Whole(Arc<Cluster>),
    /// Its table takes long to build.
    WithoutTable(TableRequest),
}

/// The cluster of a backend as a route that uses it would have it, whether or not there is one.
///
/// # Errors
/// The backend does not exist, or requests to it are answered 500.
pub fn cluster_of(resources: &Resources, observed: &Observed, options: &Options, backend: &BackendName) -> Result<Arc<Cluster>, Message> {
    cluster_with(resources, observed, options, backend, &mut table_requests::Tables::unlimited())
}

/// The same, as far as it can be built at once; `built` is the table that an earlier answer asked for.
///
/// # Errors
/// As for [`cluster_of`].
pub fn cluster_at_once(
    resources: &Resources,
    observed: &Observed,
    options: &Options,
    backend: &BackendName,
    built: Option<BuiltTable>,
) -> Result<BackendCluster, Message> {
    let mut tables = table_requests::Tables::limited(options.limits.table_entries_at_once, built);
    let cluster = cluster_with(resources, observed, options, backend, &mut tables)?;
    let missing = tables.wanted().next().cloned();
    Ok(missing.map_or(BackendCluster::Whole(cluster), BackendCluster::WithoutTable))
}

fn cluster_with(
    resources: &Resources,
    observed: &Observed,
    options: &Options,
    backend: &BackendName,
    tables: &mut table_requests::Tables,
) -> Result<Arc<Cluster>, Message> {
    let view = gloo::kinds::View { resources, observed, options };
    let rules = view.endpoint_rules();
    let rings = cluster::RingLimits { one: options.limits.points_of_one_ring, available: options.limits.ring_points };
    let id = ClusterId(u32::MAX);
    let missing = || Message::from(format!("there is no {backend}"));
    let affinity = affinity::AffinityPolicies::of_resources(resources).of_backend(backend, resources);
    let policies = cluster::ClusterPolicies { tls: None, affinity, affinity_keys: observed.affinity_keys.clone(), is_persistent: false };
    let built = match backend.kind {
        Kind::Upstream => {
            let compiled = backend::upstream::compile(resources.upstream(&backend.name).ok_or_else(missing)?, &view, rules);
            cluster::upstream_cluster(id, backend, &compiled, &policies, &view, rules, rings, None, tables)
        }
        _ => {
            let service = resources.service(&backend.name).ok_or_else(missing)?;
            backend.port.and_then(|port| backend::endpoints::service_port(service, port)).ok_or_else(missing)?;
            cluster::service_cluster(id, backend, &policies, &view, rules, rings, None, tables)
        }
    };
    match &built.cluster.state {
        ClusterState::Ready => Ok(built.cluster),
        ClusterState::Refused(why) => Err(why.clone()),
    }
}
