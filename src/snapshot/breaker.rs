//! Circuit breakers of a cluster: their limits, and the counts that are compared with them.

use std::sync::atomic::AtomicU32;

/// Limits of one cluster in Gloo's and Envoy's words (`envoy.config.cluster.v3.CircuitBreakers.Thresholds`); `None`: the process's default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CircuitBreakers {
    /// Connections to its hosts, idle ones included.
    pub max_connections: Option<u32>,
    /// Requests that wait for a connection.
    pub max_pending_requests: Option<u32>,
    /// Requests in flight.
    pub max_requests: Option<u32>,
    /// Retries in flight; `None`: the retry budget of the process decides.
    pub max_retries: Option<u32>,
}

/// Live counters of a cluster, one for all workers. They outlive snapshots. On cache lines of their own: every request touches them.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct ClusterLive {
    /// Connections to its hosts that are open or being made, idle ones included.
    pub connections: AtomicU32,
    /// Requests that wait for a connection.
    pub pending: AtomicU32,
    /// Requests in flight.
    pub requests: AtomicU32,
    /// Retries in flight, the waits before them included.
    pub retries: AtomicU32,
}
