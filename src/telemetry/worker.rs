//! What one data-plane worker counts.

use std::{net::SocketAddr, time::Duration};

use tokio::time::Instant;

use crate::base::Heartbeat;

use super::{
    abuse::{Http2Abuse, ProxyProtocolResult},
    cells::{Count, Histogram},
    datagrams::DatagramMetrics,
    recent::{RecentRequest, RecentRequests},
    response_flag::ResponseFlag,
    sessions::{MovedStream, SessionResult},
    upstream::{Http2End, MirrorResult, RetryReason},
};

/// Bounds of request durations, in microseconds.
pub(super) const DURATION_BOUNDS: [u64; 16] = [
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000, 10_000_000, 30_000_000,
    60_000_000,
];

/// Status classes of `requests_total`; anything outside 1xx-5xx is `other`.
pub(super) const CODES: [&str; 6] = ["1xx", "2xx", "3xx", "4xx", "5xx", "other"];

/// A worker's counters. Only the worker's own thread counts, by plain loads and stores; no other worker touches these cache lines.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct WorkerMetrics {
    pub(super) requests: [[Count; ResponseFlag::ALL.len()]; CODES.len()],
    pub(super) duration: Histogram<{ DURATION_BOUNDS.len() + 1 }>,
    pub(super) in_flight: Count,
    pub(super) streams: [Count; ResponseFlag::ALL.len()],
    pub(super) streams_open: Count,
    pub(super) connections_open: Count,
    pub(super) connections_resting: Count,
    pub(super) connections: Count,
    pub(super) connections_refused: [Count; ConnectionRefusal::ALL.len()],
    pub(super) http2_abuses: [Count; Http2Abuse::ALL.len()],
    pub(super) proxy_protocol: [Count; ProxyProtocolResult::ALL.len()],
    pub(super) requests_refused: [Count; RequestRefusal::ALL.len()],
    pub(super) handshakes_in_progress: Count,
    pub(super) handshakes_waited: Count,
    pub(super) buffered_bytes: Count,
    pub(super) reads_shortened: Count,
    pub(super) handshakes: [Count; HandshakeResult::ALL.len()],
    pub(super) connects: [Count; ConnectResult::ALL.len()],
    pub(super) upstream_active: Count,
    pub(super) upstream_idle: Count,
    pub(super) http2_ends: [Count; Http2End::ALL.len()],
    pub(super) retries: [Count; RetryReason::ALL.len()],
    pub(super) retries_without_body: Count,
    pub(super) mirrors: [Count; MirrorResult::ALL.len()],
    pub(super) overflows: [Count; OverflowKind::ALL.len()],
    pub(super) hash_key_missing: Count,
    pub(super) sessions: [Count; SessionResult::ALL.len()],
    pub(super) moved_streams: [Count; MovedStream::ALL.len()],
    pub(super) panics: Count,
    recent: RecentRequests,
    pub(super) generation: Count,
    /// What is counted of UDP.
    pub datagrams: DatagramMetrics,
    /// Beaten by the worker's loop; `/livez` and `clingfish_worker_heartbeat_age_seconds` look at it.
    pub heartbeat: Heartbeat,
}

/// How an attempt to connect to a host ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectResult {
    /// Connected.
    Ok,
    /// Refused or unreachable.
    Failed,
    /// No answer in time.
    TimedOut,
}

/// How a client's TLS handshake ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandshakeResult {
    /// Completed.
    Ok,
    /// No listener with a usable certificate has the name that the client asked for.
    UnknownName,
    /// No version, cipher suite or application protocol in common.
    Incompatible,
    /// What the client sent is not TLS.
    Malformed,
    /// The client sent an alert: mostly, it does not trust the certificate.
    RefusedByClient,
    /// The client showed no certificate where one is asked for, or one that is not good.
    ClientCertificate,
    /// The client went away.
    Closed,
    /// The client took too long.
    TimedOut,
    /// Anything else.
    Other,
}

/// Why a client's connection was closed as soon as it was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionRefusal {
    /// The process has as many as it may have.
    MaxConnections,
    /// Its port has as many as it may have.
    MaxConnectionsPerListener,
    /// Memory runs out.
    Overload,
}

/// Why a request was not taken on, or not to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestRefusal {
    /// Memory runs out.
    Overload,
    /// As many bytes are buffered as may be.
    Buffers,
    /// The same, and nothing moved of what was buffered for this one: it was ended to make room.
    Stalled,
}

/// Which limit of a backend was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OverflowKind {
    /// Connections: the request waits for one.
    Connections,
    /// Requests that wait for a connection.
    Pending,
    /// Requests in flight.
    Requests,
    /// Retries in flight.
    Retries,
}

// === impl WorkerMetrics ===

impl WorkerMetrics {
    /// A client's connection was accepted.
    pub fn connection_opened(&self) {
        self.connections.add(1);
        self.connections_open.add(1);
    }

    /// A client's connection is closed.
    pub fn connection_closed(&self) {
        self.connections_open.subtract(1);
    }

    /// A client's connection was closed as soon as it was accepted.
    pub fn connection_refused(&self, reason: ConnectionRefusal) {
        if let Some(count) = self.connections_refused.get(reason as usize) {
            count.add(1);
        }
    }

    /// A request was answered with 503 before anybody looked at it.
    pub fn request_refused(&self, reason: RequestRefusal) {
        if let Some(count) = self.requests_refused.get(reason as usize) {
            count.add(1);
        }
    }

    /// An idle client's connection has given its buffers back.
    pub fn connection_rests(&self) {
        self.connections_resting.add(1);
    }

    /// A connection that rested has something to read, or ends.
    pub fn connection_wakes(&self) {
        self.connections_resting.subtract(1);
    }

    /// A request's head has arrived.
    pub fn request_started(&self) {
        self.in_flight.add(1);
    }

    /// A request's response has ended, or its client is gone. `status`: 0 where no response was begun.
    pub fn request_finished(&self, status: u16, flag: ResponseFlag, duration: Duration) {
        self.in_flight.subtract(1);
        let class = match status / 100 {
            class @ 1..=5 => usize::from(class) - 1,
            _ => CODES.len() - 1,
        };
        if let Some(count) = self.requests.get(class).and_then(|flags| flags.get(flag as usize)) {
            count.add(1);
        }
        self.duration.observe(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX), &DURATION_BOUNDS);
    }

    /// A connection that is not looked at has begun.
    pub fn stream_started(&self) {
        self.streams_open.add(1);
    }

    /// A connection that is not looked at has ended.
    pub fn stream_finished(&self, flag: ResponseFlag) {
        self.streams_open.subtract(1);
        if let Some(count) = self.streams.get(flag as usize) {
            count.add(1);
        }
    }

    /// A client's TLS handshake ended.
    pub fn tls_handshake(&self, result: HandshakeResult) {
        if let Some(count) = self.handshakes.get(result as usize) {
            count.add(1);
        }
    }

    /// A client's TLS handshake has its turn.
    pub fn handshake_began(&self) {
        self.handshakes_in_progress.add(1);
    }

    /// A client's TLS handshake that had its turn is over.
    pub fn handshake_over(&self) {
        self.handshakes_in_progress.subtract(1);
    }

    /// A client's TLS handshake had to wait for its turn.
    pub fn handshake_waited(&self) {
        self.handshakes_waited.add(1);
    }

    /// Bytes buffered for all of the worker's connections at this moment.
    pub fn set_buffered_bytes(&self, bytes: u64) {
        self.buffered_bytes.set(bytes);
    }

    /// Less was read at a time because too much is buffered.
    pub fn read_shortened(&self) {
        self.reads_shortened.add(1);
    }

    /// An attempt to connect to a host ended.
    pub fn upstream_connect(&self, result: ConnectResult) {
        if let Some(count) = self.connects.get(result as usize) {
            count.add(1);
        }
    }

    /// A connection to a host begins to serve a request.
    pub fn upstream_active(&self) {
        self.upstream_active.add(1);
    }

    /// A connection to a host serves no request any more: it goes to the pool (see `upstream_idle`) or ends.
    pub fn upstream_inactive(&self) {
        self.upstream_active.subtract(1);
    }

    /// The number of idle connections in the worker's pool.
    pub fn set_upstream_idle(&self, connections: usize) {
        self.upstream_idle.set(connections as u64);
    }

    /// A connection of HTTP/2 to a host has ended.
    pub fn http2_end(&self, end: Http2End) {
        if let Some(count) = self.http2_ends.get(end as usize) {
            count.add(1);
        }
    }

    /// One more attempt was made.
    pub fn retry(&self, reason: RetryReason) {
        if let Some(count) = self.retries.get(reason as usize) {
            count.add(1);
        }
    }

    /// A retry that the rule asks for was not made: the body was larger than what is kept.
    pub fn retry_without_body(&self) {
        self.retries_without_body.add(1);
    }

    /// A copy of a request has ended.
    pub fn mirrored(&self, result: MirrorResult) {
        if let Some(count) = self.mirrors.get(result as usize) {
            count.add(1);
        }
    }

    /// A limit of a backend was reached.
    pub fn overflow(&self, kind: OverflowKind) {
        if let Some(count) = self.overflows.get(kind as usize) {
            count.add(1);
        }
    }

    /// A client's HTTP/2 connection is ended for what the client did.
    pub fn http2_abuse(&self, abuse: Http2Abuse) {
        if let Some(count) = self.http2_abuses.get(abuse as usize) {
            count.add(1);
        }
    }

    /// A connection of a trusted load balancer has said who its client is, or has not.
    pub fn proxy_protocol(&self, result: ProxyProtocolResult) {
        if let Some(count) = self.proxy_protocol.get(result as usize) {
            count.add(1);
        }
    }

    /// A request goes to a host of a cluster; `hash`: of its key.
    pub fn goes_to_host(&self, at: Instant, cluster: u32, host: SocketAddr, hash: Option<u64>) {
        self.recent.note(at, cluster, host, hash);
    }

    /// The last requests that went to hosts, in no order.
    pub fn recent_requests(&self) -> impl Iterator<Item = RecentRequest> {
        self.recent.read()
    }

    /// A request to a backend that holds sessions.
    pub fn session(&self, result: SessionResult) {
        if let Some(count) = self.sessions.get(result as usize) {
            count.add(1);
        }
    }

    /// A stream was told to go, since its session belongs to another host.
    pub fn stream_moved(&self, kind: MovedStream) {
        if let Some(count) = self.moved_streams.get(kind as usize) {
            count.add(1);
        }
    }

    /// A backend hashes, but no policy found a key.
    pub fn hash_key_missing(&self) {
        self.hash_key_missing.add(1);
    }

    /// A task panicked and was caught.
    pub fn panicked(&self) {
        self.panics.add(1);
    }

    /// The worker has bound this generation of the snapshot.
    pub fn bound_generation(&self, generation: u64) {
        self.generation.set(generation);
    }

    /// Requests in flight at this moment.
    pub fn in_flight(&self) -> u64 {
        self.in_flight.get()
    }
}

// === impl ConnectResult ===

impl ConnectResult {
    /// All results, in order of their numbers.
    pub const ALL: [Self; 3] = [Self::Ok, Self::Failed, Self::TimedOut];

    /// Value of the label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed => "failed",
            Self::TimedOut => "timed_out",
        }
    }
}

// === impl HandshakeResult ===

impl HandshakeResult {
    /// All results, in order of their numbers.
    pub const ALL: [Self; 9] = [
        Self::Ok,
        Self::UnknownName,
        Self::Incompatible,
        Self::Malformed,
        Self::RefusedByClient,
        Self::ClientCertificate,
        Self::Closed,
        Self::TimedOut,
        Self::Other,
    ];

    /// Value of the label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::UnknownName => "unknown_name",
            Self::Incompatible => "incompatible",
            Self::Malformed => "malformed",
            Self::RefusedByClient => "refused_by_client",
            Self::ClientCertificate => "client_certificate",
            Self::Closed => "closed",
            Self::TimedOut => "timed_out",
            Self::Other => "other",
        }
    }
}

// === impl ConnectionRefusal ===

impl ConnectionRefusal {
    /// All reasons, in order of their numbers.
    pub const ALL: [Self; 3] = [Self::MaxConnections, Self::MaxConnectionsPerListener, Self::Overload];

    /// Value of the label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MaxConnections => "max_connections",
            Self::MaxConnectionsPerListener => "max_connections_per_listener",
            Self::Overload => "overload",
        }
    }
}

// === impl RequestRefusal ===

impl RequestRefusal {
    /// All reasons, in order of their numbers.
    pub const ALL: [Self; 3] = [Self::Overload, Self::Buffers, Self::Stalled];

    /// Value of the label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Overload => "overload",
            Self::Buffers => "buffers",
            Self::Stalled => "stalled",
        }
    }
}

// === impl OverflowKind ===

impl OverflowKind {
    /// All kinds, in order of their numbers.
    pub const ALL: [Self; 4] = [Self::Connections, Self::Pending, Self::Requests, Self::Retries];

    /// Value of the label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Pending => "pending",
            Self::Requests => "requests",
            Self::Retries => "retries",
        }
    }
}
