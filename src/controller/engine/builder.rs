//! Builds large hash tables on a thread of its own, one after the other, while the engine goes on.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread,
    time::Duration,
};

use tokio::time::Instant;

use crate::snapshot::BackendName;
use crate::translate::{BuiltTable, TableRequest};

/// Builds one table; tests replace it.
pub(super) type Build = fn(TableRequest) -> BuiltTable;

/// What is to be built.
#[derive(Debug, Default)]
pub(super) struct Builder {
    queue: Arc<Queue>,
    /// By backend, the number of the request that was handed over last.
    handed_over: BTreeMap<BackendName, u64>,
}

#[derive(Debug, Default)]
struct Queue {
    requests: Mutex<Requests>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Requests {
    /// By the number with which the backend's wait began.
    waiting: BTreeMap<u64, TableRequest>,
    closed: bool,
}

// === impl Builder ===

impl Builder {
    /// Starts the thread; it hands every table to `done`, with the time that it took.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub(super) fn start(&self, build: Build, done: impl Fn(BuiltTable, Duration) -> bool + Send + 'static) -> std::io::Result<()> {
        let queue = Arc::clone(&self.queue);
        thread::Builder::new().name("tables".into()).spawn(move || {
            while let Some(request) = queue.next() {
                let begin = Instant::now();
                let unbuilt = BuiltTable { request: request.clone(), table: None, remapped: None };
                // What panics here panics again where it is counted.
                let built = catch_unwind(AssertUnwindSafe(|| build(request))).unwrap_or(unbuilt);
                if !done(built, begin.elapsed()) {
                    return;
                }
            }
        })?;
        Ok(())
    }

    /// What is wanted now. What is no longer wanted is not built; what is being built is finished.
    pub(super) fn want<'a>(&mut self, wanted: impl Iterator<Item = &'a TableRequest>) {
        let mut numbers = BTreeMap::new();
        let mut requests = self.queue.lock();
        for request in wanted {
            numbers.insert(request.backend.clone(), request.number);
            if self.handed_over.get(&request.backend) != Some(&request.number) {
                requests.waiting.insert(request.since, request.clone());
            }
        }
        requests.waiting.retain(|_, request| numbers.get(&request.backend) == Some(&request.number));
        self.handed_over = numbers;
        drop(requests);
        self.queue.changed.notify_one();
    }
}

impl Drop for Builder {
    fn drop(&mut self) {
        self.queue.lock().closed = true;
        self.queue.changed.notify_one();
    }
}

// === impl Queue ===

impl Queue {
    fn lock(&self) -> std::sync::MutexGuard<'_, Requests> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a request; `None`: there will be none any more.
    fn next(&self) -> Option<TableRequest> {
        let mut requests = self.lock();
        loop {
            if requests.closed {
                return None;
            }
            if let Some((_, request)) = requests.waiting.pop_first() {
                return Some(request);
            }
            requests = self.changed.wait(requests).unwrap_or_else(PoisonError::into_inner);
        }
    }
}
