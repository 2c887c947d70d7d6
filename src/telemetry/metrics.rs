//! Everything that is counted in this process: the shards of the workers, and what others count.

use std::sync::Arc;

use super::{
    affinity::AffinityMetrics, cluster::ClusterMetrics, control::ControlMetrics, limits::LimitHistory, process::ProcessMetrics,
    traces::SpanCounts, worker::WorkerMetrics,
};

/// Everything that is counted in this process.
#[derive(Debug)]
pub struct Metrics {
    pub(super) workers: Box<[Arc<WorkerMetrics>]>,
    pub(super) control: ControlMetrics,
    pub(super) cluster: ClusterMetrics,
    pub(super) affinity: AffinityMetrics,
    pub(super) process: Arc<ProcessMetrics>,
    pub(super) spans: Arc<SpanCounts>,
    pub(super) limits: LimitHistory,
}

// === impl Metrics ===

impl Metrics {
    /// Counters for this many workers, all zero.
    pub fn new(workers: usize) -> Arc<Self> {
        Arc::new(Self {
            workers: (0..workers).map(|_| Arc::new(WorkerMetrics::default())).collect(),
            control: ControlMetrics::default(),
            cluster: ClusterMetrics::default(),
            affinity: AffinityMetrics::default(),
            process: Arc::default(),
            spans: Arc::default(),
            limits: LimitHistory::default(),
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

    /// What is counted of sessions.
    pub fn affinity(&self) -> &AffinityMetrics {
        &self.affinity
    }

    /// What is counted of the process as a whole.
    pub fn process(&self) -> &Arc<ProcessMetrics> {
        &self.process
    }

    /// What became of the spans of recorded requests.
    pub fn spans(&self) -> &SpanCounts {
        &self.spans
    }

    /// The same, to count with.
    pub(super) fn shared_spans(&self) -> Arc<SpanCounts> {
        Arc::clone(&self.spans)
    }
}
