//! Protocols of listeners.

use crate::base::{Kind, text::quoted};
use crate::snapshot::Transport;
use crate::translate::condition::{Refusal, reason};

/// Protocols of listeners as far as they matter for conflicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::translate) enum Protocol {
    Http,
    Https,
    Tls,
    Tcp,
    Udp,
    Other,
}

// === impl Protocol ===

impl Protocol {
    pub(in crate::translate) const ALL: [Self; 6] = [Self::Http, Self::Https, Self::Tls, Self::Tcp, Self::Udp, Self::Other];

    pub(in crate::translate) fn parse(text: &str) -> Self {
        match text {
            "HTTP" => Self::Http,
            "HTTPS" => Self::Https,
            "TLS" => Self::Tls,
            "TCP" => Self::Tcp,
            "UDP" => Self::Udp,
            _ => Self::Other,
        }
    }

    /// Kinds of routes that a listener of this protocol takes; none: it is not served.
    pub(super) fn route_kinds(self) -> &'static [Kind] {
        match self {
            Self::Http | Self::Https => &[Kind::HttpRoute, Kind::GrpcRoute],
            Self::Tls => &[Kind::TlsRoute],
            Self::Tcp => &[Kind::TcpRoute],
            Self::Udp => &[Kind::UdpRoute],
            Self::Other => &[],
        }
    }

    /// What carries it.
    pub(in crate::translate) fn transport(self) -> Transport {
        match self {
            Self::Udp => Transport::Udp,
            Self::Http | Self::Https | Self::Tls | Self::Tcp | Self::Other => Transport::Tcp,
        }
    }

    pub(super) fn is_without_tls(self) -> bool {
        matches!(self, Self::Http | Self::Tcp | Self::Udp)
    }

    pub(in crate::translate) fn refusal(self, written: &str) -> Option<Refusal> {
        let message = match self {
            Self::Http | Self::Https | Self::Tls | Self::Tcp | Self::Udp => return None,
            Self::Other => format!("protocol: {written} is unknown; expected HTTP, HTTPS, TLS, TCP or UDP", written = quoted(written)),
        };
        Some(Refusal::new(reason::UNSUPPORTED_PROTOCOL, message))
    }

    /// Two listeners on one port: why they cannot be told apart, if so.
    pub(in crate::translate) fn conflict(self, other: Self, same_hostname: bool) -> Option<&'static str> {
        match (self, other) {
            // Nothing can be said about a protocol that is not known.
            (Self::Other, _) | (_, Self::Other) => None,
            (Self::Udp, Self::Udp) | (Self::Tcp, Self::Tcp) => Some(reason::PROTOCOL_CONFLICT),
            // The server name tells HTTPS from anything else within TLS.
            (Self::Http, Self::Http) | (Self::Https | Self::Tls, Self::Https | Self::Tls) => {
                same_hostname.then_some(reason::HOSTNAME_CONFLICT)
            }
            // Datagrams have ports of their own.
            (Self::Udp, _) | (_, Self::Udp) => None,
            (Self::Http | Self::Https | Self::Tls | Self::Tcp, Self::Http | Self::Https | Self::Tls | Self::Tcp) => {
                Some(reason::PROTOCOL_CONFLICT)
            }
        }
    }
}
