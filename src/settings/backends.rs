//! Limits on what goes to one backend.

use std::time::Duration;

use super::error::{SettingsError, refused};

/// What goes to one backend, where its Upstream says nothing; `None`: the data plane's default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BackendSettings {
    /// `--circuit-breaker-max-connections`.
    pub max_connections: Option<u32>,
    /// `--circuit-breaker-max-pending-requests`.
    pub max_pending_requests: Option<u32>,
    /// `--circuit-breaker-max-requests`.
    pub max_requests: Option<u32>,
    /// `--retry-budget-percent`.
    pub retry_budget_percent: Option<u32>,
    /// `--retry-budget-min-concurrency`.
    pub min_retry_concurrency: Option<u32>,
    /// `--retry-body-bytes`.
    pub retry_body_bytes: Option<u32>,
    /// `--http2-ping-interval`; `None` or zero: never.
    pub http2_ping_interval: Option<Duration>,
    /// `--http2-ping-timeout`.
    pub http2_ping_timeout: Option<Duration>,
}

// === impl BackendSettings ===

impl BackendSettings {
    /// Refuses what would stop all traffic, and what is no percentage.
    ///
    /// # Errors
    /// The first setting that is refused.
    pub(super) fn validate(self) -> Result<Self, SettingsError> {
        let at_least_one = [
            ("--circuit-breaker-max-connections", self.max_connections),
            ("--circuit-breaker-max-pending-requests", self.max_pending_requests),
            ("--circuit-breaker-max-requests", self.max_requests),
        ];
        if let Some((flag, _)) = at_least_one.into_iter().find(|(_, most)| *most == Some(0)) {
            return Err(refused(flag, "0 would stop all traffic; expected 1 or more".into()));
        }
        match self.retry_budget_percent {
            Some(percent) if percent > 100 => {
                Err(refused("--retry-budget-percent", format!("{percent} is out of range; expected 0 to 100")))
            }
            Some(_) | None => Ok(self),
        }
    }
}
