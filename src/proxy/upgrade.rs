//! Tunnels: after both sides have switched protocols, bytes are copied both ways.

use std::{
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use bytes::Bytes;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf, copy_bidirectional},
    net::TcpStream,
};

use crate::telemetry::ResponseFlag;

use super::flight::{Flight, FlightGuard};

/// The upstream's side of a tunnel: its connection, and what it already said in the new protocol.
#[derive(Debug)]
pub(super) struct HostSide {
    pub(super) io: TcpStream,
    pub(super) read: Bytes,
}

/// Copies between the two upgraded connections until one ends, nothing moves for the idle timeout, or the drain's time is up.
pub(super) async fn tunnel(guard: FlightGuard, client: OnUpgrade, host: HostSide) {
    let worker = Rc::clone(guard.worker());
    copy(&guard, client, host).await;
    drop(guard);
    worker.something_ended();
}

async fn copy(guard: &FlightGuard, client: OnUpgrade, mut host: HostSide) {
    let flight = guard.flight();
    flight.arm_tunnel();
    let Ok(client) = client.await else {
        guard.aborted(ResponseFlag::DownstreamConnectionTermination);
        return;
    };
    let mut client = Moving { io: TokioIo::new(client), flight: Rc::clone(flight) };
    let said = host.read.len() as u64;
    let copied = async {
        client.write_all(&host.read).await?;
        copy_bidirectional(&mut client, &mut host.io).await
    };
    match flight.bound(copied).await {
        Ok(Ok((received, sent))) => {
            flight.outcome.received.set(received);
            flight.outcome.sent.set(said + sent);
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
