//! From declared resources to routing: one pure function gives snapshot, statuses, infrastructure and notices.

mod options;
mod resources;
mod status;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::base::ObjectRef;
use crate::snapshot::{Observed, Snapshot};

pub use options::{CrossNamespace, Options, UseRemoteAddress};
pub use resources::{Change, Resources};
pub use status::{Condition, GatewayStatus, GlooState, GlooStatus, ListenerStatus, ParentRef, ParentStatus, Status};

/// The result of a translation. The next translation takes it by value and changes what has to change.
#[derive(Debug, Default)]
pub struct Translation {
    /// What the data plane serves.
    pub snapshot: Arc<Snapshot>,
    /// Status of every object that has a status of ours.
    pub statuses: BTreeMap<ObjectRef, Arc<Status>>,
    /// Objects whose status this translation added, changed or removed.
    pub changed_statuses: Vec<ObjectRef>,
    /// What an operator should read once: duplicates, ignored documents, deviations. Deterministic order.
    pub notices: Vec<String>,
    /// DNS names whose addresses the next translation wants in `Observed::dns`.
    pub dns_names: BTreeSet<Box<str>>,
}

/// Translates. Pure: no clock, no I/O, no random number; folding single changes gives the same dump as translating from scratch.
///
/// `resources.changes()` says what differs from the state that `previous` was made of; without `previous` everything is translated.
pub fn translate(_resources: &Resources, _observed: &Observed, _options: &Options, previous: Option<Translation>) -> Translation {
    previous.unwrap_or_default()
}
