//! The read side of a connection: a buffer that grows while reads fill it.

use std::{
    cell::RefCell,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, ReadBuf};
use tokio_util::io::poll_read_buf;

const SMALLEST: usize = 8 * 1024;
/// Larger reads were measured to bring nothing more.
const LARGEST: usize = 256 * 1024;

thread_local! {
    /// Where small reads land first. The usual answer is a few hundred bytes: copying those is cheaper than handing each request 8 KiB of
    /// its own, which the allocator does not keep at hand.
    static LANDING: RefCell<Box<[u8]>> = RefCell::new(vec![0; SMALLEST].into_boxed_slice());
}

/// Bytes read and not yet consumed. Reads grow from 8 KiB while they are filled, and shrink again: large bodies take few system calls, idle
/// connections hold nothing.
#[derive(Debug)]
pub(in crate::proxy) struct ReadBuffer {
    bytes: BytesMut,
    next_read: usize,
    /// The memory that what was taken last is part of, in bytes: a piece keeps all of it, however little was read into it.
    taken_from: usize,
}

// === impl ReadBuffer ===

impl Default for ReadBuffer {
    fn default() -> Self {
        Self { bytes: BytesMut::new(), next_read: SMALLEST, taken_from: 0 }
    }
}

impl ReadBuffer {
    /// Reads once; `Ok(0)` is the end of the stream.
    pub(in crate::proxy) fn poll_fill(&mut self, io: &mut (impl AsyncRead + Unpin), cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.next_read == SMALLEST {
            return self.poll_land(io, cx);
        }
        self.bytes.reserve(self.next_read);
        let room = self.bytes.capacity() - self.bytes.len();
        // `poll_read` takes a short read as the end of what there is: the next one waits without a system call. `try_read` does not.
        let read = ready!(poll_read_buf(Pin::new(io), cx, &mut self.bytes))?;
        if read >= room {
            self.next_read = (self.next_read * 2).min(LARGEST);
        } else if read < self.next_read / 4 {
            self.next_read = (self.next_read / 2).max(SMALLEST);
        }
        Poll::Ready(Ok(read))
    }

    fn poll_land(&mut self, io: &mut (impl AsyncRead + Unpin), cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        LANDING.with_borrow_mut(|landing| {
            let mut landed = ReadBuf::new(landing);
            ready!(Pin::new(io).poll_read(cx, &mut landed))?;
            if landed.remaining() == 0 {
                self.next_read = SMALLEST * 2;
            }
            self.bytes.extend_from_slice(landed.filled());
            Poll::Ready(Ok(landed.filled().len()))
        })
    }

    /// Adds bytes as if they had been read.
    #[cfg(test)]
    pub(in crate::proxy) fn extend(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next read takes no more than this, but at least 8 KiB.
    pub(in crate::proxy) fn limit(&mut self, most: usize) {
        self.next_read = self.next_read.min(most.max(SMALLEST));
    }

    /// Bytes of memory that are held for what was read, a piece of this length that was taken last included; 0: it has left.
    pub(in crate::proxy) fn held(&self, piece: usize) -> usize {
        let memory = self.bytes.capacity() + piece;
        if piece == 0 { memory } else { memory.max(self.taken_from) }
    }

    pub(in crate::proxy) fn as_slice(&self) -> &[u8] {
        &self.bytes
    }

    pub(in crate::proxy) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Takes up to `most` bytes.
    pub(in crate::proxy) fn take(&mut self, most: u64) -> Bytes {
        let length = usize::try_from(most).unwrap_or(usize::MAX).min(self.bytes.len());
        self.taken_from = self.bytes.capacity();
        if length == self.bytes.len() { std::mem::take(&mut self.bytes).freeze() } else { self.bytes.split_to(length).freeze() }
    }

    pub(in crate::proxy) fn skip(&mut self, length: usize) {
        self.bytes.advance(length.min(self.bytes.len()));
    }

    /// Gives the memory back: an idle connection holds none.
    pub(in crate::proxy) fn release(&mut self) {
        self.bytes = BytesMut::new();
        self.next_read = SMALLEST;
    }

    pub(in crate::proxy) fn into_bytes(self) -> Bytes {
        self.bytes.freeze()
    }
}
