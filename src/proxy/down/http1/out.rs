//! What waits to be written to a client.

use std::{
    io::{self, IoSlice, Write as _},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes};
use http::HeaderMap;
use tokio::io::AsyncWrite;

use crate::proxy::{down::io::ClientIo, wire::fields::last_chunk};

use super::encode::ResponseFraming;

/// Pieces of a body up to this size are copied behind what waits already: that costs less than what the system does for a list of pieces.
const GATHERED_BYTES: usize = 2 * 1024;
/// Bytes that may be gathered before they are written.
const FULL_BYTES: usize = 16 * 1024;
/// A buffer that grew beyond this is not kept.
const KEPT_BYTES: usize = 32 * 1024;

/// Bytes in the order in which they leave: gathered ones, a large piece, and what follows it.
#[derive(Debug, Default)]
pub(super) struct Out {
    gathered: Vec<u8>,
    written: usize,
    /// Bytes that have left, of all answers together.
    left: u64,
    piece: Bytes,
    after: &'static [u8],
}

// === impl Out ===

impl Out {
    pub(super) fn is_empty(&self) -> bool {
        self.written == self.gathered.len() && self.piece.is_empty() && self.after.is_empty()
    }

    /// Bytes that have left since the conversation began.
    pub(super) fn left(&self) -> u64 {
        self.left
    }

    /// Whether more may be added before something is written.
    pub(super) fn has_room(&self) -> bool {
        self.piece.is_empty() && self.after.is_empty() && self.gathered.len() < FULL_BYTES
    }

    /// Where heads are written to. Only while `has_room`.
    pub(super) fn gathered(&mut self) -> &mut Vec<u8> {
        &mut self.gathered
    }

    /// Adds a piece of a body. Only while `has_room`.
    pub(super) fn add_data(&mut self, data: Bytes, framing: ResponseFraming) {
        if data.is_empty() || framing == ResponseFraming::None {
            return;
        }
        let after: &'static [u8] = if framing == ResponseFraming::Chunked {
            // Writing to a Vec cannot fail.
            let _ = write!(self.gathered, "{:x}\r\n", data.len());
            b"\r\n"
        } else {
            b""
        };
        if data.len() <= GATHERED_BYTES {
            self.gathered.extend_from_slice(&data);
            self.gathered.extend_from_slice(after);
        } else {
            self.piece = data;
            self.after = after;
        }
    }

    /// Adds what ends a body: the last chunk and, where they are wanted, trailers.
    pub(super) fn add_end(&mut self, framing: ResponseFraming, trailers: Option<&HeaderMap>) {
        if framing != ResponseFraming::Chunked {
            return;
        }
        if trailers.is_none() && self.after == b"\r\n" {
            self.after = b"\r\n0\r\n\r\n";
            return;
        }
        self.gather_rest();
        last_chunk(&mut self.gathered, trailers.into_iter().flatten());
    }

    fn gather_rest(&mut self) {
        self.gathered.extend_from_slice(&std::mem::take(&mut self.piece));
        self.gathered.extend_from_slice(std::mem::take(&mut self.after));
    }

    /// Writes everything; the number of bytes that left may be less where that is pending.
    pub(super) fn poll_write(&mut self, io: &mut ClientIo, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.is_empty() {
            let gathered = self.gathered.get(self.written..).unwrap_or_default();
            let written = if self.piece.is_empty() && self.after.is_empty() {
                ready!(Pin::new(&mut *io).poll_write(cx, gathered))?
            } else {
                let slices = [IoSlice::new(gathered), IoSlice::new(&self.piece), IoSlice::new(self.after)];
                ready!(Pin::new(&mut *io).poll_write_vectored(cx, &slices))?
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.advance(written);
        }
        Pin::new(io).poll_flush(cx)
    }

    fn advance(&mut self, written: usize) {
        self.left += written as u64;
        let gathered = written.min(self.gathered.len() - self.written);
        self.written += gathered;
        if self.written == self.gathered.len() {
            self.gathered.clear();
            self.gathered.shrink_to(KEPT_BYTES);
            self.written = 0;
        }
        let piece = (written - gathered).min(self.piece.len());
        self.piece.advance(piece);
        self.after = self.after.get(written - gathered - piece..).unwrap_or_default();
    }
}
