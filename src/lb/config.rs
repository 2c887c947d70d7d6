//! What a balancer is built from, beside the hosts.

use crate::lb::admits::Admits;
use crate::lb::bounded;
use crate::lb::error::TableError;
use crate::lb::host::LbHost;
use crate::lb::least_request;
use crate::lb::maglev::MaglevConfig;
use crate::lb::member::{self, Member};
use crate::lb::ring::RingConfig;

/// Sizes of a ring that serves until a table is built, in points.
const PROVISIONAL_MINIMUM: u64 = 1 << 10;
const PROVISIONAL_MAXIMUM: u64 = 1 << 14;

/// Envoy's load balancing policies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Policy {
    /// In turns, by weight.
    RoundRobin,
    /// At random, whatever the weights.
    Random,
    /// The host with the fewest requests in flight, of a few.
    LeastRequest {
        /// How many random hosts are compared, at least 2. Used when all weights are equal; otherwise a host is drawn
        /// in proportion to `weight / (active + 1)`.
        choice_count: u32,
    },
    /// Ketama, by the request's hash.
    RingHash(RingConfig),
    /// Maglev, by the request's hash.
    Maglev(MaglevConfig),
}

/// What a balancer is built from, beside the hosts.
#[derive(Clone, Debug, PartialEq)]
pub struct BalancerConfig {
    /// How a host is chosen within a priority level.
    pub policy: Policy,
    /// Percent of a level's hosts that have to be available, lest all of them are used. 0: never.
    pub healthy_panic_threshold: f64,
    /// Weights by locality index; present where localities are weighted (Envoy's `locality_weighted_lb_config`). A
    /// locality without a weight gets nothing.
    pub locality_weights: Option<Vec<u32>>,
    /// Percent of the average load that a host may have before a hash's next host is taken, at least 100.
    pub hash_balance_factor: Option<u32>,
}

impl Default for BalancerConfig {
    fn default() -> Self {
        Self { policy: Policy::RoundRobin, healthy_panic_threshold: 50.0, locality_weights: None, hash_balance_factor: None }
    }
}

impl BalancerConfig {
    /// Whether Envoy would take this configuration.
    pub fn validate(&self) -> Result<(), TableError> {
        match &self.policy {
            Policy::RoundRobin | Policy::Random => {}
            Policy::LeastRequest { choice_count } => least_request::validate(*choice_count)?,
            Policy::RingHash(config) => config.validate()?,
            Policy::Maglev(config) => config.validate()?,
        }
        if !(0.0..=100.0).contains(&self.healthy_panic_threshold) {
            return Err(TableError::PanicThreshold { percent: self.healthy_panic_threshold });
        }
        self.hash_balance_factor.map_or(Ok(()), bounded::validate)
    }

    pub(super) fn uses_hash(&self) -> bool {
        matches!(self.policy, Policy::RingHash(_) | Policy::Maglev(_))
    }

    /// How many points or slots the tables of these hosts have: twice as many where a host does not take all of its hashes. 0: hosts are not
    /// chosen by hash.
    #[must_use]
    pub fn entries(&self, hosts: &[LbHost]) -> u64 {
        let has_fallback = hosts.iter().any(|host| host.admits != Admits::All);
        self.table_entries(hosts) * if has_fallback { 2 } else { 1 }
    }

    fn table_entries(&self, hosts: &[LbHost]) -> u64 {
        match &self.policy {
            Policy::RingHash(config) => config.points(hosts),
            Policy::Maglev(_) if hosts.is_empty() => 0,
            Policy::Maglev(config) => config.table_size,
            Policy::RoundRobin | Policy::Random | Policy::LeastRequest { .. } => 0,
        }
    }

    /// The same with a ring of at most 16,384 points in the place of the table: quickly built, and with other choices.
    #[must_use]
    pub fn provisional(&self) -> Self {
        let ring = match &self.policy {
            Policy::RingHash(config) => *config,
            Policy::Maglev(_) => RingConfig::default(),
            Policy::RoundRobin | Policy::Random | Policy::LeastRequest { .. } => return self.clone(),
        };
        let sizes = RingConfig {
            minimum_ring_size: ring.minimum_ring_size.min(PROVISIONAL_MINIMUM),
            maximum_ring_size: ring.maximum_ring_size.min(PROVISIONAL_MAXIMUM),
            ..ring
        };
        Self { policy: Policy::RingHash(sizes), ..self.clone() }
    }

    pub(super) fn members(&self, hosts: &[LbHost], level: &[u32], selected: &[u32]) -> Result<Vec<Member>, TableError> {
        match &self.locality_weights {
            None => member::flat(hosts, selected),
            Some(weights) => member::by_locality(hosts, level, selected, weights),
        }
    }
}
