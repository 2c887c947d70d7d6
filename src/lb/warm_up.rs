//! How much of its hashes a host takes while it warms up: in steps, which every replica works out alike from the time since it was ready.

use crate::lb::admits::{Admits, PARTS};

/// What a host takes that has been ready for so long.
///
/// It begins with `min_percent` of its hashes, and takes an equal part of the rest with each of `steps` steps, the last one at the end of the
/// duration. A percentage of 100, a duration of 0 or no steps mean that it takes all at once.
#[must_use]
pub fn part(elapsed_seconds: u64, duration_seconds: u64, min_percent: u32, steps: u32) -> Admits {
    match step(elapsed_seconds, duration_seconds, min_percent, steps) {
        None => Admits::All,
        Some(step) => {
            let (percent, steps) = (u64::from(min_percent), u64::from(steps));
            // In hundredths of a step's part. Less than all of them, since the last step was not made.
            let taken = u128::from(percent * steps) + u128::from(100 - percent) * u128::from(step);
            let parts = taken * u128::from(PARTS) / u128::from(100 * steps);
            u16::try_from(parts).map_or(Admits::All, Admits::Part)
        }
    }
}

/// When the next step is due: the seconds since the host was ready, more than have elapsed. `None`: it takes all.
#[must_use]
pub fn next_step(elapsed_seconds: u64, duration_seconds: u64, min_percent: u32, steps: u32) -> Option<u64> {
    let step = step(elapsed_seconds, duration_seconds, min_percent, steps)?;
    let due = (u128::from(step) + 1) * u128::from(duration_seconds);
    u64::try_from(due.div_ceil(u128::from(steps))).ok()
}

/// How many steps were made; `None` once they all were.
fn step(elapsed_seconds: u64, duration_seconds: u64, min_percent: u32, steps: u32) -> Option<u64> {
    if min_percent >= 100 || elapsed_seconds >= duration_seconds {
        return None;
    }
    let made = u128::from(elapsed_seconds) * u128::from(steps) / u128::from(duration_seconds);
    u64::try_from(made).ok().filter(|made| *made < u64::from(steps))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_part_grows_in_steps() {
        let percent = |elapsed| (f64::from(part(elapsed, 120, 10, 6).parts()) * 100.0 / f64::from(PARTS)).round();
        for (elapsed, expected, next) in [
            (0, 10.0, Some(20)),
            (19, 10.0, Some(20)),
            (20, 25.0, Some(40)),
            (60, 55.0, Some(80)),
            (119, 85.0, Some(120)),
            (120, 100.0, None),
        ] {
            assert_eq!((percent(elapsed), next_step(elapsed, 120, 10, 6)), (expected, next), "after {elapsed} s");
        }
        assert_eq!(part(0, 120, 0, 4), Admits::Part(0));
        assert_eq!(part(120, 120, 10, 6), Admits::All);
    }

    #[test]
    fn without_a_duration_or_steps_or_with_all_at_once_nothing_warms_up() {
        for (duration, percent, steps) in [(0, 10, 4), (120, 100, 4), (120, 10, 0), (120, u32::MAX, 4)] {
            assert_eq!((part(0, duration, percent, steps), next_step(0, duration, percent, steps)), (Admits::All, None));
        }
    }

    #[test]
    fn more_steps_than_seconds_are_made_several_at_once() {
        assert_eq!(next_step(0, 10, 0, 1000), Some(1));
        assert_eq!(part(1, 10, 0, 1000), Admits::Part(6553));
    }

    proptest! {
        #[test]
        fn the_part_never_falls_and_changes_only_when_a_step_is_due(
            duration in prop_oneof![1..200_u64, Just(u64::MAX)],
            percent in 0..120_u32,
            steps in prop_oneof![0..30_u32, Just(u32::MAX)],
            elapsed in 0..220_u64,
        ) {
            let now = part(elapsed, duration, percent, steps);
            let later = part(elapsed + 1, duration, percent, steps);
            prop_assert!(now.parts() <= later.parts());
            match next_step(elapsed, duration, percent, steps) {
                None => prop_assert_eq!(now, Admits::All),
                Some(next) => {
                    prop_assert!(next > elapsed && next <= duration);
                    prop_assert_ne!(now, Admits::All);
                    prop_assert_eq!(part(next - 1, duration, percent, steps), now);
                    prop_assert!(steps > 1000 || part(next, duration, percent, steps).parts() > now.parts());
                }
            }
        }
    }
}
