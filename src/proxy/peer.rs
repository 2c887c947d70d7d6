//! Where a connection came in.

use std::{net::SocketAddr, sync::Arc};

use crate::snapshot::BindAddress;

use super::admission::Admission;

/// Where a connection came in.
#[derive(Debug)]
pub(super) struct Peer {
    /// The address in the snapshot that it was accepted for.
    pub(super) bind: BindAddress,
    /// The client's address.
    pub(super) remote: SocketAddr,
    /// The address it connected to.
    pub(super) local: SocketAddr,
    /// What TLS says of it, once the handshake is done; `None` without TLS.
    pub(super) tls: Option<TlsPeer>,
    /// Counts the connection until whatever uses its socket has ended.
    pub(super) _admission: Admission,
}

/// What is remembered of a connection's handshake.
#[derive(Debug)]
pub(super) struct TlsPeer {
    /// The name the client asked for, lower case.
    pub(super) server_name: Option<Arc<str>>,
    /// The version that was agreed on, as Envoy writes it.
    pub(super) version: &'static str,
}
