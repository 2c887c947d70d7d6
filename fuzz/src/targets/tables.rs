//! Rings and Maglev tables of hostile hosts: refused or built, the same again, and every choice is one of the hosts.

use clingfish::lb::{Balancer, BalancerConfig, HostHealth, LbHost, MaglevConfig, Policy, RingConfig, RingHashFunction};

/// Larger tables are only slower.
const LARGEST_TABLE: u64 = 20_000;
const MOST_HOSTS: usize = 64;

/// Bytes taken from the front; zeros once there are none.
struct Source<'d>(&'d [u8]);

impl Source<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// Small numbers and the extremes alike.
    fn number(&mut self) -> u64 {
        let (kind, bytes) = (self.byte(), [self.byte(), self.byte(), self.byte(), self.byte()]);
        match kind % 8 {
            0 => u64::from(bytes[0]),
            1 => u64::from(u32::from_le_bytes(bytes)) % 1000,
            2 => u64::from(u32::from_le_bytes(bytes)),
            3 => u64::MAX,
            4 => u64::from(u32::MAX),
            5 => 65_537,
            6 => u64::from(bytes[0]) + LARGEST_TABLE,
            _ => 0,
        }
    }

    fn text(&mut self) -> String {
        let length = usize::from(self.byte() % 32).min(self.0.len());
        let (text, rest) = self.0.split_at(length);
        self.0 = rest;
        String::from_utf8_lossy(text).into_owned()
    }
}

/// A configuration, then hosts.
pub fn run(data: &[u8]) {
    let mut source = Source(data);
    let config = config(&mut source);
    let mut hosts = Vec::new();
    while !source.0.is_empty() && hosts.len() < MOST_HOSTS {
        hosts.push(host(&mut source));
    }
    let Ok(balancer) = Balancer::build(&hosts, &config) else { return };
    assert!(config.validate().is_ok(), "built from {config:?}, which is invalid");
    let again = Balancer::build(&hosts, &config).expect("built before");
    let selectable = |host: u32| hosts.get(host as usize).is_some();
    for hash in [0, 1, u64::MAX, 0x9e37_79b9_7f4a_7c15, hosts.len() as u64] {
        for attempt in [0, 1, 7, u32::MAX] {
            let choice = balancer.choose_by_hash(hash, attempt);
            assert_eq!(choice, again.choose_by_hash(hash, attempt));
            assert!(choice.is_none_or(|choice| selectable(choice.host)), "{choice:?} of {} hosts", hosts.len());
        }
        let bounded = balancer.choose_bounded(hash, 0, u32::MAX, |host| u32::try_from(host).unwrap_or(u32::MAX).wrapping_mul(0x1000_0001));
        assert!(bounded.is_none_or(|choice| selectable(choice.host)), "{bounded:?} of {} hosts", hosts.len());
        let mut sequence = balancer.sequence(hash, 16).to_vec();
        assert_eq!(sequence.first().copied(), balancer.choose_by_hash(hash, 0).map(|choice| choice.host));
        assert!(sequence.len() <= 16 && sequence.iter().all(|host| selectable(*host)), "{sequence:?} of {} hosts", hosts.len());
        sequence.sort_unstable();
        assert!(sequence.windows(2).all(|pair| pair[0] != pair[1]), "twice in {sequence:?}");
    }
}

fn config(source: &mut Source<'_>) -> BalancerConfig {
    let kind = source.byte();
    let policy = match kind % 4 {
        0 => Policy::Maglev(MaglevConfig { table_size: bounded(source.number()) }),
        1 => Policy::LeastRequest { choice_count: u32::try_from(source.number()).unwrap_or(u32::MAX) },
        _ => Policy::RingHash(RingConfig {
            minimum_ring_size: bounded(source.number()),
            maximum_ring_size: bounded(source.number()),
            hash_function: if kind & 16 == 0 { RingHashFunction::XxHash } else { RingHashFunction::MurmurHash2 },
        }),
    };
    let thresholds = [0.0, 50.0, 100.0, -1.0, f64::NAN, f64::INFINITY, 1e-300, 33.3];
    let healthy_panic_threshold = thresholds[usize::from(source.byte() % 8)];
    let locality_weights = (kind & 32 > 0).then(|| (0..source.byte() % 4).map(|_| weight(source)).collect());
    let hash_balance_factor = (kind & 64 > 0).then(|| weight(source));
    BalancerConfig { policy, healthy_panic_threshold, locality_weights, hash_balance_factor }
}

/// As it is where it is refused, else not larger than is quick.
fn bounded(size: u64) -> u64 {
    if size > clingfish::lb::RING_SIZE_LIMIT { size } else { size.min(65_537) }
}

fn weight(source: &mut Source<'_>) -> u32 {
    u32::try_from(source.number()).unwrap_or(u32::MAX)
}

fn host(source: &mut Source<'_>) -> LbHost {
    let kind = source.byte();
    let health = [HostHealth::Healthy, HostHealth::Healthy, HostHealth::Degraded, HostHealth::Unhealthy][usize::from(kind % 4)];
    let priority = if kind & 64 > 0 { u32::from(source.byte()) } else { u32::from(kind >> 4 & 3) };
    LbHost { weight: weight(source), priority, locality: u32::from(kind >> 2 & 3), health, ..LbHost::new(source.text()) }
}
