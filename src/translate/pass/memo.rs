//! What a translation keeps for the next one: every compiled part, with the indexes that tell what a change touches.

use std::collections::BTreeMap;

use crate::base::{Message, ObjectName, ObjectRef};
use crate::snapshot::{BackendName, Observed};
use crate::translate::{
    Status,
    affinity::AffinityPolicies,
    backend::{backend_tls::BackendTlsPolicies, endpoints::Gap, traffic::TrafficPolicies},
    certificates::Certificates,
    cluster::{ids::ClusterTable, table_requests::Tables},
    gateway::state::GatewayState,
    gloo::{gateway_option::GatewayOptions, kinds::GlooKinds},
    ledger::Ledger,
    patterns::Patterns,
    recent::Recent,
    route::{Common, table::RouteTable},
    slots::targets::SlotTargets,
};

/// What one translation leaves to the next.
#[derive(Debug, Default)]
pub(in crate::translate) struct Memo {
    pub(in crate::translate) observed: Observed,
    pub(in crate::translate) certificates: Certificates,
    pub(in crate::translate) affinity: AffinityPolicies,
    pub(in crate::translate) backend_tls: BackendTlsPolicies,
    pub(in crate::translate) traffic: TrafficPolicies,
    pub(in crate::translate) gateway_options: GatewayOptions,
    pub(in crate::translate) gateways: BTreeMap<ObjectName, GatewayState>,
    pub(in crate::translate) routes: RouteTable,
    pub(in crate::translate) clusters: ClusterTable,
    pub(in crate::translate) gloo: GlooKinds,
    pub(in crate::translate) common: Common,
    pub(in crate::translate) patterns: Patterns,
    /// What HTTPRoutes and RouteOptions ask for of the budget of patterns.
    pub(super) pattern_demands: Ledger<ObjectRef>,
    /// What clusters ask for of the budget of ring points.
    pub(super) ring_demands: Ledger<BackendName>,
    /// Why clusters have no ring.
    pub(super) ring_refusals: BTreeMap<BackendName, Message>,
    /// Hash tables that somebody else builds.
    pub(in crate::translate) tables: Tables,
    /// Why backends that routes use have no hosts, where statuses tell.
    pub(in crate::translate) gaps: BTreeMap<BackendName, Gap>,
    /// When clusters have to be built anew, in seconds since the epoch.
    pub(super) due: BTreeMap<BackendName, u64>,
    pub(super) slots: SlotTargets,
    pub(in crate::translate) statuses: Recent<Status>,
}
