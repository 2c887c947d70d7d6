//! A worker's listeners, opened and closed as snapshots come, kept open while nothing about them changes.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::{SocketAddr, TcpListener as StdListener},
    rc::Rc,
    sync::Arc,
};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::oneshot,
};

use crate::{
    base::is_out_of_descriptors,
    proxy::{
        bound::BindOutcome,
        down::{connection, datagram, datagram_socket::DatagramSocket},
        sockets::{ListenError, Sockets},
        state::{
            admission::{Admission, ListenerCount},
            peer::Peer,
        },
        worker::Worker,
    },
    snapshot::{BindAddress, Transport},
    telemetry::DescriptorUse,
};

/// A worker's own listeners.
#[derive(Debug)]
pub(super) struct Listeners {
    worker: usize,
    sockets: Arc<Sockets>,
    open: BTreeMap<BindAddress, Open>,
    /// Addresses that could not be listened on.
    failed: BTreeSet<BindAddress>,
}

#[derive(Debug)]
struct Open {
    local: SocketAddr,
    /// Dropping it makes the accept loop empty its queue and end.
    _stop: oneshot::Sender<()>,
}

// === impl Listeners ===

impl Listeners {
    pub(super) fn new(worker: usize, sockets: Arc<Sockets>) -> Self {
        Self { worker, sockets, open: BTreeMap::new(), failed: BTreeSet::new() }
    }

    /// Listens on exactly these addresses, and says what became of each.
    pub(super) fn follow(&mut self, worker: &Rc<Worker>, addresses: impl Iterator<Item = BindAddress>) -> Vec<(BindAddress, BindOutcome)> {
        let wanted: Vec<BindAddress> = addresses.collect();
        self.close_unwanted(worker, &wanted);
        let failed_before = std::mem::take(&mut self.failed);
        wanted.into_iter().map(|address| (address, self.ensure(worker, address, &failed_before))).collect()
    }

    fn close_unwanted(&mut self, worker: &Rc<Worker>, wanted: &[BindAddress]) {
        // Both lists are sorted, but few addresses change at a time and there are few of them.
        let gone: Vec<BindAddress> = self.open.keys().filter(|address| wanted.binary_search(address).is_err()).copied().collect();
        for address in gone {
            self.open.remove(&address);
            self.sockets.give_back(self.worker, address);
        }
        for address in self.sockets.waiting(self.worker) {
            if wanted.binary_search(&address).is_err()
                && let Some(socket) = self.sockets.give_back(self.worker, address)
            {
                match address.transport {
                    Transport::Tcp => serve_waiting(worker, &socket.into(), address, &worker.admissions.listener(address)),
                    // Clients of datagrams send again what is lost.
                    Transport::Udp => {}
                }
            }
        }
    }

    fn ensure(&mut self, worker: &Rc<Worker>, address: BindAddress, failed_before: &BTreeSet<BindAddress>) -> BindOutcome {
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

    fn open(&mut self, worker: &Rc<Worker>, address: BindAddress) -> Result<SocketAddr, ListenError> {
        let (socket, local) = self.sockets.take(self.worker, address)?;
        let (stop, stopped) = oneshot::channel();
        let served = match address.transport {
            Transport::Tcp => TcpListener::from_std(socket.into()).map(|listener| {
                let count = worker.admissions.listener(address);
                worker.spawn(accept(Rc::clone(worker), listener, address, count, stopped));
            }),
            Transport::Udp => {
                DatagramSocket::new(socket, local).map(|socket| worker.spawn(datagram::serve(Rc::clone(worker), socket, address, stopped)))
            }
        };
        served.inspect_err(|_| {
            self.sockets.give_back(self.worker, address);
        })?;
        self.open.insert(address, Open { local, _stop: stop });
        Ok(local)
    }

    /// Whether some address could not be bound.
    pub(super) fn has_failed(&self) -> bool {
        !self.failed.is_empty()
    }

    /// Stops accepting; what waits in the queues is still served. Sockets of datagrams stay: what hosts still say goes to clients by them.
    pub(super) fn close(&mut self) {
        let (kept, closed): (BTreeMap<_, _>, BTreeMap<_, _>) =
            std::mem::take(&mut self.open).into_iter().partition(|(bind, _)| bind.transport == Transport::Udp);
        self.open = kept;
        for address in closed.into_keys() {
            self.sockets.give_back(self.worker, address);
        }
    }
}

/// Accepts until told to stop, then empties the queue: a connection that the system has already confirmed must not be reset.
async fn accept(worker: Rc<Worker>, listener: TcpListener, bind: BindAddress, count: ListenerCount, mut stopped: oneshot::Receiver<()>) {
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

fn serve_waiting(worker: &Rc<Worker>, listener: &StdListener, bind: BindAddress, count: &ListenerCount) {
    while let Ok((stream, remote)) = listener.accept() {
        if stream.set_nonblocking(true).is_ok()
            && let Ok(stream) = TcpStream::from_std(stream)
        {
            start(worker, stream, remote, bind, count);
        }
    }
}

fn start(worker: &Rc<Worker>, stream: TcpStream, remote: SocketAddr, bind: BindAddress, count: &ListenerCount) {
    if !worker.descriptors.admits(&stream, DescriptorUse::Client) {
        // Closed, and not left waiting: when there is room again, the queue must not be full of clients that are gone.
        return;
    }
    let Some(admission) = Admission::new(&worker.admissions, &worker.metrics, count) else {
        // Reset: after a farewell the system would remember the connection for a minute.
        let _ = stream.set_zero_linger();
        return;
    };
    let asked = bind.address;
    let local = if asked.ip().is_unspecified() || asked.port() == 0 { stream.local_addr().unwrap_or(asked) } else { asked };
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
