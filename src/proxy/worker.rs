//! What the tasks of one data-plane thread share without a lock.

use std::{
    cell::{Cell, RefCell},
    future::Future,
    rc::Rc,
    sync::Arc,
    task::Poll,
};

use http::HeaderValue;
use tokio::sync::{Notify, watch};

use crate::{
    base::{Cached, OverloadLevel, Published},
    plan::Chooser,
    proxy::{
        state::{
            admission::Admissions,
            budget::{Budget, SharedBudget},
            config::ProxyConfig,
            conn::Conn,
            descriptors::Descriptors,
            detour::Detours,
            flight::Flights,
            flows::WorkerFlows,
            handshakes::Handshakes,
            slots::Slots,
            tasks,
        },
        up::Hosts,
        wire::date,
    },
    snapshot::Snapshot,
    telemetry::{AccessLog, AccessRecord, ProcessMetrics, RequestRefusal, WorkerMetrics},
};

/// A worker with at least this many requests in flight gathers writes.
const BATCH_WRITES_FROM: usize = 4;

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
    pub(super) config: Arc<ProxyConfig>,
    pub(super) snapshot: Arc<Published<Snapshot>>,
    pub(super) admissions: Arc<Admissions>,
    pub(super) budget: Arc<SharedBudget>,
    pub(super) metrics: Arc<WorkerMetrics>,
    pub(super) process: Arc<ProcessMetrics>,
    pub(super) access_log: Option<AccessLog>,
    pub(super) stage: watch::Receiver<DrainStage>,
}

/// A worker's state.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) config: Arc<ProxyConfig>,
    pub(super) metrics: Arc<WorkerMetrics>,
    pub(super) descriptors: Rc<Descriptors>,
    pub(super) access_log: Option<AccessLog>,
    /// Requests are logged or recorded.
    pub(super) observes: bool,
    pub(super) admissions: Arc<Admissions>,
    pub(super) handshakes: Handshakes,
    pub(super) budget: Rc<Budget>,
    pub(super) snapshot: RefCell<Cached<Snapshot>>,
    pub(super) chooser: RefCell<Chooser>,
    pub(super) hosts: Rc<Hosts>,
    pub(super) detours: Detours,
    pub(super) flights: Flights,
    /// Requests that wait for the host of their session.
    pub(super) waiting_sessions: Cell<u32>,
    /// Streams that have begun and follow their sessions, since none was found.
    pub(super) followers: Cell<u32>,
    /// What clients of UDP and hosts send each other.
    pub(super) flows: WorkerFlows,
    pub(super) conns: Slots<Conn>,
    /// The value of `date` headers, at most a second old.
    pub(super) date: RefCell<HeaderValue>,
    pub(super) stage: Cell<DrainStage>,
    /// The tick runs at its fast pace.
    pub(super) fast: Cell<bool>,
    /// The tick has to take its fast pace.
    pub(super) hurry: Notify,
    /// The drain may go on.
    pub(super) ended: Notify,
}

// === impl Worker ===

impl Worker {
    pub(super) fn new(setup: WorkerSetup) -> Self {
        let WorkerSetup { config, snapshot, admissions, budget, metrics, process, access_log, stage } = setup;
        let first_stage = *stage.borrow();
        let descriptors = Rc::new(Descriptors::new(config.descriptors, process));
        let budget = Rc::new(Budget::new(budget, Arc::clone(&metrics)));
        Self {
            hosts: Hosts::new(Arc::clone(&config), Arc::clone(&metrics), Rc::clone(&descriptors), Rc::clone(&budget)),
            descriptors,
            handshakes: Handshakes::new(config.ceilings.tls_handshakes.div_ceil(config.workers), Arc::clone(&metrics)),
            budget,
            observes: access_log.is_some() || config.tracer.is_some(),
            config,
            access_log,
            admissions,
            snapshot: RefCell::new(Cached::new(snapshot)),
            chooser: RefCell::new(Chooser::new(fastrand::Rng::new())),
            detours: Detours::default(),
            flights: Flights::default(),
            waiting_sessions: Cell::new(0),
            followers: Cell::new(0),
            flows: WorkerFlows::default(),
            conns: Slots::default(),
            date: RefCell::new(date::now()),
            metrics,
            stage: Cell::new(first_stage),
            fast: Cell::new(false),
            hurry: Notify::new(),
            ended: Notify::new(),
        }
    }

    /// Runs a task on this thread. A panic in it ends this task only, and is counted.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        tasks::spawn(&self.metrics, task);
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
}
