//! Bounds the HTTP/2 frames of a client that carry neither requests nor data: an honest client sends few. Pure, except for the clock.
//!
//! A frame costs the client next to nothing, and the gateway more. A stream that is opened and reset costs the gateway a request to a host.

use std::cell::Cell;

use crate::{
    proxy::wire::{
        frame_allowance::{BURST, FrameAllowance},
        frames::{DATA, Frame},
    },
    telemetry::Http2Abuse,
};

/// With no more left than this it is told to come back on a new connection, which costs an honest client nothing.
const WARNED_AT: u32 = BURST / 4;

/// Streams after which the share of those that were reset prematurely must be below a half (Envoy: `premature_reset_total_stream_count`,
/// there 500).
const JUDGED_AFTER: u32 = 200;

/// The conduct of one client.
#[derive(Debug)]
pub(super) struct Conduct {
    /// Frames that it may still send.
    allowance: FrameAllowance,
    streams: Cell<u32>,
    premature: Cell<u32>,
    abuse: Cell<Option<Http2Abuse>>,
}

// === impl Conduct ===

impl Conduct {
    pub(super) fn new() -> Self {
        Self { allowance: FrameAllowance::new(), streams: Cell::new(0), premature: Cell::new(0), abuse: Cell::new(None) }
    }

    /// The bound that the client has exceeded, if any.
    pub(super) fn abuse(&self) -> Option<Http2Abuse> {
        self.abuse.get()
    }

    /// Whether the client is close to its bound.
    pub(super) fn is_warned(&self) -> bool {
        self.allowance.left() <= WARNED_AT
    }

    /// A frame has come from the client.
    pub(super) fn received(&self, frame: Frame) {
        if frame.kind != DATA || (frame.length == 0 && !frame.ends_stream()) {
            self.spend();
        }
    }

    /// A stream is served.
    pub(super) fn accepted(&self) {
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

    fn spend(&self) {
        if !self.allowance.spend() {
            self.abuse.set(Some(Http2Abuse::ControlFrames));
        }
    }
}

#[cfg(test)]
mod tests;
