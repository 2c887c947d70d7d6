//! Bounds the HTTP/2 frames of a client that carry neither requests nor data: an honest client sends few. Pure, except for the clock.
//!
//! A frame costs the client next to nothing, and the gateway more. A stream that is opened and reset costs the gateway a request to a host.

use std::cell::{Cell, RefCell};

use smallvec::SmallVec;

use crate::{
    proxy::wire::{
        frame_allowance::{BURST, FrameAllowance},
        frames::{DATA, Frame, HEADERS, RST_STREAM},
    },
    telemetry::Http2Abuse,
};

/// With no more left than this it is told to come back on a new connection, which costs an honest client nothing.
const WARNED_AT: u32 = BURST / 4;

/// Streams after which the share of those that were reset prematurely must be below a half (Envoy: `premature_reset_total_stream_count`,
/// there 500).
const JUDGED_AFTER: u32 = 200;

/// `REFUSED_STREAM`: the client may try again, and was not wrong.
const REFUSED: u32 = 7;

/// What the library refused by itself, before there was a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LibraryRefusal {
    /// The stream was reset, with this code: its head is malformed.
    Reset(u32),
    /// The head is so large that it was not kept: 431.
    TooLarge,
}

/// The conduct of one client.
#[derive(Debug)]
pub(super) struct Conduct {
    /// Frames that it may still send.
    allowance: FrameAllowance,
    streams: Cell<u32>,
    premature: Cell<u32>,
    abuse: Cell<Option<Http2Abuse>>,
    /// The last stream that was opened.
    last_stream: Cell<u32>,
    /// Streams whose head has come, and which the library has neither handed over nor refused.
    pending: RefCell<SmallVec<[u32; 4]>>,
    refused: RefCell<SmallVec<[LibraryRefusal; 2]>>,
    /// Bytes of a header block that has begun and not ended.
    open_head: Cell<usize>,
}

// === impl Conduct ===

impl Conduct {
    pub(super) fn new() -> Self {
        Self {
            allowance: FrameAllowance::new(),
            streams: Cell::new(0),
            premature: Cell::new(0),
            abuse: Cell::new(None),
            last_stream: Cell::new(0),
            pending: RefCell::default(),
            refused: RefCell::default(),
            open_head: Cell::new(0),
        }
    }

    /// The bound that the client has exceeded, if any.
    pub(super) fn abuse(&self) -> Option<Http2Abuse> {
        self.abuse.get()
    }

    /// Whether the client is close to its bound.
    pub(super) fn is_warned(&self) -> bool {
        self.allowance.left() <= WARNED_AT
    }

    /// Bytes of a header block that has begun and not ended: the library keeps them.
    pub(super) fn open_head(&self) -> usize {
        self.open_head.get()
    }

    /// So many bytes of a header block have come, and not its end.
    pub(super) fn set_open_head(&self, bytes: usize) {
        self.open_head.set(bytes);
    }

    /// A frame has come from the client.
    pub(super) fn received(&self, frame: Frame) {
        match frame.kind {
            HEADERS if frame.stream > self.last_stream.get() => {
                self.last_stream.set(frame.stream);
                self.pending.borrow_mut().push(frame.stream);
            }
            RST_STREAM => self.forget(frame.stream),
            DATA if frame.length > 0 || frame.ends_stream() => return,
            _ => {}
        }
        self.spend();
    }

    /// A frame has left for the client.
    pub(super) fn sent(&self, frame: Frame) {
        match frame.kind {
            RST_STREAM if self.is_pending(frame.stream) && frame.code != REFUSED => {
                self.refused.borrow_mut().push(LibraryRefusal::Reset(frame.code));
            }
            HEADERS if self.is_pending(frame.stream) => self.refused.borrow_mut().push(LibraryRefusal::TooLarge),
            RST_STREAM => {}
            _ => return,
        }
        self.forget(frame.stream);
    }

    /// A stream is served.
    pub(super) fn accepted(&self, stream: u32) {
        self.forget(stream);
        self.allowance.earn_stream();
    }

    /// Data was handed over.
    pub(super) fn sent_data(&self, length: usize) {
        self.allowance.earn_data(length);
    }

    /// A stream has ended. `premature`: the client reset it soon, before it had its answer (Envoy:
    /// `ConnectionManagerImpl::maybeDrainDueToPrematureResets`).
    pub(super) fn stream_ended(&self, premature: bool) {
        let streams = self.streams.get().saturating_add(1);
        self.streams.set(streams);
        if !premature {
            return;
        }
        let resets = self.premature.get().saturating_add(1);
        self.premature.set(resets);
        if resets >= streams.max(JUDGED_AFTER).div_ceil(2) {
            self.abuse.set(Some(Http2Abuse::PrematureResets));
        }
    }

    /// What the library has refused since the last call.
    pub(super) fn take_refused(&self) -> SmallVec<[LibraryRefusal; 2]> {
        self.refused.take()
    }

    fn is_pending(&self, stream: u32) -> bool {
        self.pending.borrow().contains(&stream)
    }

    fn forget(&self, stream: u32) {
        let mut pending = self.pending.borrow_mut();
        if let Some(at) = pending.iter().position(|other| *other == stream) {
            pending.remove(at);
        }
    }

    fn spend(&self) {
        if !self.allowance.spend() {
            self.abuse.set(Some(Http2Abuse::ControlFrames));
        }
    }
}

#[cfg(test)]
mod tests;
