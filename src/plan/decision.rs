//! What is decided on a request.

use std::{fmt, net::IpAddr, sync::Arc, time::Duration};

use http::{HeaderValue, StatusCode};
use smallvec::SmallVec;

use crate::base::{Message, ObjectName};
use crate::snapshot::{Action, Backend, Cluster, Host, HostTls, Listener, RouteEntry, Rule, UpstreamProtocol};

use super::{cors::CorsHeaders, session::Session};

/// The decision on one request.
#[derive(Debug)]
pub struct Plan {
    /// The listener that the request belongs to.
    pub listener: Option<Arc<Listener>>,
    /// The match that was found.
    pub matched: Option<Arc<RouteEntry>>,
    /// Index of the backend that was drawn, within `Forward::backends` of the rule.
    pub backend: Option<usize>,
    /// The client's address as hash policies see it.
    pub client: IpAddr,
    /// What to do.
    pub outcome: Outcome,
    /// Headers of the answer, whoever gives it, where the rule has a CORS filter.
    pub cors: Option<CorsHeaders>,
    /// Where copies of the request go, beside `outcome`.
    pub mirrors: Vec<ForwardPlan>,
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
#[derive(Clone, Debug)]
pub struct ForwardPlan {
    /// The cluster chosen.
    pub cluster: Arc<Cluster>,
    /// The request hash; `None` without a key.
    pub hash: Option<u64>,
    /// What it is sent in.
    pub protocol: UpstreamProtocol,
    /// How TLS is spoken to the host; `None`: it is not.
    pub tls: Option<HostTls>,
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
    /// Its session, where the cluster holds sessions.
    pub session: Option<Session>,
    /// Within which time a stream is told to go when its key belongs to another host; `None`: it stays.
    pub follows: Option<Duration>,
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
    /// A segment of the path.
    PathSegment,
    /// A claim of a token.
    JwtClaim,
    /// The connection, since the request has no key.
    Connection,
    /// Several policies.
    Combined,
    /// The tag of the host to which the session is bound.
    Bound,
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
    /// The request has no key of affinity, and its policy refuses such requests (400); the policy.
    NoAffinityKey(ObjectName),
    /// The cluster has no host that may be chosen (503); why, where it has none at all.
    NoHealthyUpstream(Option<Message>),
    /// The rule redirects.
    Redirect,
    /// A browser asks for leave to send a request of another origin (200, or 403).
    Preflight {
        /// Whether it has leave.
        allowed: bool,
    },
    /// The path has percent-encoded slashes, and the client is sent to the path without (307).
    EscapedSlashes,
}

/// Most hosts that one request is tried on: the first and those of retries. When seven of ten pods go at once, and their endpoints a moment
/// later, five in a row are dead for one key in twelve.
pub const MAX_HOSTS_PER_REQUEST: usize = 16;

// === impl Plan ===

impl Plan {
    /// The rule that matched.
    pub fn rule(&self) -> Option<&Rule> {
        self.matched.as_ref().map(|entry| &*entry.rule)
    }

    /// The backend that was drawn.
    pub fn backend(&self) -> Option<&Backend> {
        match &self.rule()?.action {
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
        let balancer = &self.cluster.balancer;
        if (self.host as usize) < self.cluster.balanced().len() {
            return balancer.sequence_from(self.host, self.selection, MAX_HOSTS_PER_REQUEST);
        }
        // It ends, and only served the sessions it had: behind it come the hosts of all others.
        let others = balancer.choose_by_hash(self.selection, 0).map(|choice| choice.host);
        let others = others.map(|first| balancer.sequence_from(first, self.selection, MAX_HOSTS_PER_REQUEST - 1));
        std::iter::once(self.host).chain(others.into_iter().flatten()).collect()
    }
}

// === impl ReplyReason ===

impl fmt::Display for ReplyReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadRequest(why) => write!(f, "malformed request: {why}"),
            Self::Misdirected => f.write_str("the hostname belongs to another listener than the one the connection was opened for"),
            Self::NoListener => f.write_str("no listener of the port takes the hostname"),
            Self::NoRoute => f.write_str("no route matches"),
            Self::ListenerRefused(why) => write!(f, "the listener serves nothing: {why}"),
            Self::Rule(why) => write!(f, "the rule answers by itself: {why}"),
            Self::InvalidBackend(why) => write!(f, "invalid backend: {why}"),
            Self::BackendRefused(why) => write!(f, "the backend is misconfigured: {why}"),
            Self::NoAffinityKey(policy) => {
                write!(f, "the request has no key of affinity, and AffinityPolicy {policy} refuses such requests")
            }
            Self::NoHealthyUpstream(None) => f.write_str("the backend has no host that may be chosen"),
            Self::NoHealthyUpstream(Some(why)) => write!(f, "the backend has no host: {why}"),
            Self::Redirect => f.write_str("the rule redirects"),
            Self::Preflight { allowed: true } => f.write_str("the CORS filter answers: the origin may send requests"),
            Self::Preflight { allowed: false } => f.write_str("the CORS filter answers: the origin may not send requests"),
            Self::EscapedSlashes => f.write_str("the path has percent-encoded slashes: redirected to the path without"),
        }
    }
}
