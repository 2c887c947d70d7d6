//! A client's socket that looks at the frames that pass it. Frames that the library answers by itself cost something too, and the library
//! does not report them.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::proxy::{down::io::ClientIo, state::conn::Conn, wire::frames::Scanner};

use super::conduct::Conduct;

/// Length of the preface (RFC 9113 section 3.4).
const PREFACE: usize = 24;

/// What a frame may carry at most (RFC 9113 section 6.5.2): the library refuses larger ones.
const LARGEST_FRAME: usize = 16 * 1024;

/// A client's socket.
pub(super) struct Watched {
    io: ClientIo,
    conn: Rc<Conn>,
    conduct: Rc<Conduct>,
    received: Scanner,
    sent: Scanner,
    /// A header block has begun.
    in_head: bool,
    /// Bytes of it, those included that the frame at hand has announced.
    head: usize,
}

// === impl Watched ===

impl Watched {
    pub(super) fn new(io: ClientIo, conn: Rc<Conn>, conduct: Rc<Conduct>) -> Self {
        Self { io, conn, conduct, received: Scanner::behind(PREFACE), sent: Scanner::default(), in_head: false, head: 0 }
    }

    fn received(&mut self, bytes: &[u8]) {
        let (conduct, in_head, head) = (&self.conduct, &mut self.in_head, &mut self.head);
        self.received.scan(bytes, |frame| {
            let before = if *in_head { *head } else { 0 };
            *head = if frame.is_of_head() { before + frame.length.min(LARGEST_FRAME) } else { 0 };
            *in_head = frame.is_continued();
            conduct.received(frame);
        });
        let within = self.in_head || !self.received.is_between_frames();
        self.conn.set_within_head(within);
        self.conduct.set_open_head(if within { self.head } else { 0 });
    }

    fn sent(&mut self, bytes: &[u8]) {
        self.sent.scan(bytes, |frame| self.conduct.sent(frame));
    }
}

impl AsyncRead for Watched {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.conduct.abuse().is_some() {
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
        if let Poll::Ready(Ok(length)) = polled {
            this.sent(bytes.get(..length).unwrap_or_default());
        }
        polled
    }

    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.io).poll_write_vectored(cx, slices);
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
