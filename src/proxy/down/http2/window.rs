//! What a client may send: the window of a connection or of a stream (RFC 9113 section 5.2). Pure.

use std::cell::Cell;

/// The window of a connection, and that of a stream until SETTINGS say otherwise (RFC 9113 section 6.9.2).
pub(super) const DEFAULT: u32 = 65_535;
/// The largest.
pub(super) const LARGEST: i64 = 0x7fff_ffff;

/// What the client may send.
#[derive(Debug)]
pub(super) struct ReceiveWindow {
    left: Cell<i64>,
    /// What it is to be when everything has been read.
    full: u32,
    /// Read, and not told to the client yet.
    untold: Cell<u32>,
}

// === impl ReceiveWindow ===

impl ReceiveWindow {
    /// A window that the client takes for `told`, and is to be `full`.
    pub(super) fn new(told: u32, full: u32) -> Self {
        Self { left: Cell::new(i64::from(told)), full, untold: Cell::new(full.saturating_sub(told)) }
    }

    /// So much has come; whether it was allowed.
    pub(super) fn take(&self, length: usize) -> bool {
        let left = self.left.get() - i64::try_from(length).unwrap_or(i64::MAX);
        self.left.set(left);
        left >= 0
    }

    /// So much was read; `Some`: the client has to be told that it may send this much more. It is told when that is half the window.
    pub(super) fn give(&self, length: usize) -> Option<u32> {
        let untold = self.untold.get().saturating_add(u32::try_from(length).unwrap_or(u32::MAX));
        self.untold.set(untold);
        (untold >= self.full.div_ceil(2).max(1)).then(|| {
            self.untold.set(0);
            self.left.set(self.left.get() + i64::from(untold));
            untold
        })
    }

    /// What the client took the window for has turned out to be less, or more, by so much.
    pub(super) fn correct(&self, by: i64) {
        self.left.set(self.left.get() + by);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_told_when_half_of_its_window_has_been_read() {
        let window = ReceiveWindow::new(100, 100);
        assert!(window.take(60));
        assert_eq!((window.give(49), window.give(1)), (None, Some(50)));
        assert!(window.take(90), "40 and 50");
        assert!(!window.take(1));
    }

    #[test]
    fn a_larger_window_than_the_first_is_told_at_once() {
        let window = ReceiveWindow::new(DEFAULT, 1024 * 1024);
        assert_eq!(window.give(0), Some(1024 * 1024 - DEFAULT));
        assert_eq!(ReceiveWindow::new(DEFAULT, DEFAULT).give(0), None);
        let smaller = ReceiveWindow::new(DEFAULT, 1000);
        assert_eq!(smaller.give(0), None);
        smaller.correct(1000 - i64::from(DEFAULT));
        assert!(smaller.take(1000) && !smaller.take(1));
    }
}
