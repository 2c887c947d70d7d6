//! What the admin server shows, and where it gets it from.

use std::{collections::BTreeMap, future::Future, pin::Pin, sync::Arc};

use crate::base::{Message, ObjectRef, Published, Readiness, TableDigests};
use crate::snapshot::{BackendName, Cluster, Snapshot};
use crate::telemetry::{Logging, Metrics};
use crate::translate::Status;

/// What a port of the admin server shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Probes and metrics only: for ports that others reach.
    Public,
    /// Everything: for loopback.
    Everything,
}

/// Statuses and notices at one moment.
#[derive(Clone, Debug)]
pub struct StatusReport {
    /// Generation of the snapshot.
    pub generation: u64,
    /// What is served.
    pub snapshot: Arc<Snapshot>,
    /// Statuses of all objects that have one of ours.
    pub statuses: BTreeMap<ObjectRef, Arc<Status>>,
    /// What an operator should read.
    pub notices: Vec<Message>,
}

/// Asks the controller for statuses; answers `None` where it does not answer in time.
pub type StatusSource = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Option<StatusReport>> + Send>> + Send + Sync>;

/// Asks the controller for the cluster of a backend, whether or not a route uses it; answers `None` where it does not answer in time.
pub type ClusterSource =
    Arc<dyn Fn(BackendName) -> Pin<Box<dyn Future<Output = Option<Result<Arc<Cluster>, Message>>> + Send>> + Send + Sync>;

/// What the admin server shows.
#[derive(Clone)]
pub struct Sources {
    /// All counters; the workers' heartbeats are among them.
    pub metrics: Arc<Metrics>,
    /// Whether the process wants traffic.
    pub readiness: Readiness,
    /// What is served.
    pub published: Arc<Published<Snapshot>>,
    /// The digests of its tables.
    pub digests: Arc<Published<TableDigests>>,
    /// Statuses and notices.
    pub statuses: StatusSource,
    /// Clusters of backends that no route uses.
    pub clusters: ClusterSource,
    /// The log; `None` where it is not ours to change.
    pub logging: Option<Logging>,
}

impl std::fmt::Debug for Sources {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sources").finish_non_exhaustive()
    }
}
