//! From declared resources to routing: one pure function gives snapshot, statuses, infrastructure and notices.

pub mod cluster;
pub mod endpoints;
pub mod gloo_fields;
pub mod gloo_status;
mod options;
mod resources;
pub mod route_option;
mod status;
pub mod upstream;

use std::{collections::BTreeMap, sync::Arc};

use crate::base::ObjectRef;
use crate::snapshot::{Observed, Snapshot};

pub use options::{CONTROLLER_NAME, CrossNamespace, GLOO_CLASS, Options, UseRemoteAddress};
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
}

/// Translates. Pure: no clock, no I/O, no random number; folding single changes gives the same dump as translating from scratch.
///
/// `resources.changes()` says what differs from the state that `previous` was made of; without `previous` everything is translated.
pub fn translate(_resources: &Resources, _observed: &Observed, _options: &Options, previous: Option<Translation>) -> Translation {
    previous.unwrap_or_default()
}
