//! Tunnels: after both sides have switched protocols, bytes are copied both ways.

use std::{
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional};

use crate::telemetry::ResponseFlag;

use super::flight::{Flight, FlightGuard};

/// Copies between the two upgraded connections until one ends, nothing moves for the idle timeout, or the drain's time is up.
pub(super) async fn tunnel(guard: FlightGuard, client: OnUpgrade, host: OnUpgrade) {
    let worker = Rc::clone(guard.worker());
    copy(&guard, client, host).await;
    drop(guard);
    worker.something_ended();
}

async fn copy(guard: &FlightGuard, client: OnUpgrade, host: OnUpgrade) {
    let flight = guard.flight();
    flight.arm_tunnel();
    let (Ok(client), Ok(host)) = (client.await, host.await) else {
        guard.aborted(ResponseFlag::DownstreamConnectionTermination);
        return;
    };
    let mut client = Moving { io: TokioIo::new(client), flight: Rc::clone(flight) };
    let mut host = TokioIo::new(host);
    match flight.bound(copy_bidirectional(&mut client, &mut host)).await {
        Ok(Ok((received, sent))) => {
            flight.outcome.received.set(received);
            flight.outcome.sent.set(sent);
        }
        // Either side may vanish without a farewell; that is how most tunnels end.
        Ok(Err(error)) => tracing::debug!(%error, "a tunnel ended"),
        Err(_) => guard.aborted(ResponseFlag::StreamIdleTimeout),
    }
}

/// The client's side of a tunnel: whatever passes in either direction passes here, and keeps the flight from being idle.
struct Moving<I> {
    io: I,
    flight: Rc<Flight>,
}

impl<I: AsyncRead + Unpin> AsyncRead for Moving<I> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.io).poll_read(cx, buffer);
        if polled.is_ready() {
            this.flight.touch();
        }
        polled
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Moving<I> {
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
