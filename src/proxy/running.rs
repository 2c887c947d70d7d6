//! Starting, watching and draining the workers.

use std::{
    io,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep, timeout_at},
};

use crate::{
    base::Published,
    proxy::{
        bound::Bound,
        life::{self, Place},
        sockets::Sockets,
        state::{admission::Admissions, budget::SharedBudget, config::ProxyConfig},
        worker::{DrainStage, WorkerSetup},
    },
    snapshot::Snapshot,
    telemetry::{AccessLog, Metrics},
};

/// The data plane while it runs. Dropping it ends the workers without a drain.
#[derive(Debug)]
pub struct Running {
    stage: watch::Sender<DrainStage>,
    bound: watch::Receiver<Bound>,
    workers: Vec<JoinHandle<()>>,
    /// Closed once every worker has ended.
    ended: mpsc::Receiver<()>,
}

/// Why the data plane cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No workers were asked for.
    #[error("workers: expected at least 1")]
    NoWorkers,
    /// There are fewer metric shards than workers.
    #[error("metrics: expected a shard for each of {workers} workers")]
    NoShard {
        /// Workers asked for.
        workers: usize,
    },
    /// A thread cannot be started.
    #[error("worker {worker}: cannot start its thread: {source}")]
    Thread {
        /// Index of the worker.
        worker: usize,
        /// The system's error.
        source: io::Error,
    },
}

/// Starts the workers. They bind what the published snapshot says and follow its successors; `Running::bound` tells how far they are.
///
/// # Errors
/// A thread cannot be started, or `metrics` has too few shards. A socket that cannot be bound is no error: see `Running::bound`.
pub fn start(
    config: ProxyConfig,
    snapshot: &Arc<Published<Snapshot>>,
    metrics: &Metrics,
    access_log: Option<&AccessLog>,
) -> Result<Running, StartError> {
    if config.workers == 0 {
        return Err(StartError::NoWorkers);
    }
    let workers = config.workers;
    let config = Arc::new(config);
    let sockets = Arc::new(Sockets::new(workers, config.descriptors));
    let admissions = Arc::new(Admissions::new(&config.ceilings, Arc::clone(&config.overload)));
    let budget = Arc::new(SharedBudget::new(config.ceilings.buffered_bytes, Arc::clone(&config.overload)));
    let (stage, stages) = watch::channel(DrainStage::Serving);
    let (reports, bound) = watch::channel(Bound::new(workers));
    let reports = Arc::new(reports);
    let (alive, ended) = mpsc::channel(1);
    let mut running = Running { stage, bound, workers: Vec::new(), ended };
    for index in 0..workers {
        let setup = WorkerSetup {
            config: Arc::clone(&config),
            snapshot: Arc::clone(snapshot),
            admissions: Arc::clone(&admissions),
            budget: Arc::clone(&budget),
            metrics: metrics.worker(index).ok_or(StartError::NoShard { workers })?,
            process: Arc::clone(metrics.process()),
            access_log: access_log.cloned(),
            stage: stages.clone(),
        };
        let place = Place { index, sockets: Arc::clone(&sockets), bound: Arc::clone(&reports) };
        let thread = spawn(setup, place, alive.clone()).map_err(|source| StartError::Thread { worker: index, source })?;
        running.workers.push(thread);
    }
    Ok(running)
}

fn spawn(setup: WorkerSetup, place: Place, alive: mpsc::Sender<()>) -> io::Result<JoinHandle<()>> {
    let index = place.index;
    thread::Builder::new().name(format!("proxy-{index}")).spawn(move || {
        let _alive = alive;
        if let Err(error) = life::run(setup, place) {
            tracing::error!(%error, worker = index, "a worker cannot build its runtime");
        }
    })
}

// === impl Running ===

impl Running {
    /// What the workers listen on, and which generation of the snapshot they follow.
    pub fn bound(&self) -> watch::Receiver<Bound> {
        self.bound.clone()
    }

    /// Ends the data plane without losing what is in flight: for `min` it goes on accepting while load balancers learn of it, telling
    /// every client to come back elsewhere; then it stops accepting and finishes, at most until `max` after the beginning. Returns
    /// whether everything was finished in time.
    pub async fn drain(mut self, min: Duration, max: Duration) -> bool {
        let deadline = Instant::now() + max;
        self.stage.send_replace(DrainStage::Draining);
        sleep(min.min(max)).await;
        self.stage.send_replace(DrainStage::Closing);
        let finished = timeout_at(deadline, self.ended.recv()).await.is_ok();
        self.stage.send_replace(DrainStage::Ended);
        if !finished {
            // The workers end as soon as they turn their loop.
            self.ended.recv().await;
        }
        for worker in self.workers.drain(..) {
            // A panic of a worker's own loop was reported when it happened.
            let _ = worker.join();
        }
        finished
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stage.send_replace(DrainStage::Ended);
    }
}
