//! One data-plane thread: its runtime, its tasks and everything they share without a lock.

use std::{
    cell::{Cell, RefCell},
    future::Future,
    net::SocketAddr,
    panic::AssertUnwindSafe,
    rc::Rc,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use futures_util::FutureExt as _;
use http::HeaderValue;
use tokio::{
    sync::{Notify, watch},
    task::{LocalSet, spawn_local},
    time::{Instant, sleep_until},
};

use crate::{
    base::{Cached, OverloadLevel, Published},
    plan::Chooser,
    snapshot::Snapshot,
    telemetry::{AccessLog, AccessRecord, ProcessMetrics, RequestRefusal, WorkerMetrics},
};

use super::{
    admission::Admissions,
    bound::{BindOutcome, Bound},
    budget::{Budget, SharedBudget},
    config::ProxyConfig,
    connection::{Conn, Signal},
    date,
    descriptors::Descriptors,
    detour::Detours,
    flight::{Expiry, Flights},
    handshakes::Handshakes,
    http2,
    listeners::{Listeners, Sockets},
    pool::Pool,
    slots::Slots,
};

/// A worker with at least this many requests in flight gathers writes.
const BATCH_WRITES_FROM: usize = 4;

/// Spare buffers that are kept over a quiet moment.
const SPARE_BUFFERS: usize = 64;

/// How old the value of `date` headers may be.
const DATE_AGE: Duration = Duration::from_millis(500);

/// How far the data plane is with ending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DrainStage {
    /// Serving.
    Serving,
    /// Still accepting, but every connection ends after its next response.
    Draining,
    /// No longer accepting; what is in flight is finished.
    Closing,
    /// What is still open is cut off.
    Ended,
}

/// What a worker is started with.
#[derive(Debug)]
pub(super) struct WorkerSetup {
    pub(super) index: usize,
    pub(super) config: Arc<ProxyConfig>,
    pub(super) snapshot: Arc<Published<Snapshot>>,
    pub(super) sockets: Arc<Sockets>,
    pub(super) admissions: Arc<Admissions>,
    pub(super) budget: Arc<SharedBudget>,
    pub(super) metrics: Arc<WorkerMetrics>,
    pub(super) process: Arc<ProcessMetrics>,
    pub(super) access_log: Option<AccessLog>,
    pub(super) stage: watch::Receiver<DrainStage>,
    pub(super) bound: Arc<watch::Sender<Bound>>,
}

/// A worker's state.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) config: Arc<ProxyConfig>,
    pub(super) metrics: Arc<WorkerMetrics>,
    pub(super) descriptors: Descriptors,
    pub(super) access_log: Option<AccessLog>,
    /// Requests are logged or recorded.
    pub(super) observes: bool,
    pub(super) admissions: Arc<Admissions>,
    pub(super) handshakes: Handshakes,
    pub(super) budget: Rc<Budget>,
    pub(super) snapshot: RefCell<Cached<Snapshot>>,
    pub(super) chooser: RefCell<Chooser>,
    pub(super) pool: RefCell<Pool>,
    pub(super) detours: Detours,
    pub(super) flights: Flights,
    pub(super) conns: Slots<Conn>,
    /// Connections of HTTP/2 to hosts, until they have ended.
    pub(super) host_connections: Slots<http2::Connection>,
    /// The value of `date` headers, at most a second old.
    pub(super) date: RefCell<HeaderValue>,
    /// Empty buffers for saved heads.
    pub(super) spare_buffers: RefCell<Vec<Vec<u8>>>,
    index: usize,
    listeners: RefCell<Listeners>,
    bound: Arc<watch::Sender<Bound>>,
    stage: Cell<DrainStage>,
    /// The tick runs at its fast pace.
    fast: Cell<bool>,
    hurry: Notify,
    ended: Notify,
}

/// Runs a worker on this thread until it is told to end.
///
/// # Errors
/// The runtime cannot be built.
pub(super) fn run(setup: WorkerSetup) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async move {
        let published = Arc::clone(&setup.snapshot);
        let stage = setup.stage.clone();
        let worker = Rc::new(Worker::new(setup));
        worker.spawn(Rc::clone(&worker).follow(published.watch()));
        worker.spawn(Rc::clone(&worker).tick());
        worker.live(stage).await;
        worker.pool.borrow_mut().clear();
    });
    Ok(())
}

// === impl Worker ===

impl Worker {
    fn new(setup: WorkerSetup) -> Self {
        let WorkerSetup { index, config, snapshot, sockets, admissions, budget, metrics, process, access_log, stage, bound } = setup;
        let first_stage = *stage.borrow();
        Self {
            descriptors: Descriptors::new(config.descriptors, process),
            handshakes: Handshakes::new(config.ceilings.tls_handshakes.div_ceil(config.workers), Arc::clone(&metrics)),
            budget: Rc::new(Budget::new(budget, Arc::clone(&metrics))),
            observes: access_log.is_some() || config.tracer.is_some(),
            config,
            metrics,
            access_log,
            admissions,
            snapshot: RefCell::new(Cached::new(snapshot)),
            chooser: RefCell::new(Chooser::new(fastrand::Rng::new())),
            pool: RefCell::default(),
            detours: Detours::default(),
            flights: Flights::default(),
            conns: Slots::default(),
            host_connections: Slots::default(),
            date: RefCell::new(date::now()),
            spare_buffers: RefCell::default(),
            index,
            listeners: RefCell::new(Listeners::new(index, sockets)),
            bound,
            stage: Cell::new(first_stage),
            fast: Cell::new(false),
            hurry: Notify::new(),
            ended: Notify::new(),
        }
    }

    /// Runs a task on this thread. A panic in it ends this task only, and is counted.
    pub(super) fn spawn(self: &Rc<Self>, task: impl Future<Output = ()> + 'static) {
        let metrics = Arc::clone(&self.metrics);
        // What the task shares is cells and ref-cells whose borrows end with the unwinding. Combined and not awaited in a block, which would
        // keep room for the task twice as long as it lives.
        spawn_local(AssertUnwindSafe(task).catch_unwind().map(move |outcome| {
            if outcome.is_err() {
                metrics.panicked();
                tracing::error!("a data-plane task panicked; its connection is lost, the others go on");
            }
        }));
    }

    /// Yields once while many requests are in flight, so that the worker's other tasks reach the same point first. Their writes then leave
    /// together, and a host is woken once instead of once a request. With few requests it returns at once.
    pub(super) async fn yield_to_batch_writes(&self) {
        if self.flights.len() < BATCH_WRITES_FROM {
            return;
        }
        let mut waited = false;
        std::future::poll_fn(|cx| {
            if std::mem::replace(&mut waited, true) {
                return Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }

    /// Hands on what was learnt of a request that has ended.
    pub(super) fn submit(&self, mut record: Box<AccessRecord>) {
        if let (Some(trace), Some(tracer)) = (record.trace.take(), &self.config.tracer) {
            match &self.access_log {
                Some(_) => tracer.submit((*record).clone(), *trace),
                None => return tracer.submit(*record, *trace),
            }
        }
        if let Some(log) = &self.access_log {
            log.submit(record);
        }
    }

    /// Whether the data plane drains.
    pub(super) fn is_draining(&self) -> bool {
        self.stage.get() != DrainStage::Serving
    }

    /// Whether every response shall end its connection.
    pub(super) fn ends_keep_alive(&self) -> bool {
        self.is_draining() || self.config.overload.level() >= OverloadLevel::DisableKeepAlive
    }

    /// Why a new request cannot be taken on, if it cannot.
    pub(super) fn refuses_requests(&self) -> Option<RequestRefusal> {
        if self.config.overload.level() >= OverloadLevel::StopAcceptingRequests {
            return Some(RequestRefusal::Overload);
        }
        self.budget.is_over().then_some(RequestRefusal::Buffers)
    }

    /// Whether only what is in flight is finished.
    pub(super) fn is_closing(&self) -> bool {
        matches!(self.stage.get(), DrainStage::Closing | DrainStage::Ended)
    }

    /// A request was registered: its deadlines need the fast tick.
    pub(super) fn tick_soon(&self) {
        if !self.fast.replace(true) {
            self.hurry.notify_one();
        }
    }

    /// A connection or a tunnel has ended: the drain may be waiting for it.
    pub(super) fn something_ended(&self) {
        if self.stage.get() == DrainStage::Closing {
            self.ended.notify_one();
        }
    }

    /// Follows the published snapshot, also while no request comes.
    async fn follow(self: Rc<Self>, mut generations: watch::Receiver<u64>) {
        loop {
            generations.mark_unchanged();
            self.adopt_snapshot();
            if generations.changed().await.is_err() {
                return;
            }
        }
    }

    fn adopt_snapshot(self: &Rc<Self>) {
        let (generation, snapshot) = {
            let mut cached = self.snapshot.borrow_mut();
            let versioned = cached.get();
            (versioned.generation, Arc::clone(&versioned.value))
        };
        self.pool.borrow_mut().follow(&snapshot);
        if matches!(self.stage.get(), DrainStage::Serving | DrainStage::Draining) {
            let outcomes = self.listeners.borrow_mut().follow(self, snapshot.binds.keys().copied());
            self.report(generation, outcomes);
        }
        self.metrics.bound_generation(generation);
    }

    fn report(&self, generation: u64, outcomes: Vec<(SocketAddr, BindOutcome)>) {
        self.bound.send_modify(|bound| bound.note(self.index, generation, outcomes));
    }

    /// Tries again what could not be bound.
    fn retry_binds(self: &Rc<Self>) {
        if !self.listeners.borrow().has_failed() || !matches!(self.stage.get(), DrainStage::Serving | DrainStage::Draining) {
            return;
        }
        self.adopt_snapshot();
    }

    /// The coarse clock: deadlines, idle connections, a sign of life.
    async fn tick(self: Rc<Self>) {
        let mut slow_due = Instant::now();
        let mut dated = slow_due;
        loop {
            self.metrics.heartbeat.beat();
            let now = Instant::now();
            self.flights.for_each(|flight| flight.check(now));
            self.relieve(now);
            self.metrics.set_buffered_bytes(self.budget.charged() as u64);
            if now >= dated + DATE_AGE {
                dated = now;
                self.date.replace(date::now());
            }
            self.pool.borrow().call_waiting(&self.config.backends);
            if now >= slow_due {
                slow_due = now + self.config.idle_tick;
                self.slow_tick(now);
            }
            let fast = self.flights.len() > 0;
            self.fast.set(fast);
            let next = if fast { slow_due.min(now + self.config.tick) } else { slow_due };
            tokio::select! {
                () = sleep_until(next) => {}
                () = self.hurry.notified(), if !fast => {}
            }
        }
    }

    /// Where buffers leave no room for new requests, ends those whose buffered bytes do not move, the heaviest first, until there is some: as
    /// Envoy's overload action `reset_high_memory_stream`. Else clients and hosts that are there but take nothing would keep all others out
    /// for as long as a stream may be idle.
    fn relieve(&self, now: Instant) {
        let mut needed = self.budget.relief();
        if needed == 0 {
            return;
        }
        let mut stalled = Vec::new();
        self.flights.for_each_shared(|flight| {
            if flight.stalled(now).is_some_and(|time| time >= self.config.limits.buffers_stall) {
                stalled.push(Rc::clone(flight));
            }
        });
        stalled.sort_unstable_by_key(|flight| std::cmp::Reverse(flight.buffered.get()));
        for flight in stalled {
            if needed == 0 {
                return;
            }
            needed = needed.saturating_sub(flight.buffered.get());
            flight.expire(Expiry::Buffers);
            self.metrics.request_refused(RequestRefusal::Stalled);
        }
    }

    fn slow_tick(self: &Rc<Self>, now: Instant) {
        let limits = &self.config.limits;
        self.conns.for_each(|conn| conn.check(now, limits));
        self.host_connections.for_each(|connection| connection.check(now, limits, self.config.backends.http2_ping));
        self.conns.shrink();
        self.host_connections.shrink();
        self.flights.shrink();
        self.spare_buffers.borrow_mut().truncate(SPARE_BUFFERS);
        self.detours.prune(now);
        let mut pool = self.pool.borrow_mut();
        pool.prune(now);
        self.metrics.set_upstream_idle(pool.idle());
        drop(pool);
        self.retry_binds();
    }

    /// Lives through the stages; returns when the thread may end.
    async fn live(&self, mut stage: watch::Receiver<DrainStage>) {
        loop {
            let now = *stage.borrow_and_update();
            self.enter(now);
            let empty = self.conns.len() == 0 && self.flights.len() == 0;
            if now == DrainStage::Ended || (now == DrainStage::Closing && empty) {
                return;
            }
            tokio::select! {
                changed = stage.changed() => if changed.is_err() { return },
                () = self.ended.notified() => {}
            }
        }
    }

    fn enter(&self, stage: DrainStage) {
        if self.stage.replace(stage) == stage {
            return;
        }
        match stage {
            DrainStage::Serving | DrainStage::Ended => {}
            // Others stay, idle or not yet begun: a request may be on its way, and it will be told to be the last.
            DrainStage::Draining => self.conns.for_each(|conn| {
                if conn.is_http2() {
                    conn.tell(Signal::Finish);
                }
            }),
            DrainStage::Closing => {
                self.listeners.borrow_mut().close();
                self.conns.for_each(|conn| conn.tell(Signal::Finish));
            }
        }
    }
}
