//! The data plane with its access log and traces: what every command that serves starts and drains.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, time::Instant};

use crate::base::{DescriptorBudget, MemoryMonitor, Overload, Published};
use crate::proxy::{self, BackendLimits, Bound, Ceilings, Http2Ping, ProxyConfig, Running};
use crate::settings::{BackendSettings, CeilingsInForce, DrainSettings, Granted, Settings};
use crate::snapshot::Snapshot;
use crate::telemetry::{AccessLogWriter, Metrics, TraceExporter, start_access_log, start_tracing};

use super::{error::AppError, overload::OverloadManager};

/// Time to send the last spans, even where the drain has used up its own. Five times as much is the most: a collector that is slow does not
/// hold the end of the process.
const LAST_SPANS: Duration = Duration::from_secs(1);

/// Workers that serve, and the writer of what they log.
#[derive(Debug)]
pub(super) struct DataPlane {
    running: Running,
    drain: DrainSettings,
    access_log: Option<AccessLogWriter>,
    traces: Option<TraceExporter>,
    _overload: OverloadManager,
}

// === impl DataPlane ===

impl DataPlane {
    /// Starts the workers; they follow what is published.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub(super) fn start(
        settings: &Settings,
        descriptors: DescriptorBudget,
        published: &Arc<Published<Snapshot>>,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, AppError> {
        let (log, writer) = match settings.access_log.clone() {
            None => (None, None),
            Some(format) => {
                let (log, writer) = start_access_log(format, &settings.access_log_conditions, Box::new(std::io::stdout()), metrics)?;
                (Some(log), Some(writer))
            }
        };
        let (tracer, traces) = match settings.tracing.clone() {
            None => (None, None),
            Some(config) => {
                let (tracer, exporter) = start_tracing(config, metrics)?;
                (Some(tracer), Some(exporter))
            }
        };
        let overload = Arc::new(Overload::default());
        let mut monitor = MemoryMonitor::new(settings.ceilings.max_heap_size);
        let granted = Granted { connections: descriptors.client_connections(), memory: monitor.limit() };
        let ceilings = ceilings(&settings.ceilings.within(granted, settings.workers));
        metrics.control().set_ceilings(ceilings.connections, ceilings.flows, ceilings.buffered_bytes as u64);
        let config = ProxyConfig {
            workers: settings.workers,
            ceilings,
            overload: Arc::clone(&overload),
            backends: backend_limits(&settings.backends),
            descriptors,
            proxy_protocol: settings.client.proxy_protocol_trusted_ips.clone().into(),
            tracer,
            ..ProxyConfig::default()
        };
        let running = proxy::start(config, published, metrics, log.as_ref())?;
        let overload = OverloadManager::start(monitor, overload, Arc::clone(metrics))?;
        Ok(Self { running, drain: settings.drain, access_log: writer, traces, _overload: overload })
    }

    /// What the workers listen on.
    pub(super) fn bound(&self) -> watch::Receiver<Bound> {
        self.running.bound()
    }

    /// Ends without losing what is in flight; whether everything was finished in time.
    pub(super) async fn drain(self) -> bool {
        let deadline = Instant::now() + self.drain.max;
        let finished = self.running.drain(self.drain.min, self.drain.max).await;
        if let Some(exporter) = self.traces {
            let within = deadline.duration_since(Instant::now()).clamp(LAST_SPANS, LAST_SPANS * 5);
            let _ = tokio::task::spawn_blocking(move || exporter.finish(within)).await;
        }
        if let Some(writer) = self.access_log {
            // The workers' handles are gone with them.
            let _ = tokio::task::spawn_blocking(move || writer.finish()).await;
        }
        finished
    }
}

/// How long a host has to answer a PING, unless that is set.
const HTTP2_PING_TIMEOUT: Duration = Duration::from_secs(20);

/// What was set, over the data plane's defaults.
fn backend_limits(settings: &BackendSettings) -> BackendLimits {
    let default = BackendLimits::default();
    BackendLimits {
        max_connections: settings.max_connections.unwrap_or(default.max_connections),
        max_pending_requests: settings.max_pending_requests.unwrap_or(default.max_pending_requests),
        max_requests: settings.max_requests.unwrap_or(default.max_requests),
        retry_budget_percent: settings.retry_budget_percent.unwrap_or(default.retry_budget_percent),
        min_retry_concurrency: settings.min_retry_concurrency.unwrap_or(default.min_retry_concurrency),
        retry_body_bytes: settings.retry_body_bytes.map_or(default.retry_body_bytes, |bytes| bytes as usize),
        http2_ping: settings
            .http2_ping_interval
            .filter(|interval| !interval.is_zero())
            .map(|interval| Http2Ping { interval, timeout: settings.http2_ping_timeout.unwrap_or(HTTP2_PING_TIMEOUT) }),
    }
}

/// Tells what was chosen: what a gateway bears should not have to be guessed.
fn ceilings(chosen: &CeilingsInForce) -> Ceilings {
    let CeilingsInForce { connections, connections_per_listener, flows, flows_per_listener, tls_handshakes, buffered_bytes } = *chosen;
    tracing::info!(connections, connections_per_listener, flows, flows_per_listener, tls_handshakes, buffered_bytes, "ceilings");
    Ceilings {
        connections,
        connections_per_listener,
        flows,
        flows_per_listener,
        tls_handshakes,
        buffered_bytes: usize::try_from(buffered_bytes).unwrap_or(usize::MAX),
    }
}
