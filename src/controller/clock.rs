//! The time of day, as far as configuration depends on it: certificates expire without a change of any object.

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
    /// Whole hours since the epoch.
    pub fn hour(self) -> Option<i64> {
        let since = (self.now)().duration_since(UNIX_EPOCH).ok()?;
        i64::try_from(since.as_secs() / HOUR).ok()
    }
}
