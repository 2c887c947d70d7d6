//! Bytes buffered for clients and hosts: how many there may be for all connections together, and how much each may read.
//!
//! A body in one direction may hold a fixed share of what is still free (dynamic thresholds, as switches divide the memory that their
//! ports share: Choudhury and Hahne, "Dynamic queue length thresholds for shared-memory packet switches", 1998). The fuller the buffers,
//! the smaller the share: the heaviest are cut first, light ones go on, and nobody keeps a list of who is heavy. At the least a body moves
//! in small pieces, and a piece is read only when the one before it has left: a peer that does not read stops only what is read for it.
//! Workers draw on the process's budget in lots, so that a piece that is read or written costs no atomic operation but one load.

use std::{
    cell::Cell,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use crate::{
    base::{Overload, OverloadLevel},
    telemetry::{RequestRefusal, WorkerMetrics},
};

use super::flight::Flight;

/// What one body may hold of what is free: one part of so many.
const SHARE: usize = 64;

/// Part of the budget that must be free for new work: one of so many.
const RESERVE: usize = 64;

/// Part of the budget that is to be free again once what does not move had to be given up: one of so many.
const RELIEF: usize = 16;

/// Parts into which the budget is divided: what a worker draws, and gives back, at a time.
const LOTS: usize = 256;

/// Most bytes of such a part.
const LARGEST_LOT: usize = 1 << 20;

/// Bytes that may be read at a time whatever there is: nothing would move else, and nothing be released.
const LEAST_READ: usize = 8 * 1024;

/// The process's budget.
#[derive(Debug)]
pub(in crate::proxy) struct SharedBudget {
    /// Bytes there may be.
    most: usize,
    /// Bytes in a lot.
    lot: usize,
    /// Bytes that workers have drawn, whether they need all of them or not.
    drawn: AtomicUsize,
    overload: Arc<Overload>,
}

/// A worker's part of it.
#[derive(Debug)]
pub(in crate::proxy) struct Budget {
    shared: Arc<SharedBudget>,
    metrics: Arc<WorkerMetrics>,
    drawn: Cell<usize>,
    charged: Cell<usize>,
}

/// What is buffered of one body. Dropping it releases all of it.
#[derive(Debug)]
pub(in crate::proxy) struct Account {
    budget: Rc<Budget>,
    /// The request that holds it; none where what is buffered is not waiting to go on.
    flight: Option<Rc<Flight>>,
    bytes: Cell<usize>,
}

// === impl SharedBudget ===

impl SharedBudget {
    /// A budget of `most` bytes.
    pub(in crate::proxy) fn new(most: usize, overload: Arc<Overload>) -> Self {
        Self { most, lot: (most / LOTS).clamp(1, LARGEST_LOT), drawn: AtomicUsize::new(0), overload }
    }

    /// What there may be at this moment: where memory runs out for whatever reason, buffers are what can be given back.
    fn most(&self) -> usize {
        match self.overload.level() {
            OverloadLevel::None => self.most,
            OverloadLevel::DisableKeepAlive => self.most / 2,
            OverloadLevel::StopAcceptingRequests => self.most / 4,
            OverloadLevel::RejectIncomingConnections => self.most / 8,
        }
    }

    /// Whole lots that cover this many bytes.
    fn lots(&self, bytes: usize) -> usize {
        bytes.div_ceil(self.lot).saturating_mul(self.lot)
    }
}

// === impl Budget ===

impl Budget {
    pub(in crate::proxy) fn new(shared: Arc<SharedBudget>, metrics: Arc<WorkerMetrics>) -> Self {
        Self { shared, metrics, drawn: Cell::new(0), charged: Cell::new(0) }
    }

    /// Bytes that are buffered for this worker's connections.
    pub(in crate::proxy) fn charged(&self) -> usize {
        self.charged.get()
    }

    /// Whether so much is buffered in the whole process that new work has to be refused.
    pub(in crate::proxy) fn is_over(&self) -> bool {
        self.free(self.shared.most) <= self.shared.most / RESERVE
    }

    /// Whether a head of which so many bytes have come, and not its end, has to be given up: a small one never.
    pub(in crate::proxy) fn cuts_head(&self, bytes: usize) -> bool {
        bytes > LEAST_READ && self.is_over()
    }

    /// Bytes that have to be released before new work is taken on with some room; nothing while there is enough.
    pub(in crate::proxy) fn relief(&self) -> usize {
        let most = self.shared.most;
        if self.is_over() { (most / RELIEF).saturating_sub(self.free(most)) } else { 0 }
    }

    /// Bytes of `most` that nobody uses. What other workers have drawn counts as used.
    fn free(&self, most: usize) -> usize {
        let unused = self.drawn.get() - self.charged.get();
        most.saturating_sub(self.shared.drawn.load(Relaxed).saturating_sub(unused))
    }

    fn charge(&self, bytes: usize) {
        let charged = self.charged.get() + bytes;
        self.charged.set(charged);
        let drawn = self.drawn.get();
        if charged > drawn {
            let lots = self.shared.lots(charged - drawn);
            self.shared.drawn.fetch_add(lots, Relaxed);
            self.drawn.set(drawn + lots);
        }
    }

    fn release(&self, bytes: usize) {
        let charged = self.charged.get() - bytes;
        self.charged.set(charged);
        // One lot is kept: else a worker at the edge of one would draw and give back with every piece.
        let (drawn, needed) = (self.drawn.get(), self.shared.lots(charged) + self.shared.lot);
        if drawn > needed {
            self.shared.drawn.fetch_sub(drawn - needed, Relaxed);
            self.drawn.set(needed);
        }
    }
}

// === impl Account ===

impl Account {
    /// An account with nothing in it, for what a request is passing on.
    pub(in crate::proxy) fn new(budget: &Rc<Budget>, flight: &Rc<Flight>) -> Self {
        Self { budget: Rc::clone(budget), flight: Some(Rc::clone(flight)), bytes: Cell::new(0) }
    }

    /// An account with nothing in it, for what is kept and does not have to move.
    pub(in crate::proxy) fn at_rest(budget: &Rc<Budget>) -> Self {
        Self { budget: Rc::clone(budget), flight: None, bytes: Cell::new(0) }
    }

    /// So many bytes are buffered from now on. It never fails: they are there already.
    pub(in crate::proxy) fn set(&self, bytes: usize) {
        let before = self.bytes.replace(bytes);
        if bytes > before {
            self.budget.charge(bytes - before);
        } else {
            self.budget.release(before - bytes);
        }
        if let Some(flight) = &self.flight {
            flight.buffered.set((flight.buffered.get() + bytes).saturating_sub(before));
        }
    }

    /// So many more are, up to `most` altogether.
    pub(in crate::proxy) fn add(&self, bytes: usize, most: usize) {
        self.set(self.bytes.get().saturating_add(bytes).min(most));
    }

    /// How many bytes may be read in one piece now.
    pub(in crate::proxy) fn room(&self) -> usize {
        let share = self.budget.free(self.budget.shared.most()) / SHARE;
        let room = share.saturating_sub(self.bytes.get());
        if room < LEAST_READ {
            self.budget.metrics.read_shortened();
            return LEAST_READ;
        }
        room
    }

    /// Whether so many bytes, of which nothing can be used before more have come, have to be given up: a few never. It is counted.
    pub(in crate::proxy) fn cuts(&self, bytes: usize) -> bool {
        let cuts = self.budget.cuts_head(bytes);
        if cuts {
            self.budget.metrics.request_refused(RequestRefusal::Buffers);
        }
        cuts
    }

    /// Whether as much is buffered of the body as its share allows.
    pub(in crate::proxy) fn is_full(&self) -> bool {
        self.bytes.get() > self.budget.free(self.budget.shared.most()) / SHARE
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.set(0);
    }
}

/// A budget of a worker without a ceiling.
#[cfg(test)]
pub(in crate::proxy) fn unlimited() -> Rc<Budget> {
    Rc::new(Budget::new(Arc::new(SharedBudget::new(usize::MAX, Arc::default())), Arc::default()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIB: usize = 1 << 20;

    fn workers<const N: usize>(most: usize) -> [Rc<Budget>; N] {
        let shared = Arc::new(SharedBudget::new(most, Arc::default()));
        std::array::from_fn(|_| Rc::new(Budget::new(Arc::clone(&shared), Arc::default())))
    }

    #[test]
    fn the_heaviest_are_cut_first_and_light_ones_go_on() {
        let [budget] = workers(64 * MIB);
        let [heavy, light, others] = std::array::from_fn(|_| Account::at_rest(&budget));
        heavy.set(500_000);
        light.set(20_000);
        assert!(heavy.room() > 500_000, "alone it may hold about a megabyte");
        others.set(40 * MIB);
        assert_eq!(heavy.room(), LEAST_READ, "a share of the 23 MiB that are free is less than it has");
        assert!(light.room() > 300_000 && !light.is_full(), "the light one does not notice");
        others.set(64 * MIB);
        assert_eq!((light.room(), light.is_full()), (LEAST_READ, true));
        assert!(budget.is_over());
        drop(others);
        assert!(!budget.is_over() && heavy.room() > 500_000);
    }

    #[test]
    fn relief_is_asked_for_once_new_work_is_refused() {
        let [budget] = workers(64 * MIB);
        let account = Account::at_rest(&budget);
        account.set(62 * MIB);
        assert_eq!((budget.is_over(), budget.relief()), (false, 0));
        account.set(63 * MIB + MIB / 2);
        assert!(budget.is_over() && (3 * MIB..=4 * MIB).contains(&budget.relief()), "{}", budget.relief());
    }

    #[test]
    fn what_one_worker_uses_the_others_lack() {
        let [one, other] = workers(64 * MIB);
        let hog = Account::at_rest(&one);
        hog.set(64 * MIB);
        assert!(one.is_over() && other.is_over());
        assert_eq!((one.charged(), other.charged()), (64 * MIB, 0));
        hog.set(32 * MIB);
        assert!(!one.is_over() && !other.is_over());
    }

    #[test]
    fn where_memory_runs_out_less_is_buffered_but_new_work_goes_by_the_whole() {
        let [budget] = workers(64 * MIB);
        let [account, others] = std::array::from_fn(|_| Account::at_rest(&budget));
        account.set(300_000);
        others.set(16 * MIB);
        for (level, reads) in [
            (OverloadLevel::None, true),
            (OverloadLevel::DisableKeepAlive, false),
            (OverloadLevel::RejectIncomingConnections, false),
            (OverloadLevel::None, true),
        ] {
            budget.shared.overload.publish(level);
            assert_eq!((account.room() > LEAST_READ, budget.is_over()), (reads, false), "{level:?}");
        }
    }

    #[test]
    fn without_a_ceiling_nothing_is_ever_short() {
        let budgets: [_; 256] = workers(usize::MAX);
        let accounts = budgets.each_ref().map(|budget| {
            let account = Account::at_rest(budget);
            account.set(64 * MIB);
            account
        });
        assert!(accounts.iter().all(|account| account.room() > 1 << 40) && !budgets.iter().any(|budget| budget.is_over()));
    }

    proptest! {
        /// Whoever reads as much as may be read, all together buffer no more than the budget and one least read each; and nothing is lost.
        #[test]
        fn readers_stay_within_the_budget(steps in proptest::collection::vec((0_usize..12, 0_usize..4, 0_usize..200_000), 1..400)) {
            let [one, other] = workers(MIB);
            let mut accounts: Vec<_> = (0..12).map(|index| Account::at_rest(if index % 3 == 0 { &other } else { &one })).collect();
            for (index, step, bytes) in steps {
                match step {
                    0 => accounts[index] = Account::at_rest(if bytes % 2 == 0 { &one } else { &other }),
                    1 => accounts[index].set(0),
                    // A piece is read when the one before it has left.
                    _ => {
                        accounts[index].set(0);
                        accounts[index].set(accounts[index].room());
                    }
                }
                let held: usize = accounts.iter().map(|account| account.bytes.get()).sum();
                prop_assert_eq!(held, one.charged() + other.charged());
                prop_assert!(held <= MIB + 12 * LEAST_READ, "{} bytes", held);
                prop_assert!(one.shared.drawn.load(Relaxed) >= held);
            }
            accounts.clear();
            prop_assert_eq!((one.charged(), other.charged()), (0, 0));
            prop_assert!(one.shared.drawn.load(Relaxed) <= 2 * one.shared.lot);
        }
    }
}
