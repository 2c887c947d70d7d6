//! Timeouts and retries of a rule.

use std::time::Duration;

use gateway_api::experimental::httproutes::{HttpRouteRulesRetry, HttpRouteRulesTimeouts};
use http::StatusCode;

use crate::base::{Kind, text::quoted};
use crate::snapshot::{Jitter, RetryOn, RetryPolicy, Timeouts};

/// Envoy's base interval of retries, where the rule gives none.
const DEFAULT_BACKOFF: Duration = Duration::from_millis(25);

/// Envoy's time after which a connection of a TCP proxy ends on which nothing moves (`tcp_proxy.proto`, `idle_timeout`).
const STREAM_IDLE: Duration = Duration::from_secs(3600);

/// Envoy's time after which a flow of datagrams ends on which nothing moves (`udp_proxy.proto`, `idle_timeout`).
const FLOW_IDLE: Duration = Duration::from_secs(60);

/// Envoy's bound on the wait: ten times the base interval.
const BACKOFF_LIMIT: u32 = 10;

/// Retries where the rule gives no number.
const DEFAULT_ATTEMPTS: u32 = 1;

/// Timeouts that a rule gives; the outer `None` is "not given", the inner "unlimited".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct RuleTimeouts {
    pub(super) request: Option<Option<Duration>>,
    pub(super) backend_request: Option<Option<Duration>>,
}

/// Timeouts of a rule that gives none. A call of a GRPCRoute may be a stream that lasts for hours: it ends when its client's `grpc-timeout`
/// passes, or when nothing moves any more.
pub(super) fn default_timeouts(kind: Kind) -> Timeouts {
    let timeouts = Timeouts::default();
    match kind {
        Kind::GrpcRoute => Timeouts { request: None, ..timeouts },
        Kind::TcpRoute | Kind::TlsRoute => Timeouts { request: None, idle: Some(STREAM_IDLE), ..timeouts },
        Kind::UdpRoute => Timeouts { request: None, idle: Some(FLOW_IDLE), ..timeouts },
        _ => timeouts,
    }
}

/// Reads `timeouts`.
///
/// # Errors
/// Field and expectation.
pub(super) fn timeouts(timeouts: Option<&HttpRouteRulesTimeouts>) -> Result<RuleTimeouts, String> {
    let Some(timeouts) = timeouts else { return Ok(RuleTimeouts::default()) };
    let read = |field: &str, text: &Option<String>| text.as_deref().map(|text| limit(field, text)).transpose();
    let request = read("timeouts.request", &timeouts.request)?;
    let backend_request = read("timeouts.backendRequest", &timeouts.backend_request)?;
    if let (Some(Some(whole)), Some(Some(attempt))) = (request, backend_request)
        && attempt > whole
    {
        return Err("timeouts.backendRequest: expected no more than timeouts.request".to_owned());
    }
    Ok(RuleTimeouts { request, backend_request })
}

/// A duration of GEP-2257; zero is unlimited.
fn limit(field: &str, text: &str) -> Result<Option<Duration>, String> {
    let duration = duration(field, text)?;
    Ok((!duration.is_zero()).then_some(duration))
}

/// A duration of GEP-2257.
///
/// # Errors
/// Field and expectation.
pub(super) fn duration(field: &str, text: &str) -> Result<Duration, String> {
    let parsed: Option<gateway_api::Duration> = text.parse().ok();
    let millis = parsed.and_then(|parsed| u64::try_from(parsed.as_millis()).ok());
    millis
        .map(Duration::from_millis)
        .ok_or_else(|| format!("{field}: {text} is no duration; expected for example 1h30m, 10s or 250ms", text = quoted(text)))
}

// === impl RuleTimeouts ===

impl RuleTimeouts {
    /// Lays the rule's timeouts over others. A whole that is not given never ends before one attempt may.
    pub(super) fn over(self, base: Timeouts) -> Timeouts {
        let backend_request = self.backend_request.unwrap_or(base.backend_request);
        let request = match (self.request, self.backend_request) {
            (Some(request), _) => request,
            (None, Some(None)) => None,
            (None, Some(Some(attempt))) => base.request.map(|whole| whole.max(attempt)),
            (None, None) => base.request,
        };
        let upload_stall = self.request.unwrap_or(base.upload_stall);
        Timeouts { request, backend_request, idle: base.idle, upload_stall }
    }
}

/// Reads `retry`: the given statuses, and connection errors.
///
/// # Errors
/// Field and expectation.
pub(super) fn retry(retry: Option<&HttpRouteRulesRetry>) -> Result<Option<RetryPolicy>, String> {
    let Some(retry) = retry else { return Ok(None) };
    let attempts = match retry.attempts {
        None => DEFAULT_ATTEMPTS,
        Some(attempts) => u32::try_from(attempts).map_err(|_| format!("retry.attempts: {attempts}; expected 0 or more"))?,
    };
    let mut codes = Vec::new();
    for code in retry.codes.iter().flatten() {
        let status = u16::try_from(*code).ok().filter(|code| (400..600).contains(code)).and_then(|code| StatusCode::from_u16(code).ok());
        codes.push(status.ok_or_else(|| format!("retry.codes: {code}; expected 400 to 599"))?);
    }
    let backoff_base = retry.backoff.as_deref().map_or(Ok(DEFAULT_BACKOFF), |text| duration("retry.backoff", text))?;
    let on = RetryOn {
        connect_failure: true,
        refused_stream: true,
        reset: true,
        retriable_status_codes: !codes.is_empty(),
        ..RetryOn::default()
    };
    let backoff_max = backoff_base.saturating_mul(BACKOFF_LIMIT);
    Ok(Some(RetryPolicy { on, attempts, status_codes: codes.into(), backoff_base, backoff_max, jitter: Jitter::Above }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(request: Option<&str>, backend_request: Option<&str>) -> Result<Timeouts, String> {
        let given =
            HttpRouteRulesTimeouts { request: request.map(ToOwned::to_owned), backend_request: backend_request.map(ToOwned::to_owned) };
        timeouts(Some(&given)).map(|timeouts| timeouts.over(Timeouts::default()))
    }

    #[test]
    fn timeouts_are_laid_over_the_defaults() {
        let seconds = |n| Some(Duration::from_secs(n));
        let table = [
            ((None, None), (seconds(15), None)),
            ((Some("500ms"), None), (Some(Duration::from_millis(500)), None)),
            ((Some("0s"), None), (None, None)),
            ((None, Some("1m")), (seconds(60), seconds(60))),
            ((None, Some("1s")), (seconds(15), seconds(1))),
            ((None, Some("0s")), (None, None)),
            ((Some("0s"), Some("1h30m")), (None, seconds(5400))),
        ];
        for ((request, backend), (whole, attempt)) in table {
            let read = read(request, backend).unwrap();
            assert_eq!((read.request, read.backend_request), (whole, attempt), "{request:?} {backend:?}");
        }
        for bad in ["60", "-1s", "1.5s", "", "1d", "s", "100us"] {
            assert!(read(Some(bad), None).unwrap_err().contains("timeouts.request"), "{bad}");
        }
        assert!(read(Some("1s"), Some("2s")).unwrap_err().contains("timeouts.backendRequest"));
    }

    #[test]
    fn retries_are_bounded_and_named() {
        let policy = retry(Some(&HttpRouteRulesRetry { attempts: Some(3), backoff: Some("10ms".to_owned()), codes: Some(vec![503, 409]) }));
        let policy = policy.unwrap().unwrap();
        assert_eq!((policy.attempts, policy.backoff_max, policy.jitter), (3, Duration::from_millis(100), Jitter::Above));
        assert!(policy.on.retriable_status_codes && policy.on.connect_failure && !policy.on.server_error);
        let bad = |attempts, backoff: Option<&str>, codes| {
            retry(Some(&HttpRouteRulesRetry { attempts, backoff: backoff.map(ToOwned::to_owned), codes })).unwrap_err()
        };
        assert!(bad(Some(-1), None, None).contains("retry.attempts"));
        assert!(bad(None, Some("x"), None).contains("retry.backoff"));
        assert!(bad(None, None, Some(vec![200])).contains("retry.codes"));
    }
}
