//! What compiling a route reads beside the route itself.

use std::collections::BTreeMap;

use crate::base::ObjectName;
use crate::translate::{
    Options, Resources, affinity::AffinityPolicies, backend::traffic::TrafficPolicies, gateway::state::GatewayState,
    gloo::kinds::GlooKinds, patterns::Allowance, policy::Attachments,
};

use super::common::Common;

/// What compiling a route reads.
#[derive(Clone, Copy)]
pub(in crate::translate) struct RouteContext<'a> {
    pub(in crate::translate) resources: &'a Resources,
    pub(in crate::translate) gateways: &'a BTreeMap<ObjectName, GatewayState>,
    pub(in crate::translate) gloo: &'a GlooKinds,
    pub(in crate::translate) affinity: &'a AffinityPolicies,
    /// Which BackendTLSPolicies are for what.
    pub(in crate::translate) backend_tls: &'a Attachments,
    /// How sessions persist, by backend.
    pub(in crate::translate) traffic: &'a TrafficPolicies,
    pub(in crate::translate) options: &'a Options,
    /// What equal rules share.
    pub(in crate::translate) common: &'a Common,
    /// What the route may spend on regular expressions.
    pub(in crate::translate) allowance: &'a Allowance<'a>,
}
