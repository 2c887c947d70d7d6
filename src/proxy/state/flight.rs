//! A request in flight: its deadlines, and what its tasks and the worker's tick tell each other.

use std::{
    cell::{Cell, OnceCell, RefCell},
    collections::VecDeque,
    future::{Future, poll_fn},
    pin::pin,
    rc::Rc,
    task::{Poll, Waker},
    time::Duration,
};

use http::StatusCode;
use tokio::time::Instant;

use crate::base::head::{HeaderMap, response};
use crate::plan::Followed;
use crate::snapshot::{Snapshot, Timeouts};

use super::{access::FlightOutcome, conn::Conn, error::ProxyError, slots::Slots};

/// How long a client may take to receive an answer of the gateway's own.
const OWN_ANSWER: Duration = Duration::from_secs(5);

/// A request between the arrival of its head and the end of its response.
#[derive(Debug)]
pub(in crate::proxy) struct Flight {
    /// When the head arrived.
    pub(in crate::proxy) started: Instant,
    /// The client's connection.
    pub(in crate::proxy) conn: Rc<Conn>,
    deadlines: Deadlines,
    waker: RefCell<Option<Waker>>,
    /// The client's body broke off: any failure after that is the client's fault.
    pub(in crate::proxy) client_failed: Cell<bool>,
    /// The client's body has arrived whole.
    pub(in crate::proxy) uploaded: Cell<bool>,
    /// What it is.
    pub(in crate::proxy) kind: FlightKind,
    /// It is a call of gRPC.
    pub(in crate::proxy) is_call: Cell<bool>,
    /// Bytes of the request and of its response that are buffered.
    pub(in crate::proxy) buffered: Cell<usize>,
    /// When the client's body had arrived whole; until then, when the head arrived.
    request_end: Cell<Instant>,
    /// The client sends its body only when it is told to (`Expect: 100-continue`).
    pub(in crate::proxy) expects_continue: Cell<bool>,
    /// Interim responses that the client's leg has not sent yet, the oldest first.
    interims: RefCell<VecDeque<response::Parts>>,
    /// Of a stream that ends when its session has moved.
    follow: OnceCell<Box<Follow>>,
    /// What metrics and log record at the end.
    pub(in crate::proxy) outcome: FlightOutcome,
}

/// A stream that follows its session.
#[derive(Debug)]
struct Follow {
    followed: Followed,
    /// When it is told to go, if its key belongs to another host.
    due: Cell<Option<Instant>>,
}

/// What is in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) enum FlightKind {
    /// A request.
    Request,
    /// A connection that is not looked at.
    Stream,
    /// A copy of a request, for a mirror.
    Mirror,
}

/// Deadlines of a flight. The worker's tick looks at them, so that no request arms a timer of its own.
#[derive(Debug, Default)]
struct Deadlines {
    request_timeout: Cell<Option<Duration>>,
    /// When the time passes that the client gives a call of gRPC, or a drain gives a copy.
    call: Cell<Option<Instant>>,
    request: Cell<Option<Instant>>,
    attempt: Cell<Option<Instant>>,
    idle: Cell<Option<Duration>>,
    upload_stall: Cell<Option<Duration>>,
    /// Moves with every byte in either direction.
    activity: Cell<u32>,
    seen: Cell<u32>,
    idle_since: Cell<Option<Instant>>,
    expired: Cell<Option<Expiry>>,
}

/// Which deadline has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) enum Expiry {
    /// The route's request timeout.
    Request,
    /// The timeout of one attempt.
    Attempt,
    /// Nothing moved for the idle timeout.
    Idle,
    /// The buffered bytes did not move, and new requests have no room.
    Buffers,
    /// Its session belongs to another host by now.
    Moved,
}

/// The earlier of two times, where there are two.
fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    one.into_iter().chain(other).min()
}

// === impl Flight ===

impl Flight {
    pub(in crate::proxy) fn new(conn: Rc<Conn>, uploaded: bool) -> Self {
        let started = Instant::now();
        Self {
            started,
            conn,
            request_end: Cell::new(started),
            deadlines: Deadlines::default(),
            waker: RefCell::new(None),
            client_failed: Cell::new(false),
            uploaded: Cell::new(uploaded),
            kind: FlightKind::Request,
            is_call: Cell::new(false),
            buffered: Cell::new(0),
            expects_continue: Cell::new(false),
            interims: RefCell::default(),
            follow: OnceCell::new(),
            outcome: FlightOutcome::default(),
        }
    }

    /// Of a connection that is not looked at.
    pub(in crate::proxy) fn of_stream(conn: Rc<Conn>) -> Self {
        Self { kind: FlightKind::Stream, ..Self::new(conn, true) }
    }

    /// Of a copy of a request, which has no client. `uploaded`: it has no body.
    pub(in crate::proxy) fn of_mirror(uploaded: bool) -> Self {
        Self { kind: FlightKind::Mirror, ..Self::new(Rc::new(Conn::new()), uploaded) }
    }

    /// Sets the route's timeouts. The request timeout begins with the end of the request.
    pub(in crate::proxy) fn arm(&self, timeouts: &Timeouts) {
        let deadlines = &self.deadlines;
        deadlines.request_timeout.set(timeouts.request);
        deadlines.idle.set(timeouts.idle);
        deadlines.upload_stall.set(timeouts.upload_stall.filter(|_| !self.uploaded.get()));
        if self.uploaded.get() {
            deadlines.request.set(timeouts.request.map(|timeout| self.started + timeout));
        }
    }

    /// The client gives its call this time, from the beginning of the request.
    pub(in crate::proxy) fn arm_call(&self, timeout: Duration) {
        let call = self.started.checked_add(timeout);
        let deadlines = &self.deadlines;
        deadlines.call.set(call);
        deadlines.request.set(earlier(deadlines.request.get(), call));
    }

    /// It may last until then, and no longer, whatever its timeouts are.
    pub(in crate::proxy) fn end_by(&self, deadline: Instant) {
        let deadlines = &self.deadlines;
        deadlines.call.set(earlier(deadlines.call.get(), Some(deadline)));
        deadlines.request.set(earlier(deadlines.request.get(), Some(deadline)));
    }

    /// Once all of it has been sent it may last this long, and no longer.
    pub(in crate::proxy) fn end_within(&self, rest: Duration) {
        let deadlines = &self.deadlines;
        deadlines.request_timeout.set(Some(deadlines.request_timeout.get().map_or(rest, |timeout| timeout.min(rest))));
        if self.uploaded.get() {
            self.end_by(Instant::now() + rest);
        }
    }

    /// An attempt begins: its own deadline replaces the last attempt's.
    pub(in crate::proxy) fn arm_attempt(&self, timeout: Option<Duration>) {
        self.deadlines.attempt.set(timeout.map(|timeout| Instant::now() + timeout));
        if self.deadlines.expired.get() == Some(Expiry::Attempt) {
            self.deadlines.expired.set(None);
        }
    }

    /// The gateway answers by itself. The client has `OWN_ANSWER` to receive that, whatever time was left before.
    pub(in crate::proxy) fn arm_answer(&self) {
        self.arm_tunnel();
        self.deadlines.expired.set(None);
        self.deadlines.request.set(Some(Instant::now() + OWN_ANSWER));
    }

    /// The request has become a tunnel: only the idle timeout is left.
    pub(in crate::proxy) fn arm_tunnel(&self) {
        self.deadlines.request.set(None);
        self.deadlines.request_timeout.set(None);
        self.deadlines.call.set(None);
        self.deadlines.upload_stall.set(None);
        self.deadlines.attempt.set(None);
    }

    /// Something moved.
    pub(in crate::proxy) fn touch(&self) {
        self.deadlines.activity.set(self.deadlines.activity.get().wrapping_add(1));
    }

    /// The request body has arrived whole: the request timeout begins.
    pub(in crate::proxy) fn upload_ended(&self) {
        if !self.uploaded.replace(true) {
            let now = Instant::now();
            self.request_end.set(now);
            self.deadlines.upload_stall.set(None);
            let of_route = self.deadlines.request_timeout.get().map(|timeout| now + timeout);
            self.deadlines.request.set(earlier(of_route, self.deadlines.call.get()));
        }
    }

    /// Time from the end of the request (its beginning, while the body still comes) until now.
    pub(in crate::proxy) fn upstream_time(&self) -> Duration {
        self.request_end.get().elapsed()
    }

    /// The deadline that has passed, if any has.
    pub(in crate::proxy) fn expired(&self) -> Option<Expiry> {
        self.deadlines.expired.get()
    }

    /// Looks at the deadlines, and wakes the task that waits if one has passed.
    pub(in crate::proxy) fn check(&self, now: Instant) {
        if self.expired().is_some() {
            return;
        }
        if self.follow.get().and_then(|follow| follow.due.get()).is_some_and(|due| due <= now) {
            return self.expire(Expiry::Moved);
        }
        if let Some(expiry) = self.deadlines.check(now) {
            self.expire(expiry);
        }
    }

    /// It is a stream that ends when its session has moved.
    pub(in crate::proxy) fn follow(&self, followed: Followed) {
        // Of several attempts the first one counts: later ones are at hosts that failure has led to.
        let _ = self.follow.set(Box::new(Follow { followed, due: Cell::new(None) }));
    }

    /// Whether it is one.
    pub(in crate::proxy) fn follows(&self) -> bool {
        self.follow.get().is_some()
    }

    /// Looks whether its session has moved, of a stream that follows it. `within`: draws a time up to this one, in which it is told to go.
    pub(in crate::proxy) fn look(&self, snapshot: &Snapshot, now: Instant, within: impl FnOnce(Duration) -> Duration) {
        let Some(follow) = self.follow.get() else { return };
        let due = match (follow.followed.has_moved(snapshot), follow.due.get()) {
            // It may have come back meanwhile.
            (false, _) => None,
            (true, Some(due)) => Some(due),
            (true, None) => Some(now + within(follow.followed.jitter())),
        };
        follow.due.set(due);
    }

    /// For how long nothing has moved of what is buffered for it, as far as `check` has seen; `None`: something did, or nothing is buffered.
    pub(in crate::proxy) fn stalled(&self, now: Instant) -> Option<Duration> {
        let deadlines = &self.deadlines;
        if self.buffered.get() == 0 || self.expired().is_some() || deadlines.seen.get() != deadlines.activity.get() {
            return None;
        }
        deadlines.idle_since.get().map(|since| now.duration_since(since))
    }

    /// Ends the flight's time for this reason.
    pub(in crate::proxy) fn expire(&self, expiry: Expiry) {
        self.deadlines.expired.set(Some(expiry));
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// The body is wanted: a client that waits for `100 Continue` is told so.
    pub(in crate::proxy) fn wants_body(&self) {
        if self.expects_continue.replace(false) {
            self.send_interim(StatusCode::CONTINUE, HeaderMap::new());
        }
    }

    /// Hands an interim response (1xx) to the client's leg, which sends it when the task at hand waits.
    pub(in crate::proxy) fn send_interim(&self, status: StatusCode, headers: HeaderMap) {
        if self.kind == FlightKind::Mirror {
            // There is no client that would take it.
            return;
        }
        let interim = response::Parts { status, headers, ..response::Parts::default() };
        self.interims.borrow_mut().push_back(interim);
    }

    /// The oldest interim response that was not sent yet.
    pub(in crate::proxy) fn take_interim(&self) -> Option<response::Parts> {
        self.interims.borrow_mut().pop_front()
    }

    /// Remembers which task to wake when a deadline passes.
    pub(in crate::proxy) fn wake_with(&self, waker: &Waker) {
        let mut stored = self.waker.borrow_mut();
        match &mut *stored {
            Some(stored) => stored.clone_from(waker),
            None => *stored = Some(waker.clone()),
        }
    }

    /// Runs a future until it is done or a deadline passes.
    pub(in crate::proxy) async fn bound<F: Future>(&self, future: F) -> Result<F::Output, Expiry> {
        let mut future = pin!(future);
        poll_fn(|cx| {
            if let Some(expiry) = self.expired() {
                return Poll::Ready(Err(expiry));
            }
            match future.as_mut().poll(cx) {
                Poll::Ready(output) => Poll::Ready(Ok(output)),
                Poll::Pending => {
                    self.wake_with(cx.waker());
                    Poll::Pending
                }
            }
        })
        .await
    }

    /// The error that an expiry stands for.
    pub(in crate::proxy) fn expiry_error(&self, expiry: Expiry) -> ProxyError {
        match expiry {
            Expiry::Request => ProxyError::RequestTimeout,
            Expiry::Attempt => ProxyError::AttemptTimeout,
            Expiry::Idle if self.uploaded.get() => ProxyError::StreamIdle,
            Expiry::Idle => ProxyError::UploadIdle,
            Expiry::Buffers => ProxyError::Overload,
            Expiry::Moved => ProxyError::SessionMoved,
        }
    }
}

// === impl Deadlines ===

impl Deadlines {
    fn check(&self, now: Instant) -> Option<Expiry> {
        if self.request.get().is_some_and(|deadline| deadline <= now) {
            return Some(Expiry::Request);
        }
        if self.attempt.get().is_some_and(|deadline| deadline <= now) {
            return Some(Expiry::Attempt);
        }
        let activity = self.activity.get();
        let since = match self.idle_since.get() {
            Some(since) if self.seen.get() == activity => since,
            Some(_) | None => {
                self.seen.set(activity);
                self.idle_since.set(Some(now));
                return None;
            }
        };
        let quiet = now.duration_since(since);
        if self.upload_stall.get().is_some_and(|stall| quiet >= stall) {
            return Some(Expiry::Request);
        }
        self.idle.get().is_some_and(|idle| quiet >= idle).then_some(Expiry::Idle)
    }
}

/// Requests in flight of a worker.
pub(in crate::proxy) type Flights = Slots<Flight>;

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn unlimited() -> Timeouts {
        Timeouts { request: None, backend_request: None, idle: None, upload_stall: None }
    }

    fn flight(uploaded: bool) -> Flight {
        Flight::new(Rc::new(Conn::new()), uploaded)
    }

    #[test]
    fn the_request_timeout_begins_when_the_body_has_arrived() {
        let flight = flight(false);
        flight.arm(&Timeouts { request: Some(SECOND), ..unlimited() });
        flight.check(flight.started + 60 * SECOND);
        assert_eq!(flight.expired(), None);
        flight.upload_ended();
        flight.check(Instant::now() + 2 * SECOND);
        assert_eq!(flight.expired(), Some(Expiry::Request));
    }

    #[test]
    fn an_upload_that_stalls_for_the_request_timeout_is_one_that_passed() {
        let flight = flight(false);
        flight.arm(&Timeouts { request: Some(SECOND), upload_stall: Some(SECOND), ..unlimited() });
        let start = flight.started;
        for second in 0..9 {
            flight.touch();
            flight.check(start + second * SECOND);
        }
        assert_eq!(flight.expired(), None, "it goes on");
        flight.check(start + 9 * SECOND);
        assert_eq!(flight.expired(), Some(Expiry::Request));
    }

    #[test]
    fn a_flight_is_idle_from_the_last_byte_on() {
        let flight = flight(true);
        flight.arm(&Timeouts { idle: Some(5 * SECOND), ..unlimited() });
        let start = flight.started;
        flight.check(start);
        flight.check(start + 4 * SECOND);
        flight.touch();
        flight.check(start + 8 * SECOND);
        flight.check(start + 12 * SECOND);
        assert_eq!(flight.expired(), None);
        flight.check(start + 13 * SECOND);
        assert_eq!(flight.expired(), Some(Expiry::Idle));
        assert!(matches!(flight.expiry_error(Expiry::Idle), ProxyError::StreamIdle));
    }

    #[test]
    fn a_flight_is_stalled_while_something_is_buffered_and_does_not_move() {
        let flight = flight(false);
        let start = flight.started;
        let at = |tenths: u32| {
            let now = start + SECOND * tenths / 10;
            flight.check(now);
            flight.stalled(now)
        };
        assert_eq!((at(0), at(30)), (None, None), "nothing is buffered");
        flight.buffered.set(1000);
        assert_eq!(at(40), Some(4 * SECOND));
        flight.touch();
        assert_eq!((at(50), at(57)), (Some(Duration::ZERO), Some(SECOND * 7 / 10)));
        flight.expire(Expiry::Buffers);
        assert_eq!(at(70), None, "it is being ended already");
        assert!(matches!(flight.expiry_error(Expiry::Buffers), ProxyError::Overload));
    }

    #[test]
    fn a_new_attempt_forgets_the_expiry_of_the_last_but_not_of_the_request() {
        let flight = flight(true);
        flight.arm(&Timeouts { request: Some(10 * SECOND), backend_request: Some(SECOND), ..unlimited() });
        flight.arm_attempt(Some(SECOND));
        flight.check(Instant::now() + 2 * SECOND);
        assert_eq!(flight.expired(), Some(Expiry::Attempt));
        flight.arm_attempt(Some(SECOND));
        assert_eq!(flight.expired(), None);
        flight.check(Instant::now() + 20 * SECOND);
        flight.arm_attempt(Some(SECOND));
        assert_eq!(flight.expired(), Some(Expiry::Request));
    }
}
