//! How many frames of HTTP/2 that carry neither requests nor data a peer may send: an honest one sends few, and each costs it less than the
//! gateway. Pure, except for the clock.

use std::cell::Cell;

use tokio::time::Instant;

/// Frames beside requests and data that a connection may send at once.
pub(in crate::proxy) const BURST: u32 = 1000;
/// More of them for each second,
const PER_SECOND: u32 = 100;
/// for each stream that is served,
pub(in crate::proxy) const PER_STREAM: u32 = 20;
/// and for each frame's worth of data that is sent: ten updates of the stream's window and ten of the connection's, as Envoy allows
/// (`max_inbound_window_update_frames_per_data_frame_sent`).
pub(in crate::proxy) const PER_DATA: u32 = 20;
/// What a DATA frame carries at most, unless the peer wants more.
pub(in crate::proxy) const DATA_FRAME: usize = 16 * 1024;

/// The frames that one peer may still send.
#[derive(Debug)]
pub(in crate::proxy) struct FrameAllowance {
    left: Cell<u32>,
    filled: Cell<Instant>,
}

// === impl FrameAllowance ===

impl FrameAllowance {
    pub(in crate::proxy) fn new() -> Self {
        Self { left: Cell::new(BURST), filled: Cell::new(Instant::now()) }
    }

    /// Frames that are left.
    pub(in crate::proxy) fn left(&self) -> u32 {
        self.left.get()
    }

    /// A stream is served.
    pub(in crate::proxy) fn earn_stream(&self) {
        self.earn(PER_STREAM);
    }

    /// So many bytes of data were sent.
    pub(in crate::proxy) fn earn_data(&self, length: usize) {
        let frames = u32::try_from(length.div_ceil(DATA_FRAME)).unwrap_or(u32::MAX);
        self.earn(frames.saturating_mul(PER_DATA));
    }

    /// A frame has come; whether it was allowed.
    pub(in crate::proxy) fn spend(&self) -> bool {
        // What time brings is added when it is needed: a look at the clock costs more than the rest.
        if self.left.get() <= BURST / 2 {
            self.fill();
        }
        let left = self.left.get().checked_sub(1);
        self.left.set(left.unwrap_or(0));
        left.is_some()
    }

    fn earn(&self, frames: u32) {
        self.left.set(self.left.get().saturating_add(frames).min(BURST));
    }

    fn fill(&self) {
        let now = Instant::now();
        let since = now.duration_since(self.filled.get()).as_secs_f64();
        let earned = (since * f64::from(PER_SECOND)) as u32;
        if earned > 0 {
            self.filled.set(now);
            self.earn(earned);
        }
    }
}
