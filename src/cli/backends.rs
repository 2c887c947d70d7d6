//! Flags about what goes to one backend.

use std::time::Duration;

use clap::Args;

use crate::settings::BackendSettings;

use super::duration::duration;

/// What goes to one backend, where its Upstream has no `circuitBreakers`; all workers together.
#[derive(Clone, Debug, Default, Args)]
pub struct BackendArgs {
    /// Most connections to a backend; each worker may always have one to a host [default: 1024]
    #[arg(long, env = "CLINGFISH_CIRCUIT_BREAKER_MAX_CONNECTIONS", value_name = "N")]
    pub circuit_breaker_max_connections: Option<u32>,
    /// Most requests to a backend that wait for a connection [default: 1024]
    #[arg(long, env = "CLINGFISH_CIRCUIT_BREAKER_MAX_PENDING_REQUESTS", value_name = "N")]
    pub circuit_breaker_max_pending_requests: Option<u32>,
    /// Most requests to a backend at a time [default: 1024]
    #[arg(long, env = "CLINGFISH_CIRCUIT_BREAKER_MAX_REQUESTS", value_name = "N")]
    pub circuit_breaker_max_requests: Option<u32>,
    /// Most retries to a backend at a time, in percent of its requests in flight [default: 20]
    #[arg(long, env = "CLINGFISH_RETRY_BUDGET_PERCENT", value_name = "PERCENT")]
    pub retry_budget_percent: Option<u32>,
    /// Number of retries to a backend at a time that are allowed in any case [default: 3]
    #[arg(long, env = "CLINGFISH_RETRY_BUDGET_MIN_CONCURRENCY", value_name = "N")]
    pub retry_budget_min_concurrency: Option<u32>,
    /// Bytes of a request's body that are kept for retries; a larger body is sent once [default: 65536]
    #[arg(long, env = "CLINGFISH_RETRY_BODY_BYTES", value_name = "BYTES")]
    pub retry_body_bytes: Option<u32>,
    /// Ask an HTTP/2 host that is silent for so long, while requests wait for it, whether it is there; 0s: never [default: 0s]
    #[arg(long, env = "CLINGFISH_HTTP2_PING_INTERVAL", value_name = "DURATION", value_parser = duration)]
    pub http2_ping_interval: Option<Duration>,
    /// Close the connection of an HTTP/2 host that does not answer for so long [default: 20s]
    #[arg(long, env = "CLINGFISH_HTTP2_PING_TIMEOUT", value_name = "DURATION", value_parser = duration)]
    pub http2_ping_timeout: Option<Duration>,
}

// === impl BackendSettings ===

impl From<BackendArgs> for BackendSettings {
    fn from(arguments: BackendArgs) -> Self {
        Self {
            max_connections: arguments.circuit_breaker_max_connections,
            max_pending_requests: arguments.circuit_breaker_max_pending_requests,
            max_requests: arguments.circuit_breaker_max_requests,
            retry_budget_percent: arguments.retry_budget_percent,
            min_retry_concurrency: arguments.retry_budget_min_concurrency,
            retry_body_bytes: arguments.retry_body_bytes,
            http2_ping_interval: arguments.http2_ping_interval,
            http2_ping_timeout: arguments.http2_ping_timeout,
        }
    }
}
