//! Random numbers that follow from one.

/// The next of a sequence of random numbers that begins with any number (SplitMix64, Steele et al. 2014).
pub(super) fn next_random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// A uniform number below `bound` made from a uniform 64-bit one; 0 if `bound` is 0.
pub(super) fn below(bound: u64, random: u64) -> u64 {
    ((u128::from(random) * u128::from(bound)) >> 64) as u64
}

/// A uniform number of the range 0 to 1, without 1, made from a uniform 64-bit one.
pub(super) fn unit(random: u64) -> f64 {
    (random >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_below_a_bound_cover_it() {
        assert_eq!((below(0, u64::MAX), below(1, u64::MAX), below(3, 0), below(3, u64::MAX)), (0, 0, 0, 2));
        assert!(unit(u64::MAX) < 1.0);
    }
}
