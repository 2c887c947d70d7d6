//! Hands the spans of recorded requests to an OTLP collector, through a queue that is bounded by requests and by bytes. A collector that is slow
//! or gone neither slows a request down nor fills the memory: what does not fit is dropped and counted.

mod collector;
mod counts;
mod exporter;
mod otlp;
mod queue;
mod tls;

use std::{
    fmt, io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use tokio::{
    sync::{Notify, mpsc, watch},
    time::Instant,
};

use crate::base::trace::{Sampler, TracingConfig};

use super::{access_log::AccessRecord, request_trace::RequestTrace};

use exporter::Exporter;
use queue::{BATCH, Recorded, Shared};

pub use counts::{SpanCounts, SpanResult};

/// Requests that wait for the exporter.
const QUEUE: usize = 4_096;
/// Bytes of what waits for the exporter.
const QUEUE_BYTES: usize = 8 * 1_024 * 1_024;

/// A worker's handle: which requests are recorded, and where their spans go.
#[derive(Clone)]
pub struct Tracer {
    sampler: Sampler,
    queue: mpsc::Sender<Box<Recorded>>,
    shared: Arc<Shared>,
}

/// The exporter's thread.
#[derive(Debug)]
pub struct TraceExporter {
    thread: thread::JoinHandle<()>,
    closing: watch::Sender<Option<Instant>>,
}

/// Starts the exporter; what becomes of spans is counted in `counts`.
pub(super) fn start(config: TracingConfig, counts: Arc<SpanCounts>) -> io::Result<(Tracer, TraceExporter)> {
    if config.endpoint.is_tls {
        // Better told now than with the first request.
        tls::connector(&config.roots, config.endpoint.protocol).map_err(io::Error::other)?;
    }
    let (sender, queue) = mpsc::channel(QUEUE);
    let shared = Arc::new(Shared { queued: AtomicUsize::new(0), queued_bytes: AtomicUsize::new(0), batch_waits: Notify::new(), counts });
    let (closing, closes) = watch::channel(None);
    let tracer = Tracer { sampler: config.sampler, queue: sender, shared: Arc::clone(&shared) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build()?;
    let thread = thread::Builder::new().name("traces".into()).spawn(move || {
        runtime.block_on(Exporter::new(config, queue, shared, closes).run());
        // A name that is still being resolved must not hold the end of the process.
        runtime.shutdown_background();
    })?;
    Ok((tracer, TraceExporter { thread, closing }))
}

// === impl Tracer ===

impl Tracer {
    /// Which requests are recorded.
    pub fn sampler(&self) -> &Sampler {
        &self.sampler
    }

    /// Hands a request's spans to the exporter, or drops them where it lags. Never waits.
    pub fn submit(&self, record: AccessRecord, trace: RequestTrace) {
        let shared = &self.shared;
        let (bytes, spans) = (record.bytes() + trace.bytes(), trace.spans());
        let fits = shared.queued_bytes.fetch_add(bytes, Relaxed) + bytes <= QUEUE_BYTES;
        // Before it can be taken out again.
        let queued = shared.queued.fetch_add(1, Relaxed) + 1;
        if !fits || self.queue.try_send(Box::new(Recorded { record, trace })).is_err() {
            shared.queued.fetch_sub(1, Relaxed);
            shared.queued_bytes.fetch_sub(bytes, Relaxed);
            shared.counts.add(SpanResult::QueueFull, spans);
        } else if queued == BATCH {
            // Once: to wake the exporter for every span would be a system call each.
            shared.batch_waits.notify_one();
        }
    }
}

impl fmt::Debug for Tracer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tracer").field("sampler", &self.sampler).finish_non_exhaustive()
    }
}

// === impl TraceExporter ===

impl TraceExporter {
    /// Sends what is queued, at most for this long, and ends the thread. Blocks.
    pub fn finish(self, within: Duration) {
        self.closing.send_replace(Some(Instant::now() + within));
        let _ = self.thread.join();
    }
}

#[cfg(test)]
mod tests;
