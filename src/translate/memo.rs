//! What a translation keeps for the next one: every compiled part, with the indexes that tell what a change touches.

use std::collections::BTreeMap;

use crate::base::{Message, ObjectName, ObjectRef};
use crate::snapshot::{BackendName, Observed};

use super::{
    Status, affinity::AffinityPolicies, backend_tls::BackendTlsPolicies, certificates::Certificates, cluster_table::ClusterTable, endpoints::Gap,
    gateway_option::GatewayOptions, gateways::GatewayState, gloo_kinds::GlooKinds, ledger::Ledger, patterns::Patterns, recent::Recent,
    route::Common, route_table::RouteTable, tables::Tables,
};

/// What one translation leaves to the next.
#[derive(Debug, Default)]
pub(super) struct Memo {
    pub(super) observed: Observed,
    pub(super) certificates: Certificates,
    pub(super) affinity: AffinityPolicies,
    pub(super) backend_tls: BackendTlsPolicies,
    pub(super) gateway_options: GatewayOptions,
    pub(super) gateways: BTreeMap<ObjectName, GatewayState>,
    pub(super) routes: RouteTable,
    pub(super) clusters: ClusterTable,
    pub(super) gloo: GlooKinds,
    pub(super) common: Common,
    pub(super) patterns: Patterns,
    /// What HTTPRoutes and RouteOptions ask for of the budget of patterns.
    pub(super) pattern_demands: Ledger<ObjectRef>,
    /// What clusters ask for of the budget of ring points.
    pub(super) ring_demands: Ledger<BackendName>,
    /// Why clusters have no ring.
    pub(super) ring_refusals: BTreeMap<BackendName, Message>,
    /// Hash tables that somebody else builds.
    pub(super) tables: Tables,
    /// Why backends that routes use have no hosts, where statuses tell.
    pub(super) gaps: BTreeMap<BackendName, Gap>,
    pub(super) statuses: Recent<Status>,
}
