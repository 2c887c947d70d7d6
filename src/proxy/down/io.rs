//! A client's socket that counts reads and writes. By them the worker's tick tells a silent connection from a slow one, and finds clients
//! that do not read.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Buf as _, Bytes};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::server::TlsStream;

use crate::proxy::state::activity::Activity;

use super::tls_records::RecordSocket;

/// A client's socket.
#[derive(Debug)]
pub(in crate::proxy) struct ClientIo {
    io: Transport,
    activity: Activity,
    /// Read already, and handed out before anything else.
    ahead: Bytes,
}

#[derive(Debug)]
enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<RecordSocket>>),
}

// === impl ClientIo ===

impl ClientIo {
    /// Wraps a socket.
    pub(in crate::proxy) fn plain(stream: TcpStream, activity: Activity) -> Self {
        Self { io: Transport::Plain(stream), activity, ahead: Bytes::new() }
    }

    /// Wraps a socket whose TLS handshake is done; what is counted are reads of application data.
    pub(in crate::proxy) fn tls(stream: Box<TlsStream<RecordSocket>>, activity: Activity) -> Self {
        Self { io: Transport::Tls(stream), activity, ahead: Bytes::new() }
    }

    /// Successful writes so far, wrapping.
    pub(in crate::proxy) fn writes(&self) -> u32 {
        self.activity.writes()
    }

    /// The same socket, with bytes that were read from it and not used.
    pub(in crate::proxy) fn with_ahead(self, ahead: Bytes) -> Self {
        Self { ahead, ..self }
    }

    /// Makes the end of the connection a reset: the client sees that something is missing.
    pub(in crate::proxy) fn break_off(&self) {
        let socket = match &self.io {
            Transport::Plain(io) => io,
            Transport::Tls(io) => io.get_ref().0.get_ref(),
        };
        // A connection that is broken already needs no more.
        let _ = socket.set_zero_linger();
    }

    /// Whether closing the socket says all that there is to say: TLS has a farewell of its own, and what nobody has read would make the end a
    /// reset. Costs no system call.
    pub(in crate::proxy) fn ends_by_closing(&self, cx: &mut Context<'_>) -> bool {
        match &self.io {
            Transport::Plain(io) => self.ahead.is_empty() && io.poll_read_ready(cx).is_pending(),
            Transport::Tls(_) => false,
        }
    }

    /// Waits until the socket has more to read, be it the end. Only after a read that found nothing.
    pub(in crate::proxy) async fn readable(&self) -> io::Result<()> {
        match &self.io {
            Transport::Plain(io) => io.readable().await,
            Transport::Tls(io) => io.get_ref().0.get_ref().readable().await,
        }
    }
}

impl AsyncRead for ClientIo {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.ahead.is_empty() {
            let length = this.ahead.len().min(buffer.remaining());
            buffer.put_slice(this.ahead.get(..length).unwrap_or_default());
            this.ahead.advance(length);
            return Poll::Ready(Ok(()));
        }
        this.activity.read(match &mut this.io {
            Transport::Plain(io) => Pin::new(io).poll_read(cx, buffer),
            Transport::Tls(io) => read_tls(io, cx, buffer),
        })
    }
}

impl AsyncWrite for ClientIo {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.activity.written(match &mut this.io {
            Transport::Plain(io) => Pin::new(io).poll_write(cx, bytes),
            Transport::Tls(io) => write_tls(io, |io| io.poll_write(cx, bytes)),
        })
    }

    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.activity.written(match &mut this.io {
            Transport::Plain(io) => Pin::new(io).poll_write_vectored(cx, slices),
            Transport::Tls(io) => write_tls(io, |io| io.poll_write_vectored(cx, slices)),
        })
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match &mut this.io {
            // A socket has nothing to flush, and did not write: whether it is stalled is what the last write said.
            Transport::Plain(_) => Poll::Ready(Ok(())),
            Transport::Tls(io) => {
                let polled = Pin::new(&mut *io).poll_flush(cx);
                note_unsent(io, 0);
                this.activity.written(polled)
            }
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().io {
            Transport::Plain(io) => Pin::new(io).poll_shutdown(cx),
            Transport::Tls(io) => Pin::new(io).poll_shutdown(cx),
        }
    }
}

fn read_tls(io: &mut TlsStream<RecordSocket>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
    let before = buffer.filled().len();
    let polled = Pin::new(&mut *io).poll_read(cx, buffer);
    let data = polled.is_ready().then(|| buffer.filled().len() - before);
    io.get_mut().0.gave(data);
    polled
}

/// Hands the library no more to send than there is room for: what it has taken stays in memory until the client reads.
fn write_tls(
    io: &mut TlsStream<RecordSocket>,
    write: impl FnOnce(Pin<&mut TlsStream<RecordSocket>>) -> Poll<io::Result<usize>>,
) -> Poll<io::Result<usize>> {
    let (socket, session) = io.get_mut();
    session.set_buffer_limit(Some(socket.room_to_send()));
    let polled = write(Pin::new(&mut *io));
    note_unsent(io, if let Poll::Ready(Ok(taken)) = polled { taken } else { 0 });
    polled
}

fn note_unsent(io: &mut TlsStream<RecordSocket>, taken: usize) {
    let (socket, session) = io.get_mut();
    socket.took(taken, session.wants_write());
}
