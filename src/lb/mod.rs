//! Load balancing, pure: hash, ring, maglev, weighted, least request, panic, bounded load. (Placeholder of the owner's files.)

/// Chooses among the hosts of a cluster.
#[derive(Debug)]
pub struct Balancer {}

/// Splits requests between weighted backends.
#[derive(Clone, Debug)]
pub struct WeightedSplit {}
