//! The hosts that take part in a table, with their normalised weights.

use std::collections::BTreeMap;

use crate::lb::error::TableError;
use crate::lb::host::LbHost;

/// A host of one table. The weights of all members add up to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Member {
    /// Index into the hosts of the cluster.
    pub(super) host: u32,
    /// Share of the whole. Computed in doubles and in Envoy's order of operations: the last bit decides on points.
    pub(super) weight: f64,
}

/// Every selected host in list order, weighted by itself only.
pub(super) fn flat(hosts: &[LbHost], selected: &[u32]) -> Result<Vec<Member>, TableError> {
    let mut members = Vec::with_capacity(selected.len());
    normalise(hosts, selected, 1.0, &mut members)?;
    Ok(members)
}

/// Selected hosts grouped by locality, each locality having its share of the whole.
///
/// `level` are all hosts of the priority: a locality whose hosts are all unhealthy still counts in the sum, one without
/// hosts does not. Localities without a weight get nothing.
pub(super) fn by_locality(hosts: &[LbHost], level: &[u32], selected: &[u32], locality_weights: &[u32]) -> Result<Vec<Member>, TableError> {
    let locality_of = |host: u32| hosts.get(host as usize).map_or(0, |host| host.locality);
    let mut localities: BTreeMap<u32, Vec<u32>> = level.iter().map(|host| (locality_of(*host), vec![])).collect();
    for host in selected {
        localities.entry(locality_of(*host)).or_default().push(*host);
    }
    let weight_of = |locality: u32| locality_weights.get(locality as usize).copied().unwrap_or(0);
    let sum: u64 = localities.keys().map(|locality| u64::from(weight_of(*locality))).sum();
    if sum > u64::from(u32::MAX) {
        return Err(TableError::WeightSum { what: "weights of localities", sum });
    }
    let mut members = Vec::with_capacity(selected.len());
    for (locality, group) in &localities {
        let weight = weight_of(*locality);
        if weight != 0 {
            normalise(hosts, group, f64::from(weight) / sum as f64, &mut members)?;
        }
    }
    Ok(members)
}

/// Adds the group's hosts, which together have the weight `share`.
fn normalise(hosts: &[LbHost], group: &[u32], share: f64, members: &mut Vec<Member>) -> Result<(), TableError> {
    let weights = || group.iter().filter_map(|host| hosts.get(*host as usize).map(|found| (*host, found.effective_weight())));
    let sum: u64 = weights().map(|(_, weight)| u64::from(weight)).sum();
    if sum > u64::from(u32::MAX) {
        return Err(TableError::WeightSum { what: "weights of endpoints", sum });
    }
    members.extend(weights().map(|(host, weight)| Member { host, weight: f64::from(weight) * share / sum as f64 }));
    Ok(())
}

/// The weight all members have, if it is one and the same.
pub(super) fn equal(members: &[Member]) -> bool {
    members.windows(2).all(|pair| matches!(pair, [a, b] if a.weight == b.weight))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(weights: &[(u32, u32)]) -> Vec<LbHost> {
        weights.iter().map(|(weight, locality)| LbHost { weight: *weight, locality: *locality, ..LbHost::new("k") }).collect()
    }

    #[test]
    fn a_weight_of_zero_counts_as_one() {
        let hosts = hosts(&[(0, 0), (3, 0)]);
        let members = flat(&hosts, &[0, 1]).unwrap();
        assert_eq!(members, [Member { host: 0, weight: 0.25 }, Member { host: 1, weight: 0.75 }]);
    }

    #[test]
    fn sums_beyond_32_bits_are_refused() {
        let hosts = hosts(&[(u32::MAX, 0), (1, 0)]);
        let error = flat(&hosts, &[0, 1]).unwrap_err();
        assert_eq!(error, TableError::WeightSum { what: "weights of endpoints", sum: 1 << 32 });
        let error = by_locality(&hosts, &[0], &[0], &[u32::MAX]).unwrap();
        assert_eq!(error.len(), 1);
    }

    #[test]
    fn localities_share_by_their_own_weights() {
        // Locality 1 has weight 0, locality 2 only an unhealthy host, locality 3 no weight at all.
        let hosts = hosts(&[(1, 1), (1, 0), (3, 0), (1, 2), (1, 3)]);
        let members = by_locality(&hosts, &[0, 1, 2, 3, 4], &[0, 1, 2, 4], &[3, 0, 1]).unwrap();
        assert_eq!(members, [Member { host: 1, weight: 0.1875 }, Member { host: 2, weight: 0.5625 }]);
    }
}
