//! Envoy's least request: of a few random hosts the one with the fewest requests in flight.

use crate::lb::choice::Choice;
use crate::lb::draw::{below, next_random, unit};
use crate::lb::error::TableError;
use crate::lb::member::{self, Member};

/// More choices than this are not looked at, so that a configuration cannot make a request arbitrarily expensive.
const CHOICE_LIMIT: u32 = 1024;

/// How many to draw, and the members' weights if they differ.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct LeastRequest {
    choice_count: u32,
    weights: Option<Box<[f64]>>,
}

/// Whether Envoy would take this number of choices.
pub(super) fn validate(choice_count: u32) -> Result<(), TableError> {
    if choice_count < 2 { Err(TableError::ChoiceCount { count: choice_count }) } else { Ok(()) }
}

impl LeastRequest {
    pub(super) fn build(members: &[Member], choice_count: u32) -> Self {
        let weights = (!member::equal(members)).then(|| members.iter().map(|member| member.weight).collect());
        Self { choice_count: choice_count.min(CHOICE_LIMIT), weights }
    }

    /// One of the hosts it was built from, which are in the same order here.
    pub(super) fn choose(&self, members: &[u32], random: u64, active: impl Fn(usize) -> u32) -> Option<Choice> {
        let mut state = random;
        let entry = match &self.weights {
            None => self.of_a_few(members, &mut state, active),
            Some(weights) => by_weight(members, weights, &mut state, active),
        };
        Some(Choice { host: *members.get(entry)?, entry: entry as u32 })
    }

    /// The least loaded of `choice_count` random members; among equals the first one drawn.
    fn of_a_few(&self, members: &[u32], state: &mut u64, active: impl Fn(usize) -> u32) -> usize {
        let mut best = (u32::MAX, 0);
        for choice in 0..self.choice_count {
            let entry = below(members.len() as u64, next_random(state)) as usize;
            let load = members.get(entry).map_or(u32::MAX, |host| active(*host as usize));
            if choice == 0 || load < best.0 {
                best = (load, entry);
            }
        }
        best.1
    }
}

/// A random member in proportion to `weight / (active + 1)`, which is how often Envoy's queue would come to it. One
/// pass, so that counters that move meanwhile are read once.
fn by_weight(members: &[u32], weights: &[f64], state: &mut u64, active: impl Fn(usize) -> u32) -> usize {
    let (mut sum, mut chosen) = (0.0, 0);
    for (entry, (host, weight)) in members.iter().zip(weights).enumerate() {
        let effective = weight / (f64::from(active(*host as usize)) + 1.0);
        sum += effective;
        if unit(next_random(state)) * sum < effective {
            chosen = entry;
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(weights: &[f64]) -> Vec<Member> {
        weights.iter().enumerate().map(|(host, weight)| Member { host: host as u32, weight: *weight }).collect()
    }

    fn shares(lb: &LeastRequest, active: &[u32]) -> Vec<f64> {
        let hosts: Vec<u32> = (0..active.len() as u32).collect();
        let mut counts = vec![0.0; active.len()];
        let mut state = 42;
        for _ in 0..40_000 {
            let choice = lb.choose(&hosts, next_random(&mut state), |host| active[host]).unwrap();
            counts[choice.host as usize] += 1.0 / 40_000.0;
        }
        counts
    }

    #[test]
    fn fewer_than_two_choices_are_refused() {
        assert_eq!(validate(1), Err(TableError::ChoiceCount { count: 1 }));
        assert_eq!(validate(2), Ok(()));
    }

    #[test]
    fn of_two_choices_the_less_loaded_wins() {
        let lb = LeastRequest::build(&members(&[0.25; 4]), 2);
        // The busiest host is taken only when both draws fall on it: 1 of 16.
        let shares = shares(&lb, &[0, 1, 2, 3]);
        for (share, expected) in shares.iter().zip([7.0, 5.0, 3.0, 1.0]) {
            assert!((share - expected / 16.0).abs() < 0.01, "{shares:?}");
        }
    }

    #[test]
    fn weights_are_divided_by_the_load() {
        let lb = LeastRequest::build(&members(&[0.5, 0.25, 0.25]), 2);
        // 0.5 / 4, 0.25 / 1, 0.25 / 2.
        let shares = shares(&lb, &[3, 0, 1]);
        for (share, expected) in shares.iter().zip([0.25, 0.5, 0.25]) {
            assert!((share - expected).abs() < 0.01, "{shares:?}");
        }
    }

    #[test]
    fn without_hosts_there_is_no_choice() {
        assert_eq!(LeastRequest::build(&[], 2).choose(&[], 1, |_| 0), None);
    }
}
