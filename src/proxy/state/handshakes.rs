//! Bounds the TLS handshakes of a worker: after a restart all clients come at once, and each handshake costs as much as a hundred requests.

use std::{cell::Cell, future::Future, pin::pin, sync::Arc, time::Duration};

use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::timeout,
};

use crate::telemetry::WorkerMetrics;

/// How long a handshake may take while others wait. Most of it is the client's doing: who keeps silent must not keep others out.
const CONTENDED_TIMEOUT: Duration = Duration::from_secs(2);

/// Handshakes of a worker.
#[derive(Debug)]
pub(in crate::proxy) struct Handshakes {
    permits: Semaphore,
    waiting: Cell<usize>,
    metrics: Arc<WorkerMetrics>,
}

/// Permission to do a handshake; it is given back when this is dropped.
#[derive(Debug)]
struct HandshakePermit<'a> {
    handshakes: &'a Handshakes,
    _permit: Option<SemaphorePermit<'a>>,
}

/// Counts a handshake that waits, also when it gives up.
struct Waiting<'a>(&'a Handshakes);

// === impl Handshakes ===

impl Handshakes {
    /// For a worker that may do this many at a time.
    pub(in crate::proxy) fn new(most: usize, metrics: Arc<WorkerMetrics>) -> Self {
        Self { permits: Semaphore::new(most.clamp(1, Semaphore::MAX_PERMITS)), waiting: Cell::new(0), metrics }
    }

    /// Does a handshake when its turn comes. `None`: it took too long while others waited.
    pub(in crate::proxy) async fn run<T>(&self, handshake: impl Future<Output = T>) -> Option<T> {
        let _permit = self.permit().await;
        let mut handshake = pin!(handshake);
        loop {
            match timeout(CONTENDED_TIMEOUT, handshake.as_mut()).await {
                Ok(result) => return Some(result),
                Err(_) if self.waiting.get() > 0 => return None,
                Err(_) => {}
            }
        }
    }

    async fn permit(&self) -> HandshakePermit<'_> {
        let permit = match self.permits.try_acquire() {
            Ok(permit) => Some(permit),
            Err(_) => {
                let _waiting = Waiting::new(self);
                // It fails only if it is closed, which nobody does.
                self.permits.acquire().await.ok()
            }
        };
        self.metrics.handshake_began();
        HandshakePermit { handshakes: self, _permit: permit }
    }
}

// === impl HandshakePermit ===

impl Drop for HandshakePermit<'_> {
    fn drop(&mut self) {
        self.handshakes.metrics.handshake_over();
    }
}

// === impl Waiting ===

impl<'a> Waiting<'a> {
    fn new(handshakes: &'a Handshakes) -> Self {
        handshakes.waiting.set(handshakes.waiting.get() + 1);
        handshakes.metrics.handshake_waited();
        Self(handshakes)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.set(self.0.waiting.get() - 1);
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::time::{Instant, sleep};

    use super::*;

    fn handshakes(most: usize) -> Handshakes {
        Handshakes::new(most, Arc::default())
    }

    #[tokio::test(start_paused = true)]
    async fn one_more_waits_for_its_turn() {
        let handshakes = handshakes(2);
        let started = Instant::now();
        let one = || async {
            handshakes.run(async { sleep(Duration::from_secs(1)).await }).await.unwrap();
            started.elapsed().as_secs()
        };
        assert_eq!(tokio::join!(one(), one(), one(), one(), one()), (1, 1, 2, 2, 3));
        assert_eq!(handshakes.waiting.get(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn who_keeps_silent_gives_way_only_if_somebody_waits() {
        let handshakes = handshakes(1);
        let started = Instant::now();
        assert!(timeout(Duration::from_secs(60), handshakes.run(pending::<()>())).await.is_err(), "nobody waits");
        let begun = started.elapsed();
        let (silent, honest) = tokio::join!(handshakes.run(pending::<()>()), handshakes.run(async { 7 }));
        assert_eq!((silent, honest, started.elapsed() - begun), (None, Some(7), CONTENDED_TIMEOUT));
    }

    #[tokio::test(start_paused = true)]
    async fn who_gives_up_waiting_waits_no_longer() {
        let handshakes = handshakes(1);
        let busy = handshakes.run(sleep(Duration::from_secs(3)));
        let impatient = timeout(Duration::from_secs(1), handshakes.run(async {}));
        let (busy, impatient) = tokio::join!(busy, impatient);
        assert!(busy.is_some() && impatient.is_err());
        assert_eq!((handshakes.waiting.get(), handshakes.permits.available_permits()), (0, 1));
    }
}
