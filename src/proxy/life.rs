//! The life of one data-plane thread: its runtime, its clock, and what it does when a snapshot or a stage of the drain comes.

use std::{cell::RefCell, rc::Rc, sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    task::LocalSet,
    time::{Instant, sleep, sleep_until},
};

use crate::{
    proxy::{
        bound::{BindOutcome, Bound},
        down::datagram,
        flow::mirror,
        listeners::Listeners,
        sockets::Sockets,
        state::{
            conn::Signal,
            flight::{Expiry, FlightKind},
        },
        wire::date,
        worker::{DrainStage, Worker, WorkerSetup},
    },
    snapshot::{BindAddress, Snapshot},
    telemetry::RequestRefusal,
};

/// How old the value of `date` headers may be.
const DATE_AGE: Duration = Duration::from_millis(500);

/// A worker's place among the others: its number, the sockets that it takes its own of, and where it tells what it listens on.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) index: usize,
    pub(super) sockets: Arc<Sockets>,
    pub(super) bound: Arc<watch::Sender<Bound>>,
}

/// A worker with its listeners, which only its own tasks see.
struct Life {
    worker: Rc<Worker>,
    listeners: RefCell<Listeners>,
    index: usize,
    bound: Arc<watch::Sender<Bound>>,
}

/// Runs a worker on this thread until it is told to end.
///
/// # Errors
/// The runtime cannot be built.
pub(super) fn run(setup: WorkerSetup, place: Place) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async move {
        let published = Arc::clone(&setup.snapshot);
        let stage = setup.stage.clone();
        let worker = Rc::new(Worker::new(setup));
        let life = Rc::new(Life::new(Rc::clone(&worker), place));
        worker.spawn(Rc::clone(&life).follow(published.watch()));
        worker.spawn(Rc::clone(&life).tick());
        life.live(stage).await;
        worker.hosts.clear();
    });
    Ok(())
}

// === impl Life ===

impl Life {
    fn new(worker: Rc<Worker>, place: Place) -> Self {
        let Place { index, sockets, bound } = place;
        Self { worker, listeners: RefCell::new(Listeners::new(index, sockets)), index, bound }
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

    fn adopt_snapshot(&self) {
        let (generation, snapshot) = {
            let mut cached = self.worker.snapshot.borrow_mut();
            let versioned = cached.get();
            (versioned.generation, Arc::clone(&versioned.value))
        };
        self.worker.hosts.follow(&snapshot);
        self.look_at_followers(&snapshot);
        if matches!(self.worker.stage.get(), DrainStage::Serving | DrainStage::Draining) {
            let outcomes = self.listeners.borrow_mut().follow(&self.worker, snapshot.binds.keys().copied());
            self.report(generation, outcomes);
        }
        self.worker.metrics.bound_generation(generation);
    }

    /// Streams whose sessions the snapshot gives to other hosts are told to go, each at a moment of its own.
    fn look_at_followers(&self, snapshot: &Snapshot) {
        if self.worker.followers.get() == 0 {
            return;
        }
        let now = Instant::now();
        let mut chooser = self.worker.chooser.borrow_mut();
        let mut found = 0;
        self.worker.flights.for_each(|flight| {
            found += u32::from(flight.follows());
            flight.look(snapshot, now, |longest| longest.mul_f64(chooser.random.f64()));
        });
        self.worker.followers.set(found);
    }

    fn report(&self, generation: u64, outcomes: Vec<(BindAddress, BindOutcome)>) {
        self.bound.send_modify(|bound| bound.note(self.index, generation, outcomes));
    }

    /// Tries again what could not be bound.
    fn retry_binds(&self) {
        if !self.listeners.borrow().has_failed() || !matches!(self.worker.stage.get(), DrainStage::Serving | DrainStage::Draining) {
            return;
        }
        self.adopt_snapshot();
    }

    /// The coarse clock: deadlines, idle connections, a sign of life.
    async fn tick(self: Rc<Self>) {
        let mut slow_due = Instant::now();
        let mut dated = slow_due;
        loop {
            self.worker.metrics.heartbeat.beat();
            let now = Instant::now();
            self.worker.flights.for_each(|flight| flight.check(now));
            self.relieve(now);
            self.worker.metrics.set_buffered_bytes(self.worker.budget.charged() as u64);
            if now >= dated + DATE_AGE {
                dated = now;
                self.worker.date.replace(date::now());
            }
            self.worker.hosts.call_waiting();
            if now >= slow_due {
                slow_due = now + self.worker.config.idle_tick;
                self.slow_tick(now);
            }
            let fast = self.worker.flights.len() > 0;
            self.worker.fast.set(fast);
            let next = if fast { slow_due.min(now + self.worker.config.tick) } else { slow_due };
            tokio::select! {
                () = sleep_until(next) => {}
                () = self.worker.hurry.notified(), if !fast => {}
            }
        }
    }

    /// Where buffers leave no room for new requests, ends those whose buffered bytes do not move, the heaviest first, until there is some: as
    /// Envoy's overload action `reset_high_memory_stream`. Else clients and hosts that are there but take nothing would keep all others out
    /// for as long as a stream may be idle.
    fn relieve(&self, now: Instant) {
        let mut needed = self.worker.budget.relief();
        if needed == 0 {
            return;
        }
        let mut stalled = Vec::new();
        self.worker.flights.for_each_shared(|flight| {
            if flight.stalled(now).is_some_and(|time| time >= self.worker.config.limits.buffers_stall) {
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
            self.worker.metrics.request_refused(RequestRefusal::Stalled);
        }
    }

    fn slow_tick(&self, now: Instant) {
        let limits = &self.worker.config.limits;
        self.worker.conns.for_each(|conn| conn.check(now, limits));
        self.worker.hosts.check(now);
        datagram::sweep(&self.worker, now);
        self.worker.conns.shrink();
        self.worker.hosts.shrink();
        self.worker.flights.shrink();
        self.worker.detours.prune(now);
        self.worker.hosts.prune(now);
        self.retry_binds();
    }

    /// Lives through the stages; returns when the thread may end.
    async fn live(&self, mut stage: watch::Receiver<DrainStage>) {
        loop {
            let now = *stage.borrow_and_update();
            self.enter(now);
            let empty = self.worker.conns.len() == 0 && self.worker.flights.len() == 0 && self.worker.flows.open.get() == 0;
            // The system spreads datagrams over the sockets of all workers: without this one, others would get those of flows that they do not have.
            let is_kept = self.worker.admissions.has_flows();
            if now == DrainStage::Ended || (now == DrainStage::Closing && empty && !is_kept) {
                return;
            }
            tokio::select! {
                changed = stage.changed() => if changed.is_err() { return },
                () = self.worker.ended.notified() => {}
                // Nobody tells of the flows of others.
                () = sleep(self.worker.config.tick), if now == DrainStage::Closing && empty => {}
            }
        }
    }

    fn enter(&self, stage: DrainStage) {
        if self.worker.stage.replace(stage) == stage {
            return;
        }
        match stage {
            DrainStage::Serving | DrainStage::Ended => {}
            // Others stay, idle or not yet begun: a request may be on its way, and it will be told to be the last.
            DrainStage::Draining => self.worker.conns.for_each(|conn| {
                if conn.is_http2() {
                    conn.tell(Signal::Finish);
                }
            }),
            DrainStage::Closing => {
                self.listeners.borrow_mut().close();
                self.worker.conns.for_each(|conn| conn.tell(Signal::Finish));
                self.worker.flights.for_each(|flight| {
                    if flight.kind == FlightKind::Mirror {
                        mirror::hasten(flight, &self.worker);
                    }
                });
            }
        }
    }
}
