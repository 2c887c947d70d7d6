//! Random choice.

use crate::lb::choice::Choice;
use crate::lb::draw::{below, next_random, unit};
use crate::lb::host::LbHost;
use crate::lb::member::Member;

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
