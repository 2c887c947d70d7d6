//! Random choice, and the random numbers that follow from one.

use crate::lb::choice::Choice;
use crate::lb::host::LbHost;
use crate::lb::member::Member;

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

/// Envoy's `RANDOM`: weights of hosts are not looked at, shares of localities are.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct RandomChoice {
    /// Where each member's share ends, if the shares differ.
    ends: Option<Box<[f64]>>,
}

impl RandomChoice {
    pub(super) fn build(hosts: &[LbHost], members: &[Member], has_localities: bool) -> Self {
        let ends = has_localities.then(|| {
            let shares = locality_shares(hosts, members);
            shares
                .iter()
                .scan(0.0, |end, share| {
                    *end += share;
                    Some(*end)
                })
                .collect()
        });
        Self { ends }
    }

    /// One of the hosts it was built from, which are in the same order here.
    pub(super) fn choose(&self, members: &[u32], random: u64) -> Option<Choice> {
        // The priority was chosen by the same number's remainder.
        let mut state = random;
        let random = next_random(&mut state);
        let entry = match &self.ends {
            None => below(members.len() as u64, random) as usize,
            Some(ends) => {
                let point = unit(random) * ends.last().copied().unwrap_or(0.0);
                ends.partition_point(|end| *end <= point).min(members.len().saturating_sub(1))
            }
        };
        Some(Choice { host: *members.get(entry)?, entry: entry as u32 })
    }
}

/// Each member's share when the hosts of a locality have equal parts of it.
fn locality_shares(hosts: &[LbHost], members: &[Member]) -> Vec<f64> {
    let locality_of = |member: &Member| hosts.get(member.host as usize).map_or(0, |host| host.locality);
    // Members come grouped by locality.
    members
        .chunk_by(|a, b| locality_of(a) == locality_of(b))
        .flat_map(|group| {
            let share = group.iter().map(|member| member.weight).sum::<f64>() / group.len() as f64;
            std::iter::repeat_n(share, group.len())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lb::member;

    #[test]
    fn numbers_below_a_bound_cover_it() {
        assert_eq!((below(0, u64::MAX), below(1, u64::MAX), below(3, 0), below(3, u64::MAX)), (0, 0, 0, 2));
        assert!(unit(u64::MAX) < 1.0);
    }

    #[test]
    fn hosts_are_equal_within_a_locality() {
        let host = |weight, locality| LbHost { weight, locality, ..LbHost::new("k") };
        let hosts = [host(1, 0), host(9, 0), host(1, 1)];
        let members = member::by_locality(&hosts, &[0, 1, 2], &[0, 1, 2], &[1, 3]).unwrap();
        let choice = RandomChoice::build(&hosts, &members, true);
        let mut counts = [0.0_f64; 3];
        let mut state = 1;
        for _ in 0..80_000 {
            counts[choice.choose(&[0, 1, 2], next_random(&mut state)).unwrap().host as usize] += 1.0 / 80_000.0;
        }
        for (count, share) in counts.iter().zip([0.125, 0.125, 0.75]) {
            assert!((count - share).abs() < 0.01, "{counts:?}");
        }
    }
}
