use std::io::{Error, ErrorKind};

use http::HeaderValue;

use crate::snapshot::RetryOn;

use super::*;

const GET: Situation<'static> = Situation { repeatable: true, body_whole: true, replaced: false, retries: 0, policy: None };
const POST: Situation<'static> = Situation { repeatable: false, ..GET };
const DONE: Next = Next::Settle(Settled::Done);

/// How an attempt of a table failed.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    Refused,
    ConnectTimeout,
    /// On a connection that had served, before anything was written.
    StaleUnsent,
    /// On a connection that had served, after it was written.
    Stale,
    /// On a fresh connection, before anything was written.
    Unsent,
    Closed,
    BrokeOff,
    Protocol,
    Timeout,
    RefusedStream,
    GoneAway,
    Reset,
    NoWebSocket,
    RequestTimeout,
    ClientBody,
    Overflow,
}

impl Fault {
    const ALL: [Self; 16] = [
        Self::Refused,
        Self::ConnectTimeout,
        Self::StaleUnsent,
        Self::Stale,
        Self::Unsent,
        Self::Closed,
        Self::BrokeOff,
        Self::Protocol,
        Self::Timeout,
        Self::RefusedStream,
        Self::GoneAway,
        Self::Reset,
        Self::NoWebSocket,
        Self::RequestTimeout,
        Self::ClientBody,
        Self::Overflow,
    ];

    fn error(self) -> ProxyError {
        match self {
            Self::Refused => ProxyError::Connect(Error::from(ErrorKind::ConnectionRefused)),
            Self::ConnectTimeout => ProxyError::ConnectTimeout,
            Self::StaleUnsent | Self::Stale | Self::Unsent | Self::Closed => ProxyError::UpstreamClosed(ErrorKind::ConnectionReset.into()),
            Self::BrokeOff => ProxyError::UpstreamBrokeOff(ErrorKind::ConnectionReset.into()),
            Self::Protocol => ProxyError::UpstreamProtocol("x"),
            Self::Timeout => ProxyError::AttemptTimeout,
            Self::RefusedStream => ProxyError::UpstreamRefusedStream,
            Self::GoneAway => ProxyError::UpstreamGoneAway,
            Self::Reset => ProxyError::UpstreamReset,
            Self::NoWebSocket => ProxyError::UpstreamNoWebSocket,
            Self::RequestTimeout => ProxyError::RequestTimeout,
            Self::ClientBody => ProxyError::ClientBody,
            Self::Overflow => ProxyError::Overflow(crate::telemetry::OverflowKind::Requests),
        }
    }

    fn seen(self, situation: Situation<'_>) -> Next {
        let unsent = matches!(self, Self::Refused | Self::ConnectTimeout | Self::StaleUnsent | Self::Unsent);
        let reused = matches!(self, Self::StaleUnsent | Self::Stale);
        situation.next(&Attempt::Failed(Failure { error: &self.error(), reused, unsent }))
    }
}

fn on(condition: &str) -> RetryOn {
    let mut on = RetryOn::default();
    match condition {
        "5xx" => on.server_error = true,
        "gateway-error" => on.gateway_error = true,
        "reset" => on.reset = true,
        "reset-before-request" => on.reset_before_request = true,
        "connect-failure" => on.connect_failure = true,
        "refused-stream" => on.refused_stream = true,
        "retriable-4xx" => on.retriable_4xx = true,
        "retriable-status-codes" => on.retriable_status_codes = true,
        other => panic!("{other}"),
    }
    on
}

fn policy(on: RetryOn) -> RetryPolicy {
    RetryPolicy {
        on,
        attempts: 2,
        status_codes: Box::new([StatusCode::NOT_FOUND]),
        backoff_base: Duration::from_millis(25),
        backoff_max: Duration::from_millis(250),
        jitter: Jitter::Full,
    }
}

fn answered(situation: Situation<'_>, status: u16) -> Next {
    situation.next(&Attempt::Answered(StatusCode::from_u16(status).unwrap(), &HeaderMap::new()))
}

fn is_policy(next: Next) -> bool {
    matches!(next, Next::Policy(_))
}

#[test]
fn without_a_policy_only_what_is_harmless_is_tried_again() {
    use Fault::{
        BrokeOff, ClientBody, Closed, ConnectTimeout, GoneAway, NoWebSocket, Overflow, Protocol, Refused, RefusedStream, RequestTimeout,
        Reset, Stale, StaleUnsent, Timeout, Unsent,
    };
    for (fault, get, post) in [
        (Refused, Next::OtherHost, Next::OtherHost),
        (ConnectTimeout, Next::OtherHost, Next::OtherHost),
        (RefusedStream, Next::OtherHost, Next::OtherHost),
        (GoneAway, Next::SameHost, Next::SameHost),
        (Reset, DONE, DONE),
        (NoWebSocket, DONE, DONE),
        (StaleUnsent, Next::SameHost, Next::SameHost),
        (Stale, Next::SameHost, DONE),
        (Unsent, Next::SameHost, Next::SameHost),
        (Closed, Next::OtherHost, DONE),
        (BrokeOff, DONE, DONE),
        (Protocol, DONE, DONE),
        (Timeout, DONE, DONE),
        (RequestTimeout, DONE, DONE),
        (ClientBody, DONE, DONE),
        (Overflow, DONE, DONE),
    ] {
        assert_eq!((fault.seen(GET), fault.seen(POST)), (get, post), "{fault:?}");
    }
    for fault in [StaleUnsent, Stale, Unsent, GoneAway] {
        assert_eq!(fault.seen(Situation { replaced: true, ..GET }), Next::OtherHost, "{fault:?}: replaced once");
    }
    assert_eq!(StaleUnsent.seen(Situation { body_whole: false, ..POST }), DONE, "part of the body is gone");
    assert_eq!(answered(GET, 502), DONE);
    assert_eq!(GET.next(&Attempt::Switched), DONE);
}

#[test]
fn envoys_conditions_on_an_attempt_without_an_answer_hold_for_every_method() {
    use Fault::{BrokeOff, Closed, ConnectTimeout, GoneAway, Protocol, Refused, RefusedStream, Reset, Stale, StaleUnsent, Timeout, Unsent};
    let any = [Refused, ConnectTimeout, StaleUnsent, Stale, Unsent, Closed, BrokeOff, Protocol, Timeout, RefusedStream, GoneAway, Reset];
    for (condition, retried) in [
        ("5xx", &any[..]),
        ("gateway-error", &any),
        ("reset", &any),
        ("reset-before-request", &[Refused, ConnectTimeout, StaleUnsent, Unsent]),
        ("connect-failure", &[Refused, ConnectTimeout]),
        ("refused-stream", &[RefusedStream, GoneAway]),
        ("retriable-4xx", &[]),
        ("retriable-status-codes", &[]),
    ] {
        let policy = policy(on(condition));
        // Without the gateway's own replacement of a stale connection, which comes first.
        let with = Situation { policy: Some(&policy), replaced: true, ..POST };
        for fault in Fault::ALL {
            assert_eq!(is_policy(fault.seen(with)), retried.contains(&fault), "{condition} {fault:?}");
            let idempotent = Situation { repeatable: true, ..with };
            assert_eq!(is_policy(fault.seen(idempotent)), retried.contains(&fault), "{condition} {fault:?}");
        }
    }
}

#[test]
fn a_stale_connection_is_replaced_before_a_policy_is_asked() {
    let policy = policy(on("reset"));
    let with = |situation| Situation { policy: Some(&policy), ..situation };
    assert_eq!(Fault::Stale.seen(with(GET)), Next::SameHost);
    assert_eq!(Fault::StaleUnsent.seen(with(POST)), Next::SameHost);
    assert!(is_policy(Fault::Stale.seen(with(POST))), "it may have been processed: that is for the policy to allow");
    assert!(is_policy(Fault::Unsent.seen(with(GET))), "a fresh connection is no stale one");
}

#[test]
fn a_policy_that_does_not_cover_a_fault_leaves_the_gateways_own_way() {
    let policy = policy(on("retriable-status-codes"));
    for fault in Fault::ALL {
        for situation in [GET, POST] {
            assert_eq!(fault.seen(Situation { policy: Some(&policy), ..situation }), fault.seen(situation), "{fault:?}");
        }
    }
}

#[test]
fn a_policy_ends_with_its_attempts_and_with_the_body() {
    let policy = policy(RetryOn { gateway_error: true, ..on("connect-failure") });
    let with = Situation { policy: Some(&policy), ..POST };
    for retries in [2, 3] {
        let used_up = Situation { retries, ..with };
        assert_eq!(answered(used_up, 503), Next::Settle(Settled::LimitExceeded));
        assert_eq!(Fault::Refused.seen(used_up), Next::Settle(Settled::LimitExceeded), "no way around the number");
    }
    assert_eq!(answered(Situation { body_whole: false, ..with }, 503), Next::Settle(Settled::BodyGone));
    assert_eq!(answered(Situation { body_whole: false, ..with }, 200), DONE);
}

#[test]
fn a_host_that_cannot_be_reached_is_left_for_its_successor() {
    let policy = policy(on("5xx"));
    let with = Situation { policy: Some(&policy), replaced: true, ..GET };
    let host = |next| match next {
        Next::Policy(retry) => retry.host,
        other => panic!("{other:?}"),
    };
    for fault in [Fault::Refused, Fault::ConnectTimeout, Fault::Closed, Fault::Unsent] {
        assert_eq!(host(fault.seen(with)), RetryHost::Successor, "{fault:?}");
    }
    for fault in [Fault::Timeout, Fault::Protocol, Fault::BrokeOff, Fault::RefusedStream] {
        assert_eq!(host(fault.seen(with)), RetryHost::Next, "{fault:?}");
    }
    assert_eq!(host(answered(with, 503)), RetryHost::Next);
}

#[test]
fn answers_are_retried_as_the_policy_says() {
    for (condition, status, retried) in [
        ("5xx", 500, true),
        ("5xx", 404, false),
        ("gateway-error", 500, false),
        ("gateway-error", 502, true),
        ("gateway-error", 503, true),
        ("gateway-error", 504, true),
        ("retriable-4xx", 409, true),
        ("retriable-4xx", 404, false),
        ("retriable-status-codes", 404, true),
        ("retriable-status-codes", 503, false),
        ("reset", 503, false),
        ("connect-failure", 503, false),
    ] {
        let policy = policy(on(condition));
        for situation in [GET, POST] {
            assert_eq!(is_policy(answered(Situation { policy: Some(&policy), ..situation }, status)), retried, "{condition} {status}");
        }
    }
}

#[test]
fn an_answer_that_asks_for_less_is_not_retried() {
    let policy = policy(on("5xx"));
    for name in ASKS_FOR_LESS {
        let headers = [(http::HeaderName::from_static(name), HeaderValue::from_static("true"))].into_iter().collect();
        let next = Situation { policy: Some(&policy), ..GET }.next(&Attempt::Answered(StatusCode::SERVICE_UNAVAILABLE, &headers));
        assert_eq!(next, DONE, "{name}");
    }
}

#[test]
fn only_bodyless_idempotent_requests_are_repeatable() {
    assert!(is_repeatable(&Method::GET, true));
    assert!(is_repeatable(&Method::DELETE, true));
    assert!(!is_repeatable(&Method::GET, false));
    assert!(!is_repeatable(&Method::POST, true));
}

#[test]
fn waits_double_up_to_the_limit_and_vary_as_the_policy_says() {
    let waits = |jitter| -> Vec<(u128, u128)> {
        let policy = RetryPolicy { jitter, ..policy(RetryOn::default()) };
        let range = |wait: Wait| (wait.least.as_millis(), wait.most.as_millis());
        (0..5).map(|retries| range(Wait::before(&policy, retries))).collect()
    };
    assert_eq!(waits(Jitter::Full), [(0, 25), (0, 50), (0, 100), (0, 200), (0, 250)]);
    assert_eq!(waits(Jitter::Above), [(25, 37), (50, 75), (100, 150), (200, 300), (250, 375)]);
    let wait = Wait { least: Duration::from_millis(300), most: Duration::from_millis(450) };
    assert_eq!([wait.at(0.0), wait.at(0.5), wait.at(1.0)].map(|wait| wait.as_millis()), [300, 375, 450]);
    let none = RetryPolicy { backoff_base: Duration::ZERO, backoff_max: Duration::ZERO, ..policy(RetryOn::default()) };
    assert_eq!(Wait::before(&none, u32::MAX).at(1.0), Duration::ZERO);
}
