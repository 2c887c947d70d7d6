//! Logging, metrics, the access log and traces.
//!
//! Every metric family stands in one table (`families`); docs/metrics.md is that table. Workers count in shards of their own, which are
//! merged when somebody scrapes.

mod abuse;
mod access_log;
mod cells;
mod cluster;
mod control;
mod encode;
pub mod families;
mod limits;
mod logging;
mod process;
mod request_trace;
mod shown;
mod traces;
mod upstream;
mod worker;

use std::sync::Arc;

use crate::base::{AccessLogConditions, AccessLogFormat, trace::TracingConfig};

pub use abuse::Http2Abuse;
pub use access_log::{
    AccessLog, AccessLogError, AccessLogWriter, AccessRecord, Downstream, DownstreamTls, Excerpt, UnknownFlag, method_name,
};
pub use cluster::{ClusterMetrics, StatusWrite};
pub use control::{CertificateExpiry, ControlMetrics};
pub use logging::{LogError, Logging, init_logging};
pub use process::{AdminClose, DescriptorUse, ProcessMetrics};
pub use request_trace::{AttemptEnd, AttemptTrace, RequestTrace, SpanChange};
pub use shown::Shown;
pub use traces::{SpanCounts, SpanResult, TraceExporter, Tracer};
pub use upstream::{Http2End, RetryReason};
pub use worker::{ConnectResult, ConnectionRefusal, HandshakeResult, OverflowKind, RequestRefusal, ResponseFlag, WorkerMetrics};

/// Everything that is counted in this process.
#[derive(Debug)]
pub struct Metrics {
    workers: Box<[Arc<WorkerMetrics>]>,
    control: ControlMetrics,
    cluster: ClusterMetrics,
    process: Arc<ProcessMetrics>,
    spans: Arc<SpanCounts>,
    limits: limits::LimitHistory,
}

// === impl Metrics ===

impl Metrics {
    /// Counters for this many workers, all zero.
    pub fn new(workers: usize) -> Arc<Self> {
        Arc::new(Self {
            workers: (0..workers).map(|_| Arc::new(WorkerMetrics::default())).collect(),
            control: ControlMetrics::default(),
            cluster: ClusterMetrics::default(),
            process: Arc::default(),
            spans: Arc::default(),
            limits: limits::LimitHistory::default(),
        })
    }

    /// The shard of a worker; only that worker's thread may count in it.
    pub fn worker(&self, index: usize) -> Option<Arc<WorkerMetrics>> {
        self.workers.get(index).map(Arc::clone)
    }

    /// The shards of all workers, by worker.
    pub fn workers(&self) -> &[Arc<WorkerMetrics>] {
        &self.workers
    }

    /// What is counted outside the workers.
    pub fn control(&self) -> &ControlMetrics {
        &self.control
    }

    /// What is counted of the Kubernetes side.
    pub fn cluster(&self) -> &ClusterMetrics {
        &self.cluster
    }

    /// What is counted of the process as a whole.
    pub fn process(&self) -> &Arc<ProcessMetrics> {
        &self.process
    }

    /// What became of the spans of recorded requests.
    pub fn spans(&self) -> &SpanCounts {
        &self.spans
    }

    /// Looks which limits were reached since the last time. Somebody must call this every few seconds.
    pub fn note_limits(&self) {
        self.limits.note(self);
    }

    /// All families in Prometheus' text format.
    pub fn render(&self) -> String {
        self.note_limits();
        encode::render(self)
    }
}

/// Starts the access log's writer; what it drops is counted in `metrics`. The handle goes to the workers, the writer is kept until the
/// process ends.
///
/// # Errors
/// A condition names a flag that does not exist, or the thread cannot be started.
pub fn start_access_log(
    format: AccessLogFormat,
    conditions: &AccessLogConditions,
    out: Box<dyn std::io::Write + Send>,
    metrics: &Metrics,
) -> Result<(AccessLog, AccessLogWriter), AccessLogError> {
    access_log::start(format, conditions, out, metrics.control.access_log_dropped())
}

/// Starts the exporter of spans; what becomes of them is counted in `metrics`. The handle goes to the workers, the exporter is kept until the
/// process ends.
///
/// # Errors
/// The thread cannot be started.
pub fn start_tracing(config: TracingConfig, metrics: &Metrics) -> std::io::Result<(Tracer, TraceExporter)> {
    traces::start(config, Arc::clone(&metrics.spans))
}
