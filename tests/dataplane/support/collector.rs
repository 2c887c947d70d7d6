//! An OTLP receiver that follows a script.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex},
    thread,
};

use bytes::Bytes;
use clingfish::{
    base::trace::{CollectorEndpoint, CollectorProtocol, CollectorRoots, Sampler, SamplerKind, TracingConfig},
    proxy::ProxyConfig,
    telemetry::{Metrics, SpanResult, TraceExporter, start_tracing},
};
use http::{HeaderMap, HeaderName, HeaderValue, Response, request};
use http_body_util::{BodyExt, StreamBody, combinators::BoxBody};
use hyper::{body::Frame, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use opentelemetry_proto::tonic::{
    collector::trace::v1::{ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse},
    common::v1::{KeyValue, any_value::Value},
    trace::v1::{Span, span::SpanKind},
};
use prost::Message as _;
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;

use super::eventually;

/// What a collector answers to a batch.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Answer {
    /// It takes all of it.
    Taken,
    /// It does not take so many.
    Rejected(i64),
    /// An HTTP status.
    Status(u16),
    /// A gRPC status without a message.
    Grpc(u32),
    /// Nothing.
    Silence,
}

/// A connection with or without TLS.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A receiver on a port of its own.
pub(crate) struct Collector {
    pub(crate) address: SocketAddr,
    protocol: CollectorProtocol,
    batches: Arc<Mutex<Vec<(request::Parts, ExportTraceServiceRequest)>>>,
}

/// An exporter that sends to it.
pub(crate) struct Tracing {
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) config: ProxyConfig,
    pub(crate) exporter: TraceExporter,
}

impl Collector {
    /// Answers each batch as the script says, by its number from 0.
    pub(crate) fn start(protocol: CollectorProtocol, script: impl Fn(usize) -> Answer + Send + Sync + 'static) -> Self {
        Self::start_over(None, protocol, script)
    }

    /// The same over TLS, with the certificate for 127.0.0.1, and only for a client that speaks the protocol in ALPN.
    pub(crate) fn start_tls(protocol: CollectorProtocol) -> Self {
        let certificates = vec![CertificateDer::from_pem_slice(include_bytes!("../../certificates/collector.crt")).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(include_bytes!("../../certificates/collector.key")).unwrap();
        let builder = ServerConfig::builder_with_provider(Arc::new(default_provider())).with_safe_default_protocol_versions().unwrap();
        let mut config = builder.with_no_client_auth().with_single_cert(certificates, key).unwrap();
        config.alpn_protocols = vec![if protocol == CollectorProtocol::Grpc { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
        Self::start_over(Some(TlsAcceptor::from(Arc::new(config))), protocol, |_| Answer::Taken)
    }

    fn start_over(tls: Option<TlsAcceptor>, protocol: CollectorProtocol, script: impl Fn(usize) -> Answer + Send + Sync + 'static) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let batches = Arc::new(Mutex::new(Vec::new()));
        let (seen, script) = (Arc::clone(&batches), Arc::new(script));
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                listener.set_nonblocking(true).unwrap();
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                while let Ok((stream, _)) = listener.accept().await {
                    let (seen, script) = (Arc::clone(&seen), Arc::clone(&script));
                    let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
                        let (seen, script) = (Arc::clone(&seen), Arc::clone(&script));
                        async move {
                            let (parts, body) = request.into_parts();
                            let body = body.collect().await.unwrap().to_bytes();
                            let number = {
                                let mut seen = seen.lock().unwrap();
                                seen.push((parts, decode(protocol, &body)));
                                seen.len() - 1
                            };
                            let answer = script(number);
                            if matches!(answer, Answer::Silence) {
                                std::future::pending::<()>().await;
                            }
                            Ok::<_, Infallible>(response(protocol, answer))
                        }
                    });
                    let stream: Box<dyn Stream> = match &tls {
                        // A client that does not trust it is none.
                        Some(tls) => match tls.accept(stream).await {
                            Ok(stream) => Box::new(stream),
                            Err(_) => continue,
                        },
                        None => Box::new(stream),
                    };
                    let io = TokioIo::new(stream);
                    match protocol {
                        CollectorProtocol::HttpProtobuf => {
                            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(io, service));
                        }
                        CollectorProtocol::Grpc => {
                            tokio::spawn(hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(io, service));
                        }
                    }
                }
            });
        });
        Self { address, protocol, batches }
    }

    /// Takes everything.
    pub(crate) fn http() -> Self {
        Self::start(CollectorProtocol::HttpProtobuf, |_| Answer::Taken)
    }

    /// An exporter to it, of so many percent of what has no parent.
    pub(crate) fn tracing(&self, percentage: f64) -> Tracing {
        Tracing::new(self.address, self.protocol, percentage)
    }

    /// Requests of the exporter so far.
    pub(crate) fn heads(&self) -> Vec<request::Parts> {
        self.batches.lock().unwrap().iter().map(|(head, _)| head.clone()).collect()
    }

    /// All that came so far, the resource's attributes first.
    pub(crate) fn spans(&self) -> Vec<Span> {
        let batches = self.batches.lock().unwrap();
        let spans = batches.iter().flat_map(|(_, batch)| &batch.resource_spans).flat_map(|spans| &spans.scope_spans);
        spans.flat_map(|spans| spans.spans.clone()).collect()
    }

    pub(crate) fn resource(&self) -> Vec<KeyValue> {
        self.batches.lock().unwrap()[0].1.resource_spans[0].resource.clone().unwrap().attributes
    }

    /// The spans, once there are so many.
    pub(crate) fn wait_for(&self, count: usize) -> Vec<Span> {
        eventually("spans", || self.spans().len() >= count);
        let spans = self.spans();
        assert_eq!(spans.len(), count, "{spans:#?}");
        spans
    }
}

impl Tracing {
    pub(crate) fn new(address: SocketAddr, protocol: CollectorProtocol, percentage: f64) -> Self {
        Self::to(&format!("http://{address}"), CollectorRoots::System, protocol, percentage)
    }

    pub(crate) fn to(url: &str, roots: CollectorRoots, protocol: CollectorProtocol, percentage: f64) -> Self {
        let metrics = Metrics::new(1);
        let config = TracingConfig {
            endpoint: CollectorEndpoint::parse(url, protocol).unwrap(),
            roots,
            headers: vec![(HeaderName::from_static("x-token"), HeaderValue::from_static("secret"))],
            sampler: Sampler::new(SamplerKind::ParentBased, percentage),
            resource: vec![("service.name", "edge".to_owned())],
        };
        let (tracer, exporter) = start_tracing(config, &metrics).unwrap();
        Self { metrics, config: ProxyConfig { tracer: Some(tracer), ..ProxyConfig::default() }, exporter }
    }

    pub(crate) fn config(&self) -> ProxyConfig {
        self.config.clone()
    }

    pub(crate) fn count(&self, result: SpanResult) -> u64 {
        self.metrics.spans().get(result)
    }
}

fn decode(protocol: CollectorProtocol, body: &Bytes) -> ExportTraceServiceRequest {
    let message = match protocol {
        CollectorProtocol::HttpProtobuf => &body[..],
        CollectorProtocol::Grpc => {
            let length = u32::from_be_bytes(body[1..5].try_into().unwrap());
            assert_eq!((body[0], length as usize), (0, body.len() - 5));
            &body[5..]
        }
    };
    ExportTraceServiceRequest::decode(message).unwrap()
}

fn response(protocol: CollectorProtocol, answer: Answer) -> Response<BoxBody<Bytes, Infallible>> {
    let rejected = match answer {
        Answer::Rejected(count) => Some(ExportTracePartialSuccess { rejected_spans: count, error_message: "no\nroom".into() }),
        _ => None,
    };
    let message = ExportTraceServiceResponse { partial_success: rejected }.encode_to_vec();
    let mut head = Response::builder();
    let mut frames = Vec::new();
    match (protocol, answer) {
        (_, Answer::Status(status)) => head = head.status(status),
        (_, Answer::Grpc(code)) => head = head.header("grpc-status", code).header("grpc-message", "not today"),
        (CollectorProtocol::HttpProtobuf, _) => frames.push(Frame::data(message.into())),
        (CollectorProtocol::Grpc, _) => {
            let length = u32::try_from(message.len()).unwrap().to_be_bytes();
            frames.push(Frame::data([&[0], &length[..], &message].concat().into()));
            frames.push(Frame::trailers(HeaderMap::from_iter([(HeaderName::from_static("grpc-status"), HeaderValue::from(0))])));
        }
    }
    let body = StreamBody::new(futures_util::stream::iter(frames.into_iter().map(Ok)));
    head.body(body.boxed()).unwrap()
}

/// Attributes as text, in their order.
pub(crate) fn attributes(attributes: &[KeyValue]) -> Vec<(&str, String)> {
    let text = |value: &Value| match value {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        Value::ArrayValue(array) => array.values.iter().map(|value| format!("[{:?}]", value.value.as_ref().unwrap())).collect::<String>(),
        other => panic!("{other:?}"),
    };
    let value = |attribute: &KeyValue| text(attribute.value.as_ref().unwrap().value.as_ref().unwrap());
    attributes.iter().map(|attribute| (attribute.key.as_str(), value(attribute))).collect()
}

/// One attribute of a span.
pub(crate) fn attribute(span: &Span, name: &str) -> Option<String> {
    attributes(&span.attributes).into_iter().find(|(key, _)| *key == name).map(|(_, value)| value)
}

/// The span of a request, and those of its attempts.
pub(crate) fn split(spans: Vec<Span>) -> (Span, Vec<Span>) {
    let (mut servers, clients): (Vec<_>, Vec<_>) = spans.into_iter().partition(|span| span.kind == SpanKind::Server as i32);
    assert_eq!(servers.len(), 1, "{servers:#?}");
    (servers.remove(0), clients)
}
