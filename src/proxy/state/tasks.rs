//! Tasks of a worker.

use std::{future::Future, panic::AssertUnwindSafe, sync::Arc};

use futures_util::FutureExt as _;
use tokio::task::spawn_local;

use crate::telemetry::WorkerMetrics;

/// Runs a task on this thread. A panic in it ends this task only, and is counted.
pub(in crate::proxy) fn spawn(metrics: &Arc<WorkerMetrics>, task: impl Future<Output = ()> + 'static) {
    let metrics = Arc::clone(metrics);
    // Boxed: the runtime moves what it is handed eight times until it has ended, and a request's task is 6 KiB.
    let task = Box::pin(task);
    // What the task shares is cells and ref-cells whose borrows end with the unwinding. Combined and not awaited in a block, which would
    // keep room for the task twice as long as it lives.
    spawn_local(AssertUnwindSafe(task).catch_unwind().map(move |outcome| {
        if outcome.is_err() {
            metrics.panicked();
            tracing::error!("a data-plane task panicked; its connection is lost, the others go on");
        }
    }));
}
