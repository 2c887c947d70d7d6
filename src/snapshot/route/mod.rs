//! Routes of one hostname, and what their rules do.

use std::{cmp::Ordering, sync::Arc};

use http::StatusCode;
use smallvec::SmallVec;

use crate::base::{Kind, Message, ObjectRef};
use crate::lb::WeightedSplit;

use super::{
    BackendName, Cluster, ClusterId, Filters, Hostname, Matcher, PathMatch, Redirect, RoutePolicy, UpstreamProtocol,
    matcher_index::PathIndex,
};

/// All routes that serve one hostname of a listener, indexed by path.
///
/// Precedence (Gateway API HTTPRoute): the more specific of the hostnames that the routes themselves write, where the listener's hostname narrows
/// them to one; Exact > RegularExpression (by `RegexOrder`) > PathPrefix (longer first), then method, number of
/// headers, number of query parameters, age of the route, namespace/name, order in the route.
#[derive(Clone, Debug)]
pub struct HostRoutes {
    /// The hostname that listener and routes have in common.
    pub hostname: Hostname,
    /// All entries in order of precedence; the index below points into it. Dump, explain and tests read it.
    entries: Box<[Arc<RouteEntry>]>,
    /// The tiers, the most specific first; mostly there is one.
    tiers: SmallVec<[Tier; 1]>,
}

/// Which of two regular expressions comes first. The Gateway API leaves it to the implementation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RegexOrder {
    /// The longer pattern, before method, headers and query parameters are compared.
    #[default]
    LongestFirst,
    /// Patterns are equals: method, headers, query parameters, age and order decide (Gloo: `projects/gateway2/translator/routeutils/sort.go`).
    Equals,
}

/// Entries of routes whose own hostnames are equally specific. They follow each other in `entries`.
#[derive(Clone, Debug)]
struct Tier {
    /// The index behind the last of them. They begin where those of the tier before end.
    end: u32,
    index: PathIndex,
}

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

/// A match that was found for a request.
#[derive(Clone, Copy, Debug)]
pub struct MatchedRoute<'a> {
    /// The entry that matched.
    pub entry: &'a RouteEntry,
    /// For a prefix match, the length of the matched prefix in bytes (without a trailing slash); else the length of the path.
    pub matched_len: usize,
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
#[derive(Clone, Debug)]
pub struct Forward {
    /// Chooses a backend; index into `backends`.
    pub split: WeightedSplit,
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

// === impl HostRoutes ===

impl HostRoutes {
    /// Indexes the matches of a hostname. They come in the order of last resort (age of the route, namespace/name, rule, match), which the
    /// precedence of paths, methods, headers and query parameters is laid over.
    pub fn build(hostname: Hostname, entries: Vec<impl Into<Arc<RouteEntry>>>) -> Self {
        Self::build_tiers(hostname, RegexOrder::default(), std::iter::once(entries))
    }

    /// The same for routes whose own hostnames differ: tier by tier, those of the most specific hostname first. A match of a later tier is
    /// looked for where none of an earlier one is found.
    pub fn build_tiers<E: Into<Arc<RouteEntry>>>(hostname: Hostname, order: RegexOrder, tiers: impl IntoIterator<Item = Vec<E>>) -> Self {
        let mut all: Vec<Arc<RouteEntry>> = Vec::new();
        let mut built = SmallVec::new();
        for entries in tiers {
            let mut entries: Vec<Arc<RouteEntry>> = entries.into_iter().map(Into::into).collect();
            entries.sort_by(|a, b| precedence(a, b, order));
            let index = PathIndex::build(&entries);
            all.append(&mut entries);
            built.push(Tier { end: u32::try_from(all.len()).unwrap_or(u32::MAX), index });
        }
        Self { hostname, entries: all.into(), tiers: built }
    }

    /// The first match, in order of precedence, for a normalised path without query, among those whose other conditions `accept` finds to hold.
    pub fn find(&self, path: &str, accept: impl Fn(&Matcher) -> bool) -> Option<MatchedRoute<'_>> {
        let mut begin = 0;
        self.tiers.iter().find_map(|tier| {
            let entries = self.entries.get(begin..tier.end as usize)?;
            begin = tier.end as usize;
            let (entry, matched_len) = tier.index.find(entries, path, |entry| accept(&entry.matcher))?;
            Some(MatchedRoute { entry, matched_len })
        })
    }

    /// All matches in order of precedence. Among exact paths of one length, and among prefixes of one length, which cannot match the same
    /// request, the order is that of the text.
    pub fn entries(&self) -> &[Arc<RouteEntry>] {
        &self.entries
    }
}

fn precedence(a: &RouteEntry, b: &RouteEntry, order: RegexOrder) -> Ordering {
    path_precedence(&a.path, &b.path, order)
        .then_with(|| b.matcher.method.is_some().cmp(&a.matcher.method.is_some()))
        .then_with(|| b.matcher.headers.len().cmp(&a.matcher.headers.len()))
        .then_with(|| b.matcher.query.len().cmp(&a.matcher.query.len()))
}

fn path_precedence(a: &PathMatch, b: &PathMatch, order: RegexOrder) -> Ordering {
    let longer_first = |a: &str, b: &str| b.len().cmp(&a.len());
    match (a, b) {
        // Texts of one length that differ cannot match the same path: ordering them makes equal ones neighbours.
        (PathMatch::Exact(a), PathMatch::Exact(b)) | (PathMatch::Prefix(a), PathMatch::Prefix(b)) => {
            longer_first(a, b).then_with(|| a.cmp(b))
        }
        (PathMatch::Regex(a), PathMatch::Regex(b)) => match order {
            RegexOrder::LongestFirst => longer_first(a.source(), b.source()),
            RegexOrder::Equals => Ordering::Equal,
        },
        _ => path_rank(a).cmp(&path_rank(b)),
    }
}

fn path_rank(path: &PathMatch) -> u8 {
    match path {
        PathMatch::Exact(_) => 0,
        PathMatch::Regex(_) => 1,
        PathMatch::Prefix(_) => 2,
    }
}

#[cfg(test)]
mod tests;
