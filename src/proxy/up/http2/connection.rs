//! A connection to a host that carries many requests at once: who may open a stream on it, and what becomes of it.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    io,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use h2::client::SendRequest;
use tokio::time::Instant;

use crate::{
    proxy::state::{
        breaker::Opened,
        config::{Http2Ping, Limits},
        tls_fault::TlsFault,
    },
    snapshot::HostTls,
    telemetry::{Http2End, WorkerMetrics},
};

use super::conduct::Conduct;

/// Most streams of a connection, whatever the host allows (Envoy: `Http2ProtocolOptions.max_concurrent_streams`, which is 1024 for hosts).
pub(super) const MOST_STREAMS: u32 = 1024;

/// Streams that a host is expected to take until it says how many: the least that RFC 9113 section 6.5.2 recommends.
const EXPECTED_STREAMS: u32 = 100;

/// A connection to a host. The pool, the requests on it and its task share it.
#[derive(Debug)]
pub(in crate::proxy) struct Connection {
    pub(super) conduct: Conduct,
    state: Cell<State>,
    failure: Cell<Option<Failure>>,
    /// Opens streams; gone once no more may be opened.
    sender: RefCell<Option<SendRequest<Bytes>>>,
    /// Counts it among the connections of its cluster while its socket is open.
    opened: RefCell<Option<Rc<Opened>>>,
    metrics: Arc<WorkerMetrics>,
    /// What it is made with; `None`: TLS is not spoken.
    tls: Option<HostTls>,
    /// Requests after which no more are taken.
    most_requests: Option<u32>,
    /// Streams that it may have at once.
    most: Cell<u32>,
    streams: Cell<u32>,
    /// Requests that it has been given.
    taken: Cell<u32>,
    /// Requests that wait until it is open.
    joined: Cell<u32>,
    /// Since when it has no streams, and it may be longer since it had any.
    idle_since: Cell<Instant>,
    /// The host does not take what is written.
    full: Cell<bool>,
    writes: Cell<u32>,
    /// What the last look at the clock has seen: `writes`, and since when.
    stood: Cell<Option<(u32, Instant)>>,
    silent: Cell<Option<Silence>>,
    /// The host is to be asked whether it is there.
    ping: Cell<bool>,
    /// The host takes too long: it does not read, answer or close.
    given_up: Cell<bool>,
    task: RefCell<Option<Waker>>,
    joining: RefCell<Vec<Waker>>,
    writing: RefCell<Vec<Waker>>,
}

/// A host that sends nothing.
#[derive(Clone, Copy, Debug)]
struct Silence {
    /// Frames that had come.
    frames: u32,
    since: Instant,
    /// When it was asked whether it is there.
    asked: Option<Instant>,
}

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It is being made, or the host has not sent its SETTINGS yet.
    Connecting,
    /// It takes streams.
    Open,
    /// It takes no more; those that are on it go on.
    Leaving,
    /// It has ended.
    Gone,
}

/// Why a connection has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) enum Failure {
    /// It could not be made: the system's error.
    Connect(io::ErrorKind, Option<i32>),
    /// It could not be made, or the host did not send its SETTINGS, in time.
    TimedOut,
    /// TLS could not be agreed on.
    Tls(TlsFault),
    /// No file descriptor was left for it.
    NoDescriptor,
    /// The host is part of its cluster no more.
    NoHost,
    /// What the host sent is not valid HTTP/2; what is wrong with it.
    Invalid(&'static str),
    /// It was closed, or it broke.
    Closed(io::ErrorKind),
}

/// A request that waits until a connection is open.
struct Joined<'a>(&'a Connection);

// === impl Connection ===

impl Connection {
    /// What it is made with; `None`: TLS is not spoken.
    pub(in crate::proxy) fn tls(&self) -> Option<&HostTls> {
        self.tls.as_ref()
    }

    /// A connection that is being made. `expected`: streams that another connection to the host may have at once.
    pub(in crate::proxy) fn new(
        opened: Opened,
        metrics: Arc<WorkerMetrics>,
        tls: Option<HostTls>,
        most_requests: Option<u32>,
        expected: Option<u32>,
    ) -> Rc<Self> {
        Rc::new(Self {
            conduct: Conduct::new(),
            state: Cell::new(State::Connecting),
            failure: Cell::new(None),
            sender: RefCell::default(),
            opened: RefCell::new(Some(Rc::new(opened))),
            metrics,
            tls,
            most_requests,
            most: Cell::new(expected.unwrap_or(EXPECTED_STREAMS).max(1)),
            streams: Cell::new(0),
            taken: Cell::new(0),
            joined: Cell::new(0),
            idle_since: Cell::new(Instant::now()),
            full: Cell::new(false),
            writes: Cell::new(0),
            stood: Cell::new(None),
            silent: Cell::new(None),
            ping: Cell::new(false),
            given_up: Cell::new(false),
            task: RefCell::default(),
            joining: RefCell::default(),
            writing: RefCell::default(),
        })
    }

    /// Counts one more stream, if there may be one: what opens it, and whether the connection has carried a request before.
    pub(super) fn take_stream(&self) -> Option<(SendRequest<Bytes>, bool)> {
        let takes_streams = self.state.get() == State::Open && !self.conduct.is_leaving() && self.must_end().is_none();
        if !takes_streams || self.streams.get() >= self.most.get() {
            return None;
        }
        let sender = self.sender.borrow().clone()?;
        let before = self.taken.replace(self.taken.get().saturating_add(1));
        if self.streams.replace(self.streams.get() + 1) == 0 {
            self.metrics.upstream_active();
        }
        if self.most_requests.is_some_and(|most| self.taken.get() >= most) {
            self.leave();
        }
        Some((sender, before > 0))
    }

    /// Whether a request may wait until the connection is open.
    pub(in crate::proxy) fn may_join(&self) -> bool {
        self.state.get() == State::Connecting && self.joined.get() < self.most.get()
    }

    /// Waits until the connection takes streams.
    ///
    /// # Errors
    /// It could not be made.
    pub(in crate::proxy) async fn ready(&self) -> Result<(), Failure> {
        let _joined = Joined::new(self);
        poll_fn(|cx| match (self.state.get(), self.failure.get()) {
            (State::Connecting, _) => {
                remember(&self.joining, cx);
                Poll::Pending
            }
            (State::Gone, Some(failure)) => Poll::Ready(Err(failure)),
            (State::Open | State::Leaving | State::Gone, _) => Poll::Ready(Ok(())),
        })
        .await
    }

    /// Streams that the host lets the connection have at once; `None`: it has not said so yet, or takes no more.
    pub(in crate::proxy) fn streams_allowed(&self) -> Option<u32> {
        (self.state.get() == State::Open).then(|| self.most.get())
    }

    /// Since when the connection has no streams, if it has none and takes some.
    pub(in crate::proxy) fn idle_since(&self) -> Option<Instant> {
        (self.state.get() == State::Open && self.streams.get() == 0).then(|| self.idle_since.get())
    }

    /// Whether it has ended.
    pub(in crate::proxy) fn is_gone(&self) -> bool {
        self.state.get() == State::Gone
    }

    /// Takes no more streams, and ends after those that are on it.
    pub(in crate::proxy) fn leave(&self) {
        if matches!(self.state.get(), State::Leaving | State::Gone) {
            return;
        }
        let was_open = self.state.replace(State::Leaving) == State::Open;
        if self.streams.get() == 0 {
            self.idle_since.set(Instant::now());
            if was_open {
                // There may be another in its place at once.
                self.opened.take();
            }
        }
        // The library says farewell and closes once nobody can open a stream and none is left.
        self.sender.take();
        wake_all(&self.joining);
        self.wake();
    }

    /// The connection has ended.
    pub(in crate::proxy) fn fail(&self, failure: Failure) {
        let before = self.state.replace(State::Gone);
        if before == State::Gone {
            return;
        }
        self.metrics.http2_end(match failure {
            Failure::Invalid(_) => Http2End::ProtocolError,
            _ if self.conduct.is_leaving() => Http2End::GoAway,
            _ if before == State::Leaving => Http2End::Left,
            Failure::Closed(_) => Http2End::Closed,
            Failure::Connect(..) | Failure::TimedOut | Failure::Tls(_) | Failure::NoDescriptor | Failure::NoHost => Http2End::NotMade,
        });
        self.failure.set(Some(failure));
        self.sender.take();
        self.opened.take();
        wake_all(&self.joining);
        wake_all(&self.writing);
    }

    /// Why it has ended, if it has.
    pub(super) fn failure(&self) -> Option<Failure> {
        self.failure.get()
    }

    /// The preface is on its way, and streams can be opened with this once the host has answered it.
    pub(super) fn greeted(&self, sender: SendRequest<Bytes>) {
        if self.state.get() == State::Connecting {
            *self.sender.borrow_mut() = Some(sender);
        }
    }

    /// Whether the host has not sent its SETTINGS yet.
    pub(super) fn is_connecting(&self) -> bool {
        self.state.get() == State::Connecting
    }

    /// Follows what came in: SETTINGS that allow so many streams, or a farewell.
    pub(super) fn follow(&self, streams_allowed: impl FnOnce() -> usize) {
        if self.conduct.take_settings() {
            let most = u32::try_from(streams_allowed()).unwrap_or(u32::MAX).min(MOST_STREAMS);
            let before = self.most.replace(most);
            match self.state.get() {
                State::Connecting => {
                    self.state.set(State::Open);
                    self.idle_since.set(Instant::now());
                    wake_all(&self.joining);
                }
                State::Open => self.call(most.saturating_sub(before)),
                State::Leaving | State::Gone => {}
            }
        }
        if self.conduct.is_leaving() {
            self.leave();
        }
    }

    /// Looks at the clock: a host that stops within a frame or does not read, and a farewell that does not end, are given up.
    pub(in crate::proxy) fn check(&self, now: Instant, limits: &Limits, ping: Option<Http2Ping>) {
        if let Some(ping) = ping {
            self.check_silence(now, ping);
        }
        self.conduct.check(now, limits.request_head);
        let writes = self.writes.get();
        match self.stood.get() {
            _ if !self.full.get() => self.stood.set(None),
            Some((seen, since)) if seen == writes => {
                if now.duration_since(since) >= limits.write_stall {
                    self.given_up.set(true);
                }
            }
            Some(_) | None => self.stood.set(Some((writes, now))),
        }
        let lingers = self.state.get() == State::Leaving && self.streams.get() == 0;
        if lingers && now.duration_since(self.idle_since.get()) >= limits.farewell {
            self.given_up.set(true);
        }
        if self.must_end().is_some() {
            self.wake();
        }
    }

    /// Asks a host that is silent while streams are open, and gives up one that does not answer.
    fn check_silence(&self, now: Instant, ping: Http2Ping) {
        let frames = self.conduct.frames();
        let silent = self.silent.get().filter(|silent| silent.frames == frames && self.streams.get() > 0);
        let mut silent = silent.unwrap_or(Silence { frames, since: now, asked: None });
        match silent.asked {
            None if now.duration_since(silent.since) >= ping.interval => {
                silent.asked = Some(now);
                self.ping.set(true);
                self.wake();
            }
            Some(asked) if now.duration_since(asked) >= ping.timeout => self.given_up.set(true),
            Some(_) | None => {}
        }
        self.silent.set(Some(silent));
    }

    /// Why the connection has to end, if it has to: the host is wrong, or takes too long.
    pub(super) fn must_end(&self) -> Option<Failure> {
        let fault = self.conduct.fault().map(Failure::Invalid);
        fault.or_else(|| self.given_up.get().then_some(Failure::Closed(io::ErrorKind::TimedOut)))
    }

    /// Whether the host is to be asked whether it is there.
    pub(super) fn take_ping(&self) -> bool {
        self.ping.take()
    }

    /// Whether the host does not take what is written at this moment.
    pub(super) fn is_full(&self) -> bool {
        self.full.get()
    }

    /// Wakes a task once the host takes something again.
    pub(super) fn wake_when_written(&self, cx: &Context<'_>) {
        remember(&self.writing, cx);
    }

    /// Whether the last write found no room.
    pub(super) fn set_full(&self, full: bool) {
        let was_full = self.full.replace(full);
        if !full {
            self.writes.set(self.writes.get().wrapping_add(1));
            if was_full {
                wake_all(&self.writing);
            }
        }
    }

    /// Remembers the connection's task.
    pub(super) fn wake_with(&self, cx: &Context<'_>) {
        let mut task = self.task.borrow_mut();
        match &mut *task {
            Some(task) => task.clone_from(cx.waker()),
            None => *task = Some(cx.waker().clone()),
        }
    }

    fn wake(&self) {
        if let Some(task) = &*self.task.borrow() {
            task.wake_by_ref();
        }
    }

    /// So many more streams may be opened: as many of those who wait may have one.
    fn call(&self, streams: u32) {
        let opened = self.opened.borrow().clone();
        if let Some(opened) = opened {
            let _ = (0..streams).take_while(|_| opened.is_free()).count();
        }
    }

    /// A stream has given its place back.
    pub(super) fn stream_ended(&self) {
        self.streams.set(self.streams.get().saturating_sub(1));
        if self.streams.get() == 0 {
            self.metrics.upstream_inactive();
            self.idle_since.set(Instant::now());
        }
        if self.state.get() == State::Open {
            self.call(1);
        }
    }
}

fn remember(wakers: &RefCell<Vec<Waker>>, cx: &Context<'_>) {
    let mut wakers = wakers.borrow_mut();
    if !wakers.iter().any(|other| other.will_wake(cx.waker())) {
        wakers.push(cx.waker().clone());
    }
}

fn wake_all(wakers: &RefCell<Vec<Waker>>) {
    wakers.take().into_iter().for_each(Waker::wake);
}

// === impl Joined ===

impl<'a> Joined<'a> {
    fn new(connection: &'a Connection) -> Self {
        connection.joined.set(connection.joined.get() + 1);
        Self(connection)
    }
}

impl Drop for Joined<'_> {
    fn drop(&mut self) {
        self.0.joined.set(self.0.joined.get().saturating_sub(1));
    }
}
