//! A sign of life that one thread gives and any other reads.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use tokio::time::Instant;

/// When a loop last turned.
#[derive(Debug)]
pub struct Heartbeat {
    epoch: Instant,
    /// Milliseconds from `epoch` to the last beat.
    last: AtomicU64,
}

// === impl Heartbeat ===

impl Default for Heartbeat {
    /// Has just beaten.
    fn default() -> Self {
        Self { epoch: Instant::now(), last: AtomicU64::new(0) }
    }
}

impl Heartbeat {
    /// The loop turns.
    pub fn beat(&self) {
        self.last.store(u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX), Relaxed);
    }

    /// Time since the last beat.
    pub fn age(&self) -> Duration {
        self.epoch.elapsed().saturating_sub(Duration::from_millis(self.last.load(Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_beat_makes_it_young_again() {
        let heartbeat = Heartbeat::default();
        tokio::time::advance(Duration::from_secs(3)).await;
        assert_eq!(heartbeat.age(), Duration::from_secs(3));
        heartbeat.beat();
        assert_eq!(heartbeat.age(), Duration::ZERO);
    }
}
