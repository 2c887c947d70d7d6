//! A client's socket that shows what it does: reads, so that the worker's tick can tell a silent connection from a slow one, and stalled
//! writes, so that a connection is not taken apart while something waits to be sent.

use std::{
    io::{self, IoSlice, Write as _},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use smallvec::SmallVec;
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// What a socket does. Shared with the connection's record; only its own thread writes it, so a load and a store do.
/// (Atomic because hyper asks for an I/O object that can be sent when connections may be upgraded.)
#[derive(Clone, Debug, Default)]
pub(super) struct Activity(Arc<Seen>);

#[derive(Debug, Default)]
struct Seen {
    reads: AtomicU32,
    stalled: AtomicBool,
}

/// A client's socket.
#[derive(Debug)]
pub(super) struct ClientIo {
    io: Transport,
    activity: Activity,
    /// Read already, and handed out before anything else.
    ahead: Bytes,
}

#[derive(Debug)]
enum Transport {
    Plain(TokioIo<TcpStream>),
    Tls(TokioIo<Box<TlsStream<TcpStream>>>),
}

/// Most bytes that are copied to spare a list of pieces.
const GATHERED_BYTES: usize = 2048;

/// A socket that is written to without waiting.
struct Now<'a>(&'a TcpStream);

// === impl Activity ===

impl Activity {
    /// Reads so far, wrapping.
    pub(super) fn reads(&self) -> u32 {
        self.0.reads.load(Relaxed)
    }

    /// Whether the client's side is full, so that something waits to be written.
    pub(super) fn is_stalled(&self) -> bool {
        self.0.stalled.load(Relaxed)
    }

    fn read<T>(&self, polled: Poll<T>) -> Poll<T> {
        if polled.is_ready() {
            self.0.reads.store(self.0.reads.load(Relaxed).wrapping_add(1), Relaxed);
        }
        polled
    }

    fn written<T>(&self, polled: Poll<T>) -> Poll<T> {
        self.0.stalled.store(polled.is_pending(), Relaxed);
        polled
    }
}

// === impl ClientIo ===

impl ClientIo {
    /// Wraps a socket.
    pub(super) fn plain(stream: TcpStream, activity: Activity) -> Self {
        Self { io: Transport::Plain(TokioIo::new(stream)), activity, ahead: Bytes::new() }
    }

    /// Wraps a socket whose TLS handshake is done; what is counted are reads of application data.
    pub(super) fn tls(stream: Box<TlsStream<TcpStream>>, activity: Activity) -> Self {
        Self { io: Transport::Tls(TokioIo::new(stream)), activity, ahead: Bytes::new() }
    }

    /// The same socket, with bytes that were read from it and not used.
    pub(super) fn with_ahead(self, ahead: Bytes) -> Self {
        Self { ahead, ..self }
    }

    /// Waits until the socket has more to read, be it the end. Only after a read that found nothing.
    pub(super) async fn readable(&self) -> io::Result<()> {
        match &self.io {
            Transport::Plain(io) => io.inner().readable().await,
            Transport::Tls(io) => io.inner().get_ref().0.readable().await,
        }
    }

    /// Writes as much as the socket takes at once; for last words on a connection that ends anyway.
    pub(super) fn write_now(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.io {
            Transport::Plain(io) => io.inner().try_write(bytes).map(drop),
            Transport::Tls(io) => {
                let (socket, session) = io.inner_mut().get_mut();
                session.writer().write_all(bytes)?;
                session.send_close_notify();
                while session.wants_write() {
                    session.write_tls(&mut Now(socket))?;
                }
                Ok(())
            }
        }
    }

    fn hand_out(&mut self, mut buffer: ReadBufCursor<'_>) -> io::Result<()> {
        let length = self.ahead.len().min(buffer.remaining());
        buffer.put_slice(&self.ahead.split_to(length));
        Ok(())
    }
}

impl Read for ClientIo {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.ahead.is_empty() {
            return Poll::Ready(this.hand_out(buffer));
        }
        this.activity.read(match &mut this.io {
            Transport::Plain(io) => Pin::new(io).poll_read(cx, buffer),
            Transport::Tls(io) => Pin::new(io).poll_read(cx, buffer),
        })
    }
}

impl Write for ClientIo {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.activity.written(match &mut this.io {
            Transport::Plain(io) => Pin::new(io).poll_write(cx, bytes),
            Transport::Tls(io) => Pin::new(io).poll_write(cx, bytes),
        })
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.activity.written(match &mut this.io {
            Transport::Plain(io) => Pin::new(io).poll_flush(cx),
            Transport::Tls(io) => Pin::new(io).poll_flush(cx),
        })
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().io {
            Transport::Plain(io) => Pin::new(io).poll_shutdown(cx),
            Transport::Tls(io) => Pin::new(io).poll_shutdown(cx),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.io {
            Transport::Plain(io) => io.is_write_vectored(),
            Transport::Tls(io) => io.is_write_vectored(),
        }
    }

    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.activity.written(match &mut this.io {
            Transport::Plain(io) => {
                let mut gathered: SmallVec<[u8; GATHERED_BYTES]> = SmallVec::new();
                if gather(slices, &mut gathered) {
                    Pin::new(io).poll_write(cx, &gathered)
                } else {
                    Pin::new(io).poll_write_vectored(cx, slices)
                }
            }
            Transport::Tls(io) => Pin::new(io).poll_write_vectored(cx, slices),
        })
    }
}

/// Puts a small head and its body in one piece: copying them costs less than what the system does for a list of pieces. `false`: they are
/// not small, and nothing was copied.
fn gather(slices: &[IoSlice<'_>], bytes: &mut SmallVec<[u8; GATHERED_BYTES]>) -> bool {
    let length: usize = slices.iter().map(|slice| slice.len()).sum();
    if length > GATHERED_BYTES {
        return false;
    }
    for slice in slices {
        bytes.extend_from_slice(slice);
    }
    true
}

impl io::Write for Now<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
