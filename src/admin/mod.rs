//! The admin server: probes, metrics, configuration, explanations, and a page for people. It has a thread of its own, so that a probe waits
//! neither for a busy data plane nor for a hanging controller.

mod config;
mod connections;
mod explain;
mod logging;
mod origin;
mod page;
mod probes;
mod serial_queue;
mod server;

use std::{collections::BTreeMap, future::Future, net::SocketAddr, pin::Pin, sync::Arc, thread};

use tokio::sync::oneshot;

use crate::base::{Message, ObjectRef, Published, Readiness};
use crate::snapshot::{BackendName, Cluster, Snapshot};
use crate::telemetry::{Logging, Metrics};
use crate::translate::Status;

pub use explain::{SIMULATED_KEYS, SimulateRequest, simulate_in};

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
    /// Statuses and notices.
    pub statuses: StatusSource,
    /// Clusters of backends that no route uses.
    pub clusters: ClusterSource,
    /// The log; `None` where it is not ours to change.
    pub logging: Option<Logging>,
}

/// A running admin server; it ends when this is dropped.
#[derive(Debug)]
pub struct Admin {
    address: SocketAddr,
    _stop: oneshot::Sender<()>,
}

/// The admin server cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The address cannot be bound.
    #[error("admin address {address}: {error}; choose another one with --admin")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// The system's words.
        error: std::io::Error,
    },
    /// The thread or its runtime cannot be started.
    #[error("the admin server cannot be started: {0}")]
    Start(std::io::Error),
}

/// Binds the address and serves on a thread of its own; `connections`: the most at a time, beyond which older ones make room.
///
/// # Errors
/// The address cannot be bound, or the thread cannot be started.
pub fn start(address: SocketAddr, scope: Scope, sources: Sources, connections: usize) -> Result<Admin, AdminError> {
    let bound = std::net::TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok((listener.local_addr()?, listener))
    });
    let (address, listener) = bound.map_err(|error| AdminError::Bind { address, error })?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(2).build().map_err(AdminError::Start)?;
    let (stop, stopped) = oneshot::channel();
    let serve = move || {
        runtime.block_on(async {
            tokio::select! {
                result = server::serve(listener, address, scope, sources, connections) => {
                    if let Err(error) = result {
                        tracing::error!(%error, "the admin server ended");
                    }
                }
                _ = stopped => {}
            }
        });
    };
    thread::Builder::new().name("admin".into()).spawn(serve).map_err(AdminError::Start)?;
    Ok(Admin { address, _stop: stop })
}

// === impl Admin ===

impl Admin {
    /// The address that was bound.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl std::fmt::Debug for Sources {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sources").finish_non_exhaustive()
    }
}
