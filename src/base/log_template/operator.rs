//! The operators, and how each is written.

use http::HeaderName;

use super::{
    fields::{Fields, RequestField, ResponseField, index_of},
    time::TimeFormat,
    written::Written,
};

/// What is written in the place of an operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operator {
    /// `START_TIME`: when the request's head arrived.
    StartTime(TimeFormat),
    /// `REQ(X?Y):Z`: a header of the request as it is forwarded.
    Request(FieldChoice),
    /// `RESP(X?Y):Z`: a header of the response as it is sent.
    Response(FieldChoice),
    /// An address of the client's connection, or a part of one.
    Downstream(AddressOf, AddressPart),
    /// `PROTOCOL`.
    Protocol,
    /// `RESPONSE_CODE`; 0 where no response was begun.
    ResponseCode,
    /// `RESPONSE_CODE_DETAILS`: why the gateway answered by itself, else `via_upstream`.
    ResponseCodeDetails,
    /// `RESPONSE_FLAGS`.
    ResponseFlags,
    /// `BYTES_RECEIVED`, of the request's body.
    BytesReceived,
    /// `BYTES_SENT`, of the response's body.
    BytesSent,
    /// `DURATION`: milliseconds to the end of the response.
    Duration,
    /// `RESPONSE_DURATION`: milliseconds to the head of the host's response.
    ResponseDuration,
    /// `RESPONSE_TX_DURATION`: milliseconds from there to the end of the response.
    ResponseTxDuration,
    /// `UPSTREAM_REQUEST_ATTEMPT_COUNT`.
    UpstreamRequestAttemptCount,
    /// `UPSTREAM_HOST`.
    UpstreamHost,
    /// `UPSTREAM_PROTOCOL`: what is spoken to the host.
    UpstreamProtocol,
    /// `UPSTREAM_CLUSTER`: the backend that was drawn.
    UpstreamCluster,
    /// `ROUTE_NAME`: the route that matched.
    RouteName,
    /// `REQUESTED_SERVER_NAME`: the name in the TLS handshake.
    RequestedServerName,
    /// `DOWNSTREAM_TLS_VERSION`.
    DownstreamTlsVersion,
    /// `TRACE_ID`: the trace that the host sees the request in.
    TraceId,
    /// `CLINGFISH(GATEWAY)`.
    Gateway,
    /// `CLINGFISH(LISTENER)`.
    Listener,
    /// `CLINGFISH(RULE)`.
    Rule,
    /// `CLINGFISH(HASH)`.
    Hash,
    /// `CLINGFISH(KEY_SOURCE)`.
    KeySource,
}

/// Whose address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressOf {
    /// The client's, as hash policies see it; with the peer's port if it is the peer, else with port 0.
    Remote,
    /// The connection's peer.
    DirectRemote,
    /// The address the peer connected to.
    Local,
}

/// Which part of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressPart {
    /// Address and port.
    Whole,
    /// The address.
    WithoutPort,
    /// The port.
    Port,
}

/// A header, or another one where it is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldChoice {
    /// Index of the field.
    pub main: usize,
    /// Index of the field that stands in for it.
    pub alternative: Option<usize>,
    /// Most bytes that are written.
    pub length: Option<usize>,
}

/// Operators that are written without anything in parentheses.
static PLAIN: [(&str, Operator); 27] = [
    ("PROTOCOL", Operator::Protocol),
    ("RESPONSE_CODE", Operator::ResponseCode),
    ("RESPONSE_CODE_DETAILS", Operator::ResponseCodeDetails),
    ("RESPONSE_FLAGS", Operator::ResponseFlags),
    ("BYTES_RECEIVED", Operator::BytesReceived),
    ("BYTES_SENT", Operator::BytesSent),
    ("DURATION", Operator::Duration),
    ("RESPONSE_DURATION", Operator::ResponseDuration),
    ("RESPONSE_TX_DURATION", Operator::ResponseTxDuration),
    ("UPSTREAM_REQUEST_ATTEMPT_COUNT", Operator::UpstreamRequestAttemptCount),
    ("UPSTREAM_HOST", Operator::UpstreamHost),
    ("UPSTREAM_REMOTE_ADDRESS", Operator::UpstreamHost),
    ("UPSTREAM_PROTOCOL", Operator::UpstreamProtocol),
    ("UPSTREAM_CLUSTER", Operator::UpstreamCluster),
    ("ROUTE_NAME", Operator::RouteName),
    ("DOWNSTREAM_REMOTE_ADDRESS", Operator::Downstream(AddressOf::Remote, AddressPart::Whole)),
    ("DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", Operator::Downstream(AddressOf::Remote, AddressPart::WithoutPort)),
    ("DOWNSTREAM_REMOTE_PORT", Operator::Downstream(AddressOf::Remote, AddressPart::Port)),
    ("DOWNSTREAM_DIRECT_REMOTE_ADDRESS", Operator::Downstream(AddressOf::DirectRemote, AddressPart::Whole)),
    ("DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT", Operator::Downstream(AddressOf::DirectRemote, AddressPart::WithoutPort)),
    ("DOWNSTREAM_DIRECT_REMOTE_PORT", Operator::Downstream(AddressOf::DirectRemote, AddressPart::Port)),
    ("DOWNSTREAM_LOCAL_ADDRESS", Operator::Downstream(AddressOf::Local, AddressPart::Whole)),
    ("DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT", Operator::Downstream(AddressOf::Local, AddressPart::WithoutPort)),
    ("DOWNSTREAM_LOCAL_PORT", Operator::Downstream(AddressOf::Local, AddressPart::Port)),
    ("REQUESTED_SERVER_NAME", Operator::RequestedServerName),
    ("DOWNSTREAM_TLS_VERSION", Operator::DownstreamTlsVersion),
    ("TRACE_ID", Operator::TraceId),
];

/// What `CLINGFISH(...)` may have in parentheses.
static OWN: [(&str, Operator); 5] = [
    ("GATEWAY", Operator::Gateway),
    ("LISTENER", Operator::Listener),
    ("RULE", Operator::Rule),
    ("HASH", Operator::Hash),
    ("KEY_SOURCE", Operator::KeySource),
];

/// Headers whose values never reach a log, since everyone who has them can act as the client.
const SECRET: [&str; 4] = ["authorization", "cookie", "proxy-authorization", "set-cookie"];

/// The operator that was written; the headers that it names are kept for the template.
pub(super) fn parse(written: Written<'_>, fields: &mut Fields) -> Result<Operator, String> {
    match written.name {
        "START_TIME" => {
            no_length(written)?;
            Ok(Operator::StartTime(written.argument.map_or(Ok(TimeFormat::Milliseconds), TimeFormat::parse)?))
        }
        "REQ" | "REQUEST_HEADER" => {
            let fields = &mut fields.request;
            choice(written, |name| Ok(index_of(fields, request_field(name)?))).map(Operator::Request)
        }
        "RESP" | "RESPONSE_HEADER" => {
            let fields = &mut fields.response;
            choice(written, |name| Ok(index_of(fields, response_field(name)?))).map(Operator::Response)
        }
        "CLINGFISH" => {
            no_length(written)?;
            let expected = || format!("expected one of {} in parentheses", names(&OWN));
            find(&OWN, written.argument.unwrap_or_default()).ok_or_else(expected)
        }
        name => {
            let known = || names(&PLAIN);
            let unknown = || format!("no operator of this log; expected START_TIME, REQ(), RESP(), CLINGFISH(), {}", known());
            let operator = find(&PLAIN, name).ok_or_else(unknown)?;
            if written.argument.is_some() {
                return Err("expected nothing in parentheses".to_owned());
            }
            no_length(written)?;
            Ok(operator)
        }
    }
}

fn find(table: &[(&str, Operator)], name: &str) -> Option<Operator> {
    table.iter().find(|(known, _)| *known == name).map(|(_, operator)| operator.clone())
}

fn names(table: &[(&str, Operator)]) -> String {
    table.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

fn no_length(written: Written<'_>) -> Result<(), String> {
    if written.length.is_some() { Err("expected no length; only REQ() and RESP() have one".to_owned()) } else { Ok(()) }
}

/// `(X?Y):Z`.
fn choice(written: Written<'_>, mut index: impl FnMut(&str) -> Result<usize, String>) -> Result<FieldChoice, String> {
    let argument = written.argument.filter(|argument| !argument.is_empty()).ok_or("expected the name of a header in parentheses")?;
    let (main, alternative) = argument.split_once('?').map_or((argument, None), |(main, other)| (main, Some(other)));
    let length = match written.length {
        None => None,
        Some(digits) => Some(digits.parse().map_err(|_| format!("the length is {digits:?}; expected a number of bytes"))?),
    };
    Ok(FieldChoice { main: index(main)?, alternative: alternative.map(index).transpose()?, length })
}

fn request_field(name: &str) -> Result<RequestField, String> {
    Ok(match name.to_ascii_lowercase().as_str() {
        ":method" => RequestField::Method,
        ":path" => RequestField::Path,
        ":authority" => RequestField::Authority,
        ":scheme" => RequestField::Scheme,
        "x-envoy-original-path" => RequestField::OriginalPath,
        other => RequestField::Header(header(other)?),
    })
}

fn response_field(name: &str) -> Result<ResponseField, String> {
    Ok(match name.to_ascii_lowercase().as_str() {
        ":status" => ResponseField::Status,
        other => ResponseField::Header(header(other)?),
    })
}

fn header(name: &str) -> Result<HeaderName, String> {
    if SECRET.contains(&name) {
        return Err(format!("{name} is never logged, since its value lets others be the client; expected another header"));
    }
    HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("{name:?} is no name of a header"))
}
