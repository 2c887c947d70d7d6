//! The boundary to the code that speaks with hosts: get a connection, exchange one request for one answer. That code can be replaced
//! without changes anywhere else.

mod body;

use std::{io, net::SocketAddr, rc::Rc, sync::Arc};

use bytes::Bytes;
use h2::Reason;
use http::{HeaderMap, Method, Uri, header::CONTENT_LENGTH, response};
use http_body::Body as _;
use tokio::{
    net::{TcpSocket, TcpStream},
    time::timeout,
};
use tokio_rustls::TlsConnector;

use crate::{
    base::{is_out_of_descriptors, trace::TRACEPARENT},
    proxy::{
        flow::{replay::Sent, request_body::RequestBody},
        state::{breaker::Opened, budget::Account, error::ProxyError, flight::Flight, slots::SlotKey, tls_fault::TlsFault},
        wire::{opening::Ends, proxy_protocol, spare},
        worker::Worker,
    },
    snapshot::{Cluster, ConnectionOptions, HostTls, UpstreamProtocol},
    telemetry::{ConnectResult, DescriptorUse, SpanChange},
};

use super::{
    h1::{self, ExchangeError, H1Connection, Progress, RequestFraming},
    host_stream::HostStream,
    http2::{self, StreamError},
    pool::{ActiveConnection, Http1Active, PoolMembership},
};

pub(in crate::proxy) use body::{UpstreamBody, UpstreamError};

/// What a host answered.
#[derive(Debug)]
pub(in crate::proxy) enum Answer {
    /// A response.
    Response(response::Parts, UpstreamBody),
    /// The host switched protocols.
    Switched(Box<Switched>),
}

/// A host that switched protocols: the head of its answer, and its side of the tunnel.
#[derive(Debug)]
pub(in crate::proxy) struct Switched {
    pub(in crate::proxy) parts: response::Parts,
    pub(in crate::proxy) host: HostSide,
}

/// The upstream's side of a tunnel: its connection, and what it already said in the new protocol.
#[derive(Debug)]
pub(in crate::proxy) struct HostSide {
    pub(in crate::proxy) io: HostIo,
    pub(in crate::proxy) read: Bytes,
}

/// What carries a tunnel's bytes.
#[derive(Debug)]
pub(in crate::proxy) enum HostIo {
    /// A connection.
    Tcp {
        /// Its socket.
        io: HostStream,
        /// The connection counts as one in use until the tunnel ends.
        _membership: PoolMembership,
    },
    /// A stream of HTTP/2.
    Http2(Box<http2::Tunnel>),
}

/// A request as it is written, as often as it has to be.
#[derive(Debug)]
pub(in crate::proxy) enum Encoded {
    /// In HTTP/1.1.
    Http1(Http1Encoded),
    /// In HTTP/2.
    Http2(Box<http2::RequestHead>),
}

/// A request as it is written in HTTP/1.1.
#[derive(Debug)]
pub(in crate::proxy) struct Http1Encoded {
    bytes: Vec<u8>,
    framing: RequestFraming,
    is_head: bool,
    wants_upgrade: bool,
}

/// An exchange without an answer.
#[derive(Debug)]
pub(in crate::proxy) struct Failed {
    pub(in crate::proxy) error: ProxyError,
    /// Nothing of the request was written.
    pub(in crate::proxy) not_sent: bool,
    /// The body, if no byte of it was taken.
    pub(in crate::proxy) body: Option<Sent<RequestBody>>,
}

/// How often a socket is asked for while none is left: each time an idle connection is closed for it, and others may be quicker.
const SOCKET_ATTEMPTS: u32 = 8;

/// Connects to a host of a cluster in HTTP/1.1. `tls`: how TLS is spoken to it.
pub(in crate::proxy) async fn connect(
    worker: &Rc<Worker>,
    cluster: &Arc<Cluster>,
    host: u32,
    opened: Opened,
    tls: Option<&HostTls>,
    client: Option<Ends>,
) -> Result<ActiveConnection, ProxyError> {
    let address = cluster.hosts.get(host as usize).map(|host| host.address).ok_or(ProxyError::NoHost)?;
    let secure = tls.map(|tls| Secure { tls, alpn: Some(UpstreamProtocol::Http1.alpn()) });
    let connection = H1Connection::new(dial(worker, address, &cluster.connection, secure, client).await?, tls.cloned());
    worker.pool.borrow_mut().adopt(&worker.pool, cluster, host, connection, opened).ok_or(ProxyError::NoHost)
}

/// Begins a connection in HTTP/2 to a host of a cluster: it is made in a task of its own, since many requests may wait for it. `streams`: how
/// many the host takes on one, as far as that is known. Also whether other requests find it in the pool.
pub(in crate::proxy) fn connect_http2(
    worker: &Rc<Worker>,
    cluster: &Arc<Cluster>,
    host: u32,
    opened: Opened,
    tls: Option<&HostTls>,
    streams: Option<u32>,
) -> (Rc<http2::Connection>, bool) {
    let options = cluster.connection.clone();
    let address = cluster.hosts.get(host as usize).map(|host| host.address);
    let connection =
        http2::Connection::new(opened, Arc::clone(&worker.metrics), tls.cloned(), options.max_requests_per_connection, streams);
    let is_kept = worker.pool.borrow_mut().keep(cluster, host, &connection);
    let (served, of) = (Rc::clone(&connection), Rc::clone(worker));
    worker.spawn(async move {
        let _registered = Registered { slot: of.host_connections.insert(Rc::clone(&served)), worker: &of, connection: &served };
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
    (connection, is_kept)
}

/// Keeps a connection of HTTP/2 registered with its worker. However its task ends, who waits for the connection hears of it.
struct Registered<'a> {
    worker: &'a Worker,
    connection: &'a http2::Connection,
    slot: SlotKey,
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        self.connection.fail(http2::Failure::Closed(io::ErrorKind::ConnectionAborted));
        self.worker.host_connections.remove(self.slot);
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
    worker: &Worker,
    address: SocketAddr,
    options: &ConnectionOptions,
    secure: Option<Secure<'_>>,
    client: Option<Ends>,
) -> Result<HostStream, ProxyError> {
    // The time to connect is that of both, as Envoy's.
    let connected = timeout(options.connect_timeout, async {
        let mut stream = open_socket(worker, address).await?;
        if let Some(version) = options.proxy_protocol {
            proxy_protocol::write(&mut stream, version, client).await.map_err(ProxyError::Connect)?;
        }
        match secure {
            Some(secure) => Box::pin(shake_hands(stream, secure)).await,
            None => Ok(HostStream::Plain(stream)),
        }
    });
    let connected = connected.await.unwrap_or(Err(ProxyError::ConnectTimeout));
    worker.metrics.upstream_connect(match &connected {
        Ok(_) => ConnectResult::Ok,
        Err(ProxyError::ConnectTimeout) => ConnectResult::TimedOut,
        Err(_) => ConnectResult::Failed,
    });
    connected
}

async fn open_socket(worker: &Worker, address: SocketAddr) -> Result<TcpStream, ProxyError> {
    let stream = socket(worker, address)?.connect(address).await.map_err(ProxyError::Connect)?;
    stream.set_nodelay(true).map_err(ProxyError::Connect)?;
    Ok(stream)
}

async fn shake_hands(stream: TcpStream, Secure { tls, alpn }: Secure<'_>) -> Result<HostStream, ProxyError> {
    let config = tls.config(alpn).map_err(|error| host_tls(&io::Error::other(error)))?;
    let shaken = TlsConnector::from(config).connect(tls.tls.server_name.clone(), stream).await;
    Ok(HostStream::Tls(Box::new(shaken.map_err(|error| host_tls(&error))?)))
}

fn host_tls(error: &io::Error) -> ProxyError {
    tracing::debug!(%error, "a TLS handshake with a host failed");
    ProxyError::HostTls(TlsFault::of(error))
}

/// A socket for a connection to a host. Where no descriptor is left for it, connections that wait in the pool make room.
fn socket(worker: &Worker, address: SocketAddr) -> Result<TcpSocket, ProxyError> {
    for _ in 0..SOCKET_ATTEMPTS {
        match if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() } {
            Ok(socket) if worker.descriptors.admits(&socket, DescriptorUse::Host) => return Ok(socket),
            Ok(_) => {}
            Err(error) if is_out_of_descriptors(&error) => worker.descriptors.count(DescriptorUse::Host),
            Err(error) => return Err(ProxyError::Connect(error)),
        }
        if !worker.pool.borrow_mut().close_oldest() {
            break;
        }
    }
    Err(ProxyError::NoDescriptor)
}

/// Sends a request and waits for the head of its answer; dropping the future closes the connection, or cancels the stream. The flight gets
/// the interim heads that the client should have.
pub(in crate::proxy) async fn exchange(
    active: ActiveConnection,
    request: &Encoded,
    body: Option<Sent<RequestBody>>,
    worker: &Rc<Worker>,
    flight: &Rc<Flight>,
) -> Result<Answer, Failed> {
    let on_interim = &mut |status, headers| flight.send_interim(status, headers);
    match (active, request) {
        (ActiveConnection::Http1(active), Encoded::Http1(request)) => exchange_http1(active, request, body, on_interim).await,
        (ActiveConnection::Http2(lease), Encoded::Http2(request)) => {
            let handed = Account::new(&worker.budget, flight);
            Box::pin(exchange_http2(lease, request, body, handed, on_interim)).await
        }
        // The protocol is the cluster's, for the request as for its connections.
        (_, Encoded::Http1(_) | Encoded::Http2(_)) => Err(Failed { error: ProxyError::NoHost, not_sent: true, body }),
    }
}

async fn exchange_http1(
    active: Http1Active,
    request: &Http1Encoded,
    body: Option<Sent<RequestBody>>,
    on_interim: &mut h1::OnInterim<'_>,
) -> Result<Answer, Failed> {
    let Http1Active { connection, membership } = active;
    let exchange =
        h1::Exchange::start(connection, membership, &request.bytes, body, request.framing, request.is_head, request.wants_upgrade);
    match exchange.answer(on_interim).await {
        Ok(h1::Answer::Response(parts, body)) => Ok(Answer::Response(parts, UpstreamBody::Http1(body))),
        Ok(h1::Answer::Upgraded(upgraded)) => {
            let h1::Upgraded { parts, io, read, recycle } = *upgraded;
            Ok(Answer::Switched(Box::new(Switched { parts, host: HostSide { io: HostIo::Tcp { io, _membership: recycle }, read } })))
        }
        Err(failed) => Err(Failed {
            error: classify(failed.error, failed.progress),
            not_sent: failed.progress == Progress::NothingWritten,
            body: failed.body,
        }),
    }
}

async fn exchange_http2(
    lease: http2::Lease,
    request: &http2::RequestHead,
    body: Option<Sent<RequestBody>>,
    handed: Account,
    on_interim: &mut h1::OnInterim<'_>,
) -> Result<Answer, Failed> {
    let answer = match http2::Exchange::start(lease, request, body, handed) {
        Ok(exchange) => exchange.answer(request, on_interim).await,
        Err(failed) => Err(*failed),
    };
    match answer {
        Ok(http2::Answer::Response(parts, body)) => Ok(Answer::Response(parts, UpstreamBody::Http2(body))),
        Ok(http2::Answer::Switched(switched)) => {
            let http2::Switched { parts, tunnel } = *switched;
            let host = HostSide { io: HostIo::Http2(Box::new(tunnel)), read: Bytes::new() };
            Ok(Answer::Switched(Box::new(Switched { parts, host })))
        }
        Err(failed) => Err(Failed { error: classify_stream(failed.error), not_sent: failed.not_sent, body: failed.body }),
    }
}

fn classify(error: ExchangeError, progress: Progress) -> ProxyError {
    let closed = match progress {
        Progress::NothingWritten | Progress::Written => ProxyError::UpstreamClosed,
        Progress::AnswerBegun => ProxyError::UpstreamBrokeOff,
    };
    match error {
        ExchangeError::Io(error) => closed(error),
        ExchangeError::Closed => closed(io::ErrorKind::UnexpectedEof.into()),
        ExchangeError::Invalid(what) => ProxyError::UpstreamProtocol(what),
        ExchangeError::RequestBody(_) => ProxyError::ClientBody,
    }
}

fn classify_stream(error: StreamError) -> ProxyError {
    match error {
        StreamError::Closed(kind) => ProxyError::UpstreamClosed(kind.into()),
        StreamError::GoneAway => ProxyError::UpstreamGoneAway,
        StreamError::Refused => ProxyError::UpstreamRefusedStream,
        // To Envoy the host says that the gateway was wrong, and that the two do not speak the same protocol.
        StreamError::Reset(Reason::PROTOCOL_ERROR) => ProxyError::UpstreamProtocol("the upstream resets the stream as malformed"),
        StreamError::Reset(_) => ProxyError::UpstreamReset,
        StreamError::NoWebSocket => ProxyError::UpstreamNoWebSocket,
        StreamError::Invalid(what) => ProxyError::UpstreamProtocol(what),
        StreamError::RequestBody(_) => ProxyError::ClientBody,
    }
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

/// Methods whose empty body is not announced, unless the client does so; all others get `content-length: 0`, as from Envoy
/// (`requestShouldHaveNoBody` in `source/common/http/header_utility.cc`) and by RFC 9110 section 8.6.
fn has_no_content(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::DELETE | Method::TRACE | Method::CONNECT)
}

/// How the body of a request is delimited.
fn framing(method: &Method, headers: &HeaderMap, body: &RequestBody) -> RequestFraming {
    match body.size_hint().exact() {
        _ if body.is_empty() && has_no_content(method) && !headers.contains_key(CONTENT_LENGTH) => RequestFraming::None,
        Some(length) => RequestFraming::Length(length),
        None => RequestFraming::Chunked,
    }
}

// === impl Encoded ===

impl Encoded {
    /// Takes a planned head, hop-by-hop headers already removed, for hosts that speak this protocol.
    pub(in crate::proxy) fn new(
        worker: &Worker,
        protocol: UpstreamProtocol,
        method: &Method,
        uri: &Uri,
        headers: HeaderMap,
        body: &RequestBody,
        wants_websocket: bool,
    ) -> Self {
        let framing = framing(method, &headers, body);
        match protocol {
            UpstreamProtocol::Http1 => {
                let mut bytes = worker.spare_buffers.borrow_mut().pop().unwrap_or_default();
                let path = uri.path_and_query().map_or("/", |path| path.as_str());
                let upgrade = wants_websocket.then_some(&b"websocket"[..]);
                h1::encode_head(&mut bytes, method, path, &headers, framing, upgrade);
                spare::give_back(headers);
                Self::Http1(Http1Encoded { bytes, framing, is_head: *method == Method::HEAD, wants_upgrade: wants_websocket })
            }
            UpstreamProtocol::H2c => {
                let length = match framing {
                    RequestFraming::Length(length) => Some(length),
                    RequestFraming::None | RequestFraming::Chunked => None,
                };
                Self::Http2(Box::new(http2::RequestHead::new(method, uri, headers, length, wants_websocket)))
            }
        }
    }

    /// Names another span of ours as the host's parent.
    pub(in crate::proxy) fn change_span(&mut self, (old, new): SpanChange) {
        let (old, new) = (old.to_string(), new.to_string());
        match self {
            // It is random: nothing else in the head is it.
            Self::Http1(encoded) => {
                if let Some(at) = memchr::memmem::find(&encoded.bytes, old.as_bytes())
                    && let Some(place) = encoded.bytes.get_mut(at..at + old.len())
                {
                    place.copy_from_slice(new.as_bytes());
                }
            }
            Self::Http2(head) => head.replace_in(&TRACEPARENT, &old, &new),
        }
    }

    /// Gives buffers back.
    pub(in crate::proxy) fn discard(self, worker: &Worker) {
        let mut bytes = match self {
            Self::Http1(encoded) => encoded.bytes,
            Self::Http2(head) => return spare::give_back(head.into_headers()),
        };
        if bytes.capacity() <= KEPT_BYTES {
            bytes.clear();
            worker.spare_buffers.borrow_mut().push(bytes);
        }
    }
}

/// Buffers that grew beyond this are not kept.
const KEPT_BYTES: usize = 16 * 1024;
