//! What one data-plane worker counts of UDP: flows, which are the datagrams between one client and one host, and the datagrams themselves.

use super::{cells::Count, response_flag::ResponseFlag};

/// Why no flow was begun for a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlowRefusal {
    /// The process has as many as it may have, and none has been quiet for long enough to make room.
    MaxFlows,
    /// The same of its port.
    MaxFlowsPerListener,
    /// Memory runs out.
    Overload,
    /// The gateway is ending.
    Draining,
}

/// Where a datagram goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DatagramDirection {
    /// From a client to a host.
    ToHost,
    /// From a host to a client.
    ToClient,
}

/// A worker's counters. Only the worker's own thread counts.
#[derive(Debug, Default)]
pub struct DatagramMetrics {
    pub(super) flows_open: Count,
    pub(super) flows: [Count; ResponseFlag::ALL.len()],
    pub(super) refused: [Count; FlowRefusal::ALL.len()],
    pub(super) passed: [Count; DatagramDirection::ALL.len()],
    pub(super) dropped: [Count; DatagramDirection::ALL.len()],
}

// === impl FlowRefusal ===

impl FlowRefusal {
    /// All reasons, in order of their numbers.
    pub const ALL: [Self; 4] = [Self::MaxFlows, Self::MaxFlowsPerListener, Self::Overload, Self::Draining];

    /// Value of the label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MaxFlows => "max_flows",
            Self::MaxFlowsPerListener => "max_flows_per_listener",
            Self::Overload => "overload",
            Self::Draining => "draining",
        }
    }
}

// === impl DatagramDirection ===

impl DatagramDirection {
    /// Both, in order of their numbers.
    pub const ALL: [Self; 2] = [Self::ToHost, Self::ToClient];

    /// Value of the label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ToHost => "host",
            Self::ToClient => "client",
        }
    }
}

// === impl DatagramMetrics ===

impl DatagramMetrics {
    /// A flow has begun.
    pub fn flow_began(&self) {
        self.flows_open.add(1);
    }

    /// A flow has ended.
    pub fn flow_ended(&self, flag: ResponseFlag) {
        self.flows_open.subtract(1);
        if let Some(count) = self.flows.get(flag as usize) {
            count.add(1);
        }
    }

    /// No flow was begun for a datagram.
    pub fn flow_refused(&self, reason: FlowRefusal) {
        if let Some(count) = self.refused.get(reason as usize) {
            count.add(1);
        }
    }

    /// A datagram was sent on.
    pub fn passed(&self, direction: DatagramDirection) {
        if let Some(count) = self.passed.get(direction as usize) {
            count.add(1);
        }
    }

    /// A datagram of a flow could not be sent on.
    pub fn dropped(&self, direction: DatagramDirection) {
        if let Some(count) = self.dropped.get(direction as usize) {
            count.add(1);
        }
    }
}
