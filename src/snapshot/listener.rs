//! What is listened on, and how a request finds its listener.

use std::{net::SocketAddr, sync::Arc};

use http::HeaderValue;

use crate::base::{Message, ObjectName};

use super::{
    Certificate, HostMap, HostRoutes, Hostname, TlsTermination,
    transport::{BindAddress, Transport},
};

/// A socket to listen on: one port of one Gateway, shared by that Gateway's listeners on the port.
#[derive(Clone, Debug)]
pub struct Bind {
    /// The address bound: the internal port.
    pub address: SocketAddr,
    /// The Gateway.
    pub gateway: Arc<ObjectName>,
    /// The port that the listeners declare; redirects name this one.
    pub port: u16,
    /// Protocol spoken on the socket.
    pub protocol: BindProtocol,
    /// How far the client's word about itself is trusted.
    pub profile: Arc<ClientProfile>,
    /// The certificate that hosts are shown which are spoken to in TLS.
    pub host_identity: Option<Arc<Certificate>>,
    /// Listeners by hostname: a request belongs to the most specific one and to no other (listener isolation).
    pub listeners: HostMap<Listener>,
}

/// Protocol spoken on a bound socket.
#[derive(Clone, Debug)]
pub enum BindProtocol {
    /// HTTP/1.1, and HTTP/2 with prior knowledge.
    Http,
    /// The same over TLS; ALPN decides between HTTP/1.1 and HTTP/2.
    Https(Arc<TlsTermination>),
    /// TLS, not always around HTTP. The server name picks the listener: those that are not in the termination pass connections through as they
    /// are, and the others say in their settings what is inside.
    Tls(Arc<TlsTermination>),
    /// Connections that are not looked at.
    Tcp,
    /// Datagrams, which are not looked at either.
    Udp,
}

// === impl Bind ===

impl Bind {
    /// What its socket is bound to.
    pub fn bound_to(&self) -> BindAddress {
        BindAddress { address: self.address, transport: self.protocol.transport() }
    }
}

// === impl BindProtocol ===

impl BindProtocol {
    /// What carries it.
    pub fn transport(&self) -> Transport {
        match self {
            Self::Http | Self::Https(_) | Self::Tls(_) | Self::Tcp => Transport::Tcp,
            Self::Udp => Transport::Udp,
        }
    }
}

/// A listener of a Gateway with the routes attached to it.
#[derive(Clone, Debug)]
pub struct Listener {
    /// Name of the listener within its Gateway.
    pub name: Arc<str>,
    /// Its hostname; `Hostname::Any` where none is given.
    pub hostname: Hostname,
    /// Why every request of it is answered 500, if so.
    pub refusal: Option<Message>,
    /// Routes by the hostname that they have in common with the listener.
    pub hosts: HostMap<HostRoutes>,
}

/// How far the client's word about itself is trusted (Envoy's HttpConnectionManager settings).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientProfile {
    /// Envoy's `use_remote_address`: append the peer to X-Forwarded-For, strip foreign `x-envoy-*`, believe the peer's address.
    pub use_remote_address: bool,
    /// Envoy's `xff_num_trusted_hops`: proxies in front whose X-Forwarded-For entries are believed.
    pub xff_num_trusted_hops: u32,
    /// Value of the `server` response header.
    pub server_header: HeaderValue,
    /// What is done to paths before they are matched, beside removing dot segments.
    pub path: PathNormalization,
    /// What becomes of headers whose names have underscores.
    pub headers_with_underscores: HeadersWithUnderscores,
}

/// What becomes of headers whose names have underscores (Envoy's `headers_with_underscores_action`, which knows no `DropGuarded`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HeadersWithUnderscores {
    /// Those go that a backend may read as ones that frame the message or say who the client is.
    #[default]
    DropGuarded,
    /// `ALLOW`: all stay.
    Allow,
    /// `REJECT_REQUEST`: 400.
    RejectRequest,
    /// `DROP_HEADER`: all go.
    DropHeader,
}

/// What is done to the path of a request before it is matched, hashed and forwarded (Envoy's HttpConnectionManager settings).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PathNormalization {
    /// Envoy's `merge_slashes`: several slashes in a row become one.
    pub merge_slashes: bool,
    /// Envoy's `path_with_escaped_slashes_action`.
    pub escaped_slashes: EscapedSlashesAction,
}

/// What is done with a path in which a slash or a backslash is percent-encoded, as many backends decode it (Envoy's
/// `PathWithEscapedSlashesAction`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EscapedSlashesAction {
    /// `KEEP_UNCHANGED`.
    #[default]
    KeepUnchanged,
    /// `REJECT_REQUEST`: 400.
    RejectRequest,
    /// `UNESCAPE_AND_REDIRECT`: 307 to the path with slashes.
    UnescapeAndRedirect,
    /// `UNESCAPE_AND_FORWARD`: the request goes on with slashes.
    UnescapeAndForward,
}
