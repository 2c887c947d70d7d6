//! Envoy's ring hash (ketama): every host has points on a circle of 64 bits, and a hash belongs to the next point.

use crate::lb::choice::Choice;
use crate::lb::error::TableError;
use crate::lb::hash::{murmur_hash_2, xxh64};
use crate::lb::host::LbHost;
use crate::lb::index::HostIndexes;
use crate::lb::member::{self, Member};

/// Envoy's limit for both sizes of a ring, in points.
pub const RING_SIZE_LIMIT: u64 = 8 * 1024 * 1024;

/// The hash of a ring's points. The request's hash is XXH64 with either.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum RingHashFunction {
    /// Envoy's `XX_HASH`.
    #[default]
    XxHash,
    /// Envoy's `MURMUR_HASH_2`, compatible with `std::hash<string>` of libstdc++.
    MurmurHash2,
}

impl RingHashFunction {
    fn hash(self, bytes: &[u8]) -> u64 {
        match self {
            Self::XxHash => xxh64(bytes, 0),
            Self::MurmurHash2 => murmur_hash_2(bytes),
        }
    }
}

/// How large a ring may be. The defaults are Envoy's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RingConfig {
    /// The least number of points; usually somewhat more, so that every host has as many.
    pub minimum_ring_size: u64,
    /// The largest number of points. Below the number of hosts, some hosts have none.
    pub maximum_ring_size: u64,
    /// The hash of the points.
    pub hash_function: RingHashFunction,
}

impl Default for RingConfig {
    fn default() -> Self {
        Self { minimum_ring_size: 1024, maximum_ring_size: RING_SIZE_LIMIT, hash_function: RingHashFunction::XxHash }
    }
}

impl RingConfig {
    /// How many points a ring of these hosts has; hosts that cannot have one get none.
    #[must_use]
    pub fn points(&self, hosts: &[LbHost]) -> u64 {
        let selected: Vec<u32> = (0..hosts.len() as u32).collect();
        let members = member::flat(hosts, &selected).unwrap_or_default();
        if members.is_empty() { 0 } else { scale(&members, self).ceil() as u64 }
    }

    /// Whether Envoy would take these sizes, and at least one point comes of them.
    pub fn validate(&self) -> Result<(), TableError> {
        for (field, size) in [("minimum_ring_size", self.minimum_ring_size), ("maximum_ring_size", self.maximum_ring_size)] {
            if size > RING_SIZE_LIMIT {
                return Err(TableError::RingSizeTooLarge { field, size, limit: RING_SIZE_LIMIT });
            }
        }
        if self.minimum_ring_size == 0 {
            return Err(TableError::RingSizeZero);
        }
        if self.minimum_ring_size > self.maximum_ring_size {
            return Err(TableError::RingSizesCross { minimum: self.minimum_ring_size, maximum: self.maximum_ring_size });
        }
        Ok(())
    }
}

/// A ring: points in ascending order, and the host of each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ring {
    points: Box<[u64]>,
    hosts: HostIndexes,
}

impl Ring {
    /// A ring of all hosts given, whatever their health, priority and locality.
    pub fn build(hosts: &[LbHost], config: &RingConfig) -> Result<Self, TableError> {
        config.validate()?;
        let selected: Vec<u32> = (0..hosts.len() as u32).collect();
        Ok(Self::from_members(hosts, &member::flat(hosts, &selected)?, config))
    }

    /// A ring of the members, in their order, from a valid configuration.
    pub(super) fn from_members(hosts: &[LbHost], members: &[Member], config: &RingConfig) -> Self {
        let mut points = points(hosts, members, config);
        // Equal points need equal keys; then the host that is listed first has them.
        points.sort_unstable();
        Self {
            points: points.iter().map(|(hash, _)| *hash).collect(),
            hosts: HostIndexes::collect(points.iter().map(|(_, host)| *host), hosts.len()),
        }
    }

    /// The host of the first point at or after `hash`, going round at the end. A later attempt takes the point as many
    /// places further on, which may be one of the same host.
    #[must_use]
    pub fn choose(&self, hash: u64, attempt: u32) -> Option<Choice> {
        let mut entry = self.entry(hash);
        if attempt > 0 {
            entry = (entry + attempt as usize).checked_rem(self.size())?;
        }
        Some(Choice { host: self.hosts.get(entry)?, entry: entry as u32 })
    }

    /// The hosts of attempt 0, 1, ..., once round the ring.
    pub(super) fn attempts(&self, hash: u64) -> impl Iterator<Item = u32> {
        let first = self.entry(hash);
        (first..self.size()).chain(0..first).filter_map(|entry| self.hosts.get(entry))
    }

    /// The index of the first point at or after `hash`.
    fn entry(&self, hash: u64) -> usize {
        let entry = self.points.partition_point(|point| *point < hash);
        if entry == self.size() { 0 } else { entry }
    }

    /// The number of points.
    #[must_use]
    pub fn size(&self) -> usize {
        self.points.len()
    }

    /// All points in order, each with its host.
    pub(super) fn points(&self) -> impl Iterator<Item = (u64, u32)> {
        self.points.iter().copied().zip((0..self.size()).filter_map(|entry| self.hosts.get(entry)))
    }

    /// The point at `entry`, and its host.
    pub(super) fn point(&self, entry: usize) -> Option<(u64, u32)> {
        Some((*self.points.get(entry)?, self.hosts.get(entry)?))
    }
}

/// How many points all members have together: so many that the one with the least weight has a whole number of them.
fn scale(members: &[Member], config: &RingConfig) -> f64 {
    let least_weight = members.iter().fold(1.0, |least: f64, member| least.min(member.weight));
    ((least_weight * config.minimum_ring_size as f64).ceil() / least_weight).min(config.maximum_ring_size as f64)
}

/// The points of all members, unsorted, each with its host.
///
/// The fractions of points are carried from one member to the next. All in doubles, without fused operations, because a rounding error makes
/// a point.
fn points(hosts: &[LbHost], members: &[Member], config: &RingConfig) -> Vec<(u64, u32)> {
    let scale = scale(members, config);
    let mut points = Vec::with_capacity(if members.is_empty() { 0 } else { scale.ceil() as usize });
    let mut text = Vec::new();
    let mut digits = itoa::Buffer::new();
    let (mut current, mut target) = (0.0, 0.0);
    for member in members {
        let Some(host) = hosts.get(member.host as usize) else { continue };
        text.clear();
        text.extend_from_slice(host.key.as_bytes());
        text.push(b'_');
        let prefix = text.len();
        let mut number = 0_u64;
        target += scale * member.weight;
        while current < target {
            text.truncate(prefix);
            text.extend_from_slice(digits.format(number).as_bytes());
            points.push((config.hash_function.hash(&text), member.host));
            number += 1;
            current += 1.0;
        }
    }
    points
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(count: usize) -> Vec<LbHost> {
        (0..count).map(|n| LbHost::new(format!("10.0.{}.{}:8080", n / 250, n % 250 + 1))).collect()
    }

    #[test]
    fn sizes_are_validated() {
        let config = |minimum, maximum| RingConfig {
            minimum_ring_size: minimum,
            maximum_ring_size: maximum,
            hash_function: RingHashFunction::XxHash,
        };
        assert_eq!(RingConfig::default().validate(), Ok(()));
        assert_eq!(config(1, 1).validate(), Ok(()));
        assert_eq!(config(RING_SIZE_LIMIT, RING_SIZE_LIMIT).validate(), Ok(()));
        assert_eq!(config(0, 1).validate(), Err(TableError::RingSizeZero));
        assert_eq!(config(2, 1).validate(), Err(TableError::RingSizesCross { minimum: 2, maximum: 1 }));
        for (config, field) in [(config(1, RING_SIZE_LIMIT + 1), "maximum_ring_size"), (config(u64::MAX, u64::MAX), "minimum_ring_size")] {
            assert!(matches!(config.validate(), Err(TableError::RingSizeTooLarge { field: named, .. }) if named == field));
        }
    }

    #[test]
    fn sizes_are_what_envoy_makes_of_1024() {
        for (count, size) in [(1, 1024), (2, 1024), (3, 1026), (5, 1025), (7, 1029), (100, 1100), (1000, 2000)] {
            assert_eq!(Ring::build(&hosts(count), &RingConfig::default()).unwrap().size(), size, "{count} hosts");
            assert_eq!(RingConfig::default().points(&hosts(count)), size as u64, "{count} hosts");
        }
    }

    #[test]
    fn rounding_gives_the_first_listed_host_one_point_more() {
        // The host counts Envoy showed it for.
        for count in [75, 77, 91, 99, 105, 150, 198] {
            let ring = Ring::build(&hosts(count), &RingConfig::default()).unwrap();
            let mut per_host = vec![0; count];
            for entry in 0..ring.size() {
                per_host[ring.point(entry).unwrap().1 as usize] += 1;
            }
            let regular = 1024_usize.div_ceil(count);
            assert_eq!(per_host[0], regular + 1, "{count} hosts");
            assert!(per_host[1..].iter().all(|points| *points == regular), "{count} hosts");
        }
    }

    #[test]
    fn a_hash_belongs_to_the_next_point() {
        let ring = Ring::build(&hosts(3), &RingConfig::default()).unwrap();
        let size = ring.size();
        let (first, first_host) = ring.point(0).unwrap();
        let (second, second_host) = ring.point(1).unwrap();
        let (last, _) = ring.point(size - 1).unwrap();
        assert_eq!(ring.choose(0, 0), Some(Choice { host: first_host, entry: 0 }));
        assert_eq!(ring.choose(first, 0), Some(Choice { host: first_host, entry: 0 }));
        assert_eq!(ring.choose(first + 1, 0), Some(Choice { host: second_host, entry: 1 }));
        assert_eq!(ring.choose(second, 0).unwrap().entry, 1);
        assert_eq!(ring.choose(last, 0).unwrap().entry as usize, size - 1);
        assert_eq!(ring.choose(last + 1, 0), Some(Choice { host: first_host, entry: 0 }));
        assert_eq!(ring.choose(last, 1).unwrap().entry, 0);
        assert_eq!(ring.choose(0, size as u32 + 2).unwrap().entry, 2);
    }

    #[test]
    fn without_hosts_there_is_no_choice() {
        let ring = Ring::build(&[], &RingConfig::default()).unwrap();
        assert_eq!((ring.size(), ring.choose(1, 0), ring.choose(1, 1)), (0, None, None));
    }
}
