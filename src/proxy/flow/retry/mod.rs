//! Whether a request is sent once more. Pure.
//!
//! There are two kinds of retries. The user configures a `RetryPolicy`: it holds for every method, its retries are counted and wait. The
//! gateway's own retries need no policy and do not wait. They are made only where a request cannot take effect twice.

use std::time::Duration;

use http::{Method, StatusCode};

use crate::{
    base::head::HeaderMap,
    proxy::state::error::{ProxyError, Retry},
    snapshot::{Jitter, RetryPolicy},
};

/// What an attempt came to.
#[derive(Debug)]
pub(in crate::proxy) enum Attempt<'a> {
    /// The host answered.
    Answered(StatusCode, &'a HeaderMap),
    /// The host switched protocols.
    Switched,
    /// It did not answer.
    Failed(Failure<'a>),
}

/// An attempt without an answer.
#[derive(Clone, Copy, Debug)]
pub(in crate::proxy) struct Failure<'a> {
    pub(in crate::proxy) error: &'a ProxyError,
    /// The connection had served before: the host may have closed it just when it was used.
    pub(in crate::proxy) reused: bool,
    /// Nothing of the request was written to a connection.
    pub(in crate::proxy) unsent: bool,
}

/// What may be done about an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) enum Next {
    /// Nothing: the attempt's outcome is the request's.
    Settle(Settled),
    /// The same host again, on a new connection: the one used was stale.
    SameHost,
    /// The next host of the sequence, at once; without one nothing more is tried.
    OtherHost,
    /// A retry of the rule's policy, after a wait.
    Policy(PolicyRetry),
}

/// Why nothing more is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) enum Settled {
    /// There is no reason to.
    Done,
    /// The policy would, but has no retry left.
    LimitExceeded,
    /// The policy would, but the body cannot be sent again: it was larger than what is kept.
    BodyGone,
}

/// A retry of the rule's policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) struct PolicyRetry {
    pub(in crate::proxy) wait: Wait,
    pub(in crate::proxy) host: RetryHost,
}

/// How long to wait before a retry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) struct Wait {
    pub(in crate::proxy) least: Duration,
    pub(in crate::proxy) most: Duration,
}

/// Where a retry of a policy goes. With a single host it is that one again, as Envoy's is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) enum RetryHost {
    /// The next host of Envoy's sequence: the one before serves, but did not like this request.
    Next,
    /// Where the session will be when the host that failed is gone.
    Successor,
}

/// What is known of a request when an attempt has ended.
#[derive(Clone, Copy, Debug)]
pub(in crate::proxy) struct Situation<'a> {
    /// The request can be sent again without harm: it has no body, and its method is idempotent.
    pub(in crate::proxy) repeatable: bool,
    /// Its body, if it has one, can be sent from the beginning.
    pub(in crate::proxy) body_whole: bool,
    /// A stale connection was replaced before.
    pub(in crate::proxy) replaced: bool,
    /// Retries made under `policy`.
    pub(in crate::proxy) retries: u32,
    /// The rule's retry policy.
    pub(in crate::proxy) policy: Option<&'a RetryPolicy>,
}

/// Whether a method may be repeated (RFC 9110 section 9.2.2).
pub(in crate::proxy) fn is_repeatable(method: &Method, bodyless: bool) -> bool {
    bodyless && method.is_idempotent()
}

/// Answers with one of these are never retried, whatever their status: the host, or a gateway behind this one, asks for less
/// (Envoy: `RetryStateImpl::wouldRetryFromHeaders`).
const ASKS_FOR_LESS: [&str; 2] = ["x-envoy-overloaded", "x-envoy-ratelimited"];

// === impl Situation ===

impl Situation<'_> {
    /// Decides what follows an attempt.
    pub(in crate::proxy) fn next(&self, attempt: &Attempt<'_>) -> Next {
        match attempt {
            Attempt::Switched => Next::Settle(Settled::Done),
            Attempt::Answered(status, headers) => match self.policy {
                Some(policy) if on_answer(policy, *status, headers) => self.policy_retry(policy, RetryHost::Next),
                Some(_) | None => Next::Settle(Settled::Done),
            },
            Attempt::Failed(failure) => self.after_failure(failure),
        }
    }

    fn after_failure(&self, failure: &Failure<'_>) -> Next {
        let retry = failure.error.verdict().retry;
        let closed = matches!(failure.error, ProxyError::UpstreamClosed(_));
        // What was never written is not repeated by sending it.
        let harmless = self.repeatable || (failure.unsent && self.body_whole);
        if retry == Retry::No {
            return Next::Settle(Settled::Done);
        }
        if closed && failure.reused && !self.replaced && harmless {
            return Next::SameHost;
        }
        // The host may have ended the connection alone, for its age: its sessions stay with it as long as it takes another one.
        if matches!(failure.error, ProxyError::UpstreamGoneAway) && !self.replaced && self.body_whole {
            return Next::SameHost;
        }
        match self.policy {
            Some(policy) if on_failure(policy, failure) => self.policy_retry(policy, retry_host(failure.error)),
            Some(_) | None if retry == Retry::NextHost && self.body_whole => Next::OtherHost,
            Some(_) | None if closed && harmless && failure.unsent && !self.replaced => Next::SameHost,
            // No byte of an answer came: the host is going away, another one can do what nobody saw done.
            Some(_) | None if closed && harmless => Next::OtherHost,
            Some(_) | None => Next::Settle(Settled::Done),
        }
    }

    fn policy_retry(&self, policy: &RetryPolicy, host: RetryHost) -> Next {
        if self.retries >= policy.attempts {
            Next::Settle(Settled::LimitExceeded)
        } else if !self.body_whole {
            Next::Settle(Settled::BodyGone)
        } else {
            Next::Policy(PolicyRetry { wait: Wait::before(policy, self.retries), host })
        }
    }
}

/// A host that cannot be reached or is going away is left for good; one that is slow or answers nonsense is there.
fn retry_host(error: &ProxyError) -> RetryHost {
    match error {
        ProxyError::Connect(_) | ProxyError::ConnectTimeout | ProxyError::UpstreamClosed(_) | ProxyError::UpstreamGoneAway => {
            RetryHost::Successor
        }
        _ => RetryHost::Next,
    }
}

fn on_answer(policy: &RetryPolicy, status: StatusCode, headers: &HeaderMap) -> bool {
    let on = policy.on;
    let named = on.server_error && status.is_server_error()
        || on.gateway_error && matches!(status, StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT)
        || on.retriable_4xx && status == StatusCode::CONFLICT
        || on.retriable_status_codes && policy.status_codes.contains(&status)
        || !on.grpc.is_empty() && crate::plan::grpc_status(headers).is_some_and(|status| on.grpc.contains(status));
    named && !ASKS_FOR_LESS.iter().any(|name| headers.contains_key(*name))
}

/// Envoy's conditions on an attempt without an answer (`RetryStateImpl::wouldRetryFromReset`): a timed-out attempt is a reset too.
fn on_failure(policy: &RetryPolicy, failure: &Failure<'_>) -> bool {
    let on = policy.on;
    let connect = matches!(failure.error, ProxyError::Connect(_) | ProxyError::ConnectTimeout);
    // To Envoy the streams that a GOAWAY leaves out are refused ones.
    let refused = matches!(failure.error, ProxyError::UpstreamRefusedStream | ProxyError::UpstreamGoneAway);
    on.reset
        || on.server_error
        || on.gateway_error
        || on.reset_before_request && failure.unsent
        || on.connect_failure && connect
        || on.refused_stream && refused
}

// === impl Wait ===

impl Wait {
    /// The wait before a retry that follows this many.
    fn before(policy: &RetryPolicy, retries: u32) -> Self {
        let factor = 2_u32.saturating_pow(retries.min(16));
        let wait = policy.backoff_base.saturating_mul(factor).min(policy.backoff_max.max(policy.backoff_base));
        match policy.jitter {
            Jitter::Full => Self { least: Duration::ZERO, most: wait },
            Jitter::Above => Self { least: wait, most: wait.saturating_add(wait / 2) },
        }
    }

    /// The wait that a random share (0 to 1) of the jitter gives.
    pub(in crate::proxy) fn at(self, share: f64) -> Duration {
        self.least.saturating_add(self.most.saturating_sub(self.least).mul_f64(share))
    }
}

#[cfg(test)]
mod tests;
