//! A queue for work that takes long. It does one piece after the other, and not on the thread that answers probes.

use std::{sync::Arc, time::Duration};

use tokio::{sync::Semaphore, time::timeout};

/// Does one piece of work at a time.
#[derive(Debug)]
pub(super) struct SerialQueue {
    permit: Arc<Semaphore>,
    longest_wait: Duration,
}

/// Nothing was done, or it came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoResult {
    /// No turn in time.
    Busy,
    /// The work panicked.
    Panicked,
}

// === impl SerialQueue ===

impl SerialQueue {
    /// Work that waits longer than this for its turn is not done.
    pub(super) fn new(longest_wait: Duration) -> Self {
        Self { permit: Arc::new(Semaphore::new(1)), longest_wait }
    }

    /// Prepares and does a piece of work when its turn has come. A caller that stops waiting earlier has prepared nothing.
    ///
    /// # Errors
    /// No turn in time, or the work panicked.
    pub(super) async fn take<T, W>(&self, prepare: impl FnOnce() -> W) -> Result<T, NoResult>
    where
        T: Send + 'static,
        W: FnOnce() -> T + Send + 'static,
    {
        // The semaphore is never closed.
        let Ok(Ok(permit)) = timeout(self.longest_wait, Arc::clone(&self.permit).acquire_owned()).await else { return Err(NoResult::Busy) };
        let work = prepare();
        let work = move || {
            let _permit = permit;
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
        let queue = Arc::new(SerialQueue::new(Duration::from_secs(20)));
        let (finish, finished) = std::sync::mpsc::channel::<u8>();
        let (begin, begun) = tokio::sync::oneshot::channel();
        let first = {
            let queue = Arc::clone(&queue);
            let work = move || {
                let _ = begin.send(());
                finished.recv_timeout(Duration::from_secs(20))
            };
            tokio::spawn(async move { queue.take(|| work).await })
        };
        begun.await.unwrap();
        let second = queue.take(|| || panic!("nobody waits for it any more"));
        assert!(timeout(Duration::ZERO, second).await.is_err(), "the first one is at work");
        let impatient = SerialQueue { permit: Arc::clone(&queue.permit), longest_wait: Duration::ZERO };
        assert_eq!(impatient.take(|| || ()).await, Err(NoResult::Busy));
        finish.send(5).unwrap();
        assert_eq!(first.await.unwrap(), Ok(Ok(5)));
        let panicking = queue.take(|| || -> u8 { panic!("the next one gets its turn all the same") });
        assert_eq!(panicking.await, Err(NoResult::Panicked));
        assert_eq!(queue.take(|| || 7).await, Ok(7));
    }
}
