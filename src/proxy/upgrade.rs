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

use http::response;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf, copy_bidirectional},
    time::{Instant, sleep_until},
};

use crate::telemetry::ResponseFlag;

use super::{
    budget::Account,
    flight::Flight,
    guard::FlightGuard,
    h1::PollBudget,
    io::ClientIo,
    upstream::{HostIo, HostSide},
    worker::Worker,
};

/// Most records of TLS, of a byte each, that one read opens.
const RECORDS: usize = 1024;

/// What copying both ways holds: a buffer of tokio's size for each direction.
const BUFFERS: usize = 2 * 8 * 1024;

/// A tunnel that begins when the client has been told so.
#[derive(Debug)]
pub(super) struct Tunnel {
    /// The head that tells it.
    pub(super) parts: response::Parts,
    pub(super) guard: FlightGuard,
    pub(super) host: HostSide,
}

/// Copies between the two connections until both have ended, one has and the other had its time, nothing moves for the idle timeout, or the
/// drain's time is up.
pub(super) async fn run(worker: &Rc<Worker>, tunnel: Tunnel, client: ClientIo) {
    let Tunnel { guard, host, .. } = tunnel;
    let patience = Some(worker.config.limits.half_closed_tunnel);
    copy(worker, &guard, client, host.io, &host.read, patience).await;
}

/// The same for any two connections. `read`: what the host has said already. `patience`: the time of the other side once one has closed; `None`:
/// as long as something moves.
pub(super) async fn copy<C, H>(worker: &Rc<Worker>, guard: &FlightGuard, client: C, host: H, read: &[u8], patience: Option<Duration>)
where
    C: AsyncRead + AsyncWrite + Unpin,
    H: AsyncRead + AsyncWrite + Unpin,
{
    let account = Account::at_rest(&worker.budget);
    account.set(BUFFERS);
    let flight = guard.flight();
    flight.arm_tunnel();
    let ended = Rc::new(Ended::default());
    let mut client = Side::new(client, Direction::Received, flight, &ended);
    let mut host = Side::new(host, Direction::Sent, flight, &ended);
    flight.outcome.sent.set(read.len() as u64);
    let copied = async {
        client.write_all(read).await?;
        copy_bidirectional(&mut client, &mut host).await
    };
    match flight.bound(bounded(worker, copied, &ended, patience)).await {
        Ok(Some(Ok(_)) | None) => {}
        // Either side may vanish without a farewell; that is how most tunnels end.
        Ok(Some(Err(error))) => tracing::debug!(%error, "a tunnel ended"),
        Err(_) => guard.aborted(ResponseFlag::StreamIdleTimeout),
    }
}

/// Polls the copying until it is done, or one side has closed and the other had its time: `None`.
async fn bounded<T>(worker: &Worker, copied: impl Future<Output = T>, ended: &Ended, patience: Option<Duration>) -> Option<T> {
    let mut copied = pin!(copied);
    let mut sleeping = pin!(None);
    poll_fn(|cx| {
        let polled = copied.as_mut().poll(cx);
        if polled.is_ready() {
            return polled.map(Some);
        }
        if !ended.one.get() {
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

/// Whether one side of a tunnel has closed.
#[derive(Debug, Default)]
struct Ended {
    one: Cell<bool>,
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
    ended: Rc<Ended>,
    /// What one turn of the tunnel may read: a peer that sends a byte at a time must not keep the worker's others waiting.
    budget: PollBudget,
}

// === impl Side ===

impl<I> Side<I> {
    fn new(io: I, direction: Direction, flight: &Rc<Flight>, ended: &Rc<Ended>) -> Self {
        Self { io, direction, flight: Rc::clone(flight), ended: Rc::clone(ended), budget: PollBudget::default() }
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
            // Less than there was room for: as many records of TLS may have been opened as there are bytes.
            let records = if buffer.remaining() > 0 { length.min(RECORDS) } else { 1 };
            this.budget.spend(length, records);
            if length == 0 {
                this.ended.one.set(true);
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
        if polled.is_ready() {
            this.flight.touch();
        }
        polled
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}

impl AsyncRead for HostIo {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp { io, .. } => Pin::new(io).poll_read(cx, buffer),
            Self::Http2(io) => Pin::new(io).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for HostIo {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp { io, .. } => Pin::new(io).poll_write(cx, bytes),
            Self::Http2(io) => Pin::new(io).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp { io, .. } => Pin::new(io).poll_flush(cx),
            Self::Http2(io) => Pin::new(io).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp { io, .. } => Pin::new(io).poll_shutdown(cx),
            Self::Http2(io) => Pin::new(io).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::conn::Conn;

    /// A peer that sends for ever, so many bytes a read.
    struct Endless(usize);

    impl AsyncRead for Endless {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            buffer.put_slice(&vec![0; self.0]);
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn a_peer_that_sends_without_end_ends_its_turn() {
        let flight = Rc::new(Flight::new(Rc::new(Conn::new()), true));
        for (bytes, at_most) in [(1, 64), (700, 6), (8192, 22)] {
            let mut side = Side::new(Endless(bytes), Direction::Received, &flight, &Rc::default());
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
