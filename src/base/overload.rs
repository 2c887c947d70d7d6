//! What is no longer done when memory runs out, and how the workers learn of it.

use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

/// How much is refused; each level includes those before it. Named after the actions of Envoy's overload manager (`envoy.overload_actions`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum OverloadLevel {
    /// Nothing is refused.
    #[default]
    None,
    /// `disable_http_keepalive`: each response ends its HTTP/1 connection, and an HTTP/2 connection takes no new streams after it.
    DisableKeepAlive,
    /// `stop_accepting_requests`: new requests are answered with 503.
    StopAcceptingRequests,
    /// `reject_incoming_connections`: new connections are closed.
    RejectIncomingConnections,
}

/// The level at this moment: one thread publishes it, the workers read it.
#[derive(Debug, Default)]
pub struct Overload(AtomicU8);

/// By how much pressure must fall below a level's threshold before the level is left: without a margin it would flap.
const MARGIN: f64 = 0.02;

// === impl OverloadLevel ===

impl OverloadLevel {
    /// All levels, from the mildest on.
    pub const ALL: [Self; 4] = [Self::None, Self::DisableKeepAlive, Self::StopAcceptingRequests, Self::RejectIncomingConnections];

    /// The pressure (memory used over memory there is) from which on the level holds.
    pub fn threshold(self) -> f64 {
        match self {
            Self::None => 0.0,
            Self::DisableKeepAlive => 0.85,
            Self::StopAcceptingRequests => 0.92,
            Self::RejectIncomingConnections => 0.97,
        }
    }

    /// The level that follows this one at a pressure.
    #[must_use]
    pub fn next(self, pressure: f64) -> Self {
        let holds = |level: Self| pressure >= level.threshold() || (level <= self && pressure >= level.threshold() - MARGIN);
        Self::ALL.into_iter().rev().find(|level| holds(*level)).unwrap_or_default()
    }

    fn of(number: u8) -> Self {
        Self::ALL.get(usize::from(number)).copied().unwrap_or_default()
    }
}

// === impl Overload ===

impl Overload {
    /// Tells the workers.
    pub fn publish(&self, level: OverloadLevel) {
        self.0.store(level as u8, Relaxed);
    }

    /// The level that was published last.
    pub fn level(&self) -> OverloadLevel {
        OverloadLevel::of(self.0.load(Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use OverloadLevel::{DisableKeepAlive, None, RejectIncomingConnections, StopAcceptingRequests};

    #[test]
    fn a_level_begins_at_its_threshold_and_ends_below_its_margin() {
        for (level, pressure, expected) in [
            (None, 0.0, None),
            (None, 0.849, None),
            (None, 0.85, DisableKeepAlive),
            (None, 0.92, StopAcceptingRequests),
            (None, 1.2, RejectIncomingConnections),
            (DisableKeepAlive, 0.84, DisableKeepAlive),
            (DisableKeepAlive, 0.82, None),
            (StopAcceptingRequests, 0.91, StopAcceptingRequests),
            (StopAcceptingRequests, 0.89, DisableKeepAlive),
            (RejectIncomingConnections, 0.955, RejectIncomingConnections),
            (RejectIncomingConnections, 0.94, StopAcceptingRequests),
            (RejectIncomingConnections, 0.10, None),
            (RejectIncomingConnections, f64::NAN, None),
        ] {
            assert_eq!(level.next(pressure), expected, "{level:?} at {pressure}");
        }
    }

    #[test]
    fn what_is_published_is_read() {
        let overload = Overload::default();
        for level in OverloadLevel::ALL {
            overload.publish(level);
            assert_eq!(overload.level(), level);
        }
    }
}
