//! What the frames of a host's HTTP/2 connection say of it: whether it speaks HTTP/2 at all, takes new streams, and stays within bounds. The
//! `h2` crate answers most frames by itself and does not report them. Pure, except for the clock.

use std::{cell::Cell, time::Duration};

use tokio::time::Instant;

use crate::proxy::wire::{
    frame_allowance::FrameAllowance,
    frames::{DATA, Frame, GOAWAY, HEADERS, SETTINGS},
};

/// Empty DATA frames after which a connection gets no new streams. The `h2` crate ends a connection at the 101st of its whole life, with
/// everything that is on its way.
const EMPTY_DATA: u32 = 50;

/// The conduct of one host's connection.
#[derive(Debug)]
pub(super) struct Conduct {
    allowance: FrameAllowance,
    fault: Cell<Option<&'static str>>,
    frames: Cell<u32>,
    /// Moves with every frame that does not carry on a header block.
    progress: Cell<u32>,
    /// A frame or a header block has begun and not ended.
    within: Cell<bool>,
    /// The number of the last SETTINGS frame that nobody has looked at.
    settings: Cell<Option<u32>>,
    leaving: Cell<bool>,
    empty_data: Cell<u32>,
    /// What the last look at the clock has seen: `progress`, and since when.
    stood: Cell<Option<(u32, Instant)>>,
}

// === impl Conduct ===

impl Conduct {
    pub(super) fn new() -> Self {
        Self {
            allowance: FrameAllowance::new(),
            fault: Cell::new(None),
            frames: Cell::new(0),
            progress: Cell::new(0),
            within: Cell::new(false),
            settings: Cell::new(None),
            leaving: Cell::new(false),
            empty_data: Cell::new(0),
            stood: Cell::new(None),
        }
    }

    /// A frame has come. `continues`: it carries on a header block.
    pub(super) fn received(&self, frame: Frame, continues: bool) {
        let number = self.frames.get().saturating_add(1);
        self.frames.set(number);
        if number == 1 && (frame.kind != SETTINGS || frame.is_ack() || frame.stream != 0) {
            self.give_up("the first frame is not SETTINGS");
            return;
        }
        if !continues {
            self.progress.set(self.progress.get().wrapping_add(1));
        }
        match frame.kind {
            DATA if frame.length > 0 || frame.ends_stream() => return,
            DATA => self.empty_data.set(self.empty_data.get().saturating_add(1)),
            SETTINGS if !frame.is_ack() => self.settings.set(Some(number)),
            GOAWAY => self.leaving.set(true),
            _ => {}
        }
        if !self.allowance.spend() {
            self.give_up("more frames beside answers and data than are taken");
        }
    }

    /// A frame has left for the host.
    pub(super) fn sent(&self, frame: Frame) {
        match frame.kind {
            HEADERS => self.allowance.earn_stream(),
            DATA => self.allowance.earn_data(frame.length),
            _ => {}
        }
    }

    /// Whether the bytes so far end within a frame or a header block.
    pub(super) fn set_within(&self, within: bool) {
        self.within.set(within);
    }

    /// The connection has to end, for this reason unless there is one already.
    pub(super) fn give_up(&self, why: &'static str) {
        self.fault.set(self.fault.get().or(Some(why)));
    }

    /// What is wrong with the host, if anything.
    pub(super) fn fault(&self) -> Option<&'static str> {
        self.fault.get()
    }

    /// Whether a SETTINGS frame has come, whole, since this was asked last.
    pub(super) fn take_settings(&self) -> bool {
        let whole = self.settings.get().is_some_and(|number| self.frames.get() > number || !self.within.get());
        if whole {
            self.settings.set(None);
        }
        whole
    }

    /// The frames that have come.
    pub(super) fn frames(&self) -> u32 {
        self.frames.get()
    }

    /// Whether no new streams may be opened.
    pub(super) fn is_leaving(&self) -> bool {
        self.leaving.get() || self.empty_data.get() >= EMPTY_DATA
    }

    /// Looks whether a frame or a header block has taken longer than this: nothing else comes through meanwhile.
    pub(super) fn check(&self, now: Instant, longest: Duration) {
        let progress = self.progress.get();
        match self.stood.get() {
            _ if !self.within.get() => self.stood.set(None),
            Some((seen, since)) if seen == progress => {
                if now.duration_since(since) >= longest {
                    self.give_up("a frame or a head did not end in time");
                }
            }
            Some(_) | None => self.stood.set(Some((progress, now))),
        }
    }
}

#[cfg(test)]
mod tests;
