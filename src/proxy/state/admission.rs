//! Which connections are taken on: as many as the process and each of its ports may have, fewer when memory runs out.
//!
//! One count for all workers: the system spreads connections over them as it likes. It is touched when a connection begins and when it ends,
//! never by a request.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use crate::{
    base::{Overload, OverloadLevel},
    snapshot::BindAddress,
    telemetry::{ConnectionRefusal, WorkerMetrics},
};

use super::config::Ceilings;

/// Open connections of the process and of each of its ports, and its flows.
#[derive(Debug)]
pub(in crate::proxy) struct Admissions {
    most: usize,
    most_per_listener: usize,
    overload: Arc<Overload>,
    open: AtomicUsize,
    /// Flows of UDP.
    flows: AtomicUsize,
    /// Connections outlive their listener, and a listener may come back: the count stays as long as one of them does.
    listeners: Mutex<BTreeMap<BindAddress, Weak<AtomicUsize>>>,
}

/// Open connections of one port.
pub(in crate::proxy) type ListenerCount = Arc<AtomicUsize>;

/// An open connection of a client, for as long as its socket is open: a tunnel's too.
#[derive(Debug)]
pub(in crate::proxy) struct Admission {
    admissions: Arc<Admissions>,
    metrics: Arc<WorkerMetrics>,
    listener: ListenerCount,
}

// === impl Admissions ===

impl Admissions {
    pub(in crate::proxy) fn new(ceilings: &Ceilings, overload: Arc<Overload>) -> Self {
        Self {
            most: ceilings.connections,
            most_per_listener: ceilings.connections_per_listener,
            overload,
            open: AtomicUsize::new(0),
            flows: AtomicUsize::new(0),
            listeners: Mutex::default(),
        }
    }

    /// The count of a port, for its listener.
    pub(in crate::proxy) fn listener(&self, bind: BindAddress) -> ListenerCount {
        let mut listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.retain(|_, count| count.strong_count() > 0);
        if let Some(count) = listeners.get(&bind).and_then(Weak::upgrade) {
            return count;
        }
        let count = ListenerCount::default();
        listeners.insert(bind, Arc::downgrade(&count));
        count
    }

    /// A flow of UDP has begun.
    pub(in crate::proxy) fn flow_began(&self) {
        self.flows.fetch_add(1, Relaxed);
    }

    /// And has ended.
    pub(in crate::proxy) fn flow_ended(&self) {
        self.flows.fetch_sub(1, Relaxed);
    }

    /// Whether any worker has a flow.
    pub(in crate::proxy) fn has_flows(&self) -> bool {
        self.flows.load(Relaxed) > 0
    }

    /// Counts one more connection.
    ///
    /// # Errors
    /// Why there may be none; nothing is counted then.
    fn admit(&self, listener: &AtomicUsize) -> Result<(), ConnectionRefusal> {
        if self.overload.level() >= OverloadLevel::RejectIncomingConnections {
            return Err(ConnectionRefusal::Overload);
        }
        if !take(&self.open, self.most) {
            return Err(ConnectionRefusal::MaxConnections);
        }
        if !take(listener, self.most_per_listener) {
            self.open.fetch_sub(1, Relaxed);
            return Err(ConnectionRefusal::MaxConnectionsPerListener);
        }
        Ok(())
    }

    fn leave(&self, listener: &AtomicUsize) {
        listener.fetch_sub(1, Relaxed);
        self.open.fetch_sub(1, Relaxed);
    }
}

/// One more, if there are fewer than `most`.
fn take(count: &AtomicUsize, most: usize) -> bool {
    let before = count.fetch_add(1, Relaxed);
    if before >= most {
        count.fetch_sub(1, Relaxed);
    }
    before < most
}

// === impl Admission ===

impl Admission {
    /// Takes a connection on, and counts what became of it; `None`: it has to be closed.
    pub(in crate::proxy) fn new(admissions: &Arc<Admissions>, metrics: &Arc<WorkerMetrics>, listener: &ListenerCount) -> Option<Self> {
        match admissions.admit(listener) {
            Ok(()) => {
                metrics.connection_opened();
                Some(Self { admissions: Arc::clone(admissions), metrics: Arc::clone(metrics), listener: Arc::clone(listener) })
            }
            Err(reason) => {
                metrics.connection_refused(reason);
                None
            }
        }
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.admissions.leave(&self.listener);
        self.metrics.connection_closed();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bind(port: u16) -> BindAddress {
        BindAddress::tcp(([127, 0, 0, 1], port).into())
    }

    fn admissions(connections: usize, connections_per_listener: usize) -> Admissions {
        Admissions::new(&Ceilings { connections, connections_per_listener, ..Ceilings::default() }, Arc::default())
    }

    #[test]
    fn the_process_and_each_port_have_a_ceiling() {
        let admissions = admissions(3, 2);
        let (a, b) = (admissions.listener(bind(1)), admissions.listener(bind(2)));
        assert_eq!([&a, &a, &a].map(|count| admissions.admit(count)), [Ok(()), Ok(()), Err(ConnectionRefusal::MaxConnectionsPerListener)]);
        assert_eq!([&b, &b].map(|count| admissions.admit(count)), [Ok(()), Err(ConnectionRefusal::MaxConnections)]);
        admissions.leave(&a);
        assert_eq!(admissions.admit(&b), Ok(()), "what was refused is not counted");
        assert_eq!(admissions.admit(&a), Err(ConnectionRefusal::MaxConnections));
    }

    #[test]
    fn a_port_that_comes_back_finds_its_connections_counted() {
        let admissions = admissions(10, 1);
        let old = admissions.listener(bind(1));
        assert_eq!(admissions.admit(&old), Ok(()));
        assert_eq!(admissions.admit(&admissions.listener(bind(1))), Err(ConnectionRefusal::MaxConnectionsPerListener));
        admissions.leave(&old);
        drop(old);
        admissions.listener(bind(2));
        assert!(!admissions.listeners.lock().unwrap().contains_key(&bind(1)), "nobody listens there or is connected any more");
    }

    #[test]
    fn overload_refuses_whatever_room_there_is() {
        let admissions = admissions(10, 10);
        let count = ListenerCount::default();
        for (level, expected) in [
            (OverloadLevel::StopAcceptingRequests, Ok(())),
            (OverloadLevel::RejectIncomingConnections, Err(ConnectionRefusal::Overload)),
            (OverloadLevel::None, Ok(())),
        ] {
            admissions.overload.publish(level);
            assert_eq!(admissions.admit(&count), expected, "{level:?}");
        }
    }
}
