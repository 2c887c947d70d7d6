//! What the worker's tick and the drain see of a client's connection, and what its task is told.

use std::{
    cell::{Cell, RefCell},
    future::{Future, poll_fn},
    pin::pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use tokio::time::Instant;

use crate::proxy::wire::opening::Ends;

use super::{
    activity::Activity,
    config::Limits,
    timing::{ClientTimeout, ConnectionSample, Protocol, Stall, Timing},
};

/// A client's connection as the worker's tick and the drain see it.
#[derive(Debug)]
pub(in crate::proxy) struct Conn {
    pub(in crate::proxy) activity: Activity,
    protocol: Cell<Option<Protocol>>,
    requests: Cell<u32>,
    served: Cell<u32>,
    timing: Cell<Timing>,
    stall: Cell<Stall>,
    signal: Cell<Option<Signal>>,
    /// When it was first told to finish.
    finishing: Cell<Option<Instant>>,
    /// The count of served requests after which it was last told to rest.
    rested_after: Cell<Option<u32>>,
    waker: RefCell<Option<Waker>>,
    /// HTTP/2: a frame or a header block has begun and not ended.
    within_head: Cell<bool>,
    /// Who is at its ends, for hosts that want to be told.
    ends: Cell<Option<Ends>>,
}

/// What the connection's task is told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) enum Signal {
    /// End after the requests that are in flight.
    Finish,
    /// Give the buffers back until the next request comes.
    Rest,
    /// Say that the head took too long, and end.
    HeadTimeout,
    /// End at once.
    Abort,
}

/// The end of a request has to be read off the connection, after its answer.
#[must_use]
pub(in crate::proxy) struct Busy(Rc<Conn>);

// === impl Conn ===

impl Conn {
    pub(in crate::proxy) fn new() -> Self {
        Self {
            activity: Activity::default(),
            protocol: Cell::new(None),
            requests: Cell::new(0),
            served: Cell::new(0),
            timing: Cell::new(Timing::new(Instant::now())),
            stall: Cell::default(),
            signal: Cell::new(None),
            finishing: Cell::new(None),
            rested_after: Cell::new(None),
            waker: RefCell::new(None),
            within_head: Cell::new(false),
            ends: Cell::new(None),
        }
    }

    /// Who is at its ends has turned out.
    pub(in crate::proxy) fn set_ends(&self, ends: Ends) {
        self.ends.set(Some(ends));
    }

    /// Who is at its ends; `None`: nobody, it is no client's.
    pub(in crate::proxy) fn ends(&self) -> Option<Ends> {
        self.ends.get()
    }

    pub(in crate::proxy) fn request_began(&self) {
        self.requests.set(self.requests.get() + 1);
    }

    pub(in crate::proxy) fn request_ended(&self) {
        self.requests.set(self.requests.get().saturating_sub(1));
        self.served.set(self.served.get().wrapping_add(1));
    }

    /// Counts as a request until it is dropped, for what belongs to none: the tick takes what comes meanwhile for no new head.
    pub(in crate::proxy) fn busy(self: &Rc<Self>) -> Busy {
        self.request_began();
        Busy(Rc::clone(self))
    }

    /// What the client speaks has turned out.
    pub(in crate::proxy) fn speaks(&self, protocol: Protocol) {
        self.protocol.set(Some(protocol));
    }

    /// Of HTTP/2, whose heads are not read here: whether one, or any frame, has begun and not ended.
    pub(in crate::proxy) fn set_within_head(&self, within: bool) {
        self.within_head.set(within);
    }

    /// Whether the client speaks HTTP/2, where it can be told at any time to come back elsewhere.
    pub(in crate::proxy) fn is_http2(&self) -> bool {
        self.protocol.get() == Some(Protocol::Http2)
    }

    /// Wakes a task once the client has read something of what waits for it.
    pub(in crate::proxy) fn wake_when_read(&self, waker: &Waker) {
        self.activity.wake_when_read(waker);
    }

    /// Whether the client's side is full, so that something waits to be written.
    pub(in crate::proxy) fn is_stalled(&self) -> bool {
        self.activity.is_stalled()
    }

    /// Bytes that TLS keeps for a client that has no request in flight, until more have come.
    pub(in crate::proxy) fn unread_at_rest(&self) -> usize {
        if self.requests.get() == 0 { self.activity.unread() } else { 0 }
    }

    /// Looks whether the connection has been quiet, or has not been read, for too long.
    pub(in crate::proxy) fn check(&self, now: Instant, limits: &Limits) {
        let sample = ConnectionSample {
            protocol: self.protocol.get(),
            requests: self.requests.get(),
            served: self.served.get(),
            reads: self.activity.reads(),
            within_head: self.within_head.get() || self.activity.unread() > 0,
        };
        let mut timing = self.timing.get();
        let timeout = timing.look(sample, now, limits);
        self.timing.set(timing);
        let mut stall = self.stall.get();
        if stall.look(self.activity.is_stalled(), self.activity.writes(), now, limits.write_stall) {
            self.tell(Signal::Abort);
        }
        self.stall.set(stall);
        // An HTTP/2 client has to answer before its connection ends in order.
        let took_leave = self.finishing.get().is_some_and(|since| now.duration_since(since) >= limits.farewell);
        if took_leave && sample.requests == 0 {
            self.tell(Signal::Abort);
        }
        match timeout {
            None => {
                // Once after a request. Whatever else it was told goes before.
                if timing.may_rest(sample, now, limits) && self.signal.get().is_none() && self.rested_after.get() != Some(sample.served) {
                    self.rested_after.set(Some(sample.served));
                    self.tell(Signal::Rest);
                }
            }
            Some(ClientTimeout::Head) => self.tell(Signal::HeadTimeout),
            Some(ClientTimeout::KeepAlive) => self.tell(Signal::Finish),
            Some(ClientTimeout::FirstByte) => self.tell(Signal::Abort),
        }
    }

    /// Tells the connection's task what to do.
    pub(in crate::proxy) fn tell(&self, signal: Signal) {
        if signal == Signal::Finish && self.finishing.get().is_none() {
            self.finishing.set(Some(Instant::now()));
        }
        if self.signal.get() != Some(Signal::Abort) {
            self.signal.set(Some(signal));
        }
        self.wake();
    }

    /// Wakes the connection's task.
    pub(in crate::proxy) fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    /// The signal that has not been acted on; remembers whom to wake for the next.
    pub(in crate::proxy) fn signal(&self, cx: &Context<'_>) -> Option<Signal> {
        let mut waker = self.waker.borrow_mut();
        match &mut *waker {
            Some(waker) => waker.clone_from(cx.waker()),
            None => *waker = Some(cx.waker().clone()),
        }
        self.signal.take()
    }

    /// Runs a future until it is done or any signal arrives.
    pub(in crate::proxy) async fn told_or<T>(&self, future: impl Future<Output = Option<T>>) -> Option<T> {
        let mut future = pin!(future);
        poll_fn(|cx| match self.signal(cx) {
            Some(_) => Poll::Ready(None),
            None => future.as_mut().poll(cx),
        })
        .await
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.request_ended();
    }
}
