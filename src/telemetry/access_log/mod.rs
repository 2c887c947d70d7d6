//! One line a request, through a queue that is bounded by lines and by bytes: a slow reader of the log never slows a request down, and what
//! waits for it never fills the memory. Lines that do not fit are dropped and counted.

mod line;
mod record;

use std::{
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
        mpsc::{Receiver, SyncSender, TryRecvError, sync_channel},
    },
    thread,
};

use crate::base::LineFormat;

pub use record::{AccessRecord, Downstream, DownstreamTls, Excerpt, Shown, method_name};

/// Lines that wait for the writer.
const QUEUE: usize = 8_192;
/// Bytes of records that wait for the writer.
const QUEUE_BYTES: usize = 8 * 1_024 * 1_024;
/// Bytes after which collected lines are written.
const WRITE_AT: usize = 64 * 1_024;

/// A worker's handle to the log.
#[derive(Clone, Debug)]
pub struct AccessLog {
    queue: SyncSender<Box<AccessRecord>>,
    queued_bytes: Arc<AtomicUsize>,
    dropped: Arc<AtomicU64>,
}

/// The writer's thread. It ends once every `AccessLog` is gone and all lines are written.
#[derive(Debug)]
pub struct AccessLogWriter {
    thread: thread::JoinHandle<()>,
}

/// What the writer's thread works with.
struct Writer {
    queue: Receiver<Box<AccessRecord>>,
    queued_bytes: Arc<AtomicUsize>,
    format: LineFormat,
    out: Box<dyn Write + Send>,
}

/// Starts the writer; lines that are dropped are counted in `dropped`.
pub(super) fn start(format: LineFormat, out: Box<dyn Write + Send>, dropped: Arc<AtomicU64>) -> io::Result<(AccessLog, AccessLogWriter)> {
    let (sender, queue) = sync_channel(QUEUE);
    let log = AccessLog { queue: sender, queued_bytes: Arc::default(), dropped };
    let writer = Writer { queue, queued_bytes: Arc::clone(&log.queued_bytes), format, out };
    let thread = thread::Builder::new().name("access-log".into()).spawn(move || writer.run())?;
    Ok((log, AccessLogWriter { thread }))
}

// === impl AccessLog ===

impl AccessLog {
    /// Hands a record to the writer, or drops it where the writer lags. Never waits.
    pub fn submit(&self, record: Box<AccessRecord>) {
        let bytes = record.bytes();
        let fits = self.queued_bytes.fetch_add(bytes, Relaxed) + bytes <= QUEUE_BYTES;
        if !fits || self.queue.try_send(record).is_err() {
            self.queued_bytes.fetch_sub(bytes, Relaxed);
            self.dropped.fetch_add(1, Relaxed);
        }
    }
}

// === impl AccessLogWriter ===

impl AccessLogWriter {
    /// Waits until all lines are written; every `AccessLog` must be gone.
    pub fn finish(self) {
        let _ = self.thread.join();
    }
}

// === impl Writer ===

impl Writer {
    fn run(mut self) {
        let mut buffer = String::with_capacity(WRITE_AT * 2);
        while let Ok(first) = self.queue.recv() {
            self.append(&first, &mut buffer);
            while buffer.len() < WRITE_AT {
                match self.queue.try_recv() {
                    Ok(record) => self.append(&record, &mut buffer),
                    Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
                }
            }
            // A closed log must not end the gateway; there is nowhere to report it to.
            let _ = self.out.write_all(buffer.as_bytes()).and_then(|()| self.out.flush());
            buffer.clear();
        }
    }

    fn append(&self, record: &AccessRecord, buffer: &mut String) {
        self.queued_bytes.fetch_sub(record.bytes(), Relaxed);
        line::append(record, self.format, buffer);
    }
}

#[cfg(test)]
mod tests;
