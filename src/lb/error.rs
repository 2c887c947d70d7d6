//! Why a table cannot be built.

/// A balancer that Envoy would refuse too: the field as Envoy's configuration names it, its value, what was expected.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum TableError {
    /// A ring without points would serve nobody.
    #[error("minimum_ring_size is 0, expected at least 1")]
    RingSizeZero,
    /// Envoy's own limit, for either size.
    #[error("{field} is {size}, expected at most {limit}")]
    RingSizeTooLarge {
        /// `minimum_ring_size` or `maximum_ring_size`.
        field: &'static str,
        /// The size asked for, in points.
        size: u64,
        /// The largest size allowed, in points.
        limit: u64,
    },
    /// The two sizes contradict each other.
    #[error("minimum_ring_size is {minimum}, expected at most maximum_ring_size ({maximum})")]
    RingSizesCross {
        /// The smaller bound, in points.
        minimum: u64,
        /// The larger bound, in points.
        maximum: u64,
    },
    /// Maglev's permutations cover the table only if its size is prime.
    #[error("table_size is {size}, expected a prime number of at most {limit}")]
    MaglevSize {
        /// The size asked for, in slots.
        size: u64,
        /// The largest size allowed, in slots.
        limit: u64,
    },
    /// Power of choices needs something to choose from.
    #[error("choice_count is {count}, expected at least 2")]
    ChoiceCount {
        /// The number of choices asked for.
        count: u32,
    },
    /// Below 100 % the hosts together could not hold the load.
    #[error("hash_balance_factor is {factor}, expected at least 100 (percent)")]
    BalanceFactor {
        /// The factor asked for, in percent.
        factor: u32,
    },
    /// A percentage outside of its range.
    #[error("healthy_panic_threshold is {percent}, expected 0 to 100 (percent)")]
    PanicThreshold {
        /// The threshold asked for, in percent.
        percent: f64,
    },
    /// Weights are normalised by their sum, which has to fit 32 bits as in Envoy.
    #[error("{what} add up to {sum}, expected at most 4294967295")]
    WeightSum {
        /// Which weights: of endpoints or of localities.
        what: &'static str,
        /// Their sum.
        sum: u64,
    },
    /// Every level up to the highest one costs a table.
    #[error("priority of endpoint {key} is {priority}, expected at most {limit}")]
    Priority {
        /// The endpoint's hash key.
        key: Box<str>,
        /// Its priority, 0 being the first.
        priority: u32,
        /// The largest priority allowed.
        limit: u32,
    },
    /// Hosts are named by 32 bits.
    #[error("{count} endpoints, expected at most 4294967294")]
    HostCount {
        /// The number of endpoints.
        count: usize,
    },
}
