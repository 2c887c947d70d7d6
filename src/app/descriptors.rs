//! The process's file descriptors: raises the limit, and divides them once at the start.

use crate::base::{DescriptorBudget, RaisedLimit, raise_descriptor_limit};
use crate::telemetry::Metrics;

/// The process may have too few open files.
#[derive(Debug, thiserror::Error)]
#[error(
    "the limit on open files is {limit}, and {workers} workers need at least {least}; raise it (ulimit -Hn), or give fewer --workers",
    least = DescriptorBudget::least(*workers)
)]
pub struct TooFewDescriptors {
    limit: usize,
    workers: usize,
}

/// Raises the limit and says how the descriptors are dealt out.
///
/// # Errors
/// They are too few to serve anything.
pub(super) fn descriptor_budget(workers: usize, metrics: &Metrics) -> Result<DescriptorBudget, TooFewDescriptors> {
    if let Err(error) = raise_descriptor_limit().map(tell_raised) {
        tracing::warn!(%error, "the limit on open files cannot be raised to the hard limit; it stays as it is");
    }
    let budget = DescriptorBudget::of_process(workers);
    if budget.limit < DescriptorBudget::least(workers) {
        return Err(TooFewDescriptors { limit: budget.limit, workers });
    }
    metrics.process().set_descriptor_limit(budget.limit);
    tracing::info!(
        limit = budget.limit,
        reserved = budget.reserved,
        listening_sockets = budget.listeners,
        connections = budget.connections,
        "file descriptors"
    );
    Ok(budget)
}

fn tell_raised(limit: RaisedLimit) {
    if limit.before != limit.now {
        let shown = |limit: Option<u64>| limit.map_or_else(|| "unlimited".to_owned(), |limit| limit.to_string());
        tracing::debug!("the limit on open files is raised from {} to {}", shown(limit.before), shown(limit.now));
    }
}
