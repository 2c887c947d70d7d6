//! What one translation leaves to the next: every part compiled, with the indexes that tell what a change touches.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use crate::base::{ObjectName, ObjectRef};
use crate::snapshot::{BackendName, Observed, RoutePolicy};

use super::{
    Status, certificates::Certificates, cluster_table::ClusterTable, gateways::GatewayState, gloo_kinds::GlooKinds, route_table::RouteTable,
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
    pub(super) default_policy: Arc<RoutePolicy>,
    pub(super) shared_statuses: SharedStatuses,
    pub(super) notices: Notices,
}

/// The statuses given out last, to be shared by whatever has an equal one.
#[derive(Debug, Default)]
pub(super) struct SharedStatuses {
    recent: VecDeque<Arc<Status>>,
}

/// How many statuses are looked at for an equal one.
const RECENT_STATUSES: usize = 8;

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

// === impl SharedStatuses ===

impl SharedStatuses {
    /// An equal status that was given out lately, or this one.
    pub(super) fn share(&mut self, status: Status) -> Arc<Status> {
        if let Some(known) = self.recent.iter().find(|known| ***known == status) {
            return Arc::clone(known);
        }
        let status = Arc::new(status);
        self.recent.truncate(RECENT_STATUSES - 1);
        self.recent.push_front(Arc::clone(&status));
        status
    }
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
