//! Circuit breakers: what the requests of a cluster may have at once, and the queue of those that wait for a connection.
//!
//! The counts are those of the process (`ClusterLive`). The queue is the worker's own: it is woken by the worker's own connections, and by the
//! tick for what other workers give up. As in Envoy a worker may always have one connection to a host, so that a waiting request has a
//! connection to wait for.

use std::{
    cell::{Cell, RefCell},
    collections::{HashMap, VecDeque},
    future::Future,
    net::SocketAddr,
    pin::Pin,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
};

use crate::{
    snapshot::{Cluster, ClusterLive},
    telemetry::OverflowKind,
};

use super::config::BackendLimits;

/// A worker's part in a cluster: the counters of the process, its own connections by host, and who waits for one.
#[derive(Debug)]
pub(in crate::proxy) struct Share {
    live: Arc<ClusterLive>,
    open: RefCell<HashMap<SocketAddr, u32>>,
    queue: RefCell<VecDeque<Rc<Waiter>>>,
}

/// What a cluster may have, with the process's defaults filled in.
#[derive(Clone, Copy, Debug)]
pub(in crate::proxy) struct Ceilings<'a> {
    cluster: &'a Cluster,
    defaults: &'a BackendLimits,
}

/// Counts against a limit until it is dropped.
#[derive(Debug)]
pub(in crate::proxy) struct Counted {
    share: Rc<Share>,
    kind: CountedKind,
}

/// What is counted by the request; connections are counted by `Opened`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) enum CountedKind {
    /// A request that waits for a connection.
    Pending,
    /// A request in flight.
    Request,
    /// A retry, the wait before it included.
    Retry,
}

/// A connection to a host that is open or being made.
#[derive(Debug)]
pub(in crate::proxy) struct Opened {
    share: Rc<Share>,
    host: SocketAddr,
}

/// What a request holds to its end.
#[derive(Debug, Default)]
pub(in crate::proxy) struct Held {
    /// Its place among the requests of the cluster.
    pub(in crate::proxy) request: Option<Counted>,
    /// The connection that has become a tunnel.
    pub(in crate::proxy) tunnel: Option<Rc<Opened>>,
}

#[derive(Debug)]
struct Waiter {
    host: SocketAddr,
    called: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

/// A request that waits in the queue for a connection.
#[derive(Debug)]
pub(in crate::proxy) struct ConnectionWait {
    share: Rc<Share>,
    waiter: Rc<Waiter>,
    taken: bool,
}

/// Envoy's retry budget (`RetryBudget`): a share of the requests that are in flight or wait, and at least a few.
pub(in crate::proxy) fn budget(percent: u32, at_least: u32, requests: u32, pending: u32) -> u32 {
    let active = u64::from(requests) + u64::from(pending);
    u32::try_from(active * u64::from(percent) / 100).unwrap_or(u32::MAX).max(at_least)
}

// === impl Ceilings ===

impl<'a> Ceilings<'a> {
    pub(in crate::proxy) fn new(cluster: &'a Cluster, defaults: &'a BackendLimits) -> Self {
        Self { cluster, defaults }
    }

    pub(in crate::proxy) fn connections(&self) -> u32 {
        self.cluster.circuit_breakers.max_connections.unwrap_or(self.defaults.max_connections)
    }

    fn of(&self, kind: CountedKind, live: &ClusterLive) -> u32 {
        let (breakers, defaults) = (&self.cluster.circuit_breakers, self.defaults);
        match kind {
            CountedKind::Pending => breakers.max_pending_requests.unwrap_or(defaults.max_pending_requests),
            CountedKind::Request => breakers.max_requests.unwrap_or(defaults.max_requests),
            CountedKind::Retry => breakers.max_retries.unwrap_or_else(|| {
                let (requests, pending) = (live.requests.load(Relaxed), live.pending.load(Relaxed));
                budget(defaults.retry_budget_percent, defaults.min_retry_concurrency, requests, pending)
            }),
        }
    }
}

// === impl CountedKind ===

impl CountedKind {
    /// What is full when no more can be counted.
    pub(in crate::proxy) fn overflow(self) -> OverflowKind {
        match self {
            Self::Pending => OverflowKind::Pending,
            Self::Request => OverflowKind::Requests,
            Self::Retry => OverflowKind::Retries,
        }
    }

    fn counter(self, live: &ClusterLive) -> &AtomicU32 {
        match self {
            Self::Pending => &live.pending,
            Self::Request => &live.requests,
            Self::Retry => &live.retries,
        }
    }
}

// === impl Share ===

impl Share {
    pub(in crate::proxy) fn new(live: Arc<ClusterLive>) -> Self {
        Self { live, open: RefCell::default(), queue: RefCell::default() }
    }

    /// Whether these are the counters of this cluster.
    pub(in crate::proxy) fn is_of(&self, cluster: &Cluster) -> bool {
        Arc::ptr_eq(&self.live, &cluster.live)
    }

    /// Counts one more, if there may be one more. Workers that ask at the same moment may exceed the limit by one each, as Envoy's do.
    pub(in crate::proxy) fn count(self: &Rc<Self>, kind: CountedKind, ceilings: Ceilings<'_>) -> Option<Counted> {
        let counter = kind.counter(&self.live);
        if counter.load(Relaxed) >= ceilings.of(kind, &self.live) {
            return None;
        }
        counter.fetch_add(1, Relaxed);
        Some(Counted { share: Rc::clone(self), kind })
    }

    /// Room for one more connection to a host. `in_turn`: the asker was called; others leave what is free to those who wait.
    pub(in crate::proxy) fn open(self: &Rc<Self>, host: SocketAddr, ceilings: Ceilings<'_>, in_turn: bool) -> Option<Opened> {
        let mut open = self.open.borrow_mut();
        let count = open.get(&host).copied().unwrap_or(0);
        let is_free = self.has_room(ceilings) && (in_turn || !self.has_waiting());
        if count > 0 && !is_free {
            return None;
        }
        open.insert(host, count + 1);
        self.live.connections.fetch_add(1, Relaxed);
        Some(Opened { share: Rc::clone(self), host })
    }

    fn has_room(&self, ceilings: Ceilings<'_>) -> bool {
        self.live.connections.load(Relaxed) < ceilings.connections()
    }

    /// Whether somebody waits for a connection to this host: the next idle one is not for a newcomer.
    pub(in crate::proxy) fn is_awaited(&self, host: SocketAddr) -> bool {
        let queue = self.queue.borrow();
        !queue.is_empty() && queue.iter().any(|waiter| waiter.host == host)
    }

    /// Whether somebody waits for a connection to any host.
    pub(in crate::proxy) fn has_waiting(&self) -> bool {
        !self.queue.borrow().is_empty()
    }

    /// Queues up for a connection to a host. `again`: at the head, after a call that came to nothing.
    pub(in crate::proxy) fn wait(self: &Rc<Self>, host: SocketAddr, again: bool) -> ConnectionWait {
        let waiter = Rc::new(Waiter { host, called: Cell::new(false), waker: RefCell::new(None) });
        let mut queue = self.queue.borrow_mut();
        if again {
            queue.push_front(Rc::clone(&waiter));
        } else {
            queue.push_back(Rc::clone(&waiter));
        }
        ConnectionWait { share: Rc::clone(self), waiter, taken: false }
    }

    /// Calls those who need not wait any longer, whatever the reason.
    pub(in crate::proxy) fn look(&self, ceilings: Ceilings<'_>) {
        if self.has_room(ceilings) {
            self.call(|_| true);
        }
        let open = self.open.borrow();
        for waiter in self.queue.borrow().iter().filter(|waiter| !open.contains_key(&waiter.host)) {
            waiter.call();
        }
    }

    /// A connection to this host is gone: who waits for the host comes first, since nothing else may be left to wait for.
    fn closed(&self, host: SocketAddr) {
        if !self.call(|waiter| waiter.host == host) {
            self.call(|_| true);
        }
    }

    /// Calls the first of these who was not called yet; whether there is one.
    fn call(&self, meant: impl Fn(&Waiter) -> bool) -> bool {
        let queue = self.queue.borrow();
        let first = queue.iter().find(|waiter| !waiter.called.get() && meant(waiter));
        first.inspect(|waiter| waiter.call()).is_some()
    }

    fn leave(&self, waiter: &Rc<Waiter>) {
        self.queue.borrow_mut().retain(|queued| !Rc::ptr_eq(queued, waiter));
    }
}

// === impl Counted ===

impl Drop for Counted {
    fn drop(&mut self) {
        self.kind.counter(&self.share.live).fetch_sub(1, Relaxed);
    }
}

// === impl Opened ===

impl Opened {
    /// It can carry another request: the first who waits for one to this host may have it. Whether there is one.
    pub(in crate::proxy) fn is_free(&self) -> bool {
        self.share.call(|waiter| waiter.host == self.host)
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        let mut open = self.share.open.borrow_mut();
        match open.get_mut(&self.host) {
            Some(count) if *count > 1 => *count -= 1,
            Some(_) | None => {
                open.remove(&self.host);
            }
        }
        drop(open);
        self.share.live.connections.fetch_sub(1, Relaxed);
        self.share.closed(self.host);
    }
}

// === impl Waiter ===

impl Waiter {
    fn call(&self) {
        self.called.set(true);
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }
}

// === impl ConnectionWait ===

impl Future for ConnectionWait {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.waiter.called.get() {
            self.taken = true;
            return Poll::Ready(());
        }
        *self.waiter.waker.borrow_mut() = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for ConnectionWait {
    fn drop(&mut self) {
        self.share.leave(&self.waiter);
        if self.waiter.called.get() && !self.taken {
            // It gave up just when it was called: the next in the queue may go.
            self.share.closed(self.waiter.host);
        }
    }
}

#[cfg(test)]
mod tests;
