//! A token bucket: statuses may come in a burst, and then at a steady rate.

use std::time::Duration;

use tokio::time::Instant;

/// Writes that may go out at once and then per second.
#[derive(Clone, Debug)]
pub(super) struct TokenBucket {
    burst: f64,
    per_second: f64,
    tokens: f64,
    at: Instant,
}

// === impl TokenBucket ===

impl TokenBucket {
    /// Full.
    pub(super) fn new(burst: u32, per_second: u32, now: Instant) -> Self {
        Self { burst: burst.into(), per_second: per_second.into(), tokens: burst.into(), at: now }
    }

    /// Whether there is a token.
    ///
    /// # Errors
    /// How long to wait for one.
    pub(super) fn check(&mut self, now: Instant) -> Result<(), Duration> {
        let gained = now.saturating_duration_since(self.at).as_secs_f64() * self.per_second;
        self.tokens = (self.tokens + gained).min(self.burst);
        self.at = now;
        if self.tokens >= 1.0 {
            return Ok(());
        }
        Err(Duration::from_secs_f64((1.0 - self.tokens) / self.per_second).max(Duration::from_millis(1)))
    }

    /// Takes the token that `check` saw.
    pub(super) fn take(&mut self) {
        self.tokens = (self.tokens - 1.0).max(0.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_a_rate() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(3, 20, start);
        let take = |bucket: &mut TokenBucket, now| bucket.check(now).map(|()| bucket.take());
        assert_eq!([(); 3].map(|()| take(&mut bucket, start)), [Ok(()); 3]);
        assert_eq!(bucket.check(start), Err(Duration::from_millis(50)));
        let later = start + Duration::from_millis(51);
        assert_eq!(take(&mut bucket, later), Ok(()));
        assert!(bucket.check(later).is_err());
        let much_later = start + Duration::from_secs(60);
        assert_eq!((0..10).filter(|_| take(&mut bucket, much_later).is_ok()).count(), 3);
    }
}
