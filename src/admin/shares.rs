//! What pods get in fact, beside what their tables plan for them: by the last requests that the workers remember.

use std::collections::HashMap;

use crate::snapshot::Snapshot;
use crate::telemetry::{ActualShares, RecentRequest, host_number};

/// Older requests do not count, in milliseconds before the last one: the table may have been another one.
const WINDOW: u64 = 60_000;

/// So many requests for each pod, or sessions, make a backend count: with fewer, chance alone has pods far apart.
const ENOUGH: usize = 20;

/// The least and the most that a pod of any backend got of the requests with a key, and of their sessions, in shares of what its weight entitles it
/// to. `recent`: the oldest first.
pub(super) fn actual_shares(snapshot: &Snapshot, recent: &[RecentRequest]) -> ActualShares {
    let begin = recent.last().map_or(0, |request| request.at.saturating_sub(WINDOW));
    let mut by_cluster = HashMap::<u32, Vec<(u64, u64)>>::new();
    for request in recent.iter().filter(|request| request.at >= begin) {
        if let Some(hash) = request.hash {
            by_cluster.entry(request.cluster).or_default().push((request.host, hash));
        }
    }
    let mut shares = ActualShares::default();
    for cluster in snapshot.clusters.iter().flatten().filter(|cluster| cluster.balancer.table().is_some()) {
        let Some(requests) = by_cluster.get(&cluster.id.0) else { continue };
        let pods: HashMap<u64, f64> =
            cluster.balanced().iter().map(|host| (host_number(host.address), f64::from(host.weight.max(1)))).collect();
        // Who has moved counts where it was last.
        let sessions: HashMap<u64, u64> = requests.iter().map(|(host, hash)| (*hash, *host)).collect();
        widen(&mut shares.requests, extremes(&pods, requests.iter().map(|(host, _)| *host)));
        widen(&mut shares.sessions, extremes(&pods, sessions.into_values()));
    }
    shares
}

/// The least and the most of one backend. `pods`: the weight of each; `went`: where each request or session went; those on pods that are gone do
/// not count.
fn extremes(pods: &HashMap<u64, f64>, went: impl Iterator<Item = u64>) -> Option<(f64, f64)> {
    let mut counts: HashMap<u64, usize> = pods.keys().map(|pod| (*pod, 0)).collect();
    for pod in went {
        if let Some(count) = counts.get_mut(&pod) {
            *count += 1;
        }
    }
    let all: usize = counts.values().sum();
    if pods.len() < 2 || all < pods.len() * ENOUGH {
        return None;
    }
    let weights: f64 = pods.values().sum();
    let share = |(pod, weight): (&u64, &f64)| counts.get(pod).map(|count| *count as f64 / all as f64 * weights / weight);
    pods.iter().filter_map(share).map(|share| (share, share)).reduce(wider)
}

fn widen(all: &mut Option<(f64, f64)>, one: Option<(f64, f64)>) {
    *all = all.take().into_iter().chain(one).reduce(wider);
}

fn wider(one: (f64, f64), other: (f64, f64)) -> (f64, f64) {
    (one.0.min(other.0), one.1.max(other.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn went(counts: &[(u64, usize)]) -> impl Iterator<Item = u64> {
        counts.iter().flat_map(|(pod, count)| std::iter::repeat_n(*pod, *count))
    }

    #[test]
    fn a_share_is_of_what_the_weight_entitles_to() {
        let equal = HashMap::from([(1, 1.0), (2, 1.0)]);
        let weighted = HashMap::from([(1, 1.0), (2, 3.0)]);
        let single = HashMap::from([(1, 1.0)]);
        let share_of = |pods: &HashMap<u64, f64>, counts: &[(u64, usize)]| {
            let rounded = |share: f64| (share * 1000.0).round() / 1000.0;
            extremes(pods, went(counts)).map(|(least, most)| (rounded(least), rounded(most)))
        };
        assert_eq!(share_of(&equal, &[(1, 50), (2, 50)]), Some((1.0, 1.0)));
        assert_eq!(share_of(&equal, &[(1, 25), (2, 75)]), Some((0.5, 1.5)));
        assert_eq!(share_of(&equal, &[(2, 100)]), Some((0.0, 2.0)));
        assert_eq!(share_of(&equal, &[(1, 50), (2, 50), (3, 1_000)]), Some((1.0, 1.0)));
        assert_eq!(share_of(&weighted, &[(1, 25), (2, 75)]), Some((1.0, 1.0)));
        assert_eq!(share_of(&weighted, &[(1, 50), (2, 50)]), Some((0.667, 2.0)));
        assert_eq!(share_of(&equal, &[(1, 20), (2, 19)]), None);
        assert_eq!(share_of(&single, &[(1, 100)]), None);
    }

    #[test]
    fn of_several_backends_the_extremes_count() {
        let mut all = None;
        for one in [None, Some((0.9, 1.1)), Some((0.5, 1.05)), None] {
            widen(&mut all, one);
        }
        assert_eq!(all, Some((0.5, 1.1)));
    }
}
