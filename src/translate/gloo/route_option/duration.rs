//! Durations of options.

use std::time::Duration;

use crate::api::GoDuration;

/// A duration that must not be negative.
pub(super) fn duration(field: &str, value: GoDuration) -> Result<Duration, String> {
    value.to_std().ok_or_else(|| format!("field {field} is {value}: expected 0s or more"))
}

/// Envoy's timeouts: 0 is no timeout.
pub(super) fn unless_zero(duration: Duration) -> Option<Duration> {
    (!duration.is_zero()).then_some(duration)
}
