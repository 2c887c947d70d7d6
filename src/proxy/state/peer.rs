//! Where a connection came in.

use std::{net::SocketAddr, sync::Arc};

use crate::snapshot::BindAddress;

use super::admission::Admission;

/// Where a connection came in.
#[derive(Debug)]
pub(in crate::proxy) struct Peer {
    /// The address in the snapshot that it was accepted for.
    pub(in crate::proxy) bind: BindAddress,
    /// The client's address.
    pub(in crate::proxy) remote: SocketAddr,
    /// The address it connected to.
    pub(in crate::proxy) local: SocketAddr,
    /// What TLS says of it, once the handshake is done; `None` without TLS.
    pub(in crate::proxy) tls: Option<TlsPeer>,
    /// Counts the connection until whatever uses its socket has ended.
    pub(in crate::proxy) _admission: Admission,
}

/// What is remembered of a connection's handshake.
#[derive(Debug)]
pub(in crate::proxy) struct TlsPeer {
    /// The name the client asked for, lower case.
    pub(in crate::proxy) server_name: Option<Arc<str>>,
    /// The version that was agreed on, as Envoy writes it.
    pub(in crate::proxy) version: &'static str,
}
