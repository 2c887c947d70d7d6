//! What an AffinityPolicy asks for beyond Envoy's hash policies.

use std::time::Duration;

use http::HeaderName;

use crate::base::ObjectName;

use super::{hash_policy::HashPolicy, hold::Hold};

/// What an AffinityPolicy makes of requests: of those of a rule, or of those to a cluster for which their rule says nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Affinity {
    /// The policy.
    pub policy: ObjectName,
    /// Where keys are read; `None`: where the rule's other policies say.
    pub keys: Option<Box<[HashPolicy]>>,
    /// Where a request without a key goes.
    pub missing: MissingKey,
    /// How weighted backends share the sessions of a rule.
    pub split: Split,
    /// How sessions are held on their hosts; `None`: they go where the table says.
    pub hold: Option<Hold>,
    /// Streams whose key belongs to another host by now are told to go within this time; `None`: they stay.
    pub ends_moved: Option<Duration>,
}

/// Where a request goes that has no key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MissingKey {
    /// To any host, as in Envoy.
    #[default]
    Random,
    /// To one host for each connection.
    Connection,
    /// Nowhere: it is answered 400.
    Reject,
}

/// How weighted backends share the requests of a rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Split {
    /// Request by request, as in Envoy.
    #[default]
    Random,
    /// By the key, so that a user stays with a backend.
    Hash {
        /// What names a backend all the same, for testers.
        named_by: Option<Carrier>,
    },
}

/// What carries a value from the gateway to the client and back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// A cookie of this name.
    Cookie(Box<str>),
    /// A header of this name.
    Header(HeaderName),
}
