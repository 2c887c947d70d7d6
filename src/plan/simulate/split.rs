//! What other weights of a rule's backends would do to its users.

use crate::lb::HashSplit;
use crate::snapshot::{Action, Backend, Forward, Rule, Snapshot, Split};

use super::{HostShare, SimulateError, SimulationReport, key_hash};

/// A rule of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleName {
    /// `NAMESPACE/NAME` of the route, of whatever kind.
    pub route: String,
    /// Index of the rule.
    pub rule: u16,
}

/// The rule of this name, if it is served.
fn find<'s>(snapshot: &'s Snapshot, name: &RuleName) -> Option<&'s Rule> {
    let listeners = snapshot.binds.values().flat_map(|bind| bind.listeners.iter());
    let entries = listeners.flat_map(|(_, listener)| listener.hosts.iter()).flat_map(|(_, routes)| routes.entries());
    entries.map(|entry| &*entry.rule).find(|rule| rule.index == name.rule && rule.route.name.to_string() == name.route)
}

/// Tries weights out, one for each backendRef in their order, on `keys` users.
///
/// # Errors
/// There is no such rule, it does not split by key, or the weights do not fit it.
pub fn simulate_split(snapshot: &Snapshot, name: &RuleName, weights: &[u32], keys: usize) -> Result<SimulationReport, SimulateError> {
    if keys == 0 {
        return Err(SimulateError::NoKeys);
    }
    let RuleName { route, rule: index } = name;
    let rule = find(snapshot, name).ok_or_else(|| SimulateError::NoRule { route: route.clone(), rule: *index })?;
    let title = format!("{} rule {index}", rule.route);
    let splits_by_key = rule.policy.affinity.as_ref().is_some_and(|affinity| affinity.split != Split::Random);
    let (Action::Forward(forward), true) = (&rule.action, splits_by_key) else { return Err(SimulateError::NotSplit { rule: title }) };
    let Some(before) = &forward.hash_split else { return Err(SimulateError::NotSplit { rule: title }) };
    let count = forward.backends.len();
    if weights.len() != count {
        return Err(SimulateError::Weights { rule: title, count, given: weights.len() });
    }
    let after = HashSplit::new(&named(forward, weights));
    if after.is_drained() {
        return Err(SimulateError::Drained);
    }
    Ok(report(title, forward, weights, before, &after, keys))
}

fn named(forward: &Forward, weights: &[u32]) -> Vec<(String, u32)> {
    forward.backends.iter().zip(weights).map(|(backend, weight)| (backend.name.to_string(), *weight)).collect()
}

fn report(title: String, forward: &Forward, weights: &[u32], before: &HashSplit, after: &HashSplit, keys: usize) -> SimulationReport {
    let weight_now = |index: usize| forward.split.weight(index) as f64;
    let now: f64 = (0..weights.len()).map(weight_now).sum();
    let then: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
    let gains = |backend: Option<usize>| {
        let part = |index: usize| Some((weight_now(index) / now, f64::from(*weights.get(index)?) / then));
        backend.and_then(part).is_some_and(|(before, after)| after > before)
    };
    let mut counts = vec![(0_u64, 0_u64); forward.backends.len()];
    let (mut moved, mut needless) = (0_u64, 0_u64);
    for hash in (0..keys).map(key_hash) {
        let (old, new) = (before.pick(hash), after.pick(hash));
        counts.iter_mut().skip(old.unwrap_or(usize::MAX)).take(1).for_each(|count| count.0 += 1);
        counts.iter_mut().skip(new.unwrap_or(usize::MAX)).take(1).for_each(|count| count.1 += 1);
        moved += u64::from(old != new);
        // Nobody should come to a backend that loses some of its part, or leave one that gains.
        needless += u64::from(old != new && (gains(old) || !gains(new)));
    }
    let share = |count: u64| count as f64 / keys as f64;
    let backend = |(backend, (old, new)): (&Backend, &(u64, u64))| HostShare {
        host: backend.name.to_string(),
        pod: None,
        before: Some(share(*old)),
        after: Some(share(*new)),
    };
    SimulationReport {
        backend: title,
        keys,
        moved: share(moved),
        moved_needlessly: share(needless),
        hosts: forward.backends.iter().zip(&counts).map(backend).collect(),
        notes: vec!["the weights of now bring back exactly those who moved".to_owned()],
    }
}
