//! Growing waits between attempts at something that fails.

use std::time::Duration;

/// Doubles from `first` to `most`, with jitter, until it is reset.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    most: Duration,
    failures: u32,
}

// === impl Backoff ===

impl Backoff {
    /// Waits from `first` up to `most`.
    pub fn new(first: Duration, most: Duration) -> Self {
        Self { first, most, failures: 0 }
    }

    /// The next wait. `random` is uniform in 0..1: the wait lies between half and all of the doubled time, so that those who failed together
    /// do not come back together.
    pub fn next_wait(&mut self, random: f64) -> Duration {
        let doubled = self.first.saturating_mul(1_u32.checked_shl(self.failures).unwrap_or(u32::MAX)).min(self.most);
        self.failures = self.failures.saturating_add(1);
        doubled.mul_f64(random.clamp(0.0, 1.0).mul_add(0.5, 0.5))
    }

    /// It worked: the next failure waits `first` again.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_to_the_limit_and_starts_again() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        let waits: Vec<u128> = (0..40).map(|_| backoff.next_wait(1.0).as_millis()).collect();
        assert_eq!(waits[..5], [100, 200, 400, 800, 1_000]);
        assert!(waits[5..].iter().all(|&wait| wait == 1_000));
        backoff.reset();
        assert_eq!(backoff.next_wait(0.0), Duration::from_millis(50));
    }
}
