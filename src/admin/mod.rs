//! The admin server: probes, metrics, configuration, explanations, and a page for people. It has a thread of its own, so that a probe waits
//! neither for a busy data plane nor for a hanging controller.

mod config;
mod connections;
mod digest;
mod explain;
mod live;
mod logging;
mod origin;
mod page;
mod probes;
mod serial_queue;
mod server;
mod shares;
mod sources;

use std::{net::SocketAddr, thread};

use tokio::sync::oneshot;

pub use explain::{SIMULATED_KEYS, SimulateRequest, SplitRequest, rollout_in, simulate_in, split_in};
pub use sources::{ClusterSource, Scope, Sources, StatusReport, StatusSource};

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
