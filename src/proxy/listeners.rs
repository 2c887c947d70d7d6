//! Listening sockets: one per worker and address, opened and closed as snapshots come, kept open while nothing about them changes.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::{SocketAddr, TcpListener as StdListener},
    os::fd::AsRawFd as _,
    rc::Rc,
    sync::{Arc, Mutex, PoisonError},
};

use socket2::{Domain, Socket, Type};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::oneshot,
};

use crate::{
    base::{DescriptorBudget, is_out_of_descriptors},
    telemetry::DescriptorUse,
};

use super::{
    admission::{Admission, ListenerCount},
    bound::BindOutcome,
    connection,
    peer::Peer,
    worker::Worker,
};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 4096;

/// The sockets of all workers. The first worker that needs an address opens it for all, so that a port which another process holds is
/// noticed once, by a probe without SO_REUSEPORT, and never shared with it silently.
#[derive(Debug)]
pub(super) struct Sockets {
    workers: usize,
    descriptors: DescriptorBudget,
    held: Mutex<BTreeMap<SocketAddr, Held>>,
}

/// An address that this process listens on.
#[derive(Debug)]
struct Held {
    local: SocketAddr,
    sockets: Vec<WorkerSocket>,
}

/// One worker's socket for an address.
#[derive(Debug)]
enum WorkerSocket {
    /// It is open, and the worker has not taken it yet.
    Unclaimed(StdListener),
    /// The worker listens.
    Claimed,
    /// The worker has closed it.
    Closed,
}

/// A worker's own listeners.
#[derive(Debug)]
pub(super) struct Listeners {
    worker: usize,
    sockets: Arc<Sockets>,
    open: BTreeMap<SocketAddr, Open>,
    /// Addresses that could not be listened on.
    failed: BTreeSet<SocketAddr>,
}

#[derive(Debug)]
struct Open {
    local: SocketAddr,
    /// Dropping it makes the accept loop empty its queue and end.
    _stop: oneshot::Sender<()>,
}

/// An address cannot be listened on.
#[derive(Debug, thiserror::Error)]
enum ListenError {
    /// The system refuses.
    #[error(transparent)]
    System(#[from] io::Error),
    /// The data plane listens on as many addresses as it may.
    #[error(
        "{most} addresses with a socket for each of {workers} workers are the most that the limit of {limit} open files allows; \
         raise the limit, or remove listeners"
    )]
    TooMany {
        /// Most addresses.
        most: usize,
        /// Workers.
        workers: usize,
        /// Descriptors that the process may have.
        limit: usize,
    },
    /// Connections take all descriptors of the data plane.
    #[error("no file descriptor is left: the process may have {limit} open, and connections take them; it is tried again every second")]
    NoDescriptor {
        /// Descriptors that the process may have.
        limit: usize,
    },
}

// === impl ListenError ===

impl ListenError {
    /// Whether the IP address is none of this machine's.
    fn is_no_address(&self) -> bool {
        matches!(self, Self::System(error) if error.kind() == io::ErrorKind::AddrNotAvailable)
    }

    fn is_out_of_descriptors(&self) -> bool {
        match self {
            Self::System(error) => is_out_of_descriptors(error),
            Self::TooMany { .. } | Self::NoDescriptor { .. } => true,
        }
    }
}

// === impl Sockets ===

impl Sockets {
    pub(super) fn new(workers: usize, descriptors: DescriptorBudget) -> Self {
        Self { workers, descriptors, held: Mutex::default() }
    }

    /// A worker's socket for an address.
    fn take(&self, worker: usize, address: SocketAddr) -> Result<(StdListener, SocketAddr), ListenError> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let most = self.descriptors.addresses(self.workers);
        if held.len() >= most && !held.contains_key(&address) {
            return Err(ListenError::TooMany { most, workers: self.workers, limit: self.descriptors.limit });
        }
        let listen = |address| listen(address, &self.descriptors);
        let entry = match held.entry(address) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(entry) => entry.insert(Held::open(address, self.workers, listen)?),
        };
        let listener = match entry.sockets.get_mut(worker).map(|socket| std::mem::replace(socket, WorkerSocket::Claimed)) {
            Some(WorkerSocket::Unclaimed(listener)) => listener,
            Some(WorkerSocket::Claimed | WorkerSocket::Closed) | None => listen(entry.local)?,
        };
        Ok((listener, entry.local))
    }

    /// A worker no longer needs an address. A socket that it never came for may have connections waiting, and is handed out to be emptied.
    fn give_back(&self, worker: usize, address: SocketAddr) -> Option<StdListener> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = held.get_mut(&address)?;
        let socket = std::mem::replace(entry.sockets.get_mut(worker)?, WorkerSocket::Closed);
        if entry.sockets.iter().all(|socket| matches!(socket, WorkerSocket::Closed)) {
            held.remove(&address);
        }
        match socket {
            WorkerSocket::Unclaimed(listener) => Some(listener),
            WorkerSocket::Claimed | WorkerSocket::Closed => None,
        }
    }

    /// Addresses for which a socket waits for this worker.
    fn waiting(&self, worker: usize) -> Vec<SocketAddr> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.iter()
            .filter(|(_, entry)| matches!(entry.sockets.get(worker), Some(WorkerSocket::Unclaimed(_))))
            .map(|(address, _)| *address)
            .collect()
    }
}

// === impl Held ===

impl Held {
    fn open(
        address: SocketAddr,
        workers: usize,
        listen: impl Fn(SocketAddr) -> Result<StdListener, ListenError>,
    ) -> Result<Self, ListenError> {
        if address.port() != 0 {
            probe(address)?;
        }
        let first = listen(address)?;
        let local = first.local_addr()?;
        let mut sockets = vec![WorkerSocket::Unclaimed(first)];
        while sockets.len() < workers {
            sockets.push(WorkerSocket::Unclaimed(listen(local)?));
        }
        Ok(Self { local, sockets })
    }
}

// === impl Listeners ===

impl Listeners {
    pub(super) fn new(worker: usize, sockets: Arc<Sockets>) -> Self {
        Self { worker, sockets, open: BTreeMap::new(), failed: BTreeSet::new() }
    }

    /// Listens on exactly these addresses, and says what became of each.
    pub(super) fn follow(&mut self, worker: &Rc<Worker>, addresses: impl Iterator<Item = SocketAddr>) -> Vec<(SocketAddr, BindOutcome)> {
        let wanted: Vec<SocketAddr> = addresses.collect();
        self.close_unwanted(worker, &wanted);
        let failed_before = std::mem::take(&mut self.failed);
        wanted.into_iter().map(|address| (address, self.ensure(worker, address, &failed_before))).collect()
    }

    fn close_unwanted(&mut self, worker: &Rc<Worker>, wanted: &[SocketAddr]) {
        // Both lists are sorted, but few addresses change at a time and there are few of them.
        let gone: Vec<SocketAddr> = self.open.keys().filter(|address| wanted.binary_search(address).is_err()).copied().collect();
        for address in gone {
            self.open.remove(&address);
            self.sockets.give_back(self.worker, address);
        }
        for address in self.sockets.waiting(self.worker) {
            if wanted.binary_search(&address).is_err()
                && let Some(listener) = self.sockets.give_back(self.worker, address)
            {
                serve_waiting(worker, &listener, address, &worker.admissions.listener(address));
            }
        }
    }

    fn ensure(&mut self, worker: &Rc<Worker>, address: SocketAddr, failed_before: &BTreeSet<SocketAddr>) -> BindOutcome {
        if let Some(open) = self.open.get(&address) {
            return BindOutcome::Bound(open.local);
        }
        match self.open(worker, address) {
            Ok(local) => BindOutcome::Bound(local),
            Err(error) => {
                // Counted once for all workers and tries.
                if self.worker == 0 && error.is_out_of_descriptors() && !failed_before.contains(&address) {
                    worker.descriptors.count(DescriptorUse::Listener);
                }
                self.failed.insert(address);
                let words = error.to_string().into();
                if error.is_no_address() { BindOutcome::NoAddress(words) } else { BindOutcome::Failed(words) }
            }
        }
    }

    fn open(&mut self, worker: &Rc<Worker>, address: SocketAddr) -> Result<SocketAddr, ListenError> {
        let (listener, local) = self.sockets.take(self.worker, address)?;
        let listener = TcpListener::from_std(listener).inspect_err(|_| {
            self.sockets.give_back(self.worker, address);
        })?;
        let (stop, stopped) = oneshot::channel();
        let count = worker.admissions.listener(address);
        worker.spawn(accept(Rc::clone(worker), listener, address, count, stopped));
        self.open.insert(address, Open { local, _stop: stop });
        Ok(local)
    }

    /// Whether some address could not be bound.
    pub(super) fn has_failed(&self) -> bool {
        !self.failed.is_empty()
    }

    /// Stops accepting; what waits in the queues is still served.
    pub(super) fn close(&mut self) {
        for address in std::mem::take(&mut self.open).into_keys() {
            self.sockets.give_back(self.worker, address);
        }
    }
}

/// Accepts until told to stop, then empties the queue: a connection that the system has already confirmed must not be reset.
async fn accept(worker: Rc<Worker>, listener: TcpListener, bind: SocketAddr, count: ListenerCount, mut stopped: oneshot::Receiver<()>) {
    loop {
        tokio::select! {
            biased;
            _ = &mut stopped => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, remote)) => start(&worker, stream, remote, bind, &count),
                Err(error) => rest_after(&worker, &error).await,
            },
        }
    }
    if let Ok(listener) = listener.into_std() {
        serve_waiting(&worker, &listener, bind, &count);
    }
}

fn serve_waiting(worker: &Rc<Worker>, listener: &StdListener, bind: SocketAddr, count: &ListenerCount) {
    while let Ok((stream, remote)) = listener.accept() {
        if stream.set_nonblocking(true).is_ok()
            && let Ok(stream) = TcpStream::from_std(stream)
        {
            start(worker, stream, remote, bind, count);
        }
    }
}

fn start(worker: &Rc<Worker>, stream: TcpStream, remote: SocketAddr, bind: SocketAddr, count: &ListenerCount) {
    if !worker.descriptors.admits(&stream, DescriptorUse::Client) {
        // Closed, and not left waiting: when there is room again, the queue must not be full of clients that are gone.
        return;
    }
    let Some(admission) = Admission::new(&worker.admissions, &worker.metrics, count) else {
        // Reset: after a farewell the system would remember the connection for a minute.
        let _ = stream.set_zero_linger();
        return;
    };
    let local = if bind.ip().is_unspecified() || bind.port() == 0 { stream.local_addr().unwrap_or(bind) } else { bind };
    // Without it small answers wait for the client's acknowledgement; a socket that refuses is gone already.
    let _ = stream.set_nodelay(true);
    let peer = Peer { bind, remote, local, tls: None, _admission: admission };
    worker.spawn(connection::serve(Rc::clone(worker), stream, peer));
}

/// Out of file descriptors, accepting again at once would only spin.
async fn rest_after(worker: &Worker, error: &io::Error) {
    if !matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted) {
        if is_out_of_descriptors(error) {
            worker.descriptors.count(DescriptorUse::Client);
        } else {
            tracing::warn!(%error, "cannot accept connections; trying again in 50 ms");
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

/// Whether the address can be had by this process alone. TIME_WAIT of an earlier process does not count.
fn probe(address: SocketAddr) -> io::Result<()> {
    let socket = socket(address)?;
    socket.bind(&address.into())
}

fn listen(address: SocketAddr, descriptors: &DescriptorBudget) -> Result<StdListener, ListenError> {
    let socket = socket(address)?;
    if descriptors.is_reserved(socket.as_raw_fd()) {
        return Err(ListenError::NoDescriptor { limit: descriptors.limit });
    }
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // The unspecified IPv6 address serves IPv4 clients too.
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANY: &str = "127.0.0.1:0";

    #[test]
    fn a_port_that_another_socket_holds_is_an_error_even_if_it_would_share() {
        let other = listen(ANY.parse().unwrap(), &DescriptorBudget::default()).unwrap();
        let address = other.local_addr().unwrap();
        let sockets = Sockets::new(2, DescriptorBudget::default());
        assert!(matches!(sockets.take(0, address), Err(ListenError::System(error)) if error.kind() == io::ErrorKind::AddrInUse));
        drop(other);
        sockets.take(0, address).unwrap();
    }

    #[test]
    fn every_worker_gets_a_socket_and_the_last_to_leave_frees_the_address() {
        let sockets = Sockets::new(2, DescriptorBudget::default());
        let (first, local) = sockets.take(0, ANY.parse().unwrap()).unwrap();
        assert_eq!(sockets.waiting(1), [ANY.parse().unwrap()]);
        let (second, same) = sockets.take(1, ANY.parse().unwrap()).unwrap();
        assert_eq!(local, same);
        assert!(sockets.give_back(0, ANY.parse().unwrap()).is_none());
        let (again, same) = sockets.take(0, ANY.parse().unwrap()).unwrap();
        assert_eq!(local, same, "the address stays while a worker listens");
        sockets.give_back(0, ANY.parse().unwrap());
        sockets.give_back(1, ANY.parse().unwrap());
        drop((first, second, again));
        assert!(sockets.held.lock().unwrap().is_empty());
    }

    #[test]
    fn a_socket_that_its_worker_never_came_for_is_handed_out_to_be_emptied() {
        let sockets = Sockets::new(2, DescriptorBudget::default());
        sockets.take(0, ANY.parse().unwrap()).unwrap();
        assert!(sockets.give_back(1, ANY.parse().unwrap()).is_some());
    }

    #[test]
    fn over_the_ceiling_new_addresses_are_refused_and_those_that_are_open_stay() {
        let sockets = Sockets::new(2, DescriptorBudget { limit: 100, listeners: 5, ..DescriptorBudget::default() });
        let [first, second, third] = ["127.0.0.1:0", "127.0.0.2:0", "127.0.0.3:0"].map(|address| address.parse().unwrap());
        sockets.take(0, first).unwrap();
        sockets.take(0, second).unwrap();
        let refused = sockets.take(0, third).unwrap_err();
        assert!(refused.is_out_of_descriptors());
        assert!(refused.to_string().starts_with("2 addresses with a socket for each of 2 workers are the most"), "{refused}");
        sockets.take(1, second).unwrap();
        for worker in [0, 1] {
            sockets.give_back(worker, first);
        }
        sockets.take(0, third).unwrap();
    }

    #[test]
    fn a_socket_with_a_reserved_number_is_given_back() {
        let sockets = Sockets::new(1, DescriptorBudget { limit: 1_000, reserved: 1_000, ..DescriptorBudget::default() });
        assert!(matches!(sockets.take(0, ANY.parse().unwrap()), Err(ListenError::NoDescriptor { limit: 1_000 })));
        assert!(sockets.held.lock().unwrap().is_empty());
    }
}
