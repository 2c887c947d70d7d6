//! A host as the balancers see it.

use std::net::SocketAddr;

use crate::lb::admits::Admits;
use crate::lb::hash::IpText;

/// What is known of a host's health, as Envoy sorts it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum HostHealth {
    /// Takes traffic.
    #[default]
    Healthy,
    /// Takes what the healthy hosts cannot, and never traffic that is chosen by a hash.
    Degraded,
    /// Takes traffic in panic only.
    Unhealthy,
}

/// One host of a cluster. Its index in the list handed to a balancer is its name from then on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LbHost {
    /// The text that is hashed: endpoint metadata `hash_key`, a hostname, or [`host_key`] of the address.
    pub key: Box<str>,
    /// The share relative to the other hosts. 0 counts as 1, as in Envoy: a host that must get nothing is left out.
    pub weight: u32,
    /// Failover level, 0 being the first.
    pub priority: u32,
    /// Index into [`BalancerConfig::locality_weights`](crate::lb::BalancerConfig::locality_weights).
    pub locality: u32,
    /// Whether it may take traffic.
    pub health: HostHealth,
    /// Which of the hashes that fall on it it takes.
    pub admits: Admits,
    /// Its place among the hosts when a table is built, where that is another one than in the list: lower places come first.
    pub place: u32,
}

impl LbHost {
    /// A healthy host of weight 1 in the first priority and locality, which takes all hashes.
    pub fn new(key: impl Into<Box<str>>) -> Self {
        Self { key: key.into(), weight: 1, priority: 0, locality: 0, health: HostHealth::Healthy, admits: Admits::All, place: 0 }
    }

    /// The weight that is reckoned with.
    pub(super) fn effective_weight(&self) -> u32 {
        self.weight.max(1)
    }
}

/// The text of an endpoint's address as Envoy hashes it: `1.2.3.4:80`, `[2001:db8::1]:80`.
#[must_use]
pub fn host_key(address: SocketAddr) -> String {
    let text = IpText::new(address.ip());
    match address {
        SocketAddr::V4(_) => format!("{}:{}", text.as_str(), address.port()),
        SocketAddr::V6(_) => format!("[{}]:{}", text.as_str(), address.port()),
    }
}

#[cfg(test)]
mod tests {
    use super::host_key;

    #[test]
    fn keys_are_envoys_address_texts() {
        for (address, key) in [
            ("10.244.1.12:8080", "10.244.1.12:8080"),
            ("[FD00:10:244:0:0:0:0:1A]:8080", "[fd00:10:244::1a]:8080"),
            ("[::ffff:1.2.3.4]:80", "[::ffff:1.2.3.4]:80"),
            ("[::1]:1", "[::1]:1"),
        ] {
            assert_eq!(host_key(address.parse().unwrap()), key);
        }
    }
}
