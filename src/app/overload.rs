//! Watches memory, and tells the workers what to refuse before the kernel ends the process. Notes which limits were reached meanwhile.

use std::{
    io,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use tokio::time::Instant;

use crate::base::{MemoryMonitor, MemoryReading, Overload, OverloadLevel, TokenBucket};
use crate::telemetry::Metrics;

/// How often memory is looked at while there is plenty.
const INTERVAL: Duration = Duration::from_millis(100);

/// The same from `NEAR` on: buffers fill faster than that.
const SHORT_INTERVAL: Duration = Duration::from_millis(10);

/// How often it is noted which limits were reached.
const LIMITS_INTERVAL: Duration = Duration::from_secs(10);

/// Pressure from which on memory is looked at more often.
const NEAR: f64 = 0.6;

/// A thread of its own, so that nothing keeps it from looking. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct OverloadManager {
    _stop: mpsc::Sender<()>,
}

// === impl OverloadManager ===

impl OverloadManager {
    /// Watches memory.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub(super) fn start(mut monitor: MemoryMonitor, overload: Arc<Overload>, metrics: Arc<Metrics>) -> io::Result<Self> {
        let (stop, stopped) = mpsc::channel();
        let mut watch = Watch::new(overload, Arc::clone(&metrics));
        thread::Builder::new().name("overload".into()).spawn(move || {
            let (mut interval, mut limits_at) = (Duration::ZERO, Instant::now());
            // An answer or a sender that is gone: either is the end.
            while stopped.recv_timeout(interval) == Err(mpsc::RecvTimeoutError::Timeout) {
                // Without a reading, nothing is known that would speak against the last level.
                interval = monitor.read().map_or(INTERVAL, |reading| watch.note(reading));
                let now = Instant::now();
                if now >= limits_at {
                    metrics.note_limits();
                    limits_at = now + LIMITS_INTERVAL;
                }
            }
        })?;
        Ok(Self { _stop: stop })
    }
}

/// What the thread remembers.
struct Watch {
    overload: Arc<Overload>,
    metrics: Arc<Metrics>,
    level: OverloadLevel,
    /// Levels may change many times a second; the log does not.
    lines: TokenBucket,
}

// === impl Watch ===

impl Watch {
    fn new(overload: Arc<Overload>, metrics: Arc<Metrics>) -> Self {
        Self { overload, metrics, level: OverloadLevel::None, lines: TokenBucket::new(10, 1, Instant::now()) }
    }

    /// Acts on a reading; returns how long to wait for the next.
    fn note(&mut self, reading: MemoryReading) -> Duration {
        let pressure = reading.pressure();
        let level = self.level.next(pressure);
        self.overload.publish(level);
        self.metrics.control().set_memory(reading, level);
        let before = std::mem::replace(&mut self.level, level);
        if before != level {
            self.tell(before, reading);
        }
        if pressure >= NEAR { SHORT_INTERVAL } else { INTERVAL }
    }

    fn tell(&mut self, before: OverloadLevel, MemoryReading { used, limit }: MemoryReading) {
        let now = Instant::now();
        if self.lines.check(now).is_err() {
            return;
        }
        self.lines.take();
        let refused = match self.level {
            OverloadLevel::None => "nothing",
            OverloadLevel::DisableKeepAlive => "keep-alive",
            OverloadLevel::StopAcceptingRequests => "keep-alive and new requests",
            OverloadLevel::RejectIncomingConnections => "keep-alive, new requests and new connections",
        };
        if self.level > before {
            tracing::warn!(used, limit, refused, "memory runs out");
        } else {
            tracing::info!(used, limit, refused, "memory is free again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reading_is_published_and_measured_again_sooner_when_memory_runs_out() {
        let (overload, metrics) = (Arc::new(Overload::default()), Metrics::new(1));
        let mut watch = Watch::new(Arc::clone(&overload), Arc::clone(&metrics));
        for (used, level, interval) in [
            (50, OverloadLevel::None, INTERVAL),
            (70, OverloadLevel::None, SHORT_INTERVAL),
            (93, OverloadLevel::StopAcceptingRequests, SHORT_INTERVAL),
            (91, OverloadLevel::StopAcceptingRequests, SHORT_INTERVAL),
            (99, OverloadLevel::RejectIncomingConnections, SHORT_INTERVAL),
            (10, OverloadLevel::None, INTERVAL),
        ] {
            assert_eq!(watch.note(MemoryReading { used, limit: 100 }), interval, "{used}");
            assert_eq!(overload.level(), level, "{used}");
            let shown = format!("clingfish_overload_level {}\n", level as u8);
            assert!(metrics.render().contains(&shown), "{used}: no {shown}");
        }
    }
}
