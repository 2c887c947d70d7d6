//! What a client's socket does, counted for the worker's tick.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    task::{Poll, Waker},
};

/// What a socket does. Shared with the connection's record.
#[derive(Clone, Debug, Default)]
pub(in crate::proxy) struct Activity(Rc<Seen>);

#[derive(Debug, Default)]
struct Seen {
    reads: Cell<u32>,
    writes: Cell<u32>,
    stalled: Cell<bool>,
    /// Bytes that TLS keeps until it has more to make something of them.
    unread: Cell<usize>,
    /// Who waits for the client to read.
    waiting: RefCell<Vec<Waker>>,
}

// === impl Activity ===

impl Activity {
    /// Reads so far, wrapping.
    pub(in crate::proxy) fn reads(&self) -> u32 {
        self.0.reads.get()
    }

    /// Successful writes so far, wrapping.
    pub(in crate::proxy) fn writes(&self) -> u32 {
        self.0.writes.get()
    }

    /// Whether the client's side is full, so that something waits to be written.
    pub(in crate::proxy) fn is_stalled(&self) -> bool {
        self.0.stalled.get()
    }

    /// Bytes that TLS keeps until it has more to make something of them, beyond a few.
    pub(in crate::proxy) fn unread(&self) -> usize {
        self.0.unread.get()
    }

    /// TLS keeps so many bytes.
    pub(in crate::proxy) fn set_unread(&self, bytes: usize) {
        self.0.unread.set(bytes);
    }

    /// Wakes a task once the client has read something of what waits for it.
    pub(in crate::proxy) fn wake_when_read(&self, waker: &Waker) {
        let mut waiting = self.0.waiting.borrow_mut();
        if !waiting.iter().any(|other| other.will_wake(waker)) {
            waiting.push(waker.clone());
        }
    }

    /// Counts a read that has come to something.
    pub(in crate::proxy) fn read<T>(&self, polled: Poll<T>) -> Poll<T> {
        if polled.is_ready() {
            self.0.reads.set(self.0.reads.get().wrapping_add(1));
        }
        polled
    }

    /// Counts a write that has come to something, and notes one that has not.
    pub(in crate::proxy) fn written<T>(&self, polled: Poll<T>) -> Poll<T> {
        let was_stalled = self.0.stalled.replace(polled.is_pending());
        if polled.is_ready() {
            self.0.writes.set(self.0.writes.get().wrapping_add(1));
            if was_stalled {
                self.0.waiting.borrow_mut().drain(..).for_each(Waker::wake);
            }
        }
        polled
    }
}
