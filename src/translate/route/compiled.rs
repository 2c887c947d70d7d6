//! What a route amounts to, for those who build listeners and clusters of it.

use std::sync::Arc;

use crate::base::{ObjectName, ObjectRef};
use crate::snapshot::{BackendName, Hostname, RouteEntry, RouteName, Specificity};

use super::option_use::{OptionUse, UnkeyedRules};

/// What a route reads beside itself; it is compiled anew when that changes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::translate) enum Dependency {
    /// An object, there or not.
    Object(ObjectRef),
    /// The ReferenceGrants of a namespace.
    Grants(Box<str>),
}

/// A route with everything that the hosts it serves and its backends need. There may be thousands: boxes, no spare capacity.
#[derive(Debug)]
pub(in crate::translate) struct CompiledRoute {
    pub(in crate::translate) name: Arc<RouteName>,
    /// None counts as the oldest.
    pub(in crate::translate) age: Option<jiff::Timestamp>,
    /// In the order rule, match.
    pub(in crate::translate) entries: Box<[Arc<RouteEntry>]>,
    /// Matches one of whose conditions is wrong: answered 500 where nothing else of their rank matches.
    pub(in crate::translate) last_resort: Box<[Arc<RouteEntry>]>,
    pub(in crate::translate) attachments: Box<[Attachment]>,
    /// Whether it counts as attached.
    pub(in crate::translate) accepted: bool,
    /// Each once.
    pub(in crate::translate) dependencies: Box<[Dependency]>,
    /// Backends that it sends to, each once.
    pub(in crate::translate) backends: Box<[BackendName]>,
    pub(in crate::translate) option_uses: Box<[OptionUse]>,
    pub(in crate::translate) unkeyed: Box<[UnkeyedRules]>,
}

/// The hostnames that a route has in common with one listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::translate) struct Attachment {
    pub(in crate::translate) gateway: Arc<ObjectName>,
    /// Index of the listener within its Gateway.
    pub(in crate::translate) listener: usize,
    /// All that the route claims there, also where others own them.
    pub(in crate::translate) hostnames: Box<[Hostname]>,
    /// How specific the hostname is that the route itself writes for the listener's: that one may be narrower.
    pub(in crate::translate) own: Specificity,
    /// Whether it serves any of them.
    pub(in crate::translate) serves: bool,
}
