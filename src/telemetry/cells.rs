//! Counters with one writer and any number of readers: an addition is a plain load and store.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A number that one thread changes and any thread reads.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

/// Observations by bucket, changed by one thread. `BUCKETS` is the number of bounds plus one.
#[derive(Debug)]
pub(super) struct Histogram<const BUCKETS: usize> {
    buckets: [Count; BUCKETS],
    /// In millionths of the observed unit.
    sum: Count,
}

/// A histogram's content at one moment; sums of several shards.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct HistogramTotal {
    /// Observations in each bucket, not cumulated.
    pub(super) buckets: Vec<u64>,
    /// Sum of the observations, in millionths of the unit.
    pub(super) sum: u64,
}

// === impl Count ===

impl Count {
    pub(super) fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    pub(super) fn subtract(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_sub(n), Relaxed);
    }

    pub(super) fn set(&self, n: u64) {
        self.0.store(n, Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }

    /// For the few numbers that several threads change.
    pub(super) fn add_shared(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }
}

// === impl Histogram ===

impl<const BUCKETS: usize> Default for Histogram<BUCKETS> {
    fn default() -> Self {
        Self { buckets: std::array::from_fn(|_| Count::default()), sum: Count::default() }
    }
}

impl<const BUCKETS: usize> Histogram<BUCKETS> {
    /// Counts an observation given in millionths of the unit of `bounds`, which are in millionths too and ascend.
    pub(super) fn observe(&self, millionths: u64, bounds: &[u64]) {
        let bucket = bounds.partition_point(|&bound| bound < millionths);
        if let Some(count) = self.buckets.get(bucket) {
            count.add(1);
        }
        self.sum.add(millionths);
    }

    pub(super) fn add_to(&self, total: &mut HistogramTotal) {
        total.buckets.resize(BUCKETS, 0);
        for (sum, count) in total.buckets.iter_mut().zip(&self.buckets) {
            *sum += count.get();
        }
        total.sum = total.sum.wrapping_add(self.sum.get());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_observation_equal_to_a_bound_counts_below_it() {
        let histogram = Histogram::<3>::default();
        for value in [1, 10, 11, 20, 21, 1_000] {
            histogram.observe(value, &[10, 20]);
        }
        let mut total = HistogramTotal::default();
        histogram.add_to(&mut total);
        assert_eq!(total, HistogramTotal { buckets: vec![2, 2, 2], sum: 1_063 });
        histogram.add_to(&mut total);
        assert_eq!(total.buckets, [4, 4, 4]);
    }

    #[test]
    fn a_gauge_goes_up_and_down() {
        let count = Count::default();
        count.add(3);
        count.subtract(2);
        assert_eq!(count.get(), 1);
    }
}
