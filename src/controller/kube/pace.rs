//! A flood of changes is taken in by the handful: each time the thread goes to sleep and is woken costs more than the change that woke it.

use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use tokio::{
    runtime::{Builder, Runtime},
    time::Instant,
};

use crate::base::TokenBucket;

/// Handfuls of changes that are taken in as they come, and then per second: in a flood a change waits 20 ms at most.
const AT_ONCE: u32 = 50;
const PER_SECOND: u32 = 50;

/// The pace of the controller's thread.
#[derive(Debug)]
pub(super) struct Pace {
    bucket: Mutex<TokenBucket>,
    /// Changes were taken in since the thread was last about to wait.
    taken: AtomicBool,
}

// === impl Pace ===

impl Default for Pace {
    fn default() -> Self {
        Self { bucket: Mutex::new(TokenBucket::new(AT_ONCE, PER_SECOND, Instant::now())), taken: AtomicBool::new(false) }
    }
}

impl Pace {
    /// Changes were taken in.
    pub(super) fn taken(&self) {
        self.taken.store(true, Ordering::Relaxed);
    }

    /// The runtime of the controller's thread, which keeps this pace.
    ///
    /// # Errors
    /// The operating system refuses what a runtime needs.
    pub(super) fn runtime(self: Arc<Self>) -> io::Result<Runtime> {
        let mut builder = Builder::new_current_thread();
        builder.enable_all().max_blocking_threads(2).on_thread_park(move || self.before_waiting()).build()
    }

    /// To be called when there is nothing to do: after changes that came too fast it sleeps, not listening, so that the next ones come
    /// together. Everything else on this thread can wait that long.
    fn before_waiting(&self) {
        let nap = self.nap(Instant::now());
        if !nap.is_zero() {
            thread::sleep(nap);
        }
    }

    /// Whether changes were taken in and nobody has waited since.
    #[cfg(test)]
    pub(super) fn is_taken(&self) -> bool {
        self.taken.load(Ordering::Relaxed)
    }

    fn nap(&self, now: Instant) -> Duration {
        if !self.taken.swap(false, Ordering::Relaxed) {
            return Duration::ZERO;
        }
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let mut nap = Duration::ZERO;
        while let Err(wait) = bucket.check(now + nap) {
            nap += wait;
        }
        bucket.take();
        nap
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_runtime_keeps_the_pace_before_it_waits() {
        let pace = Arc::new(Pace::default());
        let runtime = Arc::clone(&pace).runtime().unwrap();
        runtime.block_on(async {
            for _ in 0..3 {
                pace.taken();
                tokio::time::sleep(Duration::from_millis(1)).await;
                assert!(!pace.is_taken(), "it waited");
            }
        });
    }

    #[test]
    fn only_a_flood_of_changes_is_slowed_down() {
        let pace = Pace::default();
        let mut now = Instant::now();
        let naps = |taken: bool, now: &mut Instant| {
            let naps = (0..1_000).map(|_| {
                if taken {
                    pace.taken();
                }
                let nap = pace.nap(*now);
                *now += nap;
                nap
            });
            naps.collect::<Vec<_>>()
        };
        let flood = naps(true, &mut now);
        assert_eq!(flood.iter().filter(|nap| nap.is_zero()).count(), 50);
        assert!(flood.iter().all(|nap| *nap < Duration::from_millis(22)), "{flood:?}");
        assert!(naps(false, &mut now).iter().all(Duration::is_zero), "waiting without changes is no flood");
        for _ in 0..1_000 {
            now += Duration::from_millis(20);
            pace.taken();
            assert_eq!(pace.nap(now), Duration::ZERO);
        }
    }
}
