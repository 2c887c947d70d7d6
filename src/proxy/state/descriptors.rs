//! The data plane keeps within its share of the process's file descriptors, and says when it has to refuse something.

use std::{cell::Cell, os::fd::AsRawFd, sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::{
    base::DescriptorBudget,
    telemetry::{DescriptorUse, ProcessMetrics},
};

/// Time between two lines of the log about the same want.
const TOLD_EVERY: Duration = Duration::from_secs(10);

/// A worker's view of the process's descriptors.
#[derive(Debug)]
pub(in crate::proxy) struct Descriptors {
    budget: DescriptorBudget,
    metrics: Arc<ProcessMetrics>,
    told: Cell<Option<Instant>>,
}

// === impl Descriptors ===

impl Descriptors {
    pub(in crate::proxy) fn new(budget: DescriptorBudget, metrics: Arc<ProcessMetrics>) -> Self {
        Self { budget, metrics, told: Cell::new(None) }
    }

    /// Whether a socket that was just opened may stay; if not it was counted, and has to be closed.
    pub(in crate::proxy) fn admits(&self, socket: &impl AsRawFd, wanted_for: DescriptorUse) -> bool {
        let admitted = !self.budget.is_reserved(socket.as_raw_fd());
        if !admitted {
            self.count(wanted_for);
        }
        admitted
    }

    /// Nothing is left for this: counted each time, told once in a while.
    pub(in crate::proxy) fn count(&self, wanted_for: DescriptorUse) {
        self.metrics.out_of_descriptors(wanted_for);
        let now = Instant::now();
        if self.told.get().is_none_or(|told| now.duration_since(told) >= TOLD_EVERY) {
            self.told.set(Some(now));
            tracing::warn!(
                limit = self.budget.limit,
                reserved = self.budget.reserved,
                wanted_for = wanted_for.as_str(),
                "no file descriptor is left for connections; raise the limit on open files (ulimit -n), or run more gateways"
            );
        }
    }
}
