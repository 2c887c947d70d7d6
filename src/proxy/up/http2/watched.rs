//! A host's socket that looks at the frames that pass it, and knows whether the host takes what is written.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::proxy::{up::host_stream::HostStream, wire::frames::Scanner};

use super::connection::Connection;

/// Length of the preface, which is ours (RFC 9113 section 3.4).
const PREFACE: usize = 24;

/// A host's socket.
#[derive(Debug)]
pub(super) struct Watched {
    io: HostStream,
    connection: Rc<Connection>,
    received: Scanner,
    sent: Scanner,
    /// A header block has begun and goes on in the next frame.
    in_head: bool,
}

// === impl Watched ===

impl Watched {
    pub(super) fn new(io: HostStream, connection: Rc<Connection>) -> Self {
        Self { io, connection, received: Scanner::default(), sent: Scanner::behind(PREFACE), in_head: false }
    }

    fn received(&mut self, bytes: &[u8]) {
        let (conduct, in_head) = (&self.connection.conduct, &mut self.in_head);
        self.received.scan(bytes, |frame| {
            let continues = std::mem::replace(in_head, frame.is_continued());
            conduct.received(frame, continues);
        });
        conduct.set_within(self.in_head || !self.received.is_between_frames());
    }

    fn sent(&mut self, bytes: &[u8]) {
        let conduct = &self.connection.conduct;
        self.sent.scan(bytes, |frame| conduct.sent(frame));
    }
}

impl AsyncRead for Watched {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.connection.conduct.fault().is_some() {
            // The task of the connection sees it as soon as nothing more is read.
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        let polled = Pin::new(&mut this.io).poll_read(cx, buffer);
        if polled.is_ready() {
            this.received(buffer.filled().get(before..).unwrap_or_default());
        }
        polled
    }
}

impl AsyncWrite for Watched {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.io).poll_write(cx, bytes);
        this.connection.set_full(polled.is_pending());
        if let Poll::Ready(Ok(length)) = polled {
            this.sent(bytes.get(..length).unwrap_or_default());
        }
        polled
    }

    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.io).poll_write_vectored(cx, slices);
        this.connection.set_full(polled.is_pending());
        if let Poll::Ready(Ok(mut length)) = polled {
            for slice in slices {
                let written = length.min(slice.len());
                this.sent(slice.get(..written).unwrap_or_default());
                length -= written;
            }
        }
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}
