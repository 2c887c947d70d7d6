//! A rule of a route: when it applies, and what it does.

use std::sync::Arc;

use http::StatusCode;

use crate::base::{Kind, Message, ObjectRef};
use crate::lb::{HashSplit, WeightedSplit};

use super::super::{BackendName, Cluster, ClusterId, Filters, Matcher, PathMatch, Redirect, RoutePolicy, UpstreamProtocol};

/// One match of one rule; shared by all hostnames that the route serves.
#[derive(Clone, Debug)]
pub struct RouteEntry {
    /// Path condition.
    pub path: PathMatch,
    /// Conditions beside the path.
    pub matcher: Matcher,
    /// The rule that acts.
    pub rule: Arc<Rule>,
    /// Index of the match within the rule; 0 for a rule without matches.
    pub match_index: u16,
}

/// The route object a rule comes from.
pub type RouteName = ObjectRef;

/// A rule of a route.
#[derive(Clone, Debug)]
pub struct Rule {
    /// The route it belongs to.
    pub route: Arc<RouteName>,
    /// Index of the rule within the route.
    pub index: u16,
    /// What is done with a request.
    pub action: Action,
    /// Filters of the rule.
    pub filters: Option<Box<Filters>>,
    /// Hash policies, timeouts, retries.
    pub policy: Arc<RoutePolicy>,
}

/// What a rule does with a request.
#[derive(Clone, Debug)]
pub enum Action {
    /// Send it to a backend.
    Forward(Forward),
    /// Answer with a Location.
    Redirect(Box<Redirect>),
    /// Answer with a status: a rule that is wrong, or has no backend.
    Respond(FixedReply),
}

/// An answer of the gateway's own that a rule prescribes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FixedReply {
    /// Status of the answer.
    pub status: StatusCode,
    /// Why, for `explain`.
    pub reason: Message,
}

/// Backends of a rule and the split between them.
#[derive(Clone, Debug, Default)]
pub struct Forward {
    /// Chooses a backend; index into `backends`.
    pub split: WeightedSplit,
    /// Chooses it by the key of a request, where an AffinityPolicy wants that.
    pub hash_split: Option<HashSplit>,
    /// Backends in the order written; shared by rules of a route that name the same ones.
    pub backends: Arc<[Backend]>,
}

/// One backend of a rule.
#[derive(Clone, Debug)]
pub struct Backend {
    /// What was referenced.
    pub name: Arc<BackendName>,
    /// Where its share goes.
    pub target: Target,
    /// Filters of this backend, applied after the rule's.
    pub filters: Option<Box<Filters>>,
}

/// Where the share of a backend goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// To a cluster.
    Cluster(ClusterId),
    /// Nowhere: it is redirected.
    Redirect(Box<Redirect>),
    /// Nowhere: the reference is invalid, its share is answered with this (500).
    Invalid(FixedReply),
}

// === impl Rule ===

impl Rule {
    /// What its requests are sent in: calls of a GRPCRoute in HTTP/2, whatever the cluster's hosts are spoken to in otherwise.
    pub fn upstream_protocol(&self, cluster: &Cluster) -> UpstreamProtocol {
        if self.is_grpc() { UpstreamProtocol::H2c } else { cluster.connection.protocol }
    }

    /// Whether it belongs to a GRPCRoute.
    pub fn is_grpc(&self) -> bool {
        self.route.kind == Kind::GrpcRoute
    }
}
