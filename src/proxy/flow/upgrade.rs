//! Tunnels: after both sides have switched protocols, bytes are copied both ways.

use std::{
    cell::Cell,
    future::{Future, poll_fn},
    io,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf, copy_bidirectional},
    time::{Instant, sleep_until, timeout},
};

use crate::{
    base::head::response,
    proxy::{
        state::{
            budget::Account,
            flight::{Expiry, Flight},
        },
        up::HostSide,
        wire::{
            poll_budget::PollBudget,
            websocket::{CLOSE_TO_CLIENT, CLOSE_TO_HOST, FrameEnds},
        },
        worker::Worker,
    },
    telemetry::{MovedStream, ResponseFlag},
};

use super::guard::FlightGuard;

/// What copying both ways holds: a buffer of tokio's size for each direction.
const BUFFERS: usize = 2 * 8 * 1024;

/// A tunnel that begins when the client has been told so.
#[derive(Debug)]
pub(in crate::proxy) struct Tunnel {
    /// The head that tells it.
    pub(in crate::proxy) parts: response::Parts,
    pub(in crate::proxy) guard: FlightGuard,
    pub(in crate::proxy) host: HostSide,
}

/// Copies between the two connections until both have ended, one has and the other had its time, nothing moves for the idle timeout, or the
/// drain's time is up.
pub(in crate::proxy) async fn run(worker: &Rc<Worker>, tunnel: Tunnel, client: impl AsyncRead + AsyncWrite + Unpin) {
    let Tunnel { guard, host, .. } = tunnel;
    let patience = Some(worker.config.limits.half_closed_tunnel);
    // What has come, or waits to be sent.
    let behind = if host.io.keeps_a_window() { worker.config.limits.http2_stream_window as usize } else { 0 };
    copy(worker, &guard, client, host.io, &host.read, Copying { behind, patience, speaks: Speaks::WebSocket }).await;
}

/// How two connections are copied.
#[derive(Clone, Copy, Debug)]
pub(in crate::proxy) struct Copying {
    /// Bytes that are kept beside the tunnel's own while they do not pass.
    pub(in crate::proxy) behind: usize,
    /// The time of the other side once one has closed; `None`: as long as something moves.
    pub(in crate::proxy) patience: Option<Duration>,
    /// What is known of the bytes.
    pub(in crate::proxy) speaks: Speaks,
}

/// What both sides of a tunnel speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) enum Speaks {
    /// Frames of WebSocket.
    WebSocket,
    /// Anything.
    Bytes,
}

/// Most time to tell both sides of a tunnel to go.
const FAREWELL: Duration = Duration::from_secs(1);

/// The same for any two connections. `read`: what the host has said already.
pub(in crate::proxy) async fn copy<C, H>(worker: &Rc<Worker>, guard: &FlightGuard, client: C, host: H, read: &[u8], how: Copying)
where
    C: AsyncRead + AsyncWrite + Unpin,
    H: AsyncRead + AsyncWrite + Unpin,
{
    let flight = guard.flight();
    flight.arm_tunnel();
    let shared = Rc::new(Shared::new(Account::at_rest(&worker.budget), Account::new(&worker.budget, flight), how.behind));
    // Only who may be told to go has to be told between two frames.
    let frames = (flight.follows() && how.speaks == Speaks::WebSocket).then(FrameEnds::default);
    let mut client = Side::new(client, Direction::Received, flight, &shared, frames);
    let mut host = Side::new(host, Direction::Sent, flight, &shared, frames);
    flight.outcome.sent.set(read.len() as u64);
    let copied = async {
        client.write_all(read).await?;
        copy_bidirectional(&mut client, &mut host).await
    };
    match flight.bound(bounded(worker, copied, &shared, how.patience)).await {
        Ok(Some(Ok(_)) | None) => {}
        // Either side may vanish without a farewell; that is how most tunnels end.
        Ok(Some(Err(error))) => tracing::debug!(%error, "a tunnel ended"),
        Err(expiry) => {
            if expiry == Expiry::Moved {
                guard.record().note_reason("session moved");
                worker.metrics.stream_moved(if how.speaks == Speaks::WebSocket { MovedStream::WebSocket } else { MovedStream::Tcp });
                let farewell = async {
                    client.farewell(&CLOSE_TO_CLIENT).await;
                    host.farewell(&CLOSE_TO_HOST).await;
                };
                let _ = timeout(FAREWELL, farewell).await;
            }
            guard.aborted(flag(expiry));
        }
    }
}

/// Polls the copying until it is done, or one side has closed and the other had its time: `None`.
async fn bounded<T>(worker: &Worker, copied: impl Future<Output = T>, shared: &Shared, patience: Option<Duration>) -> Option<T> {
    let mut copied = pin!(copied);
    let mut sleeping = pin!(None);
    poll_fn(|cx| {
        let polled = copied.as_mut().poll(cx);
        if polled.is_ready() {
            return polled.map(Some);
        }
        if !shared.one_ended.get() {
            return Poll::Pending;
        }
        if worker.is_closing() {
            return Poll::Ready(None);
        }
        let Some(patience) = patience else { return Poll::Pending };
        if sleeping.is_none() {
            sleeping.set(Some(sleep_until(Instant::now() + patience)));
        }
        match sleeping.as_mut().as_pin_mut() {
            Some(sleep) => sleep.poll(cx).map(|()| None),
            None => Poll::Pending,
        }
    })
    .await
}

/// Why a tunnel ended before its time, as it is logged.
fn flag(expiry: Expiry) -> ResponseFlag {
    match expiry {
        Expiry::Request | Expiry::Attempt | Expiry::Idle => ResponseFlag::StreamIdleTimeout,
        Expiry::Buffers => ResponseFlag::Overload,
        Expiry::Moved => ResponseFlag::DurationTimeout,
    }
}

/// What both sides of a tunnel share.
#[derive(Debug)]
struct Shared {
    /// One side has closed.
    one_ended: Cell<bool>,
    /// The client, or the host, does not take what is written to it.
    client_is_full: Cell<bool>,
    host_is_full: Cell<bool>,
    /// Charged while bytes pass.
    passing: Account,
    /// Charged while they do not: then the tunnel can be ended to make room.
    stuck: Account,
    /// Bytes that are kept beside the tunnel's own while they do not pass.
    behind: usize,
}

/// How the bytes that come from a side are counted.
#[derive(Clone, Copy)]
enum Direction {
    Received,
    Sent,
}

/// A side of a tunnel. The bytes that come from it are counted, and keep the flight from being idle.
struct Side<I> {
    io: I,
    direction: Direction,
    flight: Rc<Flight>,
    shared: Rc<Shared>,
    /// What one turn of the tunnel may read: a peer that sends a byte at a time must not keep the worker's others waiting.
    budget: PollBudget,
    /// Where the frames end that were written to it, where that counts.
    frames: Option<FrameEnds>,
}

// === impl Shared ===

impl Shared {
    fn new(passing: Account, stuck: Account, behind: usize) -> Self {
        passing.set(BUFFERS);
        let (client_is_full, host_is_full) = Default::default();
        Self { one_ended: Cell::new(false), client_is_full, host_is_full, passing, stuck, behind }
    }

    /// Something was written to the side that bytes of this direction come from, or could not be.
    fn wrote(&self, from: Direction, is_full: bool) {
        let side = match from {
            Direction::Received => &self.client_is_full,
            Direction::Sent => &self.host_is_full,
        };
        if side.replace(is_full) == is_full {
            return;
        }
        let is_stuck = self.client_is_full.get() || self.host_is_full.get();
        self.passing.set(if is_stuck { 0 } else { BUFFERS });
        self.stuck.set(if is_stuck { BUFFERS + self.behind } else { 0 });
    }
}

// === impl Side ===

impl<I> Side<I> {
    fn new(io: I, direction: Direction, flight: &Rc<Flight>, shared: &Rc<Shared>, frames: Option<FrameEnds>) -> Self {
        Self { io, direction, flight: Rc::clone(flight), shared: Rc::clone(shared), budget: PollBudget::default(), frames }
    }
}

impl<I: AsyncWrite + Unpin> Side<I> {
    /// Says that nothing follows: in the words of WebSocket where that is possible, else by the end of the connection.
    async fn farewell(&mut self, close: &[u8]) {
        // Either side may be gone already.
        if self.frames.is_some_and(|frames| frames.is_between_frames()) {
            let _ = self.io.write_all(close).await;
        }
        let _ = self.io.shutdown().await;
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Side<I> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.budget.is_spent(cx) {
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        let polled = Pin::new(&mut this.io).poll_read(cx, buffer);
        if polled.is_pending() {
            this.budget.reset();
        } else {
            this.flight.touch();
            let length = buffer.filled().len() - before;
            this.budget.spend(length, 1);
            if length == 0 {
                this.shared.one_ended.set(true);
            }
            let outcome = &this.flight.outcome;
            let count = match this.direction {
                Direction::Received => &outcome.received,
                Direction::Sent => &outcome.sent,
            };
            count.set(count.get() + length as u64);
        }
        polled
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Side<I> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.io).poll_write(cx, bytes);
        if let Poll::Ready(written) = &polled {
            this.flight.touch();
            if let (Some(frames), Ok(length)) = (&mut this.frames, written) {
                frames.pass(bytes.get(..*length).unwrap_or_default());
            }
        }
        this.shared.wrote(this.direction, polled.is_pending());
        polled
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.io).poll_flush(cx);
        this.shared.wrote(this.direction, polled.is_pending());
        polled
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use crate::proxy::state::conn::Conn;

    use super::*;

    /// A peer that sends for ever, so many bytes a read.
    struct Endless(usize);

    impl AsyncRead for Endless {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            buffer.put_slice(&vec![0; self.0]);
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn a_tunnel_whose_bytes_do_not_pass_can_be_ended_to_make_room() {
        let flight = Rc::new(Flight::new(Rc::new(Conn::new()), true));
        let budget = crate::proxy::state::budget::unlimited();
        let shared = Shared::new(Account::at_rest(&budget), Account::new(&budget, &flight), 1000);
        for (from, is_full, stuck) in [
            (Direction::Received, false, 0),
            (Direction::Received, true, BUFFERS + 1000),
            (Direction::Sent, true, BUFFERS + 1000),
            (Direction::Received, false, BUFFERS + 1000),
            (Direction::Sent, false, 0),
        ] {
            shared.wrote(from, is_full);
            assert_eq!((flight.buffered.get(), budget.charged()), (stuck, BUFFERS.max(stuck)));
        }
        drop(shared);
        assert_eq!(budget.charged(), 0);
    }

    #[tokio::test]
    async fn a_peer_that_sends_without_end_ends_its_turn() {
        let flight = Rc::new(Flight::new(Rc::new(Conn::new()), true));
        let budget = crate::proxy::state::budget::unlimited();
        let shared = Rc::new(Shared::new(Account::at_rest(&budget), Account::at_rest(&budget), 0));
        for (bytes, at_most) in [(1, 64), (700, 55), (8192, 22)] {
            let mut side = Side::new(Endless(bytes), Direction::Received, &flight, &shared, None);
            let mut reads = 0;
            poll_fn(|cx| {
                let mut memory = [0; 8192];
                while Pin::new(&mut side).poll_read(cx, &mut ReadBuf::new(&mut memory)).is_ready() {
                    reads += 1;
                    assert!(reads <= at_most, "{bytes} bytes a read: {reads} reads in one turn");
                }
                Poll::Ready(())
            })
            .await;
            assert!(reads > 1, "{bytes}: {reads}");
        }
    }
}
