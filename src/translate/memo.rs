//! What one translation leaves to the next: every part compiled, with the indexes that tell what a change touches.

use std::collections::BTreeMap;

use crate::base::ObjectName;
use crate::snapshot::Observed;

use super::{
    Status, certificates::Certificates, cluster_table::ClusterTable, gateways::GatewayState, gloo_kinds::GlooKinds, http_route::Common,
    recent::Recent, route_table::RouteTable,
};

/// What one translation leaves to the next.
#[derive(Debug, Default)]
pub(super) struct Memo {
    pub(super) observed: Observed,
    pub(super) certificates: Certificates,
    pub(super) gateways: BTreeMap<ObjectName, GatewayState>,
    pub(super) routes: RouteTable,
    pub(super) clusters: ClusterTable,
    pub(super) gloo: GlooKinds,
    pub(super) common: Common,
    pub(super) statuses: Recent<Status>,
}
