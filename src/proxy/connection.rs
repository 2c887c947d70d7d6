//! One client's connection: which protocol it speaks, and hyper's state machine for it.

use std::{
    cell::{Cell, RefCell},
    convert::Infallible,
    future::{Future, poll_fn},
    net::SocketAddr,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, Waker},
};

use hyper::{
    rt::Executor,
    server::conn::{http1, http2},
    service::service_fn,
};
use tokio::{net::TcpStream, time::Instant};

use crate::telemetry::HandshakeResult;

use super::{
    config::{Limits, ProxyConfig},
    io::{Activity, ClientIo},
    request,
    slots::SlotKey,
    timing::{Lapse, Protocol, Sight, Timing},
    tls::{self, TlsPeer},
    worker::Worker,
};

/// The 24 bytes that an HTTP/2 client with prior knowledge begins with (RFC 9113 section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What a client that never finishes its request head is told before the connection ends.
const HEAD_TIMEOUT: &[u8] = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// A client's connection as the worker's tick and the drain see it.
#[derive(Debug)]
pub(super) struct Conn {
    activity: Activity,
    protocol: Cell<Option<Protocol>>,
    requests: Cell<u32>,
    uploads: Cell<u32>,
    served: Cell<u32>,
    timing: Cell<Timing>,
    signal: Cell<Option<Signal>>,
    /// The count of served requests after which it was last told to rest.
    rested_after: Cell<Option<u32>>,
    waker: RefCell<Option<Waker>>,
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
}

/// Everything a request needs to know about its connection.
#[derive(Debug)]
pub(super) struct ConnContext {
    pub(super) worker: Rc<Worker>,
    pub(super) conn: Rc<Conn>,
    pub(super) peer: Peer,
}

/// Keeps a connection registered with its worker.
struct Registered {
    worker: Rc<Worker>,
    slot: SlotKey,
}

/// How a connection's future ended.
enum End {
    Done(hyper::Result<()>),
    Told(Signal),
}

/// Serves a connection until it ends.
pub(super) async fn serve(worker: Rc<Worker>, stream: TcpStream, mut peer: Peer) {
    let conn = Rc::new(Conn::new());
    let _registered = Registered::new(&worker, &conn);
    let (io, protocol) = if tls::termination(&worker, peer.bind).is_some() {
        // Boxed: the state of a handshake is large, and connections without TLS would carry the room for it all their life.
        let Some(accepted) = Box::pin(handshake(&worker, &conn, peer.bind, stream)).await else { return };
        peer.tls = Some(accepted.tls);
        (ClientIo::tls(accepted.stream, conn.activity.clone()), accepted.protocol)
    } else {
        let Some(protocol) = conn.told_or(protocol_of(&stream)).await else { return };
        (ClientIo::plain(stream, conn.activity.clone()), protocol)
    };
    conn.protocol.set(Some(protocol));
    let context = Rc::new(ConnContext { worker, conn, peer });
    match protocol {
        Protocol::Http1 => serve_http1(io, context).await,
        Protocol::Http2 => Box::pin(serve_http2(io, context)).await,
    }
}

/// Shakes hands within the time for the first byte. `None`: no connection came of it; what became of it is counted.
async fn handshake(worker: &Rc<Worker>, conn: &Conn, bind: SocketAddr, stream: TcpStream) -> Option<tls::Accepted> {
    let accepted = conn.told_or(async { Some(tls::accept(worker, bind, stream).await) }).await;
    let result = match &accepted {
        Some(Ok(_)) => HandshakeResult::Ok,
        Some(Err(reason)) => *reason,
        None if worker.is_leaving() => HandshakeResult::Closed,
        None => HandshakeResult::TimedOut,
    };
    worker.metrics.tls_handshake(result);
    accepted?.ok()
}

/// Looks at the first bytes without taking them. `None`: the client went away.
async fn protocol_of(stream: &TcpStream) -> Option<Protocol> {
    let mut seen = [0; PREFACE.len()];
    loop {
        let length = stream.peek(&mut seen).await.ok().filter(|length| *length > 0)?;
        match (seen.get(..length), PREFACE.get(..length)) {
            (Some(seen), Some(preface)) if seen == preface => {}
            _ => return Some(Protocol::Http1),
        }
        if length == PREFACE.len() {
            return Some(Protocol::Http2);
        }
        // The bytes stay readable while we peek, so the socket cannot wake us for the rest.
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

/// hyper's state and buffers live only while the client has something to say: most connections of a gateway are idle.
async fn serve_http1(mut io: ClientIo, context: Rc<ConnContext>) {
    loop {
        // Boxed: else the room for it would stay with the resting connection.
        let Some(resting) = Box::pin(converse_http1(io, &context)).await else { return };
        context.worker.metrics.connection_rests();
        let woken = context.conn.told_or(async { resting.readable().await.ok() }).await;
        context.worker.metrics.connection_wakes();
        if woken.is_none() {
            return;
        }
        io = resting;
    }
}

/// Serves until the connection ends, or until it rests: then the socket comes back.
async fn converse_http1(io: ClientIo, context: &Rc<ConnContext>) -> Option<ClientIo> {
    let conn = &context.conn;
    let config = &context.worker.config;
    let mut builder = http1::Builder::new();
    builder.max_header_size(config.limits.head_bytes).max_buf_size(config.buffer_bytes);
    let mut hyper = builder.serve_connection(io, service_fn(|request| serve_request(context, request))).with_upgrades();
    let end = poll_fn(|cx| {
        match conn.signal(cx) {
            Some(Signal::Finish) => Pin::new(&mut hyper).graceful_shutdown(),
            // What waits to be written would be lost with hyper's buffers.
            Some(Signal::Rest) if conn.activity.is_stalled() => {}
            Some(signal @ (Signal::Rest | Signal::HeadTimeout | Signal::Abort)) => return Poll::Ready(End::Told(signal)),
            None => {}
        }
        Pin::new(&mut hyper).poll(cx).map(End::Done)
    })
    .await;
    match end {
        End::Told(Signal::Rest) => hyper.into_parts().map(|parts| parts.io.with_ahead(parts.read_buf)),
        End::Told(Signal::HeadTimeout) => {
            // The connection ends either way; a client that does not read it loses nothing.
            let _ = hyper.into_parts()?.io.write_now(HEAD_TIMEOUT);
            None
        }
        End::Told(Signal::Finish | Signal::Abort) => None,
        End::Done(result) => {
            log_end(result);
            None
        }
    }
}

async fn serve_http2(io: ClientIo, context: Rc<ConnContext>) {
    let conn = Rc::clone(&context.conn);
    let builder = http2_builder(&context.worker);
    let mut hyper = pin!(builder.serve_connection(io, service_fn(move |request| serve_request(&context, request))));
    let end = poll_fn(|cx| {
        match conn.signal(cx) {
            Some(Signal::Finish) => hyper.as_mut().graceful_shutdown(),
            Some(Signal::Rest) => {}
            Some(signal @ (Signal::HeadTimeout | Signal::Abort)) => return Poll::Ready(End::Told(signal)),
            None => {}
        }
        hyper.as_mut().poll(cx).map(End::Done)
    })
    .await;
    if let End::Done(result) = end {
        log_end(result);
    }
}

fn http2_builder(worker: &Rc<Worker>) -> http2::Builder<TaskSpawner> {
    let ProxyConfig { limits, buffer_bytes, .. } = &*worker.config;
    let mut builder = http2::Builder::new(TaskSpawner(Rc::clone(worker)));
    builder
        .max_concurrent_streams(limits.http2_streams)
        .initial_stream_window_size(limits.http2_stream_window)
        .initial_connection_window_size(limits.http2_connection_window)
        .max_header_list_size(u32::try_from(limits.head_bytes).unwrap_or(u32::MAX))
        .max_send_buf_size((*buffer_bytes).min(64 * 1024));
    builder
}

fn serve_request(
    context: &Rc<ConnContext>,
    request: http::Request<hyper::body::Incoming>,
) -> impl Future<Output = Result<http::Response<super::body::ResponseBody>, Infallible>> + use<> {
    let context = Rc::clone(context);
    async move { Ok(request::serve(&context, request).await) }
}

/// A connection that ends in an error is the client's doing or a broken answer that was counted already.
fn log_end(result: hyper::Result<()>) {
    if let Err(error) = result {
        tracing::debug!(%error, "a client's connection ended");
    }
}

/// Spawns hyper's HTTP/2 tasks on the worker's own thread.
#[derive(Clone, Debug)]
struct TaskSpawner(Rc<Worker>);

impl<F: Future<Output = ()> + 'static> Executor<F> for TaskSpawner {
    fn execute(&self, task: F) {
        self.0.spawn(task);
    }
}

// === impl Conn ===

impl Conn {
    pub(super) fn new() -> Self {
        Self {
            activity: Activity::default(),
            protocol: Cell::new(None),
            requests: Cell::new(0),
            uploads: Cell::new(0),
            served: Cell::new(0),
            timing: Cell::new(Timing::new(Instant::now())),
            signal: Cell::new(None),
            rested_after: Cell::new(None),
            waker: RefCell::new(None),
        }
    }

    pub(super) fn request_began(&self) {
        self.requests.set(self.requests.get() + 1);
    }

    pub(super) fn request_ended(&self) {
        self.requests.set(self.requests.get().saturating_sub(1));
        self.served.set(self.served.get().wrapping_add(1));
    }

    pub(super) fn upload_began(&self) {
        self.uploads.set(self.uploads.get() + 1);
    }

    pub(super) fn upload_ended(&self) {
        self.uploads.set(self.uploads.get().saturating_sub(1));
    }

    /// Whether the client speaks HTTP/2, where it can be told at any time to come back elsewhere.
    pub(super) fn is_http2(&self) -> bool {
        self.protocol.get() == Some(Protocol::Http2)
    }

    /// Whether the client speaks HTTP/1, where one stuck response holds the whole connection.
    pub(super) fn is_http1(&self) -> bool {
        self.protocol.get() == Some(Protocol::Http1)
    }

    /// Looks whether the connection has been quiet for too long.
    pub(super) fn check(&self, now: Instant, limits: &Limits) {
        let sight = Sight {
            protocol: self.protocol.get(),
            requests: self.requests.get(),
            uploads: self.uploads.get(),
            served: self.served.get(),
            reads: self.activity.reads(),
        };
        let mut timing = self.timing.get();
        let lapse = timing.look(sight, now, limits);
        self.timing.set(timing);
        match lapse {
            None => {
                // Once after a request. Whatever else it was told goes before.
                if timing.may_rest(sight, now, limits) && self.signal.get().is_none() && self.rested_after.get() != Some(sight.served) {
                    self.rested_after.set(Some(sight.served));
                    self.tell(Signal::Rest);
                }
            }
            Some(Lapse::Head) => self.tell(Signal::HeadTimeout),
            Some(Lapse::KeepAlive) => self.tell(Signal::Finish),
            Some(Lapse::FirstByte | Lapse::Upload) => self.tell(Signal::Abort),
        }
    }

    /// Tells the connection's task what to do.
    pub(super) fn tell(&self, signal: Signal) {
        self.signal.set(Some(signal));
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    /// The signal that has not been acted on; remembers whom to wake for the next.
    fn signal(&self, cx: &Context<'_>) -> Option<Signal> {
        let mut waker = self.waker.borrow_mut();
        match &mut *waker {
            Some(waker) => waker.clone_from(cx.waker()),
            None => *waker = Some(cx.waker().clone()),
        }
        self.signal.take()
    }

    /// Runs a future until it is done or any signal arrives.
    async fn told_or<T>(&self, future: impl Future<Output = Option<T>>) -> Option<T> {
        let mut future = pin!(future);
        poll_fn(|cx| match self.signal(cx) {
            Some(_) => Poll::Ready(None),
            None => future.as_mut().poll(cx),
        })
        .await
    }
}

// === impl Registered ===

impl Registered {
    fn new(worker: &Rc<Worker>, conn: &Rc<Conn>) -> Self {
        worker.metrics.connection_opened();
        Self { worker: Rc::clone(worker), slot: worker.conns.insert(Rc::clone(conn)) }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.worker.conns.remove(self.slot);
        self.worker.metrics.connection_closed();
        self.worker.something_ended();
    }
}
