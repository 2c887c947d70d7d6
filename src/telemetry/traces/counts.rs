//! What becomes of spans.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What became of a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanResult {
    /// The collector has it.
    Exported,
    /// There was no room in the queue.
    QueueFull,
    /// The collector does not want it.
    Refused,
    /// The process ended first.
    Unsent,
}

/// How many spans had which result.
#[derive(Debug, Default)]
pub struct SpanCounts([AtomicU64; SpanResult::ALL.len()]);

// === impl SpanResult ===

impl SpanResult {
    /// All results, in order of their numbers.
    pub const ALL: [Self; 4] = [Self::Exported, Self::QueueFull, Self::Refused, Self::Unsent];

    /// Value of the label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Exported => "exported",
            Self::QueueFull => "queue_full",
            Self::Refused => "refused",
            Self::Unsent => "unsent",
        }
    }
}

// === impl SpanCounts ===

impl SpanCounts {
    /// So many spans had this result.
    pub fn get(&self, result: SpanResult) -> u64 {
        self.0.get(result as usize).map_or(0, |count| count.load(Relaxed))
    }

    pub(super) fn add(&self, result: SpanResult, spans: u64) {
        if let Some(count) = self.0.get(result as usize) {
            count.fetch_add(spans, Relaxed);
        }
    }
}
