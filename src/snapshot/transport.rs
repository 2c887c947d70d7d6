//! TCP and UDP: each has ports of its own, so that a number alone names no port.

use std::{fmt, net::SocketAddr, str::FromStr};

use serde::{Serialize, Serializer};

/// What carries the traffic of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// Connections.
    Tcp,
    /// Datagrams.
    Udp,
}

/// A port of a transport. It is written as its number, of UDP as `53/UDP`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransportPort {
    /// The number.
    pub number: u16,
    /// Whose port it is.
    pub transport: Transport,
}

/// What a socket is bound to. It is written as the address, of UDP as `127.0.0.1:53/UDP`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BindAddress {
    /// IP address and port.
    pub address: SocketAddr,
    /// Whose port it is.
    pub transport: Transport,
}

// === impl Transport ===

impl Transport {
    /// As Kubernetes writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        }
    }

    /// What is written behind a port: only what is not TCP is named.
    const fn suffix(self) -> &'static str {
        match self {
            Self::Tcp => "",
            Self::Udp => "/UDP",
        }
    }
}

// === impl TransportPort ===

impl TransportPort {
    /// A port of TCP.
    pub const fn tcp(number: u16) -> Self {
        Self { number, transport: Transport::Tcp }
    }

    /// A port of UDP.
    pub const fn udp(number: u16) -> Self {
        Self { number, transport: Transport::Udp }
    }

    /// Another port of the same transport.
    #[must_use]
    pub const fn with_number(self, number: u16) -> Self {
        Self { number, ..self }
    }
}

impl fmt::Display for TransportPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.number, self.transport.suffix())
    }
}

impl FromStr for TransportPort {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_suffix(Transport::Udp.suffix()) {
            Some(number) => number.parse().map(Self::udp),
            None => text.parse().map(Self::tcp),
        }
    }
}

impl Serialize for TransportPort {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

// === impl BindAddress ===

impl BindAddress {
    /// An address of TCP.
    pub const fn tcp(address: SocketAddr) -> Self {
        Self { address, transport: Transport::Tcp }
    }

    /// An address of UDP.
    pub const fn udp(address: SocketAddr) -> Self {
        Self { address, transport: Transport::Udp }
    }

    /// Whether binding one keeps the other from being bound.
    pub fn overlaps(self, other: Self) -> bool {
        let (one, two) = (self.address, other.address);
        self.transport == other.transport
            && one.port() == two.port()
            && (one.ip() == two.ip() || one.ip().is_unspecified() || two.ip().is_unspecified())
    }
}

impl fmt::Display for BindAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.address, self.transport.suffix())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_of_each_transport_is_its_own() {
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        let (tcp, udp) = (BindAddress::tcp(at("127.0.0.1:53")), BindAddress::udp(at("127.0.0.1:53")));
        assert!(tcp < udp && !tcp.overlaps(udp));
        assert!(udp.overlaps(BindAddress::udp(at("0.0.0.0:53"))) && !udp.overlaps(BindAddress::udp(at("0.0.0.0:54"))));
        assert_eq!((tcp.to_string(), udp.to_string()), ("127.0.0.1:53".into(), "127.0.0.1:53/UDP".into()));
        assert_eq!((TransportPort::tcp(80).to_string(), TransportPort::udp(80).to_string()), ("80".into(), "80/UDP".into()));
        assert_eq!(["80", "80/UDP"].map(str::parse), [Ok(TransportPort::tcp(80)), Ok(TransportPort::udp(80))]);
        assert!("80/TCP".parse::<TransportPort>().is_err() && "/UDP".parse::<TransportPort>().is_err());
    }
}
