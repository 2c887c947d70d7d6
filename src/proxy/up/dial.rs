//! Makes connections to hosts.

use std::{io, net::SocketAddr, rc::Rc, sync::Arc};

use tokio::{
    net::{TcpSocket, TcpStream},
    time::timeout,
};
use tokio_rustls::TlsConnector;

use crate::{
    base::is_out_of_descriptors,
    proxy::{
        state::{breaker::Opened, error::ProxyError, slots::SlotKey, tasks, tls_fault::TlsFault},
        wire::{opening::Ends, proxy_protocol},
    },
    snapshot::{Cluster, ConnectionOptions, HostTls, UpstreamProtocol},
    telemetry::{ConnectResult, DescriptorUse},
};

use super::{
    h1::H1Connection,
    host_stream::HostStream,
    hosts::Hosts,
    http2,
    pool::{ActiveConnection, Connecting},
};

/// How often a socket is asked for while none is left: each time an idle connection is closed for it, and others may be quicker.
const SOCKET_ATTEMPTS: u32 = 8;

/// Connects to a host of a cluster in HTTP/1.1. `tls`: how TLS is spoken to it.
pub(in crate::proxy) async fn connect(
    hosts: &Rc<Hosts>,
    cluster: &Arc<Cluster>,
    host: u32,
    opened: Opened,
    tls: Option<&HostTls>,
    client: Option<Ends>,
) -> Result<ActiveConnection, ProxyError> {
    let address = cluster.hosts.get(host as usize).map(|host| host.address).ok_or(ProxyError::NoHost)?;
    let secure = tls.map(|tls| Secure { tls, alpn: Some(UpstreamProtocol::Http1.alpn()) });
    let connection = H1Connection::new(dial(hosts, address, &cluster.connection, secure, client).await?, tls.cloned());
    hosts.pool.borrow_mut().adopt(&hosts.pool, cluster, host, connection, opened).ok_or(ProxyError::NoHost)
}

/// Begins a connection in HTTP/2 to a host of a cluster: it is made in a task of its own, since many requests may wait for it. `streams`: how
/// many the host takes on one, as far as that is known. Also whether other requests find it in the pool.
pub(in crate::proxy) fn connect_http2(
    hosts: &Rc<Hosts>,
    cluster: &Arc<Cluster>,
    host: u32,
    opened: Opened,
    tls: Option<&HostTls>,
    streams: Option<u32>,
) -> (Connecting, bool) {
    let options = cluster.connection.clone();
    let address = cluster.hosts.get(host as usize).map(|host| host.address);
    let connection = http2::Connection::new(opened, Arc::clone(&hosts.metrics), tls.cloned(), options.max_requests_per_connection, streams);
    let is_kept = hosts.pool.borrow_mut().keep(cluster, host, &connection);
    let (served, of) = (Rc::clone(&connection), Rc::clone(hosts));
    tasks::spawn(&hosts.metrics, async move {
        let _registered = Registered { slot: of.shared.insert(Rc::clone(&served)), hosts: &of, connection: &served };
        let failure = match address {
            None => http2::Failure::NoHost,
            Some(address) => {
                let secure = served.tls().map(|tls| Secure { tls, alpn: Some(UpstreamProtocol::H2c.alpn()) });
                // It is for requests of several clients.
                match dial(&of, address, &options, secure, None).await {
                    Ok(stream) => http2::serve(stream, &served, &of.config.limits).await,
                    Err(error) => failure(&error),
                }
            }
        };
        served.fail(failure);
    });
    (Connecting(connection), is_kept)
}

/// Keeps a connection of HTTP/2 registered with the others. However its task ends, who waits for the connection hears of it.
struct Registered<'a> {
    hosts: &'a Hosts,
    connection: &'a http2::Connection,
    slot: SlotKey,
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        self.connection.fail(http2::Failure::Closed(io::ErrorKind::ConnectionAborted));
        self.hosts.shared.remove(self.slot);
    }
}

/// TLS for a connection to a host.
#[derive(Clone, Copy, Debug)]
pub(in crate::proxy) struct Secure<'a> {
    pub(in crate::proxy) tls: &'a HostTls,
    /// The protocol inside, by its name in ALPN; `None`: it is not known.
    pub(in crate::proxy) alpn: Option<&'static str>,
}

/// Opens a connection to a host, and counts what became of it. `client`: for whom, if it is for one only.
pub(in crate::proxy) async fn dial(
    hosts: &Hosts,
    address: SocketAddr,
    options: &ConnectionOptions,
    secure: Option<Secure<'_>>,
    client: Option<Ends>,
) -> Result<HostStream, ProxyError> {
    // The time to connect is that of both, as Envoy's.
    let connected = timeout(options.connect_timeout, async {
        let mut stream = open_socket(hosts, address).await?;
        if let Some(version) = options.proxy_protocol {
            proxy_protocol::write(&mut stream, version, client).await.map_err(ProxyError::Connect)?;
        }
        match secure {
            Some(secure) => Box::pin(shake_hands(stream, secure)).await,
            None => Ok(HostStream::plain(stream)),
        }
    });
    let connected = connected.await.unwrap_or(Err(ProxyError::ConnectTimeout));
    hosts.metrics.upstream_connect(match &connected {
        Ok(_) => ConnectResult::Ok,
        Err(ProxyError::ConnectTimeout) => ConnectResult::TimedOut,
        Err(_) => ConnectResult::Failed,
    });
    connected
}

async fn open_socket(hosts: &Hosts, address: SocketAddr) -> Result<TcpStream, ProxyError> {
    let stream = socket(hosts, address)?.connect(address).await.map_err(ProxyError::Connect)?;
    stream.set_nodelay(true).map_err(ProxyError::Connect)?;
    Ok(stream)
}

async fn shake_hands(stream: TcpStream, Secure { tls, alpn }: Secure<'_>) -> Result<HostStream, ProxyError> {
    let config = tls.config(alpn).map_err(|error| host_tls(&io::Error::other(error)))?;
    let shaken = TlsConnector::from(config).connect(tls.tls.server_name.clone(), stream).await;
    Ok(HostStream::tls(Box::new(shaken.map_err(|error| host_tls(&error))?)))
}

fn host_tls(error: &io::Error) -> ProxyError {
    tracing::debug!(%error, "a TLS handshake with a host failed");
    ProxyError::HostTls(TlsFault::of(error))
}

/// A socket for a connection to a host. Where no descriptor is left for it, connections that wait in the pool make room.
fn socket(hosts: &Hosts, address: SocketAddr) -> Result<TcpSocket, ProxyError> {
    for _ in 0..SOCKET_ATTEMPTS {
        match if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() } {
            Ok(socket) if hosts.descriptors.admits(&socket, DescriptorUse::Host) => return Ok(socket),
            Ok(_) => {}
            Err(error) if is_out_of_descriptors(&error) => hosts.descriptors.count(DescriptorUse::Host),
            Err(error) => return Err(ProxyError::Connect(error)),
        }
        if !hosts.pool.borrow_mut().close_oldest() {
            break;
        }
    }
    Err(ProxyError::NoDescriptor)
}

/// Why a connection could not be made, as all who wait for it hear it.
fn failure(error: &ProxyError) -> http2::Failure {
    match error {
        ProxyError::Connect(error) => http2::Failure::Connect(error.kind(), error.raw_os_error()),
        ProxyError::ConnectTimeout => http2::Failure::TimedOut,
        ProxyError::HostTls(fault) => http2::Failure::Tls(*fault),
        ProxyError::NoDescriptor => http2::Failure::NoDescriptor,
        _ => http2::Failure::NoHost,
    }
}

impl From<http2::Failure> for ProxyError {
    fn from(failure: http2::Failure) -> Self {
        match failure {
            http2::Failure::Connect(kind, code) => Self::Connect(code.map_or_else(|| kind.into(), io::Error::from_raw_os_error)),
            http2::Failure::TimedOut => Self::ConnectTimeout,
            http2::Failure::Tls(fault) => Self::HostTls(fault),
            http2::Failure::NoDescriptor => Self::NoDescriptor,
            http2::Failure::NoHost => Self::NoHost,
            http2::Failure::Invalid(what) => Self::UpstreamProtocol(what),
            http2::Failure::Closed(kind) => Self::UpstreamClosed(kind.into()),
        }
    }
}
