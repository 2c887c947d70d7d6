//! A connection to a host: plain, or in TLS.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, Waker, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;

/// A connection to a host.
#[derive(Debug)]
pub(in crate::proxy) struct HostStream(Transport);

/// What carries its bytes.
#[derive(Debug)]
enum Transport {
    /// As it is.
    Plain(TcpStream),
    /// After its handshake.
    Tls(Box<TlsStream<TcpStream>>),
}

impl HostStream {
    /// As it is.
    pub(super) fn plain(io: TcpStream) -> Self {
        Self(Transport::Plain(io))
    }

    /// After its handshake.
    pub(super) fn tls(io: Box<TlsStream<TcpStream>>) -> Self {
        Self(Transport::Tls(io))
    }

    /// Waits until a plain connection has something to read.
    #[cfg(test)]
    pub(super) async fn readable(&self) -> io::Result<()> {
        match &self.0 {
            Transport::Plain(io) => io.readable().await,
            Transport::Tls(_) => panic!("no TLS is spoken"),
        }
    }

    /// Writes what the system takes at once, without waiting. Nothing where TLS is spoken: that needs a task to go on with.
    pub(super) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match &self.0 {
            Transport::Plain(io) => io.try_write(bytes),
            Transport::Tls(_) => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// Writes some of these pieces. What was written in TLS has left only after a flush.
    pub(super) fn poll_write_pieces(&mut self, cx: &mut Context<'_>, pieces: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let io = match &mut self.0 {
            Transport::Plain(io) => io,
            Transport::Tls(io) => return Pin::new(io).poll_write_vectored(cx, pieces),
        };
        loop {
            // `AsyncWrite` of one piece saves a little where there is one only.
            let written = match pieces {
                [piece] => io.try_write(piece),
                _ => io.try_write_vectored(pieces),
            };
            match written {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready!(io.poll_write_ready(cx))?,
                written => return Poll::Ready(written),
            }
        }
    }

    /// Whether an idle connection is still open and silent. A readiness that is known to be absent costs no system call. What TLS says by itself,
    /// as the tickets of a session, is no answer.
    pub(super) fn is_silent(&mut self) -> bool {
        let mut byte = [0_u8; 1];
        match &mut self.0 {
            Transport::Plain(io) => matches!(io.try_read(&mut byte), Err(error) if error.kind() == io::ErrorKind::WouldBlock),
            Transport::Tls(io) => {
                let mut read = ReadBuf::new(&mut byte);
                Pin::new(io).poll_read(&mut Context::from_waker(Waker::noop()), &mut read).is_pending()
            }
        }
    }
}

impl AsyncRead for HostStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().0 {
            Transport::Plain(io) => Pin::new(io).poll_read(cx, buffer),
            Transport::Tls(io) => Pin::new(io).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for HostStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().0 {
            Transport::Plain(io) => Pin::new(io).poll_write(cx, bytes),
            Transport::Tls(io) => Pin::new(io).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, pieces: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().0 {
            Transport::Plain(io) => Pin::new(io).poll_write_vectored(cx, pieces),
            Transport::Tls(io) => Pin::new(io).poll_write_vectored(cx, pieces),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.0 {
            Transport::Plain(io) => io.is_write_vectored(),
            Transport::Tls(io) => io.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().0 {
            Transport::Plain(io) => Pin::new(io).poll_flush(cx),
            Transport::Tls(io) => Pin::new(io).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().0 {
            Transport::Plain(io) => Pin::new(io).poll_shutdown(cx),
            Transport::Tls(io) => Pin::new(io).poll_shutdown(cx),
        }
    }
}
