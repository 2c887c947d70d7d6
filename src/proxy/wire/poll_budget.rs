//! How long one exchange may keep its worker.

use std::{future::Future as _, pin::pin, task::Context};

/// What one poll may cost, in bytes moved: the largest read.
const BUDGET: usize = 256 * 1024;
/// What a piece of a body costs beside its bytes: it goes through the other leg, often with a system call.
const PIECE_COST: usize = 4 * 1024;
/// What a chunk costs beside its bytes.
const CHUNK_COST: usize = 64;
/// What a record of TLS costs beside its bytes: it is deciphered on its own, and may ask for new keys.
const RECORD_COST: usize = 512;

/// Counts what a peer makes one poll do. tokio's own budget counts reads, but not what is taken out of a buffer or out of another leg's
/// queue: a peer that sends chunks or frames of one byte would keep all others of the worker waiting.
#[derive(Debug, Default)]
pub(in crate::proxy) struct PollBudget {
    spent: usize,
}

/// Wakes the task after the worker's others. The caller returns `Pending`.
///
/// The task does not wake itself: tokio would look for new events only after dozens of such turns. `yield_now` lets it look at once.
pub(in crate::proxy) fn give_way(cx: &mut Context<'_>) {
    let _ = pin!(tokio::task::yield_now()).poll(cx);
}

// === impl PollBudget ===

impl PollBudget {
    /// A piece of a body went through, made of this many chunks.
    pub(in crate::proxy) fn spend(&mut self, bytes: usize, chunks: usize) {
        self.spent = self.spent.saturating_add(PIECE_COST + bytes + chunks.saturating_mul(CHUNK_COST));
    }

    /// So much of TLS was read, in which this many records ended.
    pub(in crate::proxy) fn spend_records(&mut self, bytes: usize, records: usize) {
        self.spent = self.spent.saturating_add(PIECE_COST + bytes + records.saturating_mul(RECORD_COST));
    }

    /// Whether the budget is spent. Then the caller returns `Pending`, and its task is woken after the worker's others with a new budget.
    pub(in crate::proxy) fn is_spent(&mut self, cx: &mut Context<'_>) -> bool {
        let over = self.spent >= BUDGET;
        if over {
            self.spent = 0;
            give_way(cx);
        }
        over
    }

    /// The task waits for something: its next poll has a new budget.
    pub(in crate::proxy) fn reset(&mut self) {
        self.spent = 0;
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    #[test]
    fn large_pieces_small_pieces_and_small_chunks_all_end_a_turn() {
        let mut cx = Context::from_waker(Waker::noop());
        for (bytes, chunks, at_most) in [(256 * 1024, 1, 1), (1, 1, 64), (1024, 1024, 4)] {
            let mut budget = PollBudget::default();
            let mut pieces = 0;
            while !budget.is_spent(&mut cx) {
                budget.spend(bytes, chunks);
                pieces += 1;
            }
            assert!(pieces <= at_most, "{bytes} bytes in {chunks} chunks: {pieces} pieces");
            assert!(!budget.is_spent(&mut cx), "a new turn begins");
        }
    }

    #[test]
    fn small_records_end_a_turn_sooner_than_their_bytes() {
        let mut cx = Context::from_waker(Waker::noop());
        for (bytes, records, at_most) in [(4096, 178, 3), (4096, 1, 31), (16 * 1024, 1, 13)] {
            let mut budget = PollBudget::default();
            let mut reads = 0;
            while !budget.is_spent(&mut cx) {
                budget.spend_records(bytes, records);
                reads += 1;
            }
            assert_eq!(reads, at_most, "{bytes} bytes in {records} records");
        }
    }
}
