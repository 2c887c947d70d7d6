//! A socket of UDP that says to which of the machine's addresses a datagram came, and answers from that one.
//!
//! A socket that is bound to all addresses would send from whichever the system likes, and a client drops what does not come from where it
//! asked.

use std::{
    cell::RefCell,
    io::{self, IoSlice, IoSliceMut},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::AsRawFd as _,
};

use nix::{
    cmsg_space, libc,
    sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recv, recvmsg, send, sendmsg, setsockopt, sockopt},
};
use socket2::Socket;
use tokio::{io::Interest, net::UdpSocket};

/// A socket that many clients send to.
#[derive(Debug)]
pub(in crate::proxy) struct DatagramSocket {
    io: UdpSocket,
    /// What it is bound to.
    local: SocketAddr,
    /// Room for what the system says beside a datagram; used again.
    beside: RefCell<Vec<u8>>,
}

/// What came.
#[derive(Clone, Copy, Debug)]
pub(in crate::proxy) struct Received {
    /// Bytes of the datagram.
    pub(in crate::proxy) length: usize,
    /// Who sent it.
    pub(in crate::proxy) remote: SocketAddr,
    /// Where it was sent to.
    pub(in crate::proxy) local: SocketAddr,
}

// === impl DatagramSocket ===

impl DatagramSocket {
    /// Takes over a socket that is bound and does not block.
    ///
    /// # Errors
    /// The system refuses to tell addresses, or the runtime to watch the socket.
    pub(in crate::proxy) fn new(socket: Socket, local: SocketAddr) -> io::Result<Self> {
        match local.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?,
            IpAddr::V6(ip) if ip.is_unspecified() => setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?,
            IpAddr::V4(_) | IpAddr::V6(_) => {}
        }
        let io = UdpSocket::from_std(socket.into())?;
        Ok(Self { io, local, beside: RefCell::new(cmsg_space!(libc::in_pktinfo, libc::in6_pktinfo)) })
    }

    /// Waits for a datagram. `receive` is called once one may have come, and has to `try_receive` it.
    ///
    /// # Errors
    /// The system's.
    pub(in crate::proxy) async fn receive(&self, receive: impl FnMut() -> io::Result<()>) -> io::Result<()> {
        self.io.async_io(Interest::READABLE, receive).await
    }

    /// Takes a datagram.
    ///
    /// # Errors
    /// The system's; `WouldBlock` where none has come.
    pub(in crate::proxy) fn try_receive(&self, buffer: &mut [u8]) -> io::Result<Received> {
        let mut parts = [IoSliceMut::new(buffer)];
        let mut beside = self.beside.borrow_mut();
        let received = recvmsg::<SockaddrStorage>(self.io.as_raw_fd(), &mut parts, Some(&mut beside), MsgFlags::empty())?;
        let remote = received.address.as_ref().and_then(address_of).ok_or(io::ErrorKind::InvalidData)?;
        let told = received.cmsgs().ok().and_then(|mut messages| messages.find_map(|message| local_ip(&message)));
        let local = told.map_or(self.local, |ip| SocketAddr::new(ip, self.local.port()));
        Ok(Received { length: received.bytes, remote, local })
    }

    /// Sends a datagram to a client from the address that the client knows.
    ///
    /// # Errors
    /// The system's; `WouldBlock` where too much waits to be sent already.
    pub(in crate::proxy) fn reply(&self, datagram: &[u8], remote: SocketAddr, local: IpAddr) -> io::Result<()> {
        let parts = [IoSlice::new(datagram)];
        let to = SockaddrStorage::from(remote);
        let send_with = |beside: &[ControlMessage<'_>]| {
            sendmsg(self.io.as_raw_fd(), &parts, beside, MsgFlags::empty(), Some(&to))?;
            Ok(())
        };
        if !self.local.ip().is_unspecified() {
            return send_with(&[]);
        }
        match (self.local, local) {
            (SocketAddr::V4(_), IpAddr::V4(ip)) => send_with(&[ControlMessage::Ipv4PacketInfo(&from_v4(ip))]),
            (SocketAddr::V6(_), IpAddr::V6(ip)) => send_with(&[ControlMessage::Ipv6PacketInfo(&from_v6(ip))]),
            // The system tells no address of the other family.
            (SocketAddr::V4(_) | SocketAddr::V6(_), _) => send_with(&[]),
        }
    }
}

/// Reads a datagram from a socket that is connected.
///
/// # Errors
/// The system's; `WouldBlock` where none has come.
pub(in crate::proxy) fn receive_connected(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<usize> {
    Ok(recv(socket.as_raw_fd(), buffer, MsgFlags::empty())?)
}

/// Sends a datagram by a socket that is connected. The system is asked at once: the runtime learns only later that a new socket can be
/// written to.
///
/// # Errors
/// The system's; `WouldBlock` where too much waits to be sent already.
pub(in crate::proxy) fn send_connected(socket: &UdpSocket, datagram: &[u8]) -> io::Result<()> {
    send(socket.as_raw_fd(), datagram, MsgFlags::empty())?;
    Ok(())
}

/// Whether the system says of an earlier datagram that it was too large for the way. It cuts the next ones into pieces.
pub(in crate::proxy) fn was_too_large(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EMSGSIZE)
}

fn address_of(address: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = address.as_sockaddr_in().map(|v4| SocketAddr::V4((*v4).into()));
    v4.or_else(|| address.as_sockaddr_in6().map(|v6| SocketAddr::V6((*v6).into())))
}

fn local_ip(message: &ControlMessageOwned) -> Option<IpAddr> {
    match message {
        ControlMessageOwned::Ipv4PacketInfo(info) => Some(IpAddr::V4(Ipv4Addr::from(info.ipi_spec_dst.s_addr.to_ne_bytes()))),
        ControlMessageOwned::Ipv6PacketInfo(info) => Some(IpAddr::V6(Ipv6Addr::from(info.ipi6_addr.s6_addr))),
        _ => None,
    }
}

fn from_v4(ip: Ipv4Addr) -> libc::in_pktinfo {
    let any = libc::in_addr { s_addr: 0 };
    libc::in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: libc::in_addr { s_addr: u32::from_ne_bytes(ip.octets()) }, ipi_addr: any }
}

fn from_v6(ip: Ipv6Addr) -> libc::in6_pktinfo {
    libc::in6_pktinfo { ipi6_addr: libc::in6_addr { s6_addr: ip.octets() }, ipi6_ifindex: 0 }
}

#[cfg(test)]
mod tests {
    use nix::errno::Errno;
    use socket2::{Domain, Type};

    use super::*;

    fn bound(address: &str) -> DatagramSocket {
        let address: SocketAddr = address.parse().unwrap();
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, None).unwrap();
        if address.is_ipv6() {
            socket.set_only_v6(false).unwrap();
        }
        socket.set_nonblocking(true).unwrap();
        socket.bind(&address.into()).unwrap();
        let local = socket.local_addr().unwrap().as_socket().unwrap();
        DatagramSocket::new(socket, local).unwrap()
    }

    #[test]
    fn a_datagram_that_was_too_large_is_not_a_host_that_refuses() {
        assert!(was_too_large(&Errno::EMSGSIZE.into()));
        assert!(!was_too_large(&Errno::ECONNREFUSED.into()) && !was_too_large(&io::ErrorKind::InvalidData.into()));
    }

    #[tokio::test]
    async fn the_answer_comes_from_where_the_client_asked() {
        for (bind, ask) in [("0.0.0.0:0", "127.0.0.2"), ("127.0.0.1:0", "127.0.0.1"), ("[::]:0", "127.0.0.3"), ("[::]:0", "::1")] {
            let socket = bound(bind);
            let asked = SocketAddr::new(ask.parse().unwrap(), socket.local.port());
            let client = UdpSocket::bind(if asked.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" }).await.unwrap();
            client.send_to(b"ping", asked).await.unwrap();
            let mut buffer = [0; 16];
            let mut received = None;
            let receive = || {
                received = Some(socket.try_receive(&mut buffer)?);
                Ok(())
            };
            socket.receive(receive).await.unwrap();
            let received = received.unwrap();
            let seen = (received.length, received.remote.ip().to_canonical(), received.local.ip().to_canonical());
            assert_eq!(seen, (4, client.local_addr().unwrap().ip(), asked.ip()), "{bind} {ask}");
            socket.reply(b"pong", received.remote, received.local.ip()).unwrap();
            let (length, from) = client.recv_from(&mut buffer).await.unwrap();
            assert_eq!((&buffer[..length], from), (&b"pong"[..], asked), "{bind} {ask}");
        }
    }
}
