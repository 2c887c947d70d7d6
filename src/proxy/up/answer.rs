//! What becomes of a request at its host: an answer, or a tunnel.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::base::head::response;

use super::{body::UpstreamBody, host_stream::HostStream, http2, pool::PoolMembership};

/// What a host answered.
#[derive(Debug)]
pub(in crate::proxy) enum Answer<B> {
    /// A response.
    Response(response::Parts, UpstreamBody<B>),
    /// The host switched protocols.
    Switched(Box<Switched>),
}

/// A host that switched protocols: the head of its answer, and its side of the tunnel.
#[derive(Debug)]
pub(in crate::proxy) struct Switched {
    pub(in crate::proxy) parts: response::Parts,
    pub(in crate::proxy) host: HostSide,
}

/// The upstream's side of a tunnel: its connection, and what it already said in the new protocol.
#[derive(Debug)]
pub(in crate::proxy) struct HostSide {
    pub(in crate::proxy) io: HostIo,
    pub(in crate::proxy) read: Bytes,
}

/// What carries a tunnel's bytes.
#[derive(Debug)]
pub(in crate::proxy) struct HostIo(Carrier);

/// Which protocol carries them.
#[derive(Debug)]
enum Carrier {
    /// A connection.
    Tcp {
        /// Its socket.
        io: HostStream,
        /// The connection counts as one in use until the tunnel ends.
        _membership: PoolMembership,
    },
    /// A stream of HTTP/2.
    Http2(Box<http2::Tunnel>),
}

// === impl HostIo ===

impl HostIo {
    /// A connection of its own.
    pub(super) fn connection(io: HostStream, membership: PoolMembership) -> Self {
        Self(Carrier::Tcp { io, _membership: membership })
    }

    /// A stream of a connection that carries others.
    pub(super) fn stream(tunnel: http2::Tunnel) -> Self {
        Self(Carrier::Http2(Box::new(tunnel)))
    }

    /// Whether its connection keeps bytes for it while they do not pass, up to a stream's window.
    pub(in crate::proxy) fn keeps_a_window(&self) -> bool {
        match self.0 {
            Carrier::Tcp { .. } => false,
            Carrier::Http2(_) => true,
        }
    }
}

impl AsyncRead for HostIo {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().0 {
            Carrier::Tcp { io, .. } => Pin::new(io).poll_read(cx, buffer),
            Carrier::Http2(io) => Pin::new(io).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for HostIo {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().0 {
            Carrier::Tcp { io, .. } => Pin::new(io).poll_write(cx, bytes),
            Carrier::Http2(io) => Pin::new(io).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().0 {
            Carrier::Tcp { io, .. } => Pin::new(io).poll_flush(cx),
            Carrier::Http2(io) => Pin::new(io).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().0 {
            Carrier::Tcp { io, .. } => Pin::new(io).poll_shutdown(cx),
            Carrier::Http2(io) => Pin::new(io).poll_shutdown(cx),
        }
    }
}
