//! One client's connection: which protocol it speaks, what the worker's tick sees of it, and what it is told.

use std::{
    cell::{Cell, RefCell},
    future::{Future, poll_fn},
    net::SocketAddr,
    pin::pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use http::{header::SERVER, response};
use tokio::{net::TcpStream, time::Instant};

use crate::telemetry::HandshakeResult;

use super::{
    admission::Admission,
    budget::Account,
    config::Limits,
    down::{http1, http2},
    io::{Activity, ClientIo},
    slots::SlotKey,
    timing::{ClientTimeout, ConnectionSample, Protocol, Stall, Timing},
    tls::{self, TlsPeer},
    tls_records::RecordSocket,
    worker::Worker,
};

/// A client's connection as the worker's tick and the drain see it.
#[derive(Debug)]
pub(super) struct Conn {
    activity: Activity,
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
}

/// What the connection's task is told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    /// End after the requests that are in flight.
    Finish,
    /// Give the buffers back until the next request comes.
    Rest,
    /// Say that the head took too long, and end.
    HeadTimeout,
    /// End at once.
    Abort,
}

/// Where a connection came in.
#[derive(Debug)]
pub(super) struct Peer {
    /// The address in the snapshot that it was accepted for.
    pub(super) bind: SocketAddr,
    /// The client's address.
    pub(super) remote: SocketAddr,
    /// The address it connected to.
    pub(super) local: SocketAddr,
    /// What TLS says of it, once the handshake is done; `None` without TLS.
    pub(super) tls: Option<TlsPeer>,
    /// Counts the connection until whatever uses its socket has ended.
    pub(super) _admission: Admission,
}

/// Everything a request needs to know about its connection.
#[derive(Debug)]
pub(super) struct ConnContext {
    pub(super) worker: Rc<Worker>,
    pub(super) conn: Rc<Conn>,
    pub(super) peer: Peer,
}

/// The end of a request has to be read off the connection, after its answer.
#[must_use]
pub(super) struct Busy(Rc<Conn>);

/// Keeps a connection registered with its worker.
struct Registered {
    worker: Rc<Worker>,
    slot: SlotKey,
}

/// Serves a connection until it ends.
pub(super) async fn serve(worker: Rc<Worker>, stream: TcpStream, mut peer: Peer) {
    let conn = Rc::new(Conn::new());
    let _registered = Registered::new(&worker, &conn);
    let (io, protocol) = if tls::termination(&worker, peer.bind).is_some() {
        // Boxed: the state of a handshake is large, and connections without TLS would carry the room for it all their life.
        let Some(accepted) = Box::pin(handshake(&worker, &conn, peer.bind, stream)).await else { return };
        peer.tls = Some(accepted.tls);
        (ClientIo::tls(accepted.stream, conn.activity.clone()), Some(accepted.protocol))
    } else {
        (ClientIo::plain(stream, conn.activity.clone()), None)
    };
    let context = Rc::new(ConnContext { worker, conn, peer });
    let io = match protocol {
        Some(Protocol::Http2) => Some(io),
        Some(Protocol::Http1) => {
            context.conn.speaks(Protocol::Http1);
            http1::serve(io, http1::Beginning::Http1, Rc::clone(&context)).await
        }
        None => http1::serve(io, http1::Beginning::Unknown, Rc::clone(&context)).await,
    };
    if let Some(io) = io {
        Box::pin(http2::serve(io, context)).await;
    }
}

/// Shakes hands within the time for the first byte. `None`: no connection came of it; what became of it is counted.
async fn handshake(worker: &Rc<Worker>, conn: &Conn, bind: SocketAddr, stream: TcpStream) -> Option<tls::Accepted> {
    let socket = RecordSocket::new(stream, conn.activity.clone(), Account::at_rest(&worker.budget));
    let accepted = conn.told_or(async { Some(tls::accept(worker, bind, socket).await) }).await;
    let result = match &accepted {
        Some(Ok(_)) => HandshakeResult::Ok,
        Some(Err(reason)) => *reason,
        None if worker.is_draining() => HandshakeResult::Closed,
        None => HandshakeResult::TimedOut,
    };
    worker.metrics.tls_handshake(result);
    accepted?.ok()
}

// === impl ConnContext ===

impl ConnContext {
    /// Puts the `server` header of the connection's port on an answer that no plan was made for.
    pub(super) fn identify(&self, parts: &mut response::Parts) {
        let mut cached = self.worker.snapshot.borrow_mut();
        if let Some(bind) = cached.get().value.binds.get(&self.peer.bind) {
            parts.headers.insert(SERVER, bind.profile.server_header.clone());
        }
    }
}

// === impl Conn ===

impl Conn {
    pub(super) fn new() -> Self {
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
        }
    }

    pub(super) fn request_began(&self) {
        self.requests.set(self.requests.get() + 1);
    }

    pub(super) fn request_ended(&self) {
        self.requests.set(self.requests.get().saturating_sub(1));
        self.served.set(self.served.get().wrapping_add(1));
    }

    /// Counts as a request until it is dropped, for what belongs to none: the tick takes what comes meanwhile for no new head.
    pub(super) fn busy(self: &Rc<Self>) -> Busy {
        self.request_began();
        Busy(Rc::clone(self))
    }

    /// What the client speaks has turned out.
    pub(super) fn speaks(&self, protocol: Protocol) {
        self.protocol.set(Some(protocol));
    }

    /// Of HTTP/2, whose heads are not read here: whether one, or any frame, has begun and not ended.
    pub(super) fn set_within_head(&self, within: bool) {
        self.within_head.set(within);
    }

    /// Whether the client speaks HTTP/2, where it can be told at any time to come back elsewhere.
    pub(super) fn is_http2(&self) -> bool {
        self.protocol.get() == Some(Protocol::Http2)
    }

    /// Wakes a task once the client has read something of what waits for it.
    pub(super) fn wake_when_read(&self, waker: &Waker) {
        self.activity.wake_when_read(waker);
    }

    /// Whether the client's side is full, so that something waits to be written.
    pub(super) fn is_stalled(&self) -> bool {
        self.activity.is_stalled()
    }

    /// Bytes that TLS keeps for a client that has no request in flight, until more have come.
    pub(super) fn unread_at_rest(&self) -> usize {
        if self.requests.get() == 0 { self.activity.unread() } else { 0 }
    }

    /// Looks whether the connection has been quiet, or has not been read, for too long.
    pub(super) fn check(&self, now: Instant, limits: &Limits) {
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
    pub(super) fn tell(&self, signal: Signal) {
        if signal == Signal::Finish && self.finishing.get().is_none() {
            self.finishing.set(Some(Instant::now()));
        }
        if self.signal.get() != Some(Signal::Abort) {
            self.signal.set(Some(signal));
        }
        self.wake();
    }

    /// Wakes the connection's task.
    pub(super) fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    /// The signal that has not been acted on; remembers whom to wake for the next.
    pub(super) fn signal(&self, cx: &Context<'_>) -> Option<Signal> {
        let mut waker = self.waker.borrow_mut();
        match &mut *waker {
            Some(waker) => waker.clone_from(cx.waker()),
            None => *waker = Some(cx.waker().clone()),
        }
        self.signal.take()
    }

    /// Runs a future until it is done or any signal arrives.
    pub(super) async fn told_or<T>(&self, future: impl Future<Output = Option<T>>) -> Option<T> {
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

// === impl Registered ===

impl Registered {
    fn new(worker: &Rc<Worker>, conn: &Rc<Conn>) -> Self {
        Self { worker: Rc::clone(worker), slot: worker.conns.insert(Rc::clone(conn)) }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.worker.conns.remove(self.slot);
        self.worker.something_ended();
    }
}
