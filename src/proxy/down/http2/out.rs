//! What waits to be written to an HTTP/2 client.

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes};
use smallvec::SmallVec;
use tokio::io::AsyncWrite;

/// Pieces of a body up to this size are copied behind what waits already: that costs less than what the system does for a list of pieces.
const GATHERED_BYTES: usize = 2 * 1024;
/// Bytes that are gathered in one buffer before the next is begun.
const FULL_BYTES: usize = 16 * 1024;
/// Pieces that are written at once.
const AT_ONCE: usize = 16;

/// Bytes in the order in which they leave.
#[derive(Debug, Default)]
pub(super) struct Out {
    segments: VecDeque<Segment>,
    /// Bytes of the first segment that have left.
    written: usize,
    queued: usize,
    /// A buffer that has left, for what comes next.
    spare: Vec<u8>,
}

#[derive(Debug)]
enum Segment {
    /// Frames.
    Gathered(Vec<u8>),
    /// A part of the payload of one.
    Piece(Bytes),
}

// === impl Out ===

impl Out {
    /// Bytes that wait.
    pub(super) fn queued(&self) -> usize {
        self.queued
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.queued == 0
    }

    /// Gives memory back that nothing waits in.
    pub(super) fn release(&mut self) {
        self.spare = Vec::new();
        self.segments.shrink_to_fit();
    }

    /// Adds what is written to the buffer.
    pub(super) fn gather(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        if !matches!(self.segments.back(), Some(Segment::Gathered(gathered)) if gathered.len() < FULL_BYTES) {
            self.segments.push_back(Segment::Gathered(std::mem::take(&mut self.spare)));
        }
        if let Some(Segment::Gathered(gathered)) = self.segments.back_mut() {
            let before = gathered.len();
            write(gathered);
            self.queued += gathered.len() - before;
        }
    }

    /// Adds a piece of a body.
    pub(super) fn add_piece(&mut self, piece: Bytes) {
        if piece.len() <= GATHERED_BYTES {
            self.gather(|gathered| gathered.extend_from_slice(&piece));
        } else {
            self.queued += piece.len();
            self.segments.push_back(Segment::Piece(piece));
        }
    }

    /// Writes everything.
    pub(super) fn poll_write(&mut self, io: &mut (impl AsyncWrite + Unpin), cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.is_empty() {
            let mut slices: SmallVec<[IoSlice<'_>; AT_ONCE]> = SmallVec::new();
            let mut written_before = self.written;
            for segment in self.segments.iter().take(AT_ONCE) {
                let bytes = segment.bytes().get(std::mem::take(&mut written_before)..).unwrap_or_default();
                slices.push(IoSlice::new(bytes));
            }
            let written = match slices.as_slice() {
                [only] => ready!(Pin::new(&mut *io).poll_write(cx, only))?,
                several => ready!(Pin::new(&mut *io).poll_write_vectored(cx, several))?,
            };
            drop(slices);
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.advance(written);
        }
        Pin::new(io).poll_flush(cx)
    }

    fn advance(&mut self, mut written: usize) {
        self.queued = self.queued.saturating_sub(written);
        while let Some(first) = self.segments.front_mut() {
            let length = first.bytes().len() - self.written;
            if written < length {
                self.written += written;
                // What has left of a piece need not be kept.
                if let Segment::Piece(piece) = first {
                    piece.advance(std::mem::take(&mut self.written));
                }
                return;
            }
            written -= length;
            self.written = 0;
            if let Some(Segment::Gathered(mut gathered)) = self.segments.pop_front()
                && gathered.capacity() <= 2 * FULL_BYTES
            {
                gathered.clear();
                self.spare = gathered;
            }
        }
    }
}

// === impl Segment ===

impl Segment {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Gathered(bytes) => bytes,
            Self::Piece(piece) => piece,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    /// Takes so many bytes at a time, then one look without any.
    struct Slow(usize, Vec<u8>, bool);

    impl AsyncWrite for Slow {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            let this = self.get_mut();
            this.2 = !this.2;
            if !this.2 {
                return Poll::Pending;
            }
            let taken = this.0.min(bytes.len());
            this.1.extend_from_slice(&bytes[..taken]);
            Poll::Ready(Ok(taken))
        }

        fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
            let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).collect();
            self.as_mut().poll_write(cx, &bytes)
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn everything_leaves_in_order_however_little_is_taken_at_once() {
        for taken in [1, 7, 2_500, 100_000] {
            let (mut out, mut expected) = (Out::default(), Vec::new());
            let mut slow = Slow(taken, Vec::new(), false);
            let mut cx = Context::from_waker(Waker::noop());
            for round in 0..40_usize {
                let piece = vec![round as u8; 150 * round];
                out.gather(|gathered| gathered.extend_from_slice(b"frame"));
                out.add_piece(piece.clone().into());
                expected.extend_from_slice(b"frame");
                expected.extend(piece);
                let _ = out.poll_write(&mut slow, &mut cx);
                assert_eq!(out.queued(), expected.len() - slow.1.len());
            }
            while out.poll_write(&mut slow, &mut cx).is_pending() {}
            assert_eq!(slow.1, expected, "{taken} at once");
            assert!(out.is_empty() && out.segments.is_empty());
        }
    }
}
