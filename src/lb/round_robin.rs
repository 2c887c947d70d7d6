//! Weighted round robin without state: a schedule worked out once, through which every worker walks with its own counter.

use std::cmp::Ordering;

use crate::lb::choice::Choice;
use crate::lb::host::LbHost;
use crate::lb::index::HostIndexes;
use crate::lb::member::{self, Member};

/// The length up to which weights are kept exactly, in turns. Longer cycles are scaled down to it.
const LENGTH_LIMIT: u64 = 4096;

/// The order of turns: each host as often as its weight says, its turns spread evenly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Schedule {
    turns: HostIndexes,
}

impl Schedule {
    pub(super) fn build(hosts: &[LbHost], members: &[Member]) -> Self {
        let counts = if member::equal(members) { vec![1; members.len()] } else { counts(hosts, members) };
        Self { turns: HostIndexes::collect(spread(members, &counts).into_iter(), hosts.len()) }
    }

    pub(super) fn choose(&self, turn: u64) -> Option<Choice> {
        let entry = turn.checked_rem(self.turns.len() as u64)?;
        Some(Choice { host: self.turns.get(entry as usize)?, entry: entry as u32 })
    }
}

/// How many turns of a cycle each member has: at least one, and in proportion to the weights, exactly where a cycle of
/// at most [`LENGTH_LIMIT`] turns can have it so.
fn counts(hosts: &[LbHost], members: &[Member]) -> Vec<u64> {
    let weights: Vec<u64> =
        members.iter().map(|member| u64::from(hosts.get(member.host as usize).map_or(1, LbHost::effective_weight))).collect();
    let divisor = weights.iter().copied().fold(0, greatest_common_divisor).max(1);
    let sum: u64 = weights.iter().sum();
    // Shares of localities are fractions of their own; then the weights of the hosts alone do not tell.
    let by_hosts_alone = members.iter().zip(&weights).all(|(member, weight)| (member.weight - *weight as f64 / sum as f64).abs() < 1e-12);
    if by_hosts_alone && sum / divisor <= LENGTH_LIMIT {
        weights.iter().map(|weight| weight / divisor).collect()
    } else {
        scaled_counts(members)
    }
}

/// Counts by the method of largest remainders. A member that is too light for a whole turn gets one nevertheless.
fn scaled_counts(members: &[Member]) -> Vec<u64> {
    let length = LENGTH_LIMIT.max(8 * members.len() as u64);
    let ideal = |member: &Member| member.weight * length as f64;
    let mut counts: Vec<u64> = members.iter().map(|member| (ideal(member) as u64).max(1)).collect();
    let missing = length.saturating_sub(counts.iter().sum()) as usize;
    let mut by_remainder: Vec<(f64, usize)> =
        members.iter().enumerate().map(|(position, member)| (ideal(member).fract(), position)).collect();
    by_remainder.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    for (_, position) in by_remainder.into_iter().take(missing) {
        if let Some(count) = counts.get_mut(position) {
            *count += 1;
        }
    }
    counts
}

/// The hosts in the order of their turns: turn k of c stands at (k + 1/2) / c of the cycle.
fn spread(members: &[Member], counts: &[u64]) -> Vec<u32> {
    struct Turn {
        host: u32,
        position: usize,
        numerator: u64,
        denominator: u64,
    }
    let mut turns: Vec<Turn> = members
        .iter()
        .zip(counts)
        .enumerate()
        .flat_map(|(position, (member, count))| {
            (0..*count).map(move |k| Turn { host: member.host, position, numerator: 2 * k + 1, denominator: 2 * count })
        })
        .collect();
    let earlier = |a: &Turn, b: &Turn| -> Ordering {
        (a.numerator * b.denominator).cmp(&(b.numerator * a.denominator)).then(a.position.cmp(&b.position))
    };
    turns.sort_unstable_by(earlier);
    turns.iter().map(|turn| turn.host).collect()
}

fn greatest_common_divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn schedule(weights: &[u32]) -> Vec<u32> {
        let hosts: Vec<_> = weights.iter().map(|weight| LbHost { weight: *weight, ..LbHost::new("k") }).collect();
        let selected: Vec<u32> = (0..hosts.len() as u32).collect();
        let schedule = Schedule::build(&hosts, &member::flat(&hosts, &selected).unwrap());
        (0..schedule.turns.len() as u64).map(|turn| schedule.choose(turn).unwrap().host).collect()
    }

    #[test]
    fn cycles_are_short_and_smooth() {
        assert_eq!(schedule(&[]), [0; 0]);
        assert_eq!(schedule(&[7]), [0]);
        assert_eq!(schedule(&[5, 5, 5]), [0, 1, 2]);
        assert_eq!(schedule(&[4, 2]), [0, 1, 0]);
        assert_eq!(schedule(&[5, 1, 1]), [0, 0, 0, 1, 2, 0, 0]);
        assert_eq!(schedule(&[3, 3, 2]), [0, 1, 2, 0, 1, 2, 0, 1]);
    }

    proptest! {
        #[test]
        fn shares_are_the_weights(weights in prop::collection::vec(1..100_000_u32, 1..40)) {
            let cycle = schedule(&weights);
            prop_assert!(cycle.len() as u64 <= LENGTH_LIMIT + 40);
            let sum: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
            for (host, weight) in weights.iter().enumerate() {
                let turns = cycle.iter().filter(|turn| **turn as usize == host).count();
                prop_assert!(turns >= 1);
                let error = turns as f64 / cycle.len() as f64 - f64::from(*weight) / sum;
                prop_assert!(error.abs() <= 42.0 / LENGTH_LIMIT as f64, "host {} is off by {}", host, error);
            }
        }

        #[test]
        fn small_weights_are_exact(weights in prop::collection::vec(1..100_u32, 1..40)) {
            let cycle = schedule(&weights);
            let sum: usize = weights.iter().map(|weight| *weight as usize).sum();
            for (host, weight) in weights.iter().enumerate() {
                let turns = cycle.iter().filter(|turn| **turn as usize == host).count();
                prop_assert_eq!(turns * sum, *weight as usize * cycle.len());
            }
        }
    }
}
