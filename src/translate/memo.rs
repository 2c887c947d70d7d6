//! What one translation leaves to the next: every part compiled, with the indexes that tell what a change touches.

use std::collections::BTreeMap;

use crate::base::{ObjectName, ObjectRef};
use crate::snapshot::{BackendName, Observed};

use super::{
    Status, certificates::Certificates, cluster_table::ClusterTable, gateways::GatewayState, gloo_kinds::GlooKinds, http_route::Common,
    recent::Recent, route_table::RouteTable,
};

/// What one translation leaves to the next.
#[derive(Debug, Default)]
pub(super) struct Memo {
    pub(super) observed: Observed,
    pub(super) certificates: Certificates,
    pub(super) gateways: BTreeMap<ObjectName, GatewayState>,
    pub(super) routes: RouteTable,
    pub(super) clusters: ClusterTable,
    pub(super) gloo: GlooKinds,
    pub(super) common: Common,
    pub(super) statuses: Recent<Status>,
    pub(super) notices: Notices,
}

/// What a notice is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Topic {
    /// An object whose newest version cannot be decoded.
    Refused(ObjectRef),
    /// An object.
    Object(ObjectRef),
    /// The cluster of a backend.
    Backend(BackendName),
}

/// Notices by what they are about, so that each is there once and as long as it holds.
#[derive(Debug, Default)]
pub(super) struct Notices {
    by_topic: BTreeMap<Topic, Vec<String>>,
    changed: bool,
}

// === impl Notices ===

impl Notices {
    /// Replaces what there is to say on a topic.
    pub(super) fn set(&mut self, topic: Topic, notices: Vec<String>) {
        if notices.is_empty() {
            self.changed |= self.by_topic.remove(&topic).is_some();
        } else if self.by_topic.get(&topic) != Some(&notices) {
            self.by_topic.insert(topic, notices);
            self.changed = true;
        }
    }

    /// All notices in order, if they changed since the last call.
    pub(super) fn take_changed(&mut self) -> Option<Vec<String>> {
        std::mem::take(&mut self.changed).then(|| self.by_topic.values().flatten().cloned().collect())
    }
}
