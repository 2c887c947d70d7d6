//! Logging, metrics, the access log and traces.
//!
//! Every metric family stands in one table (`families`); docs/metrics.md is that table. Workers count in shards of their own, which are
//! merged when somebody scrapes.

mod abuse;
mod access_log;
mod affinity;
mod cells;
mod cluster;
mod control;
mod datagrams;
mod encode;
pub mod families;
mod limits;
mod logging;
mod metrics;
mod process;
mod reached;
mod recent;
mod request_trace;
mod response_flag;
mod sessions;
mod shown;
mod traces;
mod upstream;
mod worker;

use crate::base::{AccessLogConditions, AccessLogFormat, trace::TracingConfig};

pub use abuse::{Http2Abuse, ProxyProtocolResult};
pub use access_log::{
    AccessLog, AccessLogError, AccessLogWriter, AccessRecord, Downstream, DownstreamTls, Excerpt, UnknownFlag, method_name,
};
pub use affinity::{ActualShares, AffinityMetrics};
pub use cluster::{ClusterMetrics, StatusWrite};
pub use control::{CertificateExpiry, ControlMetrics};
pub use datagrams::{DatagramDirection, DatagramMetrics, FlowRefusal};
pub use logging::{LogError, Logging, init_logging};
pub use metrics::Metrics;
pub use process::{AdminClose, DescriptorUse, ProcessMetrics};
pub use recent::{RecentRequest, host_number};
pub use request_trace::{AttemptEnd, AttemptTrace, RequestTrace, SpanChange};
pub use response_flag::ResponseFlag;
pub use sessions::{MovedStream, SessionResult};
pub use shown::Shown;
pub use traces::{SpanCounts, SpanResult, TraceExporter, Tracer};
pub use upstream::{Http2End, MirrorResult, RetryReason};
pub use worker::{ConnectResult, ConnectionRefusal, HandshakeResult, OverflowKind, RequestRefusal, WorkerMetrics};

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
    access_log::start(format, conditions, out, metrics.control().access_log_dropped())
}

/// Starts the exporter of spans; what becomes of them is counted in `metrics`. The handle goes to the workers, the exporter is kept until the
/// process ends.
///
/// # Errors
/// The thread cannot be started.
pub fn start_tracing(config: TracingConfig, metrics: &Metrics) -> std::io::Result<(Tracer, TraceExporter)> {
    traces::start(config, metrics.shared_spans())
}
