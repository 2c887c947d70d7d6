//! Keeps a request in flight registered with its worker. When the guard is dropped the request has ended, and is counted and logged.

use std::{rc::Rc, sync::Arc};

use http::Uri;

use crate::{
    base::ObjectName,
    base::head::{HeaderMap, response},
    plan::{ForwardPlan, Plan},
    proxy::{
        state::{
            access::Pending,
            breaker::Held,
            budget::Account,
            conn::Conn,
            flight::{Flight, FlightKind},
            slots::SlotKey,
        },
        worker::Worker,
    },
    snapshot::{Host, HostLive, UpstreamProtocol},
    telemetry::{AccessLog, AttemptEnd, ResponseFlag, SpanChange},
};

/// Bytes of a head that are not worth counting.
const USUAL_HEAD: usize = 4 * 1024;

/// Keeps a flight registered; counting and logging happen when it is dropped.
#[derive(Debug)]
pub(in crate::proxy) struct FlightGuard {
    flight: Rc<Flight>,
    worker: Rc<Worker>,
    slot: SlotKey,
    /// The request counted against its host, where a balancer reads the count.
    live: Option<Arc<HostLive>>,
    /// What it holds of its cluster's limits.
    pub(in crate::proxy) held: Held,
    /// The charge for its head, if that is large.
    head: Option<Account>,
}

// === impl FlightGuard ===

impl FlightGuard {
    /// Registers a request that has just arrived on the connection. `uploaded`: it has no body.
    pub(in crate::proxy) fn begin(worker: &Rc<Worker>, conn: &Rc<Conn>, uploaded: bool) -> Self {
        let flight = Rc::new(Flight::new(Rc::clone(conn), uploaded));
        let slot = worker.flights.insert(Rc::clone(&flight));
        worker.tick_soon();
        worker.metrics.request_started();
        conn.request_began();
        Self { flight, worker: Rc::clone(worker), slot, live: None, held: Held::default(), head: None }
    }

    /// Registers a connection that is not looked at, from its first byte to its last. It is no request in the metrics.
    pub(in crate::proxy) fn begin_stream(worker: &Rc<Worker>, conn: &Rc<Conn>) -> Self {
        let flight = Rc::new(Flight::of_stream(Rc::clone(conn)));
        let slot = worker.flights.insert(Rc::clone(&flight));
        worker.tick_soon();
        worker.metrics.stream_started();
        conn.request_began();
        Self { flight, worker: Rc::clone(worker), slot, live: None, held: Held::default(), head: None }
    }

    /// Registers a copy of a request. It is no request in the metrics. `uploaded`: it has no body.
    pub(in crate::proxy) fn begin_mirror(worker: &Rc<Worker>, uploaded: bool) -> Self {
        let flight = Rc::new(Flight::of_mirror(uploaded));
        let slot = worker.flights.insert(Rc::clone(&flight));
        worker.tick_soon();
        Self { flight, worker: Rc::clone(worker), slot, live: None, held: Held::default(), head: None }
    }

    /// Charges the head to the budget while the request is in flight, if it is larger than usual.
    pub(in crate::proxy) fn hold_head(&mut self, headers: &HeaderMap, uri: &Uri) {
        let bytes = headers.bytes() + uri.path_and_query().map_or(0, |path| path.as_str().len());
        if bytes > USUAL_HEAD {
            let budget = &self.worker.budget;
            let account = match self.flight.kind {
                FlightKind::Request | FlightKind::Stream => Account::at_rest(budget),
                // It has to go where there is no room, if it does not move.
                FlightKind::Mirror => Account::new(budget, &self.flight),
            };
            // As it was read, and as it is written to the host.
            account.set(2 * bytes);
            self.head = Some(account);
        }
    }

    /// Whether the head is more than what one request may hold of what is free.
    pub(in crate::proxy) fn head_is_too_much(&self) -> bool {
        self.head.as_ref().is_some_and(Account::is_full)
    }

    /// The stream at hand ends when its session has moved from this host of the plan's cluster, where a policy says so.
    pub(in crate::proxy) fn follow(&self, plan: &ForwardPlan, host: u32) {
        let Some(followed) = plan.followed(host) else { return };
        self.flight.follow(followed);
        self.worker.followers.set(self.worker.followers.get() + 1);
    }

    /// The flight.
    pub(in crate::proxy) fn flight(&self) -> &Rc<Flight> {
        &self.flight
    }

    /// The worker that serves it.
    pub(in crate::proxy) fn worker(&self) -> &Rc<Worker> {
        &self.worker
    }

    /// Counts the request against a host, and no longer against the one before.
    pub(in crate::proxy) fn occupy(&mut self, live: Option<&Arc<HostLive>>) {
        use std::sync::atomic::Ordering::Relaxed;
        if let Some(old) = self.live.take() {
            old.active.fetch_sub(1, Relaxed);
        }
        if let Some(new) = live {
            new.active.fetch_add(1, Relaxed);
            self.live = Some(Arc::clone(new));
        }
    }

    /// The log, if requests are logged at all.
    pub(in crate::proxy) fn log(&self) -> Option<&AccessLog> {
        self.worker.access_log.as_ref()
    }

    /// Notes the head of the answer, after all changes.
    pub(in crate::proxy) fn note_answer(&self, parts: &response::Parts, by_host: bool) {
        if let Some(log) = self.log() {
            let response_duration = by_host.then(|| self.flight.started.elapsed());
            self.record().note_answer(log, parts, response_duration);
        }
    }

    /// Notes what the log needs of the request.
    pub(in crate::proxy) fn record(&self) -> &Pending {
        &self.flight.outcome.record
    }

    /// Whether requests are logged or recorded.
    pub(in crate::proxy) fn observes(&self) -> bool {
        self.worker.observes
    }

    /// Notes what log and trace need of the plan, which was made with this generation of the snapshot.
    pub(in crate::proxy) fn note_plan(&self, plan: &Plan, gateway: &Arc<ObjectName>, generation: u64) {
        self.flight.outcome.record.note_plan(plan, gateway, generation);
    }

    /// Notes the host that is asked now.
    pub(in crate::proxy) fn note_host(&self, host: &Host, protocol: UpstreamProtocol) {
        self.flight.outcome.record.note_host(host, protocol, self.flight.started);
    }

    /// Notes how an attempt ended that has no answer, or whose answer is not passed on.
    pub(in crate::proxy) fn note_attempt_end(&self, status: Option<u16>, failure: Option<&'static str>) {
        self.flight.outcome.record.note_attempt_end(AttemptEnd { at: self.flight.started.elapsed(), status, failure });
    }

    /// Another attempt is made: what becomes of the parent's span in the head, if the request is recorded.
    pub(in crate::proxy) fn next_span(&self) -> Option<SpanChange> {
        self.flight.outcome.record.next_span(&mut self.worker.chooser.borrow_mut().random)
    }

    /// Ends an answer that broke off.
    pub(in crate::proxy) fn aborted(&self, flag: ResponseFlag) {
        if self.flight.outcome.flag.get() == ResponseFlag::None {
            self.flight.outcome.flag.set(flag);
        }
    }
}

impl Drop for FlightGuard {
    fn drop(&mut self) {
        self.occupy(None);
        self.worker.flights.remove(self.slot);
        self.flight.conn.request_ended();
        let outcome = &self.flight.outcome;
        let duration = self.flight.started.elapsed();
        match self.flight.kind {
            FlightKind::Stream => self.worker.metrics.stream_finished(outcome.flag.get()),
            FlightKind::Request => {
                if outcome.status.get() == 0 {
                    self.aborted(ResponseFlag::DownstreamConnectionTermination);
                }
                self.worker.metrics.request_finished(outcome.status.get(), outcome.flag.get(), duration);
            }
            // The drain may be waiting for it: its connection is none of a client's, whose end would say so.
            FlightKind::Mirror => self.worker.something_ended(),
        }
        if self.worker.observes
            && let Some(mut record) = outcome.record.end(duration)
        {
            outcome.tell(&mut record);
            self.worker.submit(record);
        }
    }
}
