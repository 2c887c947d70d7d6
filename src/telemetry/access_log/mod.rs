//! Writes a line for each request, through a queue that is bounded by lines and by bytes. A slow reader of the log neither slows a request
//! down nor fills the memory: lines that do not fit are dropped and counted.

mod filter;
mod line;
mod record;
mod template;

use std::{
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
        mpsc::{Receiver, SyncSender, TryRecvError, sync_channel},
    },
    thread,
};

use crate::base::head::{request, response};
use crate::base::{AccessLogConditions, AccessLogFormat, LogTemplate};

use filter::AccessLogFilter;

pub use filter::UnknownFlag;
pub use record::{AccessRecord, Downstream, DownstreamTls, Excerpt, method_name};

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
    template: Option<Arc<LogTemplate>>,
    /// `None`: every request has a line.
    filter: Option<Arc<AccessLogFilter>>,
}

/// The access log cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum AccessLogError {
    /// Its conditions cannot be met.
    #[error(transparent)]
    Flag(#[from] UnknownFlag),
    /// Its thread cannot be started.
    #[error("the access log cannot be started: {0}")]
    Thread(#[from] io::Error),
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
    format: AccessLogFormat,
    out: Box<dyn Write + Send>,
}

/// Starts the writer; lines that are dropped are counted in `dropped`.
pub(super) fn start(
    format: AccessLogFormat,
    conditions: &AccessLogConditions,
    out: Box<dyn Write + Send>,
    dropped: Arc<AtomicU64>,
) -> Result<(AccessLog, AccessLogWriter), AccessLogError> {
    let filter = AccessLogFilter::new(conditions)?.map(Arc::new);
    let (sender, queue) = sync_channel(QUEUE);
    let template = match &format {
        AccessLogFormat::Template(template) => Some(Arc::clone(template)),
        AccessLogFormat::Text | AccessLogFormat::Json => None,
    };
    let log = AccessLog { queue: sender, queued_bytes: Arc::default(), dropped, template, filter };
    let writer = Writer { queue, queued_bytes: Arc::clone(&log.queued_bytes), format, out };
    let thread = thread::Builder::new().name("access-log".into()).spawn(move || writer.run())?;
    Ok((log, AccessLogWriter { thread }))
}

// === impl AccessLog ===

impl AccessLog {
    /// Keeps of a request's head what the template, if there is one, writes of it.
    pub fn take_request(&self, record: &mut AccessRecord, parts: &request::Parts) {
        if let Some(template) = &self.template {
            template::take_request(template, record, parts);
        }
    }

    /// Keeps of a response's head what the template, if there is one, writes of it.
    pub fn take_response(&self, record: &mut AccessRecord, parts: &response::Parts) {
        if let Some(template) = &self.template {
            template::take_response(template, record, parts);
        }
    }

    /// Hands a record to the writer, unless the request has no line; drops it where the writer lags. Never waits.
    pub fn submit(&self, record: Box<AccessRecord>) {
        if self.filter.as_ref().is_some_and(|filter| !filter.takes(&record)) {
            return;
        }
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
        append(record, &self.format, buffer);
    }
}

/// Appends a record's line.
fn append(record: &AccessRecord, format: &AccessLogFormat, buffer: &mut String) {
    // Writing to a string does not fail.
    let _ = match format {
        AccessLogFormat::Text => line::write_text(record, buffer),
        AccessLogFormat::Json => line::write_json(record, buffer),
        AccessLogFormat::Template(template) => template::write(template, record, buffer),
    };
}

#[cfg(test)]
mod tests;
