//! From a request head to a decision: normalise, match, filter, key, cookie, host. Synchronous, pure, without sockets.
//!
//! The proxy and `explain` run the very same `plan`.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use http::{HeaderValue, StatusCode, request};

use crate::snapshot::{Bind, Cluster, Listener, Rule, Snapshot};

/// The connection on which a request arrived.
#[derive(Clone, Copy, Debug)]
pub struct Connection<'a> {
    /// The socket it was accepted on.
    pub bind: &'a Bind,
    /// Address of the TCP peer.
    pub remote: SocketAddr,
    /// Address of the accepted socket.
    pub local: SocketAddr,
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
    /// Index of the backend within `Forward::backends` of the rule.
    pub backend: usize,
    /// The request hash; `None` without a key.
    pub hash: Option<u64>,
    /// The number that chose the host: the hash, or a random one. Retries' next hosts follow from it.
    pub selection: u64,
    /// Index of the first host within `Cluster::hosts`.
    pub host: u32,
    /// Index of the table entry that chose it, for ring hash and maglev.
    pub entry: u32,
    /// Which kind of policy gave the key, for log and metrics.
    pub key_source: KeySource,
    /// The cookie to set on the response.
    pub set_cookie: Option<HeaderValue>,
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
    /// No listener of the port takes the hostname (404).
    NoListener,
    /// No route matches (404).
    NoRoute,
    /// The rule prescribes the answer (500 for a wrong rule); why.
    Rule(Box<str>),
    /// The backend reference is invalid (500); why.
    InvalidBackend(Box<str>),
    /// The backend is misconfigured (500); why.
    BackendRefused(Box<str>),
    /// The cluster has no host that may be chosen (503).
    NoHealthyUpstream,
    /// The rule redirects.
    Redirect,
}

/// Decides on a request and rewrites its head to what the backend shall see (hop-by-hop headers are the proxy's to strip).
pub fn plan(_parts: &mut request::Parts, connection: &Connection<'_>, _snapshot: &Snapshot, _chooser: &mut Chooser) -> Plan {
    Plan {
        listener: None,
        rule: None,
        match_index: 0,
        client: connection.remote.ip(),
        outcome: Outcome::Reply(Reply { status: StatusCode::NOT_FOUND, location: None, reason: ReplyReason::NoRoute }),
    }
}
