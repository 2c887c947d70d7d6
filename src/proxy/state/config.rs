//! What the data plane is told at its start and never changes.

use std::{sync::Arc, time::Duration};

use ipnet::IpNet;

use crate::{
    base::{DescriptorBudget, Overload},
    telemetry::Tracer,
};

/// Settings of the data plane.
#[derive(Clone, Debug)]
pub struct ProxyConfig {
    /// Number of worker threads, at least 1.
    pub workers: usize,
    /// Limits on downstream connections.
    pub limits: Limits,
    /// Limits on what goes to one backend.
    pub backends: BackendLimits,
    /// How much is taken on at a time.
    pub ceilings: Ceilings,
    /// What is refused at this moment because memory is short. The thread that measures memory publishes it.
    pub overload: Arc<Overload>,
    /// Hosts tried for one request before it is given up, the first included; only failed connects and connections that were never
    /// written to move on to the next host without a retry policy.
    pub max_hosts: u32,
    /// Bytes that are buffered in each direction of a connection.
    pub buffer_bytes: usize,
    /// How often deadlines of requests in flight are looked at. A timeout fires up to this late, never early.
    pub tick: Duration,
    /// The same while nothing is in flight; idle connections are looked at this often.
    pub idle_tick: Duration,
    /// File descriptors that the data plane may have.
    pub descriptors: DescriptorBudget,
    /// Load balancers that are trusted to say who the client is: each of their connections begins with a header of the PROXY protocol.
    pub proxy_protocol: Arc<[IpNet]>,
    /// Records requests; `None`: trace headers pass as they come.
    pub tracer: Option<Tracer>,
}

/// Limits on what goes to one backend, where it has none of its own (`CircuitBreakers`), all workers together.
#[derive(Clone, Debug)]
pub struct BackendLimits {
    /// Connections, idle ones included. A worker may always have one to a host.
    pub max_connections: u32,
    /// Requests that wait for a connection.
    pub max_pending_requests: u32,
    /// Requests in flight.
    pub max_requests: u32,
    /// Retries in flight, in percent of the requests in flight.
    pub retry_budget_percent: u32,
    /// Retries in flight that are allowed however few requests there are.
    pub min_retry_concurrency: u32,
    /// Bytes of a request's body that are kept for retries of its rule's policy, and for hosts of HTTP/2 that did not process it.
    pub retry_body_bytes: usize,
    /// HTTP/2: asks hosts that are silent while streams are open whether they are there (Envoy: `connection_keepalive`); `None`: never.
    pub http2_ping: Option<Http2Ping>,
}

/// When a host is asked whether it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Http2Ping {
    /// Without a frame of the host's, while streams are open.
    pub interval: Duration,
    /// From then on without a frame: the connection ends.
    pub timeout: Duration,
}

/// How much all workers together take on at a time.
#[derive(Clone, Debug)]
pub struct Ceilings {
    /// Connections of clients.
    pub connections: usize,
    /// Connections of clients on one port.
    pub connections_per_listener: usize,
    /// Flows of UDP; each worker has its part.
    pub flows: usize,
    /// Flows of UDP on one port; each worker has its part.
    pub flows_per_listener: usize,
    /// TLS handshakes from the ClientHello on; each worker has its part.
    pub tls_handshakes: usize,
    /// Bytes buffered for clients and hosts.
    pub buffered_bytes: usize,
}

/// Limits on downstream connections (defaults: `hardening` table, after Envoy's edge guide).
#[derive(Clone, Debug)]
pub struct Limits {
    /// From accept to the first byte; over TLS to the end of the handshake.
    pub first_byte: Duration,
    /// From the first byte of a request head to its last.
    pub request_head: Duration,
    /// HTTP/1.1: from the end of a response to the first byte of the next request.
    pub keep_alive: Duration,
    /// HTTP/1.1: from the end of a response until the connection gives its buffers back while it waits for the next request.
    pub rest_after: Duration,
    /// HTTP/2: without any open stream.
    pub http2_idle: Duration,
    /// Without a byte that the client reads while something waits to be written to it.
    pub write_stall: Duration,
    /// A request of which nothing has moved for so long gives its buffers up where new requests have no room.
    pub buffers_stall: Duration,
    /// Without a request in flight, from being told to end until the connection is cut.
    pub farewell: Duration,
    /// From the end of one side of a tunnel to that of the other.
    pub half_closed_tunnel: Duration,
    /// From the end of a copy for a mirror, or the head of its answer if that comes later, for which the answer is read.
    pub mirror_answer: Duration,
    /// Bytes of a request head, and of a response head from upstream.
    pub head_bytes: usize,
    /// HTTP/2: concurrent streams of a connection.
    pub http2_streams: u32,
    /// HTTP/2: flow-control window of a stream, in bytes.
    pub http2_stream_window: u32,
    /// HTTP/2: flow-control window of a connection, in bytes.
    pub http2_connection_window: u32,
}

// === impl ProxyConfig ===

impl Default for ProxyConfig {
    fn default() -> Self {
        Self {
            workers: 1,
            limits: Limits::default(),
            backends: BackendLimits::default(),
            ceilings: Ceilings::default(),
            overload: Arc::default(),
            max_hosts: 16,
            buffer_bytes: 128 * 1024,
            tick: Duration::from_millis(100),
            idle_tick: Duration::from_secs(1),
            descriptors: DescriptorBudget::default(),
            proxy_protocol: Arc::default(),
            tracer: None,
        }
    }
}

// === impl BackendLimits ===

impl Default for BackendLimits {
    /// Envoy's (`CircuitBreakers.Thresholds`, `RetryBudget`), and 64 KiB of a body.
    fn default() -> Self {
        Self {
            max_connections: 1024,
            max_pending_requests: 1024,
            max_requests: 1024,
            retry_budget_percent: 20,
            min_retry_concurrency: 3,
            retry_body_bytes: 64 * 1024,
            http2_ping: None,
        }
    }
}

// === impl Ceilings ===

impl Default for Ceilings {
    /// Practically none: the caller that starts the data plane knows what the machine bears.
    fn default() -> Self {
        Self {
            connections: usize::MAX,
            connections_per_listener: usize::MAX,
            flows: usize::MAX,
            flows_per_listener: usize::MAX,
            tls_handshakes: usize::MAX,
            buffered_bytes: usize::MAX,
        }
    }
}

// === impl Limits ===

impl Default for Limits {
    fn default() -> Self {
        Self {
            first_byte: Duration::from_secs(10),
            request_head: Duration::from_secs(10),
            keep_alive: Duration::from_secs(75),
            rest_after: Duration::from_secs(1),
            http2_idle: Duration::from_secs(300),
            write_stall: Duration::from_secs(60),
            buffers_stall: Duration::from_secs(1),
            farewell: Duration::from_secs(5),
            half_closed_tunnel: Duration::from_secs(10),
            mirror_answer: Duration::from_secs(15),
            head_bytes: 60 * 1024,
            http2_streams: 100,
            http2_stream_window: 64 * 1024,
            http2_connection_window: 1024 * 1024,
        }
    }
}
