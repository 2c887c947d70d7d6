//! Which priority level a request goes to, and whether a level is in panic, as Envoy works it out.

/// Envoy's default overprovisioning factor, in percent: a level takes all its load until fewer than 1/1.4 of its hosts
/// are healthy.
const OVERPROVISIONING: u64 = 140;

/// What is known of one level's hosts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LevelHealth {
    /// Hosts of any health.
    pub total: u32,
    /// Healthy ones.
    pub healthy: u32,
    /// Degraded ones.
    pub degraded: u32,
}

/// Which of a level's hosts a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Availability {
    /// The healthy ones, or all in panic.
    Healthy,
    /// The degraded ones.
    Degraded,
}

/// The load of each level in percent, and the levels that are in panic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PriorityLoads {
    /// By level.
    levels: Box<[LevelLoad]>,
    /// The level that takes everything, if one does; most clusters have no other.
    only: Option<(usize, Availability)>,
}

/// A level's part of the load.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LevelLoad {
    /// Percent of all requests that are for its healthy hosts (for all its hosts in panic).
    pub healthy: u32,
    /// Percent of all requests that are for its degraded hosts.
    pub degraded: u32,
    /// Too few hosts are available to spare the unhealthy ones.
    pub panic: bool,
}

impl PriorityLoads {
    /// The loads of levels 0, 1, ... with a panic threshold in percent; 0 means no panic.
    #[must_use]
    pub fn new(health: &[LevelHealth], panic_threshold: f64) -> Self {
        // Envoy's arithmetic, whose rounding makes 28 of 29.
        let threshold = (100.0 * (panic_threshold / 100.0)) as u64;
        let healthy: Vec<u32> = health.iter().map(|level| availability(level.healthy, level.total)).collect();
        let degraded: Vec<u32> = health.iter().map(|level| availability(level.degraded, level.total)).collect();
        let available = healthy.iter().chain(&degraded).sum::<u32>().min(100);
        let mut levels = vec![LevelLoad::default(); health.len()];
        if available > 0 {
            share_by_availability(&mut levels, &healthy, &degraded, available);
        }
        if threshold == 0 && available == 0 {
            // Nobody is left and nobody may be spared: the first level answers for it.
            if let Some(first) = levels.first_mut() {
                first.healthy = 100;
            }
        } else {
            for (level, health) in levels.iter_mut().zip(health) {
                level.panic = available < 100 && in_panic(health, threshold);
            }
            if levels.iter().all(|level| level.panic) {
                share_by_hosts(&mut levels, health);
            }
        }
        Self { only: only_level(&levels), levels: levels.into() }
    }

    /// The level for a hash (or a random number), and which of its hosts. Level 0 if there is none.
    #[must_use]
    pub fn choose(&self, hash: u64) -> (usize, Availability) {
        if let Some(only) = self.only {
            return only;
        }
        let point = (hash % 100) as u32 + 1;
        let mut end = 0;
        for (level, load) in self.levels.iter().enumerate() {
            end += load.healthy;
            if point <= end {
                return (level, Availability::Healthy);
            }
        }
        for (level, load) in self.levels.iter().enumerate() {
            end += load.degraded;
            if point <= end {
                return (level, Availability::Degraded);
            }
        }
        (0, Availability::Healthy)
    }

    /// The loads, by level.
    #[must_use]
    pub fn levels(&self) -> &[LevelLoad] {
        &self.levels
    }
}

/// Percent of its load that a level can take with these hosts.
fn availability(available: u32, total: u32) -> u32 {
    (OVERPROVISIONING * u64::from(available)).checked_div(u64::from(total)).unwrap_or(0).min(100) as u32
}

fn in_panic(health: &LevelHealth, threshold: u64) -> bool {
    let percent = |hosts: u32| if health.total == 0 { 0.0 } else { 100.0 * f64::from(hosts) / f64::from(health.total) };
    percent(health.healthy) + percent(health.degraded) < threshold as f64
}

/// Healthy hosts first, level by level, then degraded ones; what rounding leaves goes to the first level that can.
fn share_by_availability(levels: &mut [LevelLoad], healthy: &[u32], degraded: &[u32], available: u32) {
    let mut left = 100;
    let mut take = |availability: u32| {
        let load = (availability * 100 / available).min(left);
        left -= load;
        load
    };
    for (level, availability) in levels.iter_mut().zip(healthy) {
        level.healthy = take(*availability);
    }
    for (level, availability) in levels.iter_mut().zip(degraded) {
        level.degraded = take(*availability);
    }
    let first = |availability: &[u32]| availability.iter().position(|percent| *percent > 0);
    match (first(healthy), first(degraded)) {
        (Some(level), _) => levels.iter_mut().skip(level).take(1).for_each(|level| level.healthy += left),
        (None, Some(level)) => levels.iter_mut().skip(level).take(1).for_each(|level| level.degraded += left),
        (None, None) => {}
    }
}

/// When every level is in panic, health no longer counts, only the number of hosts.
fn share_by_hosts(levels: &mut [LevelLoad], health: &[LevelHealth]) {
    let total: u64 = health.iter().map(|level| u64::from(level.total)).sum();
    let mut left = 100;
    for (level, health) in levels.iter_mut().zip(health) {
        let load = (100 * u64::from(health.total)).checked_div(total).unwrap_or(0) as u32;
        left -= load;
        *level = LevelLoad { healthy: load, degraded: 0, panic: true };
    }
    let first = health.iter().position(|level| level.total > 0).unwrap_or(0);
    levels.iter_mut().skip(first).take(1).for_each(|level| level.healthy += left);
}

fn only_level(levels: &[LevelLoad]) -> Option<(usize, Availability)> {
    levels.iter().enumerate().find_map(|(level, load)| match (load.healthy, load.degraded) {
        (100, _) => Some((level, Availability::Healthy)),
        (_, 100) => Some((level, Availability::Degraded)),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn health(levels: &[(u32, u32, u32)]) -> Vec<LevelHealth> {
        levels.iter().map(|(total, healthy, degraded)| LevelHealth { total: *total, healthy: *healthy, degraded: *degraded }).collect()
    }

    /// Per level: healthy load, degraded load, panic.
    fn loads(levels: &[(u32, u32, u32)], threshold: f64) -> Vec<(u32, u32, bool)> {
        let loads = PriorityLoads::new(&health(levels), threshold);
        loads.levels().iter().map(|level| (level.healthy, level.degraded, level.panic)).collect()
    }

    #[test]
    fn loads_are_envoys() {
        type Case<'a> = (&'a [(u32, u32, u32)], &'a [(u32, u32, bool)]);
        let cases: &[Case<'_>] = &[
            (&[(3, 3, 0)], &[(100, 0, false)]),
            // 140 * 72 / 100 is enough.
            (&[(100, 72, 0)], &[(100, 0, false)]),
            (&[(10, 5, 0), (10, 10, 0)], &[(70, 0, false), (30, 0, false)]),
            (&[(5, 2, 0), (5, 5, 0)], &[(56, 0, false), (44, 0, false)]),
            // Less than 100 in all: scaled up, and a level with too few hosts is in panic.
            (&[(10, 2, 0), (10, 5, 0)], &[(29, 0, true), (71, 0, false)]),
            // Half is not less than half.
            (&[(10, 5, 0)], &[(100, 0, false)]),
            (&[(10, 4, 0)], &[(100, 0, true)]),
            (&[(3, 0, 0)], &[(100, 0, true)]),
            // Degraded hosts take what healthy ones cannot, and count as available.
            (&[(10, 4, 6)], &[(56, 44, false)]),
            (&[(4, 0, 4)], &[(0, 100, false)]),
            // All in panic: by the number of hosts.
            (&[(10, 2, 0), (10, 4, 0)], &[(50, 0, true), (50, 0, true)]),
            (&[(10, 3, 1), (10, 0, 1)], &[(50, 0, true), (50, 0, true)]),
            (&[(5, 1, 0), (6, 1, 0)], &[(46, 0, true), (54, 0, true)]),
            (&[(0, 0, 0), (3, 1, 0)], &[(0, 0, true), (100, 0, true)]),
            (&[(0, 0, 0), (3, 3, 0)], &[(0, 0, false), (100, 0, false)]),
            (&[(0, 0, 0)], &[(100, 0, true)]),
            (&[], &[]),
        ];
        for (levels, expected) in cases {
            assert_eq!(loads(levels, 50.0), *expected, "{levels:?}");
        }
    }

    #[test]
    fn a_threshold_of_zero_means_no_panic() {
        assert_eq!(loads(&[(4, 0, 0)], 0.0), [(100, 0, false)]);
        assert_eq!(loads(&[(4, 1, 0)], 0.0), [(100, 0, false)]);
        assert_eq!(loads(&[(4, 0, 0), (4, 0, 0)], 0.0), [(100, 0, false), (0, 0, false)]);
        assert_eq!(loads(&[(4, 3, 0)], 100.0), [(100, 0, false)]);
        assert_eq!(loads(&[(3, 2, 0)], 100.0), [(100, 0, true)]);
    }

    #[test]
    fn hashes_are_shared_out_in_hundreds() {
        let loads = PriorityLoads::new(&health(&[(5, 2, 0), (5, 5, 0)]), 50.0);
        for (hash, level) in [(0, 0), (55, 0), (56, 1), (99, 1), (100, 0), (156, 1)] {
            assert_eq!(loads.choose(hash), (level, Availability::Healthy), "hash {hash}");
        }
        let loads = PriorityLoads::new(&health(&[(10, 4, 6)]), 50.0);
        assert_eq!(loads.choose(55), (0, Availability::Healthy));
        assert_eq!(loads.choose(56), (0, Availability::Degraded));
        assert_eq!(PriorityLoads::new(&[], 50.0).choose(7), (0, Availability::Healthy));
    }

    proptest! {
        #[test]
        fn the_loads_add_up_to_100(
            levels in prop::collection::vec((0..8_u32, 0..8_u32, 0..8_u32), 1..5),
            threshold in 0..=100_u32,
        ) {
            let levels: Vec<_> = levels.iter().map(|(a, b, c)| (a + b + c, *a, *b)).collect();
            let loads = loads(&levels, f64::from(threshold));
            prop_assert_eq!(loads.iter().map(|(healthy, degraded, _)| healthy + degraded).sum::<u32>(), 100);
        }
    }
}
