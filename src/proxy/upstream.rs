//! The boundary to the code that speaks with hosts: get a connection, exchange one request for one answer. That code can be replaced
//! without changes anywhere else.

use std::{io, net::SocketAddr, rc::Rc, sync::Arc};

use http::{HeaderMap, Method, Uri, header::CONTENT_LENGTH};
use http_body::Body as _;
use tokio::{net::TcpSocket, time::timeout};

use crate::{
    base::is_out_of_descriptors,
    snapshot::{Cluster, ConnectionOptions, UpstreamProtocol},
    telemetry::{ConnectResult, DescriptorUse, SpanChange},
};

use super::{
    body::RequestBody,
    breaker::Opened,
    error::ProxyError,
    h1::{self, ExchangeError, H1Connection, Progress, RequestFraming},
    pool::{ActiveConnection, PoolMembership},
    replay::Sent,
    worker::Worker,
};

/// What a host answered.
pub(super) type Answer = h1::Answer<Sent<RequestBody>, PoolMembership>;

/// A request as it is written, as often as it has to be.
#[derive(Debug)]
pub(super) struct Encoded {
    bytes: Vec<u8>,
    framing: RequestFraming,
    is_head: bool,
    wants_upgrade: bool,
}

/// An exchange without an answer.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) error: ProxyError,
    /// Nothing of the request was written.
    pub(super) not_sent: bool,
    /// The body, if no byte of it was taken.
    pub(super) body: Option<Sent<RequestBody>>,
}

/// How often a socket is asked for while none is left: each time an idle connection is closed for it, and others may be quicker.
const SOCKET_ATTEMPTS: u32 = 8;

/// Connects to a host of a cluster.
pub(super) async fn connect(
    worker: &Rc<Worker>,
    cluster: &Arc<Cluster>,
    host: u32,
    opened: Opened,
) -> Result<ActiveConnection, ProxyError> {
    let address = cluster.hosts.get(host as usize).map(|host| host.address).ok_or(ProxyError::NoHost)?;
    let connected = dial(worker, address, &cluster.connection).await;
    worker.metrics.upstream_connect(match &connected {
        Ok(_) => ConnectResult::Ok,
        Err(ProxyError::ConnectTimeout) => ConnectResult::TimedOut,
        Err(_) => ConnectResult::Failed,
    });
    let connection = connected?;
    worker.pool.borrow_mut().adopt(worker, cluster, host, connection, opened).ok_or(ProxyError::NoHost)
}

async fn dial(worker: &Worker, address: SocketAddr, options: &ConnectionOptions) -> Result<H1Connection, ProxyError> {
    match options.protocol {
        UpstreamProtocol::Http1 => {}
        UpstreamProtocol::H2c => return Err(ProxyError::UpstreamHttp2),
    }
    let socket = socket(worker, address)?;
    let stream = match timeout(options.connect_timeout, socket.connect(address)).await {
        Ok(connected) => connected.map_err(ProxyError::Connect)?,
        Err(_) => return Err(ProxyError::ConnectTimeout),
    };
    stream.set_nodelay(true).map_err(ProxyError::Connect)?;
    Ok(H1Connection::new(stream))
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

/// Sends a request and waits for the head of its answer; dropping the future closes the connection. `on_interim` gets the interim heads
/// that the client should have.
pub(super) async fn exchange(
    active: ActiveConnection,
    request: &Encoded,
    body: Option<Sent<RequestBody>>,
    on_interim: &mut h1::OnInterim<'_>,
) -> Result<Answer, Failed> {
    let ActiveConnection { connection, membership } = active;
    let exchange =
        h1::Exchange::start(connection, membership, &request.bytes, body, request.framing, request.is_head, request.wants_upgrade);
    exchange.answer(on_interim).await.map_err(|failed| Failed {
        error: classify(failed.error, failed.progress),
        not_sent: failed.progress == Progress::NothingWritten,
        body: failed.body,
    })
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

/// Methods whose empty body is not announced, unless the client does so; all others get `content-length: 0`, as from Envoy
/// (`requestShouldHaveNoBody` in `source/common/http/header_utility.cc`) and by RFC 9110 section 8.6.
fn has_no_content(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::DELETE | Method::TRACE | Method::CONNECT)
}

// === impl Encoded ===

impl Encoded {
    /// Writes a planned head, hop-by-hop headers already removed, into one of the worker's spare buffers.
    pub(super) fn new(worker: &Worker, method: &Method, uri: &Uri, headers: &HeaderMap, body: &RequestBody, wants_upgrade: bool) -> Self {
        let framing = match body.size_hint().exact() {
            _ if body.is_empty() && has_no_content(method) && !headers.contains_key(CONTENT_LENGTH) => RequestFraming::None,
            Some(length) => RequestFraming::Length(length),
            None => RequestFraming::Chunked,
        };
        let mut bytes = worker.spare_buffers.borrow_mut().pop().unwrap_or_default();
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let upgrade = wants_upgrade.then_some(&b"websocket"[..]);
        h1::encode_head(&mut bytes, method, path, headers, framing, upgrade);
        Self { bytes, framing, is_head: *method == Method::HEAD, wants_upgrade }
    }

    /// Names another span of ours as the host's parent.
    pub(super) fn change_span(&mut self, (old, new): SpanChange) {
        let (old, new) = (old.to_string(), new.to_string());
        // It is random: nothing else in the head is it.
        if let Some(at) = memchr::memmem::find(&self.bytes, old.as_bytes())
            && let Some(place) = self.bytes.get_mut(at..at + old.len())
        {
            place.copy_from_slice(new.as_bytes());
        }
    }

    /// Gives the buffer back.
    pub(super) fn discard(self, worker: &Worker) {
        let mut bytes = self.bytes;
        if bytes.capacity() <= KEPT_BYTES {
            bytes.clear();
            worker.spare_buffers.borrow_mut().push(bytes);
        }
    }
}

/// Buffers that grew beyond this are not kept.
const KEPT_BYTES: usize = 16 * 1024;
