//! The time of day, as far as configuration depends on it: certificates expire and hosts warm up without a change of
//! any object.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Seconds of an hour.
const HOUR: u64 = 3_600;

/// A clock that is looked at now and then.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    pub(super) now: fn() -> SystemTime,
    /// Time after which it is looked at again while nothing changes.
    pub(super) interval: Duration,
}

// === impl Clock ===

impl Default for Clock {
    /// The system's, once an hour.
    fn default() -> Self {
        Self { now: SystemTime::now, interval: Duration::from_secs(HOUR) }
    }
}

impl Clock {
    /// Whole seconds since the epoch.
    pub fn second(self) -> Option<u64> {
        Some((self.now)().duration_since(UNIX_EPOCH).ok()?.as_secs())
    }

    /// Time until this second since the epoch.
    pub fn until(self, second: u64) -> Duration {
        let now = (self.now)().duration_since(UNIX_EPOCH).unwrap_or_default();
        Duration::from_secs(second).saturating_sub(now)
    }

    /// Whole hours since the epoch.
    pub fn hour(self) -> Option<i64> {
        let since = (self.now)().duration_since(UNIX_EPOCH).ok()?;
        i64::try_from(since.as_secs() / HOUR).ok()
    }
}
