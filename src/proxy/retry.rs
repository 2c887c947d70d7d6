//! Whether a request is sent once more. Pure.

use std::time::Duration;

use http::{Method, StatusCode};

use crate::snapshot::{RetryOn, RetryPolicy};

use super::error::{ProxyError, Retry};

/// What an attempt came to.
#[derive(Debug)]
pub(super) enum Attempt<'a> {
    /// The host answered.
    Answered(StatusCode),
    /// It did not.
    Failed(&'a ProxyError),
}

/// What may be done about an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Nothing: the attempt's outcome is the request's.
    Settle,
    /// The same host again, on a new connection: the one used was stale.
    SameHost,
    /// The next host of the sequence, at once; without one nothing more is tried.
    OtherHost,
    /// A retry of the rule's policy, after this wait: the next host of the sequence, or the same one if it is the only one.
    Policy(Duration),
}

/// What is known of a request when an attempt has ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Situation<'a> {
    /// The request can be sent again without harm: it has no body, and its method is idempotent.
    pub(super) repeatable: bool,
    /// The connection had served before: the host may have closed it just when it was used.
    pub(super) reused: bool,
    /// A stale connection was replaced before.
    pub(super) replaced: bool,
    /// Retries made under `policy`.
    pub(super) retries: u32,
    /// The rule's retry policy.
    pub(super) policy: Option<&'a RetryPolicy>,
}

/// Whether a method may be repeated (RFC 9110 section 9.2.2).
pub(super) fn is_repeatable(method: &Method, bodyless: bool) -> bool {
    bodyless && method.is_idempotent()
}

// === impl Situation ===

impl Situation<'_> {
    /// Decides what follows an attempt.
    pub(super) fn next(&self, attempt: &Attempt<'_>) -> Next {
        match attempt {
            Attempt::Failed(error) => self.after_failure(error),
            Attempt::Answered(status) => match self.policy {
                Some(policy) if self.repeatable && on_status(policy, *status) => self.policy_retry(policy),
                Some(_) | None => Next::Settle,
            },
        }
    }

    fn after_failure(&self, error: &ProxyError) -> Next {
        match error.verdict().retry {
            Retry::NextHost => Next::OtherHost,
            Retry::No => Next::Settle,
            Retry::IfRepeatable if !self.repeatable => Next::Settle,
            Retry::IfRepeatable => {
                if self.reused && !self.replaced && matches!(error, ProxyError::UpstreamClosed(_)) {
                    return Next::SameHost;
                }
                match self.policy {
                    Some(policy) if on_no_answer(policy.on, error) => self.policy_retry(policy),
                    // No byte of an answer came: the host is going away, another one can do what nobody saw done.
                    Some(_) | None if matches!(error, ProxyError::UpstreamClosed(_)) => Next::OtherHost,
                    Some(_) | None => Next::Settle,
                }
            }
        }
    }

    fn policy_retry(&self, policy: &RetryPolicy) -> Next {
        if self.retries >= policy.attempts { Next::Settle } else { Next::Policy(backoff(policy, self.retries)) }
    }
}

fn on_status(policy: &RetryPolicy, status: StatusCode) -> bool {
    let on = policy.on;
    on.server_error && status.is_server_error()
        || on.gateway_error && matches!(status, StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT)
        || on.retriable_4xx && status == StatusCode::CONFLICT
        || on.retriable_status_codes && policy.status_codes.contains(&status)
}

/// Envoy: `5xx`, `gateway-error` and `reset` cover an upstream that does not answer at all; a timed-out attempt is a 504 there.
fn on_no_answer(on: RetryOn, _error: &ProxyError) -> bool {
    on.reset || on.server_error || on.gateway_error
}

/// The longest wait before this retry: the base, doubled each time.
fn backoff(policy: &RetryPolicy, retries: u32) -> Duration {
    let factor = 2_u32.saturating_pow(retries.min(16));
    policy.backoff_base.saturating_mul(factor).min(policy.backoff_max.max(policy.backoff_base))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GET: Situation<'static> = Situation { repeatable: true, reused: true, replaced: false, retries: 0, policy: None };

    fn policy(on: RetryOn) -> RetryPolicy {
        RetryPolicy {
            on,
            attempts: 2,
            status_codes: Box::new([StatusCode::NOT_FOUND]),
            backoff_base: Duration::from_millis(25),
            backoff_max: Duration::from_millis(250),
        }
    }

    fn refused() -> ProxyError {
        ProxyError::Connect(std::io::Error::from(std::io::ErrorKind::ConnectionRefused))
    }

    #[test]
    fn a_failed_connect_goes_on_to_the_next_host_whatever_the_method() {
        let post = Situation { repeatable: false, ..GET };
        assert_eq!(post.next(&Attempt::Failed(&refused())), Next::OtherHost);
        assert_eq!(post.next(&Attempt::Failed(&ProxyError::ConnectTimeout)), Next::OtherHost);
    }

    #[test]
    fn a_connection_that_closes_without_an_answer_is_replaced_if_stale_else_left_for_the_next_host() {
        let closed = ProxyError::UpstreamClosed(std::io::ErrorKind::ConnectionReset.into());
        assert_eq!(GET.next(&Attempt::Failed(&closed)), Next::SameHost);
        assert_eq!(Situation { replaced: true, ..GET }.next(&Attempt::Failed(&closed)), Next::OtherHost);
        assert_eq!(Situation { reused: false, ..GET }.next(&Attempt::Failed(&closed)), Next::OtherHost);
        assert_eq!(Situation { repeatable: false, ..GET }.next(&Attempt::Failed(&closed)), Next::Settle);
        assert_eq!(GET.next(&Attempt::Failed(&ProxyError::UpstreamProtocol("x"))), Next::Settle);
        let broke_off = ProxyError::UpstreamBrokeOff(std::io::ErrorKind::ConnectionReset.into());
        assert_eq!(GET.next(&Attempt::Failed(&broke_off)), Next::Settle);
        let reset = policy(RetryOn { reset: true, ..RetryOn::default() });
        let with = Situation { policy: Some(&reset), ..GET };
        assert_eq!(with.next(&Attempt::Failed(&broke_off)), Next::Policy(Duration::from_millis(25)));
    }

    #[test]
    fn timeouts_of_an_attempt_are_retried_only_by_policy_and_if_repeatable() {
        let error = ProxyError::AttemptTimeout;
        let reset = policy(RetryOn { reset: true, ..RetryOn::default() });
        assert_eq!(GET.next(&Attempt::Failed(&error)), Next::Settle);
        let with = Situation { policy: Some(&reset), ..GET };
        assert_eq!(with.next(&Attempt::Failed(&error)), Next::Policy(Duration::from_millis(25)));
        assert_eq!(Situation { repeatable: false, ..with }.next(&Attempt::Failed(&error)), Next::Settle);
        assert_eq!(Situation { retries: 2, ..with }.next(&Attempt::Failed(&error)), Next::Settle);
    }

    #[test]
    fn statuses_are_retried_as_the_policy_says() {
        let cases = [
            (RetryOn { server_error: true, ..RetryOn::default() }, 500, true),
            (RetryOn { gateway_error: true, ..RetryOn::default() }, 500, false),
            (RetryOn { gateway_error: true, ..RetryOn::default() }, 503, true),
            (RetryOn { retriable_4xx: true, ..RetryOn::default() }, 409, true),
            (RetryOn { retriable_status_codes: true, ..RetryOn::default() }, 404, true),
            (RetryOn { server_error: true, ..RetryOn::default() }, 404, false),
        ];
        for (on, status, retried) in cases {
            let policy = policy(on);
            let next = Situation { policy: Some(&policy), ..GET }.next(&Attempt::Answered(StatusCode::from_u16(status).unwrap()));
            assert_eq!(next != Next::Settle, retried, "{on:?} {status}");
        }
        assert_eq!(GET.next(&Attempt::Answered(StatusCode::BAD_GATEWAY)), Next::Settle);
    }

    #[test]
    fn only_bodyless_idempotent_requests_are_repeatable() {
        assert!(is_repeatable(&Method::GET, true));
        assert!(is_repeatable(&Method::DELETE, true));
        assert!(!is_repeatable(&Method::GET, false));
        assert!(!is_repeatable(&Method::POST, true));
    }

    #[test]
    fn waits_double_up_to_the_limit() {
        let policy = policy(RetryOn::default());
        let waits: Vec<u128> = (0..5).map(|retries| backoff(&policy, retries).as_millis()).collect();
        assert_eq!(waits, [25, 50, 100, 200, 250]);
    }
}
