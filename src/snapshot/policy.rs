//! What a rule says beyond where to send a request: hash policies, timeouts, retries.

use std::{sync::Arc, time::Duration};

use http::StatusCode;

use super::{affinity::Affinity, hash_policy::HashPolicy, hold::Hold};

/// The policies of a rule; shared between rules where equal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoutePolicy {
    /// Hash policies in order (Gloo's `lbHash`, Envoy's `RouteAction.hash_policy`).
    pub hash: Box<[HashPolicy]>,
    /// Timeouts of a request.
    pub timeouts: Timeouts,
    /// Retries that the user asks for, whatever the method; `None`: only the gateway's own second tries, which are always safe (a failed
    /// connect, a connection that was never written to, a repeatable request whose connection closed without an answer).
    pub retry: Option<RetryPolicy>,
    /// What an AffinityPolicy for the rule or its route asks for. Its keys, if it has any, are in `hash`.
    pub affinity: Option<Arc<Affinity>>,
    /// How the rule's sessions persist (GEP-1619). It counts before what an AffinityPolicy says of holding them.
    pub persistence: Option<Arc<Hold>>,
}

/// Timeouts of a request; `None` is unlimited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// From the end of the request to the end of the response, all attempts included. Default 15 s, as Envoy's route timeout.
    pub request: Option<Duration>,
    /// One attempt (HTTPRoute `timeouts.backendRequest`, Gloo's `perTryTimeout`).
    pub backend_request: Option<Duration>,
    /// Time without any byte in either direction. Default 5 min, as Envoy's stream idle timeout.
    pub idle: Option<Duration>,
    /// The same while the request body comes, but with the request timeout's answer. HTTPRoute `timeouts.request` sets it, since its user expects
    /// an answer by then; under Envoy's route timeout an upload may stall for as long as `idle`.
    pub upload_stall: Option<Duration>,
}

/// When to try again, by Envoy's names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Conditions that allow a retry.
    pub on: RetryOn,
    /// Retries after the first attempt.
    pub attempts: u32,
    /// Statuses that allow a retry, beside `on`.
    pub status_codes: Box<[StatusCode]>,
    /// The wait before the first retry; it doubles with each further one, and `jitter` varies it. Zero: at once.
    pub backoff_base: Duration,
    /// Where the doubling ends.
    pub backoff_max: Duration,
    /// How the wait varies.
    pub jitter: Jitter,
}

/// How the waits before retries vary, so that clients of a host that failed do not come back all at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Jitter {
    /// Between nothing and the whole wait: Envoy's (`source/common/common/backoff_strategy.cc`, fully jittered). For RouteOption.
    #[default]
    Full,
    /// Between the wait and half as much again: `HTTPRouteRetry.backoff` is the least time between two attempts.
    Above,
}

/// Envoy's `retry_on` conditions as far as they are honoured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RetryOn {
    /// `connect-failure`.
    pub connect_failure: bool,
    /// `refused-stream`.
    pub refused_stream: bool,
    /// `reset`: no answer at all (disconnect, reset, timeout).
    pub reset: bool,
    /// `reset-before-request`.
    pub reset_before_request: bool,
    /// `5xx`: any 5xx, or no answer at all.
    pub server_error: bool,
    /// `gateway-error`: 502, 503, 504.
    pub gateway_error: bool,
    /// `retriable-4xx`: 409.
    pub retriable_4xx: bool,
    /// `retriable-status-codes`: those of `RetryPolicy::status_codes`.
    pub retriable_status_codes: bool,
    /// `cancelled`, `deadline-exceeded` and the like: these statuses of gRPC, where the answer's head has one.
    pub grpc: GrpcStatuses,
}

/// A set of statuses of gRPC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GrpcStatuses(u32);

// === impl GrpcStatuses ===

impl GrpcStatuses {
    /// Adds a status: 0 to 31.
    pub fn insert(&mut self, status: u8) {
        self.0 |= 1u32.checked_shl(status.into()).unwrap_or_default();
    }

    /// Whether a status is in it.
    pub fn contains(self, status: u8) -> bool {
        self.0 & 1u32.checked_shl(status.into()).unwrap_or_default() != 0
    }

    /// Whether none is in it.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

// === impl Timeouts ===

impl Default for Timeouts {
    fn default() -> Self {
        Self { request: Some(Duration::from_secs(15)), backend_request: None, idle: Some(Duration::from_secs(300)), upload_stall: None }
    }
}
