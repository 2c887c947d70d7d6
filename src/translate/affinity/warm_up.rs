//! How a new host comes to its share of the table.

use std::time::Duration;

use crate::api::{AffinityWarmUp, Uint};
use crate::lb::{Admits, warm_up};

use super::fields::{Wrong, duration, number, unknown};

/// Longest that a host may warm up.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// What a host begins with, in percent, unless a policy says otherwise.
const MIN_PERCENT: u64 = 10;

/// In how many steps a host comes to its share.
const STEPS: u32 = 10;

/// How a new host comes to its share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::translate) struct WarmUp {
    /// Time until it has all of it.
    seconds: u64,
    /// What it begins with.
    min_percent: u32,
}

/// Reads `spec.warmUp`.
pub(super) fn read(warm_up: &AffinityWarmUp) -> Result<WarmUp, Wrong> {
    const FIELD: &str = "spec.warmUp";
    unknown(FIELD, &warm_up.other)?;
    let time = warm_up.duration.as_deref().ok_or_else(|| format!("{FIELD}.duration is missing: expected a duration such as 2m"))?;
    let seconds = duration(&format!("{FIELD}.duration"), time, LONGEST)?.as_secs();
    let min_percent = number(&format!("{FIELD}.minPercent"), warm_up.min_percent.unwrap_or(Uint(MIN_PERCENT)), 1, 100)?;
    Ok(WarmUp { seconds, min_percent })
}

// === impl WarmUp ===

impl WarmUp {
    /// What a host takes that has been there for so many seconds, and when it takes more.
    pub(in crate::translate) fn part(self, elapsed: u64) -> (Admits, Option<u64>) {
        let Self { seconds, min_percent } = self;
        (warm_up::part(elapsed, seconds, min_percent, STEPS), warm_up::next_step(elapsed, seconds, min_percent, STEPS))
    }

    /// Time until a host has all of its share, in seconds.
    pub(in crate::translate) fn seconds(self) -> u64 {
        self.seconds
    }
}
