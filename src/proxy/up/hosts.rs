//! What a worker's tasks share to speak with hosts.

use std::{cell::RefCell, rc::Rc, sync::Arc};

use tokio::time::Instant;

use crate::{
    plan::ForwardPlan,
    proxy::state::{breaker::Share, budget::Budget, config::ProxyConfig, descriptors::Descriptors, slots::Slots},
    snapshot::{Cluster, ClusterId, HostTls, Snapshot},
    telemetry::WorkerMetrics,
};

use super::{
    http2,
    pool::{ActiveConnection, Awaited, SharedPool},
};

/// Spare buffers that are kept over a quiet moment.
const SPARE_BUFFERS: usize = 64;

/// A worker's connections to hosts, and what making and using them needs.
#[derive(Debug)]
pub(in crate::proxy) struct Hosts {
    pub(super) config: Arc<ProxyConfig>,
    pub(super) metrics: Arc<WorkerMetrics>,
    pub(super) descriptors: Rc<Descriptors>,
    pub(super) budget: Rc<Budget>,
    pub(super) pool: Rc<SharedPool>,
    /// Connections of HTTP/2, until they have ended.
    pub(super) shared: Slots<http2::Connection>,
    /// Empty buffers for saved heads.
    spare_buffers: RefCell<Vec<Vec<u8>>>,
}

// === impl Hosts ===

impl Hosts {
    pub(in crate::proxy) fn new(
        config: Arc<ProxyConfig>,
        metrics: Arc<WorkerMetrics>,
        descriptors: Rc<Descriptors>,
        budget: Rc<Budget>,
    ) -> Rc<Self> {
        let pool = SharedPool::new(Arc::clone(&metrics));
        Rc::new(Self { config, metrics, descriptors, budget, pool, shared: Slots::default(), spare_buffers: RefCell::default() })
    }

    /// A connection to a host that can serve one more request, with the TLS that is planned, if there is one.
    pub(in crate::proxy) fn checkout(&self, plan: &ForwardPlan, host: u32, now: Instant) -> Option<ActiveConnection> {
        self.pool.borrow_mut().checkout(&self.pool, plan, host, now)
    }

    /// What a request waits for that needs a stream to this host and has found none.
    pub(in crate::proxy) fn awaited(&self, cluster: &Arc<Cluster>, host: u32, tls: Option<&HostTls>) -> Awaited {
        self.pool.borrow_mut().awaited(cluster, host, tls)
    }

    /// The worker's part in a cluster.
    pub(in crate::proxy) fn share(&self, cluster: &Arc<Cluster>) -> Rc<Share> {
        self.pool.borrow_mut().share(cluster)
    }

    /// Closes the connection of a cluster that has been idle for the longest time; whether there is one.
    pub(in crate::proxy) fn close_idle(&self, cluster: ClusterId) -> bool {
        self.pool.borrow_mut().close_idle(cluster)
    }

    /// Follows a new snapshot: lets go of connections to hosts that are no longer part of their cluster.
    pub(in crate::proxy) fn follow(&self, snapshot: &Snapshot) {
        self.pool.borrow_mut().follow(snapshot);
    }

    /// Calls requests that wait for a connection for which there is room now.
    pub(in crate::proxy) fn call_waiting(&self) {
        self.pool.borrow().call_waiting(&self.config.backends);
    }

    /// Looks at the deadlines of connections that carry many requests.
    pub(in crate::proxy) fn check(&self, now: Instant) {
        self.shared.for_each(|connection| connection.check(now, &self.config.limits, self.config.backends.http2_ping));
    }

    /// Gives memory back after a crowd has left.
    pub(in crate::proxy) fn shrink(&self) {
        self.shared.shrink();
        self.spare_buffers.borrow_mut().truncate(SPARE_BUFFERS);
    }

    /// Closes connections that have been idle for too long, and counts the others that are idle.
    pub(in crate::proxy) fn prune(&self, now: Instant) {
        let mut pool = self.pool.borrow_mut();
        pool.prune(now);
        self.metrics.set_upstream_idle(pool.idle());
    }

    /// Closes everything.
    pub(in crate::proxy) fn clear(&self) {
        self.pool.borrow_mut().clear();
    }

    /// An empty buffer.
    pub(super) fn spare_buffer(&self) -> Vec<u8> {
        self.spare_buffers.borrow_mut().pop().unwrap_or_default()
    }

    /// Keeps an empty buffer that nobody needs any more.
    pub(super) fn keep_buffer(&self, buffer: Vec<u8>) {
        self.spare_buffers.borrow_mut().push(buffer);
    }
}
