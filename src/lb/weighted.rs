//! The split of a rule's requests between its weighted backends.

use crate::lb::draw::below;

/// Backends by index, each with its share of the requests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WeightedSplit {
    shares: Shares,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Shares {
    /// No backend has a weight above 0: nobody may be asked.
    #[default]
    Drained,
    /// Exactly one backend has a weight above 0.
    One(usize),
    /// Where each backend's share ends. The last end is the sum of the weights.
    Ends(Box<[u64]>),
}

impl WeightedSplit {
    /// A split in proportion to the weights; 0 is never picked.
    #[must_use]
    pub fn new(weights: &[u32]) -> Self {
        let mut weighted = weights.iter().enumerate().filter(|(_, weight)| **weight > 0);
        let shares = match (weighted.next(), weighted.next()) {
            (None, _) => Shares::Drained,
            (Some((backend, _)), None) => Shares::One(backend),
            (Some(_), Some(_)) => Shares::Ends(
                weights
                    .iter()
                    .scan(0, |end, weight| {
                        *end += u64::from(*weight);
                        Some(*end)
                    })
                    .collect(),
            ),
        };
        Self { shares }
    }

    /// Whether no backend may be picked, because all weights are 0 or there is none.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.shares == Shares::Drained
    }

    /// The weight of a backend; 1 for the only one that has any.
    #[must_use]
    pub fn weight(&self, backend: usize) -> u64 {
        match &self.shares {
            Shares::Drained => 0,
            Shares::One(only) => u64::from(backend == *only),
            Shares::Ends(ends) => {
                let end = |backend: usize| ends.get(backend).copied();
                let before = backend.checked_sub(1).and_then(end).unwrap_or(0);
                end(backend).map_or(0, |end| end - before)
            }
        }
    }

    /// The backend for a uniform random number; `None` if drained.
    #[must_use]
    pub fn pick(&self, random: u64) -> Option<usize> {
        self.pick_at(|sum| below(sum, random))
    }

    /// The backend for a request's hash, as Envoy's `weighted_clusters.use_hash_policy`; `None` if drained.
    #[must_use]
    pub fn pick_by_hash(&self, hash: u64) -> Option<usize> {
        self.pick_at(|sum| hash % sum)
    }

    fn pick_at(&self, point_below: impl Fn(u64) -> u64) -> Option<usize> {
        match &self.shares {
            Shares::Drained => None,
            Shares::One(backend) => Some(*backend),
            Shares::Ends(ends) => {
                let point = point_below(*ends.last()?);
                ends.iter().position(|end| point < *end)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::WeightedSplit;

    #[test]
    fn without_weights_the_split_is_drained() {
        for weights in [&[][..], &[0], &[0, 0]] {
            let split = WeightedSplit::new(weights);
            assert!(split.is_drained());
            assert_eq!((split.pick(1), split.pick_by_hash(1)), (None, None));
        }
        assert!(!WeightedSplit::new(&[0, 1]).is_drained());
    }

    #[test]
    fn the_only_weighted_backend_gets_all() {
        let split = WeightedSplit::new(&[0, 3, 0]);
        assert_eq!((split.pick(0), split.pick(u64::MAX), split.pick_by_hash(7)), (Some(1), Some(1), Some(1)));
    }

    #[test]
    fn hashes_fall_on_cumulative_weights() {
        let split = WeightedSplit::new(&[30, 0, 70]);
        for (hash, backend) in [(0, 0), (29, 0), (30, 2), (99, 2), (100, 0), (129, 0), (130, 2)] {
            assert_eq!(split.pick_by_hash(hash), Some(backend), "hash {hash}");
        }
        assert_eq!((split.pick(0), split.pick(u64::MAX)), (Some(0), Some(2)));
    }

    proptest! {
        #[test]
        fn shares_hold(weights in prop::collection::vec(0..50_u32, 1..6)) {
            let split = WeightedSplit::new(&weights);
            let sum: u32 = weights.iter().sum();
            prop_assume!(sum > 0);
            // One random number per unit of weight, in the middle of its part of the range.
            let mut picks = vec![0; weights.len()];
            for unit in 0..u64::from(sum) {
                let random = ((u128::from(2 * unit + 1) << 63) / u128::from(sum)) as u64;
                picks[split.pick(random).unwrap()] += 1;
            }
            prop_assert_eq!(&picks, &weights);
            let mut by_hash = vec![0; weights.len()];
            for hash in 0..u64::from(sum) {
                by_hash[split.pick_by_hash(hash).unwrap()] += 1;
            }
            prop_assert_eq!(&by_hash, &weights);
        }
    }
}
