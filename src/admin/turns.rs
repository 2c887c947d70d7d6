//! Work that takes its time: one piece after the other, and not on the thread that answers probes.

use std::{sync::Arc, time::Duration};

use tokio::{sync::Semaphore, time::timeout};

/// A queue for turns.
#[derive(Debug)]
pub(super) struct Turns {
    turn: Arc<Semaphore>,
    patience: Duration,
}

/// Nothing was done, or it came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoResult {
    /// No turn in time.
    Busy,
    /// The work panicked.
    Panicked,
}

// === impl Turns ===

impl Turns {
    /// Whoever waits longer than this for a turn is sent away.
    pub(super) fn new(patience: Duration) -> Self {
        Self { turn: Arc::new(Semaphore::new(1)), patience }
    }

    /// Prepares and does a piece of work when its turn has come. Who stops waiting before has not prepared it.
    ///
    /// # Errors
    /// No turn in time, or the work panicked.
    pub(super) async fn take<T, W>(&self, prepare: impl FnOnce() -> W) -> Result<T, NoResult>
    where
        T: Send + 'static,
        W: FnOnce() -> T + Send + 'static,
    {
        // The semaphore is never closed.
        let Ok(Ok(turn)) = timeout(self.patience, Arc::clone(&self.turn).acquire_owned()).await else { return Err(NoResult::Busy) };
        let work = prepare();
        let work = move || {
            let _turn = turn;
            work()
        };
        tokio::task::spawn_blocking(work).await.map_err(|_| NoResult::Panicked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_waits_its_turn_while_the_thread_goes_on() {
        let turns = Arc::new(Turns::new(Duration::from_secs(20)));
        let (finish, finished) = std::sync::mpsc::channel::<u8>();
        let (begin, begun) = tokio::sync::oneshot::channel();
        let first = {
            let turns = Arc::clone(&turns);
            let work = move || {
                let _ = begin.send(());
                finished.recv_timeout(Duration::from_secs(20))
            };
            tokio::spawn(async move { turns.take(|| work).await })
        };
        begun.await.unwrap();
        let second = turns.take(|| || panic!("nobody waits for it any more"));
        assert!(timeout(Duration::ZERO, second).await.is_err(), "the first one is at work");
        let impatient = Turns { turn: Arc::clone(&turns.turn), patience: Duration::ZERO };
        assert_eq!(impatient.take(|| || ()).await, Err(NoResult::Busy));
        finish.send(5).unwrap();
        assert_eq!(first.await.unwrap(), Ok(Ok(5)));
        let panicking = turns.take(|| || -> u8 { panic!("the next one gets its turn all the same") });
        assert_eq!(panicking.await, Err(NoResult::Panicked));
        assert_eq!(turns.take(|| || 7).await, Ok(7));
    }
}
