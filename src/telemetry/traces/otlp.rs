//! Recorded requests as OTLP has them. Names are those of OpenTelemetry's semantic conventions for HTTP spans, version 1.29; what these do not
//! know begins with `clingfish.`.

use std::{
    net::IpAddr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{AnyValue, ArrayValue, InstrumentationScope, KeyValue, any_value::Value},
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span, Status, span::SpanKind, status::StatusCode},
};
use prost::Message as _;

use super::{
    super::{
        ResponseFlag,
        access_log::{AccessRecord, Excerpt},
        request_trace::{AttemptTrace, RequestTrace},
    },
    queue::Recorded,
};

/// Bits of `Span.flags` beside the trace flags: whether the parent is another process's is known, and is so.
const PARENT_IS_KNOWN: u32 = 1 << 8;
const PARENT_IS_REMOTE: u32 = 1 << 9;

/// Methods that the conventions know; others are `_OTHER`.
const METHODS: [&str; 9] = ["CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"];

/// Parameters of a query whose values are credentials (conventions, `url.query`).
const CREDENTIALS: [&str; 4] = ["AWSAccessKeyId", "Signature", "sig", "X-Goog-Signature"];

/// Writes batches.
pub(super) struct Encoder {
    resource: Resource,
    scope: InstrumentationScope,
}

/// Attributes of a span.
#[derive(Default)]
struct Attributes(Vec<KeyValue>);

// === impl Encoder ===

impl Encoder {
    pub(super) fn new(resource: &[(&'static str, String)]) -> Self {
        let mut attributes = Attributes::default();
        resource.iter().for_each(|(name, value)| attributes.text(name, value));
        let scope = InstrumentationScope { name: "clingfish".into(), version: env!("CARGO_PKG_VERSION").into(), ..Default::default() };
        Self { resource: Resource { attributes: attributes.0, ..Default::default() }, scope }
    }

    /// An `ExportTraceServiceRequest`.
    pub(super) fn encode(&self, batch: &[Box<Recorded>]) -> Vec<u8> {
        let spans = batch.iter().flat_map(|recorded| spans(&recorded.record, &recorded.trace)).collect();
        let scope_spans = vec![ScopeSpans { scope: Some(self.scope.clone()), spans, ..Default::default() }];
        let resource_spans = vec![ResourceSpans { resource: Some(self.resource.clone()), scope_spans, ..Default::default() }];
        ExportTraceServiceRequest { resource_spans }.encode_to_vec()
    }
}

/// The span of a request, then those of its attempts.
pub(super) fn spans(record: &AccessRecord, trace: &RequestTrace) -> Vec<Span> {
    let attempts = trace.attempts.iter().enumerate().map(|(index, attempt)| client_span(record, trace, index, attempt));
    std::iter::once(server_span(record, trace)).chain(attempts).collect()
}

fn server_span(record: &AccessRecord, trace: &RequestTrace) -> Span {
    let mut attributes = Attributes::default();
    attributes.request(record, trace);
    attributes.connection(record);
    attributes.decision(record, trace);
    let failure = match (record.status, record.flag) {
        (status @ 500.., _) => Some(status.to_string()),
        (_, flag) if broke_off(flag) => Some(flag.as_str().to_owned()),
        _ => None,
    };
    attributes.status((record.status > 0).then_some(record.status), failure.as_deref());
    let flags = PARENT_IS_KNOWN | if trace.context.parent.is_some() { PARENT_IS_REMOTE } else { 0 };
    let method = span_name(record);
    let name = trace.route.as_ref().map_or_else(|| method.to_owned(), |route| format!("{method} {route}"));
    Span {
        name,
        span_id: trace.context.span.bytes().to_vec(),
        parent_span_id: trace.context.parent.map(|parent| parent.bytes().to_vec()).unwrap_or_default(),
        flags: flags | u32::from(trace.context.sent.flags()),
        kind: SpanKind::Server.into(),
        ..span(record, trace, [Duration::ZERO, record.duration], attributes, failure.map(|_| record.reason.unwrap_or_default()))
    }
}

fn client_span(record: &AccessRecord, trace: &RequestTrace, index: usize, attempt: &AttemptTrace) -> Span {
    let mut attributes = Attributes::default();
    attributes.method(record);
    let (address, port) = host_and_port(&attempt.host);
    attributes.text("server.address", address);
    attributes.port("server.port", port);
    attributes.text("network.peer.address", address);
    attributes.port("network.peer.port", port);
    if let Some(path) = &record.path {
        attributes.text("url.full", &format!("http://{}{}", attempt.host, without_credentials(path.as_str())));
    }
    if index > 0 {
        attributes.number("http.request.resend_count", index as i64);
    }
    if let Some(pod) = &attempt.pod {
        attributes.text("clingfish.pod", &pod.to_string());
    }
    let (ended, status, failure) = match &attempt.end {
        Some(end) => (end.at, end.status, end.failure),
        None => (record.duration, (record.status > 0).then_some(record.status), broke_off(record.flag).then(|| record.flag.as_str())),
    };
    let of_status = status.filter(|status| *status >= 400).map(|status| status.to_string());
    let failure = failure.map(str::to_owned).or(of_status);
    attributes.status(status, failure.as_deref());
    Span {
        span_id: attempt.span.bytes().to_vec(),
        parent_span_id: trace.context.span.bytes().to_vec(),
        flags: PARENT_IS_KNOWN | u32::from(trace.context.sent.flags()),
        kind: SpanKind::Client.into(),
        ..span(record, trace, [attempt.begun, ended], attributes, failure.as_deref())
    }
}

/// What all spans have. `error`: what went wrong, if anything did.
fn span(record: &AccessRecord, trace: &RequestTrace, times: [Duration; 2], attributes: Attributes, error: Option<&str>) -> Span {
    let [start, end] = times.map(|offset| nanoseconds(record.time + offset));
    let status = error.map(|why| Status { code: StatusCode::Error.into(), message: why.to_owned() });
    Span {
        trace_id: trace.context.sent.trace.bytes().to_vec(),
        trace_state: trace.context.state.as_deref().unwrap_or_default().to_owned(),
        name: span_name(record).to_owned(),
        start_time_unix_nano: start,
        end_time_unix_nano: end,
        attributes: attributes.0,
        status,
        ..Default::default()
    }
}

/// Whether the answer did not reach the client whole.
fn broke_off(flag: ResponseFlag) -> bool {
    match flag {
        ResponseFlag::UpstreamConnectionTermination
        | ResponseFlag::UpstreamRemoteReset
        | ResponseFlag::UpstreamRequestTimeout
        | ResponseFlag::DownstreamConnectionTermination
        | ResponseFlag::DownstreamRemoteReset
        | ResponseFlag::StreamIdleTimeout
        | ResponseFlag::DurationTimeout => true,
        ResponseFlag::None
        | ResponseFlag::NoRoute
        | ResponseFlag::NoCluster
        | ResponseFlag::NoHealthyUpstream
        | ResponseFlag::UpstreamConnectionFailure
        | ResponseFlag::UpstreamProtocolError
        | ResponseFlag::UpstreamOverflow
        | ResponseFlag::UpstreamRetryLimitExceeded
        | ResponseFlag::DownstreamProtocolError
        | ResponseFlag::Overload => false,
    }
}

fn known_method(record: &AccessRecord) -> Option<&str> {
    record.method.as_deref().filter(|method| METHODS.contains(method))
}

/// Name of a span of which only the method is known.
fn span_name(record: &AccessRecord) -> &str {
    known_method(record).unwrap_or("HTTP")
}

fn nanoseconds(time: SystemTime) -> u64 {
    u64::try_from(time.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos()).unwrap_or(u64::MAX)
}

/// `host:port`, `[v6]:port` or a host alone.
fn host_and_port(authority: &str) -> (&str, Option<u16>) {
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, port.parse().ok()),
        _ => (authority, None),
    };
    (host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host), port)
}

/// A path or a query without the values of credentials.
fn without_credentials(path: &str) -> String {
    let Some((path, query)) = path.split_once('?') else { return path.to_owned() };
    format!("{path}?{}", redacted(query))
}

fn redacted(query: &str) -> String {
    let parts = query.split('&').map(|part| match part.split_once('=') {
        Some((name, _)) if CREDENTIALS.contains(&name) => format!("{name}=REDACTED"),
        Some(_) | None => part.to_owned(),
    });
    parts.collect::<Vec<_>>().join("&")
}

// === impl Attributes ===

impl Attributes {
    /// What the client asked for.
    fn request(&mut self, record: &AccessRecord, trace: &RequestTrace) {
        self.method(record);
        self.text("url.scheme", trace.scheme);
        if let Some(path) = record.path.as_ref().map(Excerpt::as_str) {
            let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
            self.text("url.path", path);
            if let Some(query) = query {
                self.text("url.query", &redacted(query));
            }
        }
        if let Some(authority) = &record.authority {
            let (host, port) = host_and_port(authority.as_str());
            self.text("server.address", host);
            self.port("server.port", port.or_else(|| Some(if trace.scheme == "https" { 443 } else { 80 })));
        }
        if let Some(agent) = &record.user_agent {
            self.text("user_agent.original", agent.as_str());
        }
        if let Some(id) = &record.request_id {
            self.list("http.request.header.x-request-id", id.as_str());
        }
        self.number("http.request.body.size", record.bytes_received as i64);
        self.number("http.response.body.size", record.bytes_sent as i64);
    }

    fn method(&mut self, record: &AccessRecord) {
        match (known_method(record), record.method.as_deref()) {
            (Some(method), _) => self.text("http.request.method", method),
            (None, method) => {
                self.text("http.request.method", "_OTHER");
                self.text("http.request.method_original", method.unwrap_or_default());
            }
        }
    }

    fn connection(&mut self, record: &AccessRecord) {
        let peer = record.downstream.peer;
        let client: IpAddr = record.client.unwrap_or_else(|| peer.ip().to_canonical());
        self.text("client.address", &client.to_string());
        self.text("network.peer.address", &peer.ip().to_canonical().to_string());
        self.port("network.peer.port", Some(peer.port()));
        if let Some(protocol) = record.protocol.and_then(|protocol| protocol.strip_prefix("HTTP/")) {
            self.text("network.protocol.version", protocol);
        }
        if let Some(version) = record.downstream.tls.as_ref().and_then(|tls| tls.version.strip_prefix("TLSv")) {
            self.text("tls.protocol.name", "tls");
            self.text("tls.protocol.version", version);
        }
    }

    /// What the gateway made of it.
    fn decision(&mut self, record: &AccessRecord, trace: &RequestTrace) {
        if let Some(gateway) = &record.gateway {
            self.text("clingfish.gateway", &gateway.to_string());
        }
        if let Some(listener) = &record.listener {
            self.text("clingfish.listener", listener);
        }
        if let Some(route) = &record.route {
            self.text("clingfish.route", &route.to_string());
        }
        if let Some(route) = &trace.route {
            self.text("http.route", route);
        }
        if let Some(rule) = record.rule {
            self.number("clingfish.rule", rule.into());
        }
        if let Some(backend) = &record.upstream_cluster {
            self.text("clingfish.backend", &backend.to_string());
        }
        if let Some(host) = &record.upstream_host {
            self.text("clingfish.upstream_host", host);
        }
        if let Some(pod) = trace.attempts.last().and_then(|attempt| attempt.pod.as_ref()) {
            self.text("clingfish.pod", &pod.to_string());
        }
        self.number("clingfish.attempts", record.attempts.into());
        self.text("clingfish.key_source", if record.key_source == "-" { "none" } else { record.key_source });
        if let Some(hash) = record.hash {
            self.text("clingfish.hash", &format!("{hash:016x}"));
        }
        if trace.generation > 0 {
            self.number("clingfish.generation", i64::try_from(trace.generation).unwrap_or(i64::MAX));
        }
        if record.flag != ResponseFlag::None {
            self.text("clingfish.response_flag", record.flag.as_str());
        }
        if let Some(reason) = record.reason {
            self.text("clingfish.reason", reason);
        }
    }

    fn status(&mut self, status: Option<u16>, failure: Option<&str>) {
        if let Some(status) = status {
            self.number("http.response.status_code", status.into());
        }
        if let Some(failure) = failure {
            self.text("error.type", failure);
        }
    }

    fn text(&mut self, name: &str, value: &str) {
        self.push(name, Value::StringValue(value.to_owned()));
    }

    fn number(&mut self, name: &str, value: i64) {
        self.push(name, Value::IntValue(value));
    }

    fn port(&mut self, name: &str, port: Option<u16>) {
        if let Some(port) = port {
            self.number(name, port.into());
        }
    }

    fn list(&mut self, name: &str, only: &str) {
        let only = AnyValue { value: Some(Value::StringValue(only.to_owned())) };
        self.push(name, Value::ArrayValue(ArrayValue { values: vec![only] }));
    }

    fn push(&mut self, name: &str, value: Value) {
        self.0.push(KeyValue { key: name.to_owned(), value: Some(AnyValue { value: Some(value) }), ..Default::default() });
    }
}
