//! What is known of the connection on which a request arrived.

use std::net::SocketAddr;

use crate::snapshot::Bind;

/// The connection on which a request arrived.
#[derive(Clone, Copy, Debug)]
pub struct Connection<'a> {
    /// The socket it was accepted on.
    pub bind: &'a Bind,
    /// Address of the TCP peer.
    pub remote: SocketAddr,
    /// Address of the accepted socket.
    pub local: SocketAddr,
    /// What TLS says of it; `None` without TLS.
    pub tls: Option<Tls<'a>>,
}

/// A TLS connection as far as decisions depend on it.
#[derive(Clone, Copy, Debug)]
pub struct Tls<'a> {
    /// The name the client asked for (SNI), lower case.
    pub server_name: Option<&'a str>,
}

impl Connection<'_> {
    /// The scheme of its requests.
    pub fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }
}
