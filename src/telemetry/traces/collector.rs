//! The connection to an OTLP receiver: one request at a time, over HTTP/1.1 with protobuf or over gRPC.
//!
//! What an answer means: <https://opentelemetry.io/docs/specs/otlp/>, "OTLP/HTTP Response" and "OTLP/gRPC Response".

use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use http::{
    HeaderMap, HeaderName, HeaderValue, Request, StatusCode, Uri,
    header::{CONTENT_TYPE, HOST, TE, USER_AGENT},
    uri::Scheme,
};
use http_body_util::{BodyExt as _, Collected, Full, Limited};
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message as _;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};

use crate::base::{
    text::quoted,
    trace::{CollectorEndpoint, CollectorProtocol, CollectorRoots},
};

use super::tls;

/// Time for one batch, from connecting to the end of the answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of an answer that are read.
const ANSWER: usize = 64 * 1_024;

/// Codes of gRPC after which the same batch may be sent again (OTLP specification, "Failures").
const RETRYABLE: [u32; 6] = [1, 4, 10, 11, 14, 15];

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// What became of a batch.
#[derive(Debug)]
pub(super) enum Export {
    /// The collector has it, save for `rejected` spans; why these.
    Accepted { rejected: u64, why: String },
    /// The collector will never take it.
    Refused(String),
    /// The collector cannot be reached, or asks for another attempt.
    Unavailable(String),
}

/// An OTLP receiver.
pub(super) struct Collector {
    endpoint: CollectorEndpoint,
    roots: CollectorRoots,
    headers: Vec<(HeaderName, HeaderValue)>,
    connection: Option<Connection>,
}

enum Connection {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

/// An answer that has come whole.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Collected<Bytes>,
}

type Attempt<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

// === impl Collector ===

impl Collector {
    pub(super) fn new(endpoint: CollectorEndpoint, roots: CollectorRoots, headers: Vec<(HeaderName, HeaderValue)>) -> Self {
        Self { endpoint, roots, headers, connection: None }
    }

    /// Its address, for the log.
    pub(super) fn name(&self) -> &str {
        &self.endpoint.authority
    }

    /// Sends an encoded `ExportTraceServiceRequest`.
    pub(super) async fn export(&mut self, message: &[u8]) -> Export {
        let body = match self.endpoint.protocol {
            CollectorProtocol::HttpProtobuf => Bytes::copy_from_slice(message),
            CollectorProtocol::Grpc => framed(message),
        };
        match timeout(PATIENCE, self.ask(body)).await {
            Ok(Ok(answer)) => match self.endpoint.protocol {
                CollectorProtocol::HttpProtobuf => of_http(answer),
                CollectorProtocol::Grpc => of_grpc(answer),
            },
            Ok(Err(error)) => self.lost(error.to_string()),
            Err(_) => self.lost(format!("no answer within {} s", PATIENCE.as_secs())),
        }
    }

    fn lost(&mut self, why: String) -> Export {
        self.connection = None;
        Export::Unavailable(why)
    }

    /// Over the connection that is there; over a new one where the collector has closed it meanwhile.
    async fn ask(&mut self, body: Bytes) -> Attempt<Answer> {
        if let Some(connection) = &mut self.connection
            && let Ok(answer) = connection.ask(request(&self.endpoint, &self.headers, body.clone())?).await
        {
            return Ok(answer);
        }
        self.connection = None;
        let mut connection = Connection::open(&self.endpoint, &self.roots).await?;
        let answer = connection.ask(request(&self.endpoint, &self.headers, body)?).await?;
        self.connection = Some(connection);
        Ok(answer)
    }
}

fn request(endpoint: &CollectorEndpoint, headers: &[(HeaderName, HeaderValue)], body: Bytes) -> Attempt<Request<Full<Bytes>>> {
    let mut uri = Uri::builder().path_and_query(endpoint.path.clone());
    let mut request = Request::post(Uri::default());
    let content = match endpoint.protocol {
        CollectorProtocol::HttpProtobuf => {
            request = request.header(HOST, &endpoint.authority);
            "application/x-protobuf"
        }
        CollectorProtocol::Grpc => {
            uri = uri.scheme(if endpoint.is_tls { Scheme::HTTPS } else { Scheme::HTTP }).authority(endpoint.authority.as_str());
            request = request.header(TE, "trailers");
            "application/grpc"
        }
    };
    request = request.uri(uri.build()?).header(CONTENT_TYPE, content).header(USER_AGENT, concat!("clingfish/", env!("CARGO_PKG_VERSION")));
    for (name, value) in headers {
        request = request.header(name, value);
    }
    Ok(request.body(Full::new(body))?)
}

// === impl Connection ===

impl Connection {
    async fn open(endpoint: &CollectorEndpoint, roots: &CollectorRoots) -> Attempt<Self> {
        let stream = TcpStream::connect((endpoint.host.as_str(), endpoint.port)).await?;
        stream.set_nodelay(true)?;
        if endpoint.is_tls {
            return Self::over(tls::handshake(stream, endpoint, roots).await?, endpoint.protocol).await;
        }
        Self::over(stream, endpoint.protocol).await
    }

    async fn over(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, protocol: CollectorProtocol) -> Attempt<Self> {
        let io = TokioIo::new(stream);
        Ok(match protocol {
            CollectorProtocol::HttpProtobuf => {
                let (sender, connection) = http1::handshake(io).await?;
                // Its end is seen by the next request.
                tokio::spawn(connection);
                Self::Http1(sender)
            }
            CollectorProtocol::Grpc => {
                let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
                tokio::spawn(connection);
                Self::Http2(sender)
            }
        })
    }

    async fn ask(&mut self, request: Request<Full<Bytes>>) -> Attempt<Answer> {
        let (head, body): (_, Incoming) = match self {
            Self::Http1(sender) => {
                sender.ready().await?;
                sender.send_request(request).await?
            }
            Self::Http2(sender) => {
                sender.ready().await?;
                sender.send_request(request).await?
            }
        }
        .into_parts();
        Ok(Answer { status: head.status, headers: head.headers, body: Limited::new(body, ANSWER).collect().await? })
    }
}

/// One message of a gRPC stream (gRPC over HTTP/2, "Length-Prefixed-Message"), not compressed.
fn framed(message: &[u8]) -> Bytes {
    let mut framed = BytesMut::with_capacity(message.len() + 5);
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    framed.put_slice(message);
    framed.freeze()
}

fn of_http(answer: Answer) -> Export {
    if answer.status.is_success() {
        return accepted(&answer.body.to_bytes());
    }
    of_status(answer.status)
}

fn of_status(status: StatusCode) -> Export {
    let why = format!("status {}", status.as_u16());
    match status.as_u16() {
        429 | 502 | 503 | 504 => Export::Unavailable(why),
        _ => Export::Refused(why),
    }
}

fn of_grpc(answer: Answer) -> Export {
    if answer.status != StatusCode::OK {
        return of_status(answer.status);
    }
    // An answer without a message has its status among the headers.
    let trailers = answer.body.trailers().cloned().unwrap_or(answer.headers);
    let text = |name| trailers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    match text(GRPC_STATUS).and_then(|status| status.parse().ok()) {
        Some(0) => accepted(answer.body.to_bytes().get(5..).unwrap_or_default()),
        Some(code) => {
            let why = format!("grpc-status {code} {}", quoted(text(GRPC_MESSAGE).unwrap_or_default()));
            if RETRYABLE.contains(&code) { Export::Unavailable(why) } else { Export::Refused(why) }
        }
        None => Export::Refused("the answer has no grpc-status: is this a gRPC port?".to_owned()),
    }
}

/// The collector may have taken a part only. What is no message of OTLP is taken for consent, as the status says.
fn accepted(body: &[u8]) -> Export {
    let partial = ExportTraceServiceResponse::decode(body).unwrap_or_default().partial_success.unwrap_or_default();
    Export::Accepted { rejected: u64::try_from(partial.rejected_spans).unwrap_or(0), why: quoted(&partial.error_message).to_string() }
}
