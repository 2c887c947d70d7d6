//! Why sessions move.

/// What made the table of a cluster another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MoveCause {
    /// There are more or fewer pods of the same kind.
    Scale,
    /// Pods are replaced, or those of another ReplicaSet come or go.
    Rollout,
    /// Pods that are still there are not ready any more.
    PodFailed,
    /// Such pods are ready again.
    PodRecovered,
    /// The same hosts have other weights.
    Weights,
    /// The same hosts stand for other places of the table.
    Slots,
    /// The same hosts take another part of the keys of their places.
    WarmUp,
    /// The table is made in another way: its algorithm, its size.
    Configuration,
}

// === impl MoveCause ===

impl MoveCause {
    /// All causes, in order.
    pub const ALL: [Self; 8] =
        [Self::Scale, Self::Rollout, Self::PodFailed, Self::PodRecovered, Self::Weights, Self::Slots, Self::WarmUp, Self::Configuration];

    /// The cause as a metric's label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Scale => "scale",
            Self::Rollout => "rollout",
            Self::PodFailed => "pod_failed",
            Self::PodRecovered => "pod_recovered",
            Self::Weights => "weights",
            Self::Slots => "slots",
            Self::WarmUp => "warm_up",
            Self::Configuration => "configuration",
        }
    }
}
