//! A token bucket: work may come in a burst, and then at a steady rate.

use std::time::Duration;

use tokio::time::Instant;

/// Pieces of work that may be done at once, and then per second.
#[derive(Clone, Debug)]
pub struct TokenBucket {
    burst: f64,
    per_second: f64,
    lot: f64,
    /// It ran empty, and is closed until a lot is in it.
    refilling: bool,
    tokens: f64,
    at: Instant,
}

// === impl TokenBucket ===

impl TokenBucket {
    /// Full.
    pub fn new(burst: u32, per_second: u32, now: Instant) -> Self {
        Self { burst: burst.into(), per_second: per_second.into(), lot: 1.0, refilling: false, tokens: burst.into(), at: now }
    }

    /// Once it is empty, waits until there are so many tokens again: what is done in a row costs less than what is done one by one.
    #[must_use]
    pub fn in_lots_of(self, tokens: u32) -> Self {
        Self { lot: f64::from(tokens.max(1)).min(self.burst), ..self }
    }

    /// Whether there is a token.
    ///
    /// # Errors
    /// How long to wait for one.
    pub fn check(&mut self, now: Instant) -> Result<(), Duration> {
        let gained = now.saturating_duration_since(self.at).as_secs_f64() * self.per_second;
        self.tokens = (self.tokens + gained).min(self.burst);
        self.at = now;
        self.refilling = if self.refilling { self.tokens < self.lot } else { self.tokens < 1.0 };
        if !self.refilling {
            return Ok(());
        }
        Err(Duration::from_secs_f64((self.lot - self.tokens) / self.per_second).max(Duration::from_millis(1)))
    }

    /// Takes the token that `check` saw.
    pub fn take(&mut self) {
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
        let mut lots = TokenBucket::new(3, 20, start).in_lots_of(2);
        assert_eq!([(); 3].map(|()| take(&mut lots, start)), [Ok(()); 3]);
        assert_eq!(lots.check(start), Err(Duration::from_millis(100)));
        assert_eq!(lots.check(start + Duration::from_millis(75)), Err(Duration::from_millis(25)));
        let refilled = start + Duration::from_millis(101);
        assert_eq!([(); 2].map(|()| take(&mut lots, refilled)), [Ok(()); 2]);
        assert!(lots.check(refilled).is_err());
        let much_later = start + Duration::from_secs(60);
        assert_eq!((0..10).filter(|_| take(&mut bucket, much_later).is_ok()).count(), 3);
    }
}
