//! A worker's connections to hosts: the idle ones of HTTP/1.1, and all of HTTP/2, which carry many requests at once. Last in, first out: the
//! rest age and are closed.
//!
//! A connection belongs to a host of a cluster, that is to an address and the pod behind it. When either leaves the cluster its idle
//! connections are closed, and those in use are not taken back, or get no more streams.

use std::{
    cell::{Ref, RefCell, RefMut},
    collections::HashMap,
    net::SocketAddr,
    rc::Rc,
    sync::{Arc, Weak},
};

use tokio::time::Instant;

use crate::{
    plan::ForwardPlan,
    proxy::state::{
        breaker::{Ceilings, Opened, Share},
        config::BackendLimits,
        error::ProxyError,
    },
    snapshot::{BackendName, Cluster, ClusterId, Host, HostTls, PodRef, Snapshot, UpstreamProtocol, UpstreamTls},
    telemetry::WorkerMetrics,
};

use super::{
    h1::{H1Connection, Recycle},
    host_pool::{HostPool, Idle, close_oldest},
    http2,
};

/// A worker's pool as its active connections hold it, which give themselves back to it.
#[derive(Debug)]
pub(super) struct SharedPool {
    connections: RefCell<Pool>,
    metrics: Arc<WorkerMetrics>,
}

/// Connections by cluster and host.
#[derive(Debug, Default)]
pub(super) struct Pool {
    clusters: Vec<Option<ClusterPool>>,
    /// Idle connections of HTTP/1.1.
    idle: usize,
}

/// A connection that serves a request.
#[derive(Debug)]
pub(in crate::proxy) struct ActiveConnection(pub(super) Active);

/// Which protocol it does so in.
#[derive(Debug)]
pub(super) enum Active {
    /// It serves this one alone.
    Http1(Http1Active),
    /// The request has a stream of it.
    Http2(http2::Lease),
}

/// A connection that serves a request alone.
#[derive(Debug)]
pub(super) struct Http1Active {
    pub(super) connection: H1Connection,
    pub(super) membership: PoolMembership,
}

/// A connection that is made for several requests.
#[derive(Debug)]
pub(in crate::proxy) struct Connecting(pub(super) Rc<http2::Connection>);

/// What a request waits for that needs a stream.
#[derive(Debug)]
pub(in crate::proxy) enum Awaited {
    /// A connection that is being made.
    Connection(Connecting),
    /// One more connection to the host.
    Another {
        /// Streams that the host takes on a connection, as far as it has said.
        streams: Option<u32>,
    },
    /// The host takes no streams at all at this moment.
    Host,
}

/// The host that an active connection belongs to, and the pool that takes it back. The connection counts as in use until this is dropped.
#[derive(Debug)]
pub(super) struct PoolMembership {
    pool: Rc<SharedPool>,
    cluster: ClusterId,
    /// The version of the cluster in which `host` is an index.
    version: *const Cluster,
    host: u32,
    address: SocketAddr,
    pod: Option<Arc<PodRef>>,
    epoch: u32,
    /// The connection among those of the cluster.
    opened: Rc<Opened>,
}

#[derive(Debug)]
struct ClusterPool {
    /// The version of the cluster that `hosts` follows. Weak: the pool must not keep an old cluster alive, only its address.
    version: Weak<Cluster>,
    name: BackendName,
    hosts: Vec<HostPool>,
    /// Moves when all connections have to go; a connection of another epoch is not taken back.
    epoch: u32,
    /// What TLS its hosts are spoken to in.
    tls: Option<Arc<UpstreamTls>>,
    share: Rc<Share>,
}

// === impl SharedPool ===

impl SharedPool {
    /// An empty pool. `metrics`: of the worker whose pool it is.
    pub(super) fn new(metrics: Arc<WorkerMetrics>) -> Rc<Self> {
        Rc::new(Self { connections: RefCell::default(), metrics })
    }

    pub(super) fn borrow(&self) -> Ref<'_, Pool> {
        self.connections.borrow()
    }

    pub(super) fn borrow_mut(&self) -> RefMut<'_, Pool> {
        self.connections.borrow_mut()
    }
}

// === impl Pool ===

impl Pool {
    /// A connection to a host that can serve one more request, with the TLS that is planned: of HTTP/1.1 the youngest idle one that is fit to.
    /// `own`: what it is given back to.
    pub(super) fn checkout(
        &mut self,
        own: &Rc<SharedPool>,
        ForwardPlan { cluster, protocol, tls, .. }: &ForwardPlan,
        host: u32,
        now: Instant,
    ) -> Option<ActiveConnection> {
        let tls = tls.as_ref();
        let pool = self.clusters.get_mut(cluster.id.index())?.as_mut()?;
        let index = pool.index_of(Arc::as_ptr(cluster), host, || cluster.hosts.get(host as usize))?;
        let epoch = pool.epoch;
        let host_pool = pool.hosts.get_mut(index)?;
        match protocol {
            UpstreamProtocol::Http1 => {}
            UpstreamProtocol::H2c => {
                let mut fitting = host_pool.http2.iter().filter(|connection| HostTls::is_same(connection.tls(), tls));
                return fitting.find_map(http2::Lease::of).map(ActiveConnection::stream);
            }
        }
        let idle = &mut host_pool.idle;
        // Mostly the last one: Gateways that show other certificates share few hosts.
        while let Some(fitting) = idle.iter().rposition(|idle| HostTls::is_same(idle.connection.tls(), tls)) {
            let Idle { mut connection, opened, since } = idle.remove(fitting);
            self.idle -= 1;
            if now.duration_since(since) < cluster.connection.idle_timeout && connection.is_reusable() {
                let membership = PoolMembership::new(own, cluster, host, epoch, opened)?;
                return Some(ActiveConnection(Active::Http1(Http1Active { connection, membership })));
            }
        }
        None
    }

    /// Makes a new connection an active one of its host. `own`: what it is given back to.
    pub(super) fn adopt(
        &mut self,
        own: &Rc<SharedPool>,
        cluster: &Arc<Cluster>,
        host: u32,
        connection: H1Connection,
        opened: Opened,
    ) -> Option<ActiveConnection> {
        let epoch = self.ensure(cluster)?.epoch;
        let membership = PoolMembership::new(own, cluster, host, epoch, Rc::new(opened))?;
        Some(ActiveConnection(Active::Http1(Http1Active { connection, membership })))
    }

    /// What a request waits for that needs a stream to this host and has found none.
    pub(super) fn awaited(&mut self, cluster: &Arc<Cluster>, host: u32, tls: Option<&HostTls>) -> Awaited {
        let Some(pool) = self.host_mut(cluster, host) else { return Awaited::Another { streams: None } };
        let fitting = || pool.http2.iter().filter(|connection| HostTls::is_same(connection.tls(), tls));
        if let Some(connection) = fitting().find(|connection| connection.may_join()) {
            return Awaited::Connection(Connecting(Rc::clone(connection)));
        }
        match fitting().filter_map(|connection| connection.streams_allowed()).next_back() {
            Some(0) => Awaited::Host,
            streams => Awaited::Another { streams },
        }
    }

    /// Keeps a connection of HTTP/2 that is being made. If its host has left the cluster since, it serves who asked for it, and no others.
    pub(super) fn keep(&mut self, cluster: &Arc<Cluster>, host: u32, connection: &Rc<http2::Connection>) -> bool {
        let Some(pool) = self.host_mut(cluster, host) else { return false };
        pool.http2.retain(|connection| !connection.is_gone());
        pool.http2.push(Rc::clone(connection));
        true
    }

    fn host_mut(&mut self, cluster: &Arc<Cluster>, host: u32) -> Option<&mut HostPool> {
        self.ensure(cluster)?;
        let pool = self.clusters.get_mut(cluster.id.index())?.as_mut()?;
        let index = pool.index_of(Arc::as_ptr(cluster), host, || cluster.hosts.get(host as usize))?;
        pool.hosts.get_mut(index)
    }

    /// The worker's part in a cluster. While the pool follows another cluster of this number, one that nobody shares.
    pub(super) fn share(&mut self, cluster: &Arc<Cluster>) -> Rc<Share> {
        let share = self.ensure(cluster).map(|pool| &pool.share).filter(|share| share.is_of(cluster));
        share.map_or_else(|| Rc::new(Share::new(Arc::clone(&cluster.live))), Rc::clone)
    }

    /// Closes the connection of a cluster that has been idle for the longest time; whether there is one.
    pub(super) fn close_idle(&mut self, cluster: ClusterId) -> bool {
        let Some(Some(pool)) = self.clusters.get_mut(cluster.index()) else { return false };
        let Some(was_http1) = close_oldest(pool.hosts.iter_mut()) else { return false };
        self.idle -= usize::from(was_http1);
        true
    }

    /// Calls requests that wait for a connection for which there is room now: other workers may have closed some.
    pub(super) fn call_waiting(&self, defaults: &BackendLimits) {
        for pool in self.clusters.iter().flatten().filter(|pool| pool.share.has_waiting()) {
            if let Some(cluster) = pool.version.upgrade() {
                pool.share.look(Ceilings::new(&cluster, defaults));
            }
        }
    }

    fn ensure(&mut self, cluster: &Arc<Cluster>) -> Option<&ClusterPool> {
        let index = cluster.id.index();
        if self.clusters.len() <= index {
            self.clusters.resize_with(index + 1, || None);
        }
        let slot = self.clusters.get_mut(index)?;
        Some(slot.get_or_insert_with(|| ClusterPool::new(cluster)))
    }

    /// Takes a connection back whose response has ended.
    fn release(&mut self, membership: &PoolMembership, connection: H1Connection, now: Instant) {
        let Some(Some(pool)) = self.clusters.get_mut(membership.cluster.index()) else { return };
        let Some(cluster) = pool.version.upgrade() else { return };
        let used_up = cluster.connection.max_requests_per_connection.is_some_and(|most| connection.served() >= most);
        if used_up || pool.epoch != membership.epoch {
            return;
        }
        let Some(index) = pool.index_of_member(membership) else { return };
        if let Some(host) = pool.hosts.get_mut(index) {
            membership.opened.is_free();
            host.idle.push(Idle { connection, opened: Rc::clone(&membership.opened), since: now });
            self.idle += 1;
        }
    }

    /// Follows a new snapshot: lets go of connections to hosts that are no longer part of their cluster.
    pub(super) fn follow(&mut self, snapshot: &Snapshot) {
        for (index, slot) in self.clusters.iter_mut().enumerate() {
            let Some(pool) = slot else { continue };
            let id = ClusterId(u32::try_from(index).unwrap_or(u32::MAX));
            match snapshot.cluster(id) {
                Some(cluster) if pool.version.as_ptr() == Arc::as_ptr(cluster) => {}
                Some(cluster) if pool.name == cluster.name => pool.follow(cluster),
                Some(_) | None => *slot = None,
            }
        }
        self.recount();
    }

    /// Closes connections that have been idle for too long.
    pub(super) fn prune(&mut self, now: Instant) {
        for pool in self.clusters.iter_mut().flatten() {
            let Some(cluster) = pool.version.upgrade() else { continue };
            for host in &mut pool.hosts {
                let is_old = |since| now.duration_since(since) >= cluster.connection.idle_timeout;
                host.idle.retain_mut(|idle| !is_old(idle.since) && idle.connection.is_reusable());
                for connection in host.http2.iter().filter(|connection| connection.idle_since().is_some_and(is_old)) {
                    connection.leave();
                }
                host.http2.retain(|connection| !connection.is_gone());
            }
        }
        self.recount();
    }

    /// Closes the connection that has been idle longest; whether there was one.
    pub(super) fn close_oldest(&mut self) -> bool {
        let hosts = self.clusters.iter_mut().flatten().flat_map(|pool| &mut pool.hosts);
        let Some(was_http1) = close_oldest(hosts) else { return false };
        self.idle -= usize::from(was_http1);
        true
    }

    fn recount(&mut self) {
        self.idle = self.clusters.iter().flatten().flat_map(|pool| &pool.hosts).map(|host| host.idle.len()).sum();
    }

    /// Idle connections.
    pub(super) fn idle(&self) -> usize {
        let http2 = self.clusters.iter().flatten().flat_map(|pool| &pool.hosts).flat_map(|host| &host.http2);
        self.idle + http2.filter(|connection| connection.idle_since().is_some()).count()
    }

    /// Closes everything.
    pub(super) fn clear(&mut self) {
        self.clusters.clear();
        self.idle = 0;
    }
}

// === impl ClusterPool ===

impl ClusterPool {
    fn new(cluster: &Arc<Cluster>) -> Self {
        Self {
            version: Arc::downgrade(cluster),
            name: cluster.name.clone(),
            hosts: cluster.hosts.iter().map(HostPool::new).collect(),
            epoch: 0,
            tls: cluster.connection.tls.clone(),
            share: Rc::new(Share::new(Arc::clone(&cluster.live))),
        }
    }

    /// The index of a host named by its index in some version of the cluster.
    fn index_of<'a>(&self, version: *const Cluster, host: u32, target: impl FnOnce() -> Option<&'a Host>) -> Option<usize> {
        if version == self.version.as_ptr() {
            return Some(host as usize);
        }
        let target = target()?;
        self.position(target.address, target.pod.as_ref())
    }

    fn index_of_member(&self, membership: &PoolMembership) -> Option<usize> {
        let index = membership.host as usize;
        let same = membership.version == self.version.as_ptr()
            && self.hosts.get(index).is_some_and(|host| host.is(membership.address, membership.pod.as_ref()));
        if same { Some(index) } else { self.position(membership.address, membership.pod.as_ref()) }
    }

    fn position(&self, address: SocketAddr, pod: Option<&Arc<PodRef>>) -> Option<usize> {
        self.hosts.iter().position(|host| host.is(address, pod))
    }

    fn follow(&mut self, cluster: &Arc<Cluster>) {
        let mut old: HashMap<SocketAddr, HostPool> = self.hosts.drain(..).map(|host| (host.address, host)).collect();
        let before = old.len();
        let mut kept = 0;
        self.hosts = cluster
            .hosts
            .iter()
            .map(|host| match old.remove(&host.address) {
                Some(pool) if pool.is(host.address, host.pod.as_ref()) => {
                    kept += 1;
                    pool
                }
                Some(_) | None => HostPool::new(host),
            })
            .collect();
        let changed = kept != before || kept != self.hosts.len();
        let tls = std::mem::replace(&mut self.tls, cluster.connection.tls.clone());
        let other_tls = tls.as_ref().map(Arc::as_ptr) != self.tls.as_ref().map(Arc::as_ptr);
        // What was made with other authorities carries no more requests.
        if other_tls || (changed && cluster.close_connections_on_host_set_change) {
            self.epoch = self.epoch.wrapping_add(1);
            for host in &mut self.hosts {
                host.idle.clear();
                host.http2.drain(..).for_each(|connection| connection.leave());
            }
        }
        self.version = Arc::downgrade(cluster);
    }
}

// === impl ActiveConnection ===

impl ActiveConnection {
    fn stream(lease: http2::Lease) -> Self {
        Self(Active::Http2(lease))
    }

    /// Whether it has served a request before. If so, the host may have closed it meanwhile.
    pub(in crate::proxy) fn is_reused(&self) -> bool {
        match &self.0 {
            Active::Http1(active) => active.connection.served() > 0,
            Active::Http2(lease) => lease.is_reused(),
        }
    }

    /// What counts it among the connections of its cluster, of one that serves a request alone.
    pub(in crate::proxy) fn opened(&self) -> Option<Rc<Opened>> {
        match &self.0 {
            Active::Http1(active) => Some(Rc::clone(&active.membership.opened)),
            Active::Http2(_) => None,
        }
    }
}

// === impl Connecting ===

impl Connecting {
    /// Waits until the connection takes streams.
    ///
    /// # Errors
    /// It could not be made.
    pub(in crate::proxy) async fn ready(&self) -> Result<(), ProxyError> {
        Ok(self.0.ready().await?)
    }

    /// A stream of the connection, if there may be one more.
    pub(in crate::proxy) fn stream(&self) -> Option<ActiveConnection> {
        http2::Lease::of(&self.0).map(ActiveConnection::stream)
    }

    /// Takes no more streams, and ends after those that are on it.
    pub(in crate::proxy) fn leave(&self) {
        self.0.leave();
    }
}

// === impl PoolMembership ===

impl PoolMembership {
    fn new(pool: &Rc<SharedPool>, cluster: &Arc<Cluster>, host: u32, epoch: u32, opened: Rc<Opened>) -> Option<Self> {
        let target = cluster.hosts.get(host as usize)?;
        pool.metrics.upstream_active();
        Some(Self {
            pool: Rc::clone(pool),
            cluster: cluster.id,
            version: Arc::as_ptr(cluster),
            host,
            address: target.address,
            pod: target.pod.clone(),
            epoch,
            opened,
        })
    }
}

impl Drop for PoolMembership {
    fn drop(&mut self) {
        self.pool.metrics.upstream_inactive();
    }
}

impl Recycle for PoolMembership {
    fn recycle(self, connection: H1Connection) {
        self.pool.borrow_mut().release(&self, connection, Instant::now());
    }
}
