//! Decides about a request from its head: normalises, matches, filters, finds the key, makes a cookie, picks the host. Synchronous and
//! pure.
//!
//! The proxy and `explain` run the same `plan`.

pub mod affinity;
mod backend;
mod client;
mod cookie;
pub mod explain;
mod filter;
#[cfg(test)]
mod fixture;
mod grpc;
mod lines;
mod normalise;
mod redirect;
mod response;
pub mod simulate;
mod stream;
#[cfg(test)]
mod tests;
mod underscores;

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use http::{HeaderValue, StatusCode, Version, request};
use smallvec::SmallVec;

use crate::base::Message;
use crate::snapshot::{Action, Backend, Bind, Cluster, Host, Listener, MatchedRoute, Query, Rule, Snapshot, UpstreamProtocol};

pub use affinity::{KeyResult, PolicyTrace};
pub use client::client_address;
pub use explain::{Decision, ExplainAnswer, ExplainRequest, Explainer, PolicyAnswer, TableAnswer};
pub use grpc::{GrpcStatus, answer_call, grpc_status, grpc_timeout, is_grpc_content_type};
pub use response::{DateRemoved, finish_response};
pub use simulate::{HostShare, SimulateError, SimulatedChange, SimulationReport, simulate};
pub use stream::{StreamConnection, StreamPlan, StreamRefusal, plan_stream};

/// The connection on which a request arrived.
#[derive(Clone, Copy, Debug)]
pub struct Connection<'a> {
    /// The socket it was accepted on.
    pub bind: &'a Bind,
    /// Address of the TCP peer.
    pub remote: SocketAddr,
    /// Address of the accepted socket.
    pub local: SocketAddr,
    /// What TLS says of it; `None` without TLS.
    pub tls: Option<Tls<'a>>,
}

/// A TLS connection as far as decisions depend on it.
#[derive(Clone, Copy, Debug)]
pub struct Tls<'a> {
    /// The name the client asked for (SNI), lower case.
    pub server_name: Option<&'a str>,
}

/// What choosing needs beside snapshot and request: the worker's own random numbers and turns.
#[derive(Debug)]
pub struct Chooser {
    /// Random numbers of this worker.
    pub random: fastrand::Rng,
    /// Round-robin turns by cluster id, grown as needed.
    pub turns: Vec<u64>,
}

/// The decision on one request.
#[derive(Debug)]
pub struct Plan {
    /// The listener that the request belongs to.
    pub listener: Option<Arc<Listener>>,
    /// The rule that matched.
    pub rule: Option<Arc<Rule>>,
    /// Index of the match within the rule.
    pub match_index: u16,
    /// Index of the backend that was drawn, within `Forward::backends` of the rule.
    pub backend: Option<usize>,
    /// The client's address as hash policies see it.
    pub client: IpAddr,
    /// What to do.
    pub outcome: Outcome,
}

/// What to do with a request.
#[derive(Debug)]
pub enum Outcome {
    /// Send it to a host.
    Forward(ForwardPlan),
    /// Answer it here.
    Reply(Reply),
}

/// Where a request goes.
#[derive(Debug)]
pub struct ForwardPlan {
    /// The cluster chosen.
    pub cluster: Arc<Cluster>,
    /// The request hash; `None` without a key.
    pub hash: Option<u64>,
    /// What it is sent in.
    pub protocol: UpstreamProtocol,
    /// The number that chose the host: the hash, or a random one. Retries' next hosts follow from it.
    pub selection: u64,
    /// Index of the first host within `Cluster::hosts`.
    pub host: u32,
    /// Index of the table entry that chose it, for ring hash and maglev.
    pub entry: u32,
    /// Which kind of policy gave the key, for log and metrics.
    pub key_source: KeySource,
    /// The cookies to set on the response; more than one only where several policies generate one.
    pub set_cookie: SmallVec<[HeaderValue; 1]>,
}

/// Which kind of hash policy gave the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// The balancer does not hash.
    NotHashed,
    /// It hashes, but no policy found a key: the choice is random.
    Missing,
    /// A header.
    Header,
    /// A cookie that the client sent.
    Cookie,
    /// A cookie that was generated for this response.
    GeneratedCookie,
    /// The client's address.
    SourceIp,
    /// A query parameter.
    QueryParameter,
    /// Several policies.
    Combined,
}

/// An answer of the gateway's own.
#[derive(Debug)]
pub struct Reply {
    /// Status.
    pub status: StatusCode,
    /// The Location of a redirect.
    pub location: Option<HeaderValue>,
    /// Why.
    pub reason: ReplyReason,
}

/// Why the gateway answers by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplyReason {
    /// The request is malformed (400 and the like); what is wrong with it.
    BadRequest(&'static str),
    /// The hostname belongs to another listener than the one the TLS connection was opened for (421).
    Misdirected,
    /// No listener of the port takes the hostname (404).
    NoListener,
    /// No route matches (404).
    NoRoute,
    /// The listener must not serve its routes (500); why.
    ListenerRefused(Message),
    /// The rule prescribes the answer (500 for a wrong rule); why.
    Rule(Message),
    /// The backend reference is invalid (500); why.
    InvalidBackend(Message),
    /// The backend is misconfigured (500); why.
    BackendRefused(Message),
    /// The cluster has no host that may be chosen (503); why, where it has none at all.
    NoHealthyUpstream(Option<Message>),
    /// The rule redirects.
    Redirect,
    /// The path has percent-encoded slashes, and the client is sent to the path without (307).
    EscapedSlashes,
}

/// What a request was decided by, beside the plan; collected for explanations only.
#[derive(Debug, Default)]
struct Trace {
    /// The hash policies that were looked at.
    policies: Vec<PolicyTrace>,
}

/// Most hosts that one request is tried on: the first and those of retries. When seven of ten pods go at once, and their endpoints a moment
/// later, five in a row are dead for one key in twelve.
pub const MAX_HOSTS_PER_REQUEST: usize = 16;

/// Decides on a request and rewrites its head to what the backend shall see (hop-by-hop headers are the proxy's to strip).
pub fn plan(parts: &mut request::Parts, connection: &Connection<'_>, snapshot: &Snapshot, chooser: &mut Chooser) -> Plan {
    plan_traced(parts, connection, snapshot, chooser, None)
}

fn plan_traced(
    parts: &mut request::Parts,
    connection: &Connection<'_>,
    snapshot: &Snapshot,
    chooser: &mut Chooser,
    trace: Option<&mut Trace>,
) -> Plan {
    let mut plan = Plan {
        listener: None,
        rule: None,
        match_index: 0,
        backend: None,
        client: connection.remote.ip().to_canonical(),
        outcome: Outcome::Reply(not_found(ReplyReason::NoListener)),
    };
    plan.outcome = match decide(&mut plan, parts, connection, snapshot, chooser, trace) {
        Ok(forward) => Outcome::Forward(forward),
        Err(reply) => Outcome::Reply(reply),
    };
    plan
}

/// The steps, in Envoy's order. `plan` is filled in as far as they get.
fn decide(
    plan: &mut Plan,
    parts: &mut request::Parts,
    connection: &Connection<'_>,
    snapshot: &Snapshot,
    chooser: &mut Chooser,
    trace: Option<&mut Trace>,
) -> Result<ForwardPlan, Reply> {
    let authority = normalise::request_head(parts, connection.local, connection.bind.profile.path)?;
    // Lines of HTTP/1.1 stay as they are, and are hashed so.
    if parts.version == Version::HTTP_2 {
        client::join_cookies(&mut parts.headers);
    }
    underscores::sieve(&mut parts.headers, connection.bind.profile.headers_with_underscores)?;
    plan.client = client::identify(&mut parts.headers, connection, &mut chooser.random);
    let found = route(&mut plan.listener, parts, authority, connection)?;
    plan.match_index = found.entry.match_index;
    let rule = &**plan.rule.insert(Arc::clone(&found.entry.rule));
    let mut matched_len = found.matched_len;
    let forward = match &rule.action {
        Action::Forward(forward) => forward,
        Action::Redirect(redirect) => return Err(redirect::reply(redirect, parts, connection, matched_len)),
        Action::Respond(reply) => {
            return Err(Reply { status: reply.status, location: None, reason: ReplyReason::Rule(reply.reason.clone()) });
        }
    };
    client::announce_timeout(&mut parts.headers, &rule.policy.timeouts);
    if let Some(filters) = &rule.filters {
        filter::apply_to_request(parts, filters, &mut matched_len).map_err(cannot_rewrite)?;
    }
    let (index, backend) = backend::draw(forward, chooser)?;
    plan.backend = Some(index);
    let cluster = backend::cluster(backend, snapshot)?;
    if let Some(filters) = &backend.filters {
        filter::apply_to_request(parts, filters, &mut matched_len).map_err(cannot_rewrite)?;
    }
    let protocol = rule.upstream_protocol(cluster);
    let asked = backend::Asked { parts, connection, client: plan.client, policy: &rule.policy, protocol };
    backend::choose_host(cluster, &asked, chooser, trace)
}

/// Finds listener, hostname and rule.
fn route<'c>(
    found_listener: &mut Option<Arc<Listener>>,
    parts: &request::Parts,
    authority: normalise::Authority,
    connection: &Connection<'c>,
) -> Result<MatchedRoute<'c>, Reply> {
    let host = authority.name(&parts.headers);
    let listener = connection.bind.listeners.get(&host).ok_or_else(|| not_found(ReplyReason::NoListener))?;
    *found_listener = Some(Arc::clone(listener));
    if connection.tls.is_some_and(|tls| is_misdirected(tls, &host, listener, connection.bind)) {
        return Err(Reply { status: StatusCode::MISDIRECTED_REQUEST, location: None, reason: ReplyReason::Misdirected });
    }
    if let Some(why) = &listener.refusal {
        let reason = ReplyReason::ListenerRefused(why.clone());
        return Err(Reply { status: StatusCode::INTERNAL_SERVER_ERROR, location: None, reason });
    }
    let query = Query::new(parts.uri.query().unwrap_or_default());
    // The most specific hostname owns the request: no falling through to a less specific one.
    let routes = listener.hosts.get(&host);
    let found = routes.and_then(|routes| routes.find(parts.uri.path(), |matcher| matcher.is_empty() || matcher.matches(parts, &query)));
    found.ok_or_else(|| not_found(ReplyReason::NoRoute))
}

/// Whether the client reuses a TLS connection that it opened for another listener (GEP-3567): the certificate it saw may be good for both
/// hostnames, but what was agreed on for one listener does not hold for the other.
fn is_misdirected(tls: Tls<'_>, host: &str, listener: &Arc<Listener>, bind: &Bind) -> bool {
    if tls.server_name == Some(host) {
        return false;
    }
    let own = bind.listeners.get(tls.server_name.unwrap_or_default());
    own.is_none_or(|own| !Arc::ptr_eq(own, listener))
}

fn not_found(reason: ReplyReason) -> Reply {
    Reply { status: StatusCode::NOT_FOUND, location: None, reason }
}

fn cannot_rewrite(why: &'static str) -> Reply {
    Reply { status: StatusCode::INTERNAL_SERVER_ERROR, location: None, reason: ReplyReason::Rule(why.into()) }
}

// === impl Connection ===

impl Connection<'_> {
    /// The scheme of its requests.
    pub fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }
}

// === impl Plan ===

impl Plan {
    /// The backend that was drawn.
    pub fn backend(&self) -> Option<&Backend> {
        match &self.rule.as_ref()?.action {
            Action::Forward(forward) => forward.backends.get(self.backend?),
            Action::Redirect(_) | Action::Respond(_) => None,
        }
    }
}

// === impl ForwardPlan ===

impl ForwardPlan {
    /// The first host to try.
    pub fn first_host(&self) -> Option<&Host> {
        self.cluster.hosts.get(self.host as usize)
    }

    /// The host to try after those already tried (indexes into `Cluster::hosts`): the next of the hash sequence. `None` when no other host
    /// is left, or enough were tried.
    pub fn next_host(&self, tried: &[u32]) -> Option<u32> {
        self.hosts().into_iter().find(|host| !tried.contains(host))
    }

    /// The hosts in the order in which they are tried, the first one included; at most `MAX_HOSTS_PER_REQUEST`.
    pub fn hosts(&self) -> SmallVec<[u32; 8]> {
        self.cluster.balancer.sequence_from(self.host, self.selection, MAX_HOSTS_PER_REQUEST)
    }
}

// === impl ReplyReason ===

impl std::fmt::Display for ReplyReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::BadRequest(why) => write!(f, "malformed request: {why}"),
            Self::Misdirected => f.write_str("the hostname belongs to another listener than the one the connection was opened for"),
            Self::NoListener => f.write_str("no listener of the port takes the hostname"),
            Self::NoRoute => f.write_str("no route matches"),
            Self::ListenerRefused(why) => write!(f, "the listener serves nothing: {why}"),
            Self::Rule(why) => write!(f, "the rule answers by itself: {why}"),
            Self::InvalidBackend(why) => write!(f, "invalid backend: {why}"),
            Self::BackendRefused(why) => write!(f, "the backend is misconfigured: {why}"),
            Self::NoHealthyUpstream(None) => f.write_str("the backend has no host that may be chosen"),
            Self::NoHealthyUpstream(Some(why)) => write!(f, "the backend has no host: {why}"),
            Self::Redirect => f.write_str("the rule redirects"),
            Self::EscapedSlashes => f.write_str("the path has percent-encoded slashes: redirected to the path without"),
        }
    }
}
