//! Listening sockets of all workers: one per worker and address.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    os::fd::AsRawFd as _,
    sync::{Mutex, PoisonError},
};

use socket2::{Domain, Socket, Type};

use crate::{
    base::{DescriptorBudget, is_out_of_descriptors},
    snapshot::{BindAddress, Transport},
};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 4096;

/// The sockets of all workers. The first worker that needs an address opens it for all, so that a port which another process holds is
/// noticed once, by a probe without SO_REUSEPORT, and never shared with it silently.
#[derive(Debug)]
pub(super) struct Sockets {
    workers: usize,
    descriptors: DescriptorBudget,
    held: Mutex<BTreeMap<BindAddress, Held>>,
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
    Unclaimed(Socket),
    /// The worker listens.
    Claimed,
    /// The worker has closed it.
    Closed,
}

/// An address cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub(super) enum ListenError {
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
    pub(super) fn is_no_address(&self) -> bool {
        matches!(self, Self::System(error) if error.kind() == io::ErrorKind::AddrNotAvailable)
    }

    /// Whether descriptors are what is missing.
    pub(super) fn is_out_of_descriptors(&self) -> bool {
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
    pub(super) fn take(&self, worker: usize, bind: BindAddress) -> Result<(Socket, SocketAddr), ListenError> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let most = self.descriptors.addresses(self.workers);
        if held.len() >= most && !held.contains_key(&bind) {
            return Err(ListenError::TooMany { most, workers: self.workers, limit: self.descriptors.limit });
        }
        let listen = |address| listen(BindAddress { address, ..bind }, &self.descriptors);
        let entry = match held.entry(bind) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(entry) => entry.insert(Held::open(bind, self.workers, listen)?),
        };
        let listener = match entry.sockets.get_mut(worker).map(|socket| std::mem::replace(socket, WorkerSocket::Claimed)) {
            Some(WorkerSocket::Unclaimed(listener)) => listener,
            Some(WorkerSocket::Claimed | WorkerSocket::Closed) | None => listen(entry.local)?,
        };
        Ok((listener, entry.local))
    }

    /// A worker no longer needs an address. A socket that it never came for may have connections waiting, and is handed out to be emptied.
    pub(super) fn give_back(&self, worker: usize, address: BindAddress) -> Option<Socket> {
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
    pub(super) fn waiting(&self, worker: usize) -> Vec<BindAddress> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.iter()
            .filter(|(_, entry)| matches!(entry.sockets.get(worker), Some(WorkerSocket::Unclaimed(_))))
            .map(|(address, _)| *address)
            .collect()
    }
}

// === impl Held ===

impl Held {
    fn open(bind: BindAddress, workers: usize, listen: impl Fn(SocketAddr) -> Result<Socket, ListenError>) -> Result<Self, ListenError> {
        if bind.address.port() != 0 {
            probe(bind)?;
        }
        let first = listen(bind.address)?;
        let local = first.local_addr()?.as_socket().unwrap_or(bind.address);
        let mut sockets = vec![WorkerSocket::Unclaimed(first)];
        while sockets.len() < workers {
            sockets.push(WorkerSocket::Unclaimed(listen(local)?));
        }
        Ok(Self { local, sockets })
    }
}

/// Whether the address can be had by this process alone. TIME_WAIT of an earlier process does not count.
fn probe(bind: BindAddress) -> io::Result<()> {
    let socket = socket(bind)?;
    socket.bind(&bind.address.into())
}

fn listen(bind: BindAddress, descriptors: &DescriptorBudget) -> Result<Socket, ListenError> {
    let socket = socket(bind)?;
    if descriptors.is_reserved(socket.as_raw_fd()) {
        return Err(ListenError::NoDescriptor { limit: descriptors.limit });
    }
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&bind.address.into())?;
    match bind.transport {
        Transport::Tcp => {
            // Without it small answers wait for the client's acknowledgement. Accepted sockets inherit it, which saves each a system call.
            socket.set_tcp_nodelay(true)?;
            socket.listen(BACKLOG)?;
        }
        Transport::Udp => {}
    }
    Ok(socket)
}

fn socket(bind: BindAddress) -> io::Result<Socket> {
    let kind = match bind.transport {
        Transport::Tcp => Type::STREAM,
        Transport::Udp => Type::DGRAM,
    };
    let socket = Socket::new(Domain::for_address(bind.address), kind, None)?;
    match bind.transport {
        Transport::Tcp => socket.set_reuse_address(true)?,
        // There is no TIME_WAIT, and with it sockets of UDP would share a port silently.
        Transport::Udp => {}
    }
    if bind.address.is_ipv6() {
        // The unspecified IPv6 address serves IPv4 clients too.
        socket.set_only_v6(!bind.address.ip().is_unspecified())?;
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    const ANY: BindAddress = BindAddress::tcp(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0));

    #[test]
    fn a_port_that_another_socket_holds_is_an_error_even_if_it_would_share() {
        for transport in [Transport::Tcp, Transport::Udp] {
            let any = BindAddress { transport, ..ANY };
            let other = listen(any, &DescriptorBudget::default()).unwrap();
            let address = BindAddress { address: other.local_addr().unwrap().as_socket().unwrap(), transport };
            let sockets = Sockets::new(2, DescriptorBudget::default());
            assert!(matches!(sockets.take(0, address), Err(ListenError::System(error)) if error.kind() == io::ErrorKind::AddrInUse));
            drop(other);
            sockets.take(0, address).unwrap();
            sockets.take(1, address).unwrap();
        }
    }

    #[test]
    fn both_transports_have_a_port_at_the_same_time() {
        let sockets = Sockets::new(1, DescriptorBudget::default());
        let (_tcp, local) = sockets.take(0, ANY).unwrap();
        let (_udp, same) = sockets.take(0, BindAddress::udp(local)).unwrap();
        assert_eq!(local, same);
    }

    #[test]
    fn every_worker_gets_a_socket_and_the_last_to_leave_frees_the_address() {
        let sockets = Sockets::new(2, DescriptorBudget::default());
        let (first, local) = sockets.take(0, ANY).unwrap();
        assert_eq!(sockets.waiting(1), [ANY]);
        let (second, same) = sockets.take(1, ANY).unwrap();
        assert_eq!(local, same);
        assert!(sockets.give_back(0, ANY).is_none());
        let (again, same) = sockets.take(0, ANY).unwrap();
        assert_eq!(local, same, "the address stays while a worker listens");
        sockets.give_back(0, ANY);
        sockets.give_back(1, ANY);
        drop((first, second, again));
        assert!(sockets.held.lock().unwrap().is_empty());
    }

    #[test]
    fn a_socket_that_its_worker_never_came_for_is_handed_out_to_be_emptied() {
        let sockets = Sockets::new(2, DescriptorBudget::default());
        sockets.take(0, ANY).unwrap();
        assert!(sockets.give_back(1, ANY).is_some());
    }

    #[test]
    fn over_the_ceiling_new_addresses_are_refused_and_those_that_are_open_stay() {
        let sockets = Sockets::new(2, DescriptorBudget { limit: 100, listeners: 5, ..DescriptorBudget::default() });
        let [first, second, third] =
            ["127.0.0.1:0", "127.0.0.2:0", "127.0.0.3:0"].map(|address| BindAddress::tcp(address.parse().unwrap()));
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
        assert!(matches!(sockets.take(0, ANY), Err(ListenError::NoDescriptor { limit: 1_000 })));
        assert!(sockets.held.lock().unwrap().is_empty());
    }

    #[test]
    fn accepted_connections_send_small_answers_at_once() {
        let (listener, local) = Sockets::new(1, DescriptorBudget::default()).take(0, ANY).unwrap();
        let _client = std::net::TcpStream::connect(local).unwrap();
        listener.set_nonblocking(false).unwrap();
        assert!(listener.accept().unwrap().0.tcp_nodelay().unwrap());
    }
}
