//! The split of keys between weighted backends, by which a key stays with its backend as far as the weights allow.

use std::collections::HashMap;

use crate::lb::hash::xxh64;

/// Keeps what a key draws here apart from every other use of its hash.
const SALT: u64 = 0x73_70_6c_69_74_5f_5f_31;

/// Backends by index, each with its share of the keys: weighted rendezvous hashing.
///
/// A key draws a number for each backend, from the backend's name alone, and the weights decide between the numbers. So a backend whose weight
/// is raised takes keys from the others and no other key moves, and they return where they came from when it is lowered again. The order of
/// the backends does not matter.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HashSplit {
    backends: Box<[Backend]>,
}

/// A backend that may be picked.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Backend {
    index: usize,
    name_hash: u64,
    weight: f64,
}

impl HashSplit {
    /// A split between these names, which say from one configuration to the next which backend is the same. Backends of one name are told
    /// apart by their order. A weight of 0 is never picked.
    #[must_use]
    pub fn new<N: AsRef<str>>(backends: &[(N, u32)]) -> Self {
        let mut seen: HashMap<&str, u64> = HashMap::new();
        let mut found = Vec::with_capacity(backends.len());
        for (index, (name, weight)) in backends.iter().enumerate() {
            let name = name.as_ref();
            let same_before = seen.entry(name).or_default();
            let name_hash = xxh64(name.as_bytes(), SALT.wrapping_add(*same_before));
            *same_before += 1;
            if *weight > 0 {
                found.push(Backend { index, name_hash, weight: f64::from(*weight) });
            }
        }
        // Of two equal scores the first one is taken.
        found.sort_by_key(|backend| (backend.name_hash, backend.index));
        Self { backends: found.into() }
    }

    /// Whether no backend may be picked, because all weights are 0 or there is none.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.backends.is_empty()
    }

    /// The backend of a key's hash; `None` if drained.
    #[must_use]
    pub fn pick(&self, hash: u64) -> Option<usize> {
        let (first, others) = self.backends.split_first()?;
        if others.is_empty() {
            return Some(first.index);
        }
        let mut best = (first.score(hash), first.index);
        for backend in others {
            let score = backend.score(hash);
            if score < best.0 {
                best = (score, backend.index);
            }
        }
        Some(best.1)
    }
}

impl Backend {
    /// The lowest one wins: exponentially distributed, with the weight as its rate.
    fn score(&self, hash: u64) -> f64 {
        let mut text = [0; 16];
        let (name, key) = text.split_at_mut(8);
        name.copy_from_slice(&self.name_hash.to_le_bytes());
        key.copy_from_slice(&hash.to_le_bytes());
        minus_ln(xxh64(&text, SALT)) / self.weight
    }
}

/// `-ln((draw / 2^12 + 1/2) / 2^52)`, where the quotient is a whole number.
///
/// Only with operations that IEEE 754 rounds in one way: replicas may run on processors of different kinds, whose libraries have logarithms that
/// differ in the last bit. By the series of the inverse hyperbolic tangent; what is left out is less than the last bit.
fn minus_ln(draw: u64) -> f64 {
    // Exact: 53 bits. The odd last bit keeps it away from 0, and from 1.
    let odd = ((draw >> 12) << 1) | 1;
    let bits = 64 - odd.leading_zeros();
    // odd = mantissa * 2^bits, 1/2 <= mantissa < 1, moved to around 1 where the series is short.
    let mantissa = odd as f64 / (1_u64 << bits) as f64;
    let (mantissa, exponent) = if mantissa < std::f64::consts::FRAC_1_SQRT_2 { (mantissa * 2.0, bits - 1) } else { (mantissa, bits) };
    let tangent = (mantissa - 1.0) / (mantissa + 1.0);
    let square = tangent * tangent;
    let series = (0..=10_u8).rev().fold(0.0, |sum, term| sum * square + 1.0 / f64::from(2 * term + 1));
    // The draw is odd / 2^53.
    f64::from(53 - exponent) * std::f64::consts::LN_2 - 2.0 * tangent * series
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::lb::draw::next_random;

    fn hashes(seed: u64) -> impl Iterator<Item = u64> {
        let mut state = seed;
        std::iter::repeat_with(move || next_random(&mut state))
    }

    fn split(weights: &[u32]) -> HashSplit {
        let backends: Vec<_> = weights.iter().enumerate().map(|(n, weight)| (format!("shop/v{n}:80"), *weight)).collect();
        HashSplit::new(&backends)
    }

    #[test]
    fn the_logarithm_is_one() {
        let exact = |draw: u64| -(((draw >> 12) as f64 + 0.5) / 2_f64.powi(52)).ln();
        let edges = [0, 1 << 12, 1 << 62, 1 << 63, 3 << 62, u64::MAX, u64::MAX - (1 << 12), 0xb504_f333_f9de_6484];
        for draw in hashes(3).take(100_000).chain(edges) {
            let (ours, exact) = (minus_ln(draw), exact(draw));
            assert!(ours > 0.0 && (ours - exact).abs() <= exact * 1e-15 + 2e-16, "{draw:#x}: {ours} {exact}");
        }
    }

    #[test]
    fn without_weights_the_split_is_drained() {
        for weights in [&[][..], &[0], &[0, 0]] {
            assert!(split(weights).is_drained());
            assert_eq!(split(weights).pick(1), None);
        }
        assert!(hashes(1).take(100).all(|hash| split(&[0, 3, 0]).pick(hash) == Some(1)));
        assert!(hashes(1).take(1000).all(|hash| split(&[1, 0, 1]).pick(hash) != Some(1)));
    }

    #[test]
    fn shares_are_the_weights() {
        for weights in [&[95, 5][..], &[1, 1, 2], &[30, 50, 20], &[1_000_000, 1, 1]] {
            let split = split(weights);
            let mut counts = vec![0.0; weights.len()];
            hashes(9).take(100_000).for_each(|hash| counts[split.pick(hash).unwrap()] += 1e-5);
            let sum: u32 = weights.iter().sum();
            for (count, weight) in counts.iter().zip(weights) {
                assert!((count - f64::from(*weight) / f64::from(sum)).abs() < 0.005, "{counts:?} {weights:?}");
            }
        }
    }

    #[test]
    fn a_canary_moves_each_key_once_and_back() {
        let steps: Vec<_> = [1, 5, 25, 50, 100].iter().map(|canary| split(&[100 - canary, *canary])).collect();
        let mut moved = 0;
        for hash in hashes(4).take(20_000) {
            let picks: Vec<_> = steps.iter().map(|split| split.pick(hash).unwrap()).collect();
            assert!(picks.is_sorted(), "{picks:?}");
            assert_eq!(split(&[99, 1]).pick(hash), Some(picks[0]));
            moved += usize::from(picks[0] != picks[4]);
        }
        assert!((19_700..19_900).contains(&moved), "{moved}");
    }

    #[test]
    fn backends_of_one_name_share() {
        let split = HashSplit::new(&[("a", 1), ("a", 1)]);
        let second = hashes(2).take(10_000).filter(|hash| split.pick(*hash) == Some(1)).count();
        assert!((4_800..5_200).contains(&second), "{second}");
    }

    fn any_weights() -> impl Strategy<Value = Vec<u32>> {
        prop::collection::vec(prop_oneof![0..4_u32, 0..200_u32, Just(u32::MAX)], 1..6)
    }

    proptest! {
        #[test]
        fn the_order_of_backends_does_not_matter(weights in any_weights(), rotate in 0..6_usize, seed: u64) {
            let mut backends: Vec<_> = weights.iter().enumerate().map(|(n, weight)| (format!("v{n}"), *weight)).collect();
            let before = HashSplit::new(&backends);
            let picked = |split: &HashSplit, backends: &[(String, u32)], hash| split.pick(hash).map(|index| backends[index].0.clone());
            let expected: Vec<_> = hashes(seed).take(100).map(|hash| picked(&before, &backends, hash)).collect();
            backends.rotate_left(rotate % weights.len());
            let after = HashSplit::new(&backends);
            let found: Vec<_> = hashes(seed).take(100).map(|hash| picked(&after, &backends, hash)).collect();
            prop_assert_eq!(found, expected);
        }

        /// Of the one backend that grows: keys come to it from others. The one that shrinks: keys leave it. Nothing else.
        #[test]
        fn a_change_of_one_weight_moves_only_what_it_must(weights in any_weights(), which: prop::sample::Index, weight in 0..300_u32, seed: u64) {
            let changed = which.index(weights.len());
            let mut other = weights.clone();
            other[changed] = weight;
            let (before, after) = (split(&weights), split(&other));
            for hash in hashes(seed).take(300) {
                let (old, new) = (before.pick(hash), after.pick(hash));
                let needed = if weight > weights[changed] { new } else { old };
                prop_assert!(old == new || needed == Some(changed) || old.is_none() || new.is_none());
            }
        }

        #[test]
        fn weights_count_by_their_ratio(weights in any_weights(), seed: u64) {
            let halves: Vec<_> = weights.iter().map(|weight| weight / 2).collect();
            let doubled: Vec<_> = halves.iter().map(|weight| weight * 2).collect();
            for hash in hashes(seed).take(100) {
                prop_assert_eq!(split(&halves).pick(hash), split(&doubled).pick(hash));
            }
        }

        #[test]
        fn three_backends_with_a_canary_move_keys_to_it_only(stable in 1..100_u32, other in 1..100_u32, seed: u64) {
            let steps: Vec<_> = [1, 5, 50, 100, 100_000].iter().map(|canary| split(&[stable, other, *canary])).collect();
            for hash in hashes(seed).take(200) {
                let picks: Vec<_> = steps.iter().map(|split| split.pick(hash).unwrap()).collect();
                prop_assert!(picks.windows(2).all(|pair| pair[0] == pair[1] || pair[1] == 2), "{:?}", picks);
            }
        }
    }
}
