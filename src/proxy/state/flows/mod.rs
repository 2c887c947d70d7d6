//! Flows of datagrams: what one client and one host send each other. A worker's table of those of one port.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use tokio::{net::UdpSocket, sync::Notify, time::Instant};

use crate::snapshot::{Cluster, ClusterState, Host, HostLive, PodRef, Snapshot};

use super::{
    access::FlightOutcome,
    breaker::Opened,
    recency::{Rank, Recency, RecencyKey},
    slots::Slots,
};

/// The largest datagram that UDP can carry, and more.
const LARGEST_DATAGRAM: usize = 65_535;

/// A flow of which one datagram came from its client may be one of a flood with made-up addresses: it makes room once it was quiet this long.
const NEW_QUIET: Duration = Duration::from_secs(1);

/// A flow whose client has sent several datagrams makes room only after this.
const KNOWN_QUIET: Duration = Duration::from_secs(10);

/// Which flow a datagram of a client belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::proxy) struct FlowKey {
    /// The client.
    pub(in crate::proxy) remote: SocketAddr,
    /// The address that it sends to.
    pub(in crate::proxy) local: IpAddr,
}

/// The datagrams between a client and a host.
#[derive(Debug)]
pub(in crate::proxy) struct Flow {
    pub(in crate::proxy) key: FlowKey,
    /// Connected to the host: what comes by it is the host's.
    pub(in crate::proxy) upstream: UdpSocket,
    pub(in crate::proxy) started: Instant,
    pub(in crate::proxy) outcome: FlightOutcome,
    /// When a datagram last passed.
    last: Cell<Instant>,
    /// Its time without a datagram; `None`: as long as it likes.
    idle: Option<Duration>,
    host: SocketAddr,
    pod: Option<Arc<PodRef>>,
    /// As of the snapshot in which its host was last found.
    cluster: RefCell<Arc<Cluster>>,
    generation: Cell<u64>,
    live: Option<Arc<HostLive>>,
    _opened: Option<Opened>,
    place: Cell<Option<RecencyKey>>,
    /// When it became the last of its rank: the order of each rank is that of these times.
    placed: Cell<Instant>,
    ended: Cell<bool>,
    stop: Notify,
}

/// What a flow is begun with.
#[derive(Debug)]
pub(in crate::proxy) struct Beginning<'a> {
    pub(in crate::proxy) key: FlowKey,
    pub(in crate::proxy) upstream: UdpSocket,
    pub(in crate::proxy) idle: Option<Duration>,
    pub(in crate::proxy) host: &'a Host,
    pub(in crate::proxy) cluster: &'a Arc<Cluster>,
    /// Of the snapshot in which the host was chosen.
    pub(in crate::proxy) generation: u64,
    /// Counts the flow against what its backend may have, where that is bounded.
    pub(in crate::proxy) opened: Option<Opened>,
}

/// The flows of a port on one worker.
#[derive(Debug, Default)]
pub(in crate::proxy) struct FlowTable {
    flows: RefCell<HashMap<FlowKey, Rc<Flow>>>,
    order: RefCell<Recency<Rc<Flow>>>,
    /// The snapshot in which the hosts of all flows were found.
    swept: Cell<u64>,
}

/// All flows of a worker.
#[derive(Debug, Default)]
pub(in crate::proxy) struct WorkerFlows {
    /// By port.
    pub(in crate::proxy) tables: Slots<FlowTable>,
    /// How many there are.
    pub(in crate::proxy) open: Cell<usize>,
    buffer: RefCell<Vec<u8>>,
}

/// Why the sweep ends a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) enum Swept {
    /// No datagram came for its idle timeout.
    Idle,
    /// Its host is no longer one of its cluster's.
    HostGone,
}

// === impl WorkerFlows ===

impl WorkerFlows {
    /// Lends room for a datagram, which is sent on at once: one for all ports and flows of the worker.
    pub(in crate::proxy) fn with_buffer<R>(&self, read: impl FnOnce(&mut [u8]) -> R) -> R {
        let mut buffer = self.buffer.borrow_mut();
        buffer.resize(LARGEST_DATAGRAM, 0);
        read(&mut buffer)
    }
}

// === impl Flow ===

impl Flow {
    pub(in crate::proxy) fn new(beginning: Beginning<'_>, outcome: FlightOutcome, started: Instant) -> Self {
        let Beginning { key, upstream, idle, host, cluster, generation, opened } = beginning;
        if let Some(live) = &host.live {
            live.active.fetch_add(1, Relaxed);
        }
        Self {
            key,
            upstream,
            started,
            outcome,
            last: Cell::new(started),
            idle,
            host: host.address,
            pod: host.pod.clone(),
            cluster: RefCell::new(Arc::clone(cluster)),
            generation: Cell::new(generation),
            live: host.live.clone(),
            _opened: opened,
            place: Cell::new(None),
            placed: Cell::new(started),
            ended: Cell::new(false),
            stop: Notify::new(),
        }
    }

    /// A datagram came from the host.
    pub(in crate::proxy) fn answered(&self, now: Instant) {
        self.last.set(now);
    }

    /// Waits until the flow has ended.
    pub(in crate::proxy) async fn stopped(&self) {
        if !self.ended.get() {
            self.stop.notified().await;
        }
    }

    /// Whether its host is still one of its cluster's. Mostly nothing has changed since it was last asked.
    pub(in crate::proxy) fn keeps_host(&self, snapshot: &Snapshot, generation: u64) -> bool {
        if self.generation.replace(generation) == generation {
            return true;
        }
        let mut known = self.cluster.borrow_mut();
        let Some(cluster) = snapshot.cluster(known.id) else { return false };
        if Arc::ptr_eq(cluster, &known) {
            return true;
        }
        let is_it = |host: &Host| host.address == self.host && host.pod == self.pod;
        let keeps = cluster.name == known.name && cluster.state == ClusterState::Ready && cluster.hosts.iter().any(is_it);
        *known = Arc::clone(cluster);
        keeps
    }

    fn quiet(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.last.get())
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        if let Some(live) = &self.live {
            live.active.fetch_sub(1, Relaxed);
        }
    }
}

// === impl FlowTable ===

impl FlowTable {
    /// The flow of a client.
    pub(in crate::proxy) fn find(&self, key: &FlowKey) -> Option<Rc<Flow>> {
        self.flows.borrow().get(key).map(Rc::clone)
    }

    /// Keeps a flow until `remove`.
    pub(in crate::proxy) fn insert(&self, flow: &Rc<Flow>) {
        flow.place.set(Some(self.order.borrow_mut().insert(Rc::clone(flow))));
        self.flows.borrow_mut().insert(flow.key, Rc::clone(flow));
    }

    /// A datagram of the client came that was not the first.
    pub(in crate::proxy) fn touch(&self, flow: &Flow, now: Instant) {
        flow.last.set(now);
        place_last(&mut self.order.borrow_mut(), flow, Rank::Known, now);
    }

    /// Ends a flow, and wakes who waits for its host; whether it was there.
    pub(in crate::proxy) fn remove(&self, flow: &Flow) -> bool {
        let Some(place) = flow.place.take() else { return false };
        self.order.borrow_mut().remove(place);
        let mut flows = self.flows.borrow_mut();
        flows.remove(&flow.key);
        if flows.is_empty() && flows.capacity() > 1024 {
            *flows = HashMap::new();
        }
        flow.ended.set(true);
        flow.stop.notify_one();
        true
    }

    /// The flow that is missed least, if one has been quiet for long enough to make room.
    pub(in crate::proxy) fn expendable(&self, now: Instant) -> Option<Rc<Flow>> {
        self.quiet(Rank::New, NEW_QUIET, now).or_else(|| self.quiet(Rank::Known, KNOWN_QUIET, now))
    }

    /// A flow of this rank that has been quiet for so long. Those whose hosts talk on are put last on the way: they would hide the others.
    fn quiet(&self, rank: Rank, least: Duration, now: Instant) -> Option<Rc<Flow>> {
        let mut order = self.order.borrow_mut();
        loop {
            let flow = Rc::clone(order.oldest(rank).filter(|flow| now.saturating_duration_since(flow.placed.get()) >= least)?);
            if flow.quiet(now) >= least {
                return Some(flow);
            }
            place_last(&mut order, &flow, rank, now);
        }
    }

    /// The flows that have to end, and why. `most`: the longest time without a datagram, whatever a flow's own is.
    pub(in crate::proxy) fn sweep(
        &self,
        snapshot: &Snapshot,
        generation: u64,
        now: Instant,
        most: Option<Duration>,
    ) -> Vec<(Rc<Flow>, Swept)> {
        let is_new = self.swept.replace(generation) != generation;
        let order = self.order.borrow();
        let why = |flow: &Flow| {
            let idle = flow.idle.into_iter().chain(most).min();
            if idle.is_some_and(|idle| flow.quiet(now) >= idle) {
                Some(Swept::Idle)
            } else if is_new && !flow.keeps_host(snapshot, generation) {
                Some(Swept::HostGone)
            } else {
                None
            }
        };
        order.iter().filter_map(|flow| Some((Rc::clone(flow), why(flow)?))).collect()
    }

    /// All flows.
    pub(in crate::proxy) fn all(&self) -> Vec<Rc<Flow>> {
        self.order.borrow().iter().map(Rc::clone).collect()
    }

    /// How many flows there are.
    pub(in crate::proxy) fn len(&self) -> usize {
        self.order.borrow().len()
    }
}

fn place_last(order: &mut Recency<Rc<Flow>>, flow: &Flow, rank: Rank, now: Instant) {
    if let Some(place) = flow.place.get() {
        order.touch(place, rank);
        flow.placed.set(now);
    }
}

#[cfg(test)]
mod tests;
