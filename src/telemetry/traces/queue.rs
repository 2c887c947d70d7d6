//! What waits for the exporter.

use std::sync::{Arc, atomic::AtomicUsize};

use tokio::sync::Notify;

use super::{
    super::{access_log::AccessRecord, request_trace::RequestTrace},
    counts::SpanCounts,
};

/// Requests whose spans are sent together; when so many wait, the exporter does not wait any longer.
pub(super) const BATCH: usize = 512;

/// A recorded request.
pub(super) struct Recorded {
    pub(super) record: AccessRecord,
    pub(super) trace: RequestTrace,
}

/// What workers and exporter share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) queued: AtomicUsize,
    pub(super) queued_bytes: AtomicUsize,
    pub(super) batch_waits: Notify,
    pub(super) counts: Arc<SpanCounts>,
}

// === impl Recorded ===

impl Recorded {
    pub(super) fn bytes(&self) -> usize {
        self.record.bytes() + self.trace.bytes()
    }
}
