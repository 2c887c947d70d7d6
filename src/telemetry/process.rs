//! What is counted of the process as a whole: descriptors that it did not have, and connections that the admin ports closed.

use super::cells::Count;

/// What a file descriptor was wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DescriptorUse {
    /// The connection of a client.
    Client,
    /// A connection to a host.
    Host,
    /// A listening socket of the data plane.
    Listener,
    /// A manifest, or the directory of manifests.
    File,
    /// A connection to an admin port.
    Admin,
}

/// Why an admin port closed a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdminClose {
    /// There were too many; of the client with the most it was the one that waited longest.
    TooMany,
    /// Its client took too long to send a request, or to read an answer.
    TooSlow,
}

/// Counters of the process. Several threads count, all of them seldom.
#[derive(Debug, Default)]
pub struct ProcessMetrics {
    refused: [Count; DescriptorUse::ALL.len()],
    admin_closed: [Count; AdminClose::ALL.len()],
    descriptor_limit: Count,
}

// === impl DescriptorUse ===

impl DescriptorUse {
    /// All uses, in order of their numbers.
    pub const ALL: [Self; 5] = [Self::Client, Self::Host, Self::Listener, Self::File, Self::Admin];

    /// Value of the label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Host => "host",
            Self::Listener => "listener",
            Self::File => "file",
            Self::Admin => "admin",
        }
    }
}

// === impl AdminClose ===

impl AdminClose {
    /// All reasons, in order of their numbers.
    pub const ALL: [Self; 2] = [Self::TooMany, Self::TooSlow];

    /// Value of the label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TooMany => "too_many",
            Self::TooSlow => "too_slow",
        }
    }
}

// === impl ProcessMetrics ===

impl ProcessMetrics {
    /// No descriptor was left for this.
    pub fn out_of_descriptors(&self, wanted_for: DescriptorUse) {
        if let Some(count) = self.refused.get(wanted_for as usize) {
            count.add_shared(1);
        }
    }

    /// How often no descriptor was left for this.
    pub fn refused(&self, wanted_for: DescriptorUse) -> u64 {
        self.refused.get(wanted_for as usize).map_or(0, Count::get)
    }

    /// An admin port closed a connection before its client did.
    pub fn admin_closed(&self, reason: AdminClose) {
        if let Some(count) = self.admin_closed.get(reason as usize) {
            count.add_shared(1);
        }
    }

    /// How often an admin port closed a connection for this reason.
    pub fn closed(&self, reason: AdminClose) -> u64 {
        self.admin_closed.get(reason as usize).map_or(0, Count::get)
    }

    /// The process may have this many descriptors open.
    pub fn set_descriptor_limit(&self, limit: usize) {
        self.descriptor_limit.set(limit as u64);
    }

    pub(super) fn descriptor_limit(&self) -> u64 {
        self.descriptor_limit.get()
    }
}
