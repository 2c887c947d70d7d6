//! `retries`: Envoy's retry policy.

use std::time::Duration;

use http::StatusCode;

use crate::api::{Retries, RetryBackOff, Uint};
use crate::base::text::quoted;
use crate::snapshot::{Jitter, RetryOn, RetryPolicy};
use crate::translate::gloo::findings::Findings;

use super::{
    compiled::OptionValue,
    duration::{duration, unless_zero},
};

/// Envoy's default of `base_interval`.
const DEFAULT_BASE: Duration = Duration::from_millis(25);

/// Envoy's default of `max_interval`, in base intervals.
const MAX_IN_BASES: u32 = 10;

pub(super) fn compile(retries: &Retries, findings: &mut Findings) -> Result<OptionValue, String> {
    let per_try_timeout = match retries.per_try_timeout {
        Some(timeout) => unless_zero(duration("spec.options.retries.perTryTimeout", timeout)?),
        None => None,
    };
    let (backoff_base, backoff_max) = back_off(retries.retry_back_off.as_ref())?;
    let status_codes = status_codes(retries.retriable_status_codes.as_deref().unwrap_or_default())?;
    let on = retry_on(retries.retry_on.as_deref().unwrap_or_default(), findings);
    if on == RetryOn::default() {
        findings.warn("field spec.options.retries.retryOn names no condition that is honoured: no answer is retried".to_owned());
        return Ok(OptionValue::Retries { policy: None, per_try_timeout });
    }
    let attempts = retries.num_retries.map_or(0, |retries| u32::try_from(retries.0).unwrap_or(u32::MAX)).max(1);
    let policy = RetryPolicy { on, attempts, status_codes, backoff_base, backoff_max, jitter: Jitter::Full };
    Ok(OptionValue::Retries { policy: Some(policy), per_try_timeout })
}

fn back_off(config: Option<&RetryBackOff>) -> Result<(Duration, Duration), String> {
    const FIELD: &str = "spec.options.retries.retryBackOff";
    let positive = |name: &str, value: Option<crate::api::GoDuration>| match value {
        None => Ok(None),
        Some(value) => match value.to_std().and_then(unless_zero) {
            Some(interval) => Ok(Some(interval)),
            None => Err(format!("field {FIELD}.{name} is {value}: expected more than 0s")),
        },
    };
    let base = positive("baseInterval", config.and_then(|config| config.base_interval))?;
    let max = positive("maxInterval", config.and_then(|config| config.max_interval))?;
    let base = base.unwrap_or(DEFAULT_BASE);
    let max = max.unwrap_or_else(|| base.saturating_mul(MAX_IN_BASES));
    if base > max {
        return Err(format!("field {FIELD}.baseInterval is {base:?} and maxInterval is {max:?}: expected a base that is not greater"));
    }
    Ok((base, max))
}

fn status_codes(codes: &[Uint]) -> Result<Box<[StatusCode]>, String> {
    let status = |(index, code): (usize, &Uint)| {
        u16::try_from(code.0)
            .ok()
            .filter(|code| (100..600).contains(code))
            .and_then(|code| StatusCode::from_u16(code).ok())
            .ok_or_else(|| format!("field spec.options.retries.retriableStatusCodes[{index}] is {}: expected 100 to 599", code.0))
    };
    codes.iter().enumerate().map(status).collect()
}

/// Envoy's list of conditions. Envoy ignores those it does not know; here they are named.
fn retry_on(text: &str, findings: &mut Findings) -> RetryOn {
    let mut on = RetryOn::default();
    for condition in text.split(',').map(str::trim).filter(|condition| !condition.is_empty()) {
        match condition {
            "cancelled" => on.grpc.insert(1),
            "deadline-exceeded" => on.grpc.insert(4),
            "resource-exhausted" => on.grpc.insert(8),
            "internal" => on.grpc.insert(13),
            "unavailable" => on.grpc.insert(14),
            "5xx" => on.server_error = true,
            "connect-failure" => on.connect_failure = true,
            "gateway-error" => on.gateway_error = true,
            "refused-stream" => on.refused_stream = true,
            "reset" => on.reset = true,
            "reset-before-request" => on.reset_before_request = true,
            "retriable-4xx" => on.retriable_4xx = true,
            "retriable-status-codes" => on.retriable_status_codes = true,
            _ => findings.warn(format!(
                "field spec.options.retries.retryOn: condition {condition} is accepted but not applied",
                condition = quoted(condition)
            )),
        }
    }
    on
}
