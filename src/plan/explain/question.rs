//! Reading what is asked.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use http::{HeaderName, HeaderValue, Method, Uri, header::HOST, uri::PathAndQuery};
use serde::{Deserialize, Serialize};

use crate::base::head::request;
use crate::base::text::quoted;
use crate::snapshot::{Transport, TransportPort};

/// A request to explain: one object of `POST /explain` and of `clingfish explain --requests`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExplainRequest {
    /// Method; GET if absent.
    #[serde(default)]
    pub method: Option<String>,
    /// URL: its port picks the listener, its host is the Host header. `tcp://HOST:PORT`, `udp://HOST:PORT` and `tls://NAME:PORT` ask what becomes of
    /// a connection or a flow; of these only `tls` has a name that counts, that of the ClientHello.
    pub url: String,
    /// Header names and values; a `host` wins over the URL's.
    #[serde(default)]
    pub headers: Vec<(String, String)>,
    /// The client's `IP` or `IP:PORT`; 127.0.0.1 if absent.
    #[serde(default)]
    pub source: Option<String>,
    /// `NAMESPACE/NAME` of the Gateway, where several have the port.
    #[serde(default)]
    pub gateway: Option<String>,
    /// `IP:PORT` of the accepted connection, which generated cookies depend on.
    #[serde(default)]
    pub local: Option<String>,
}

/// The same, read.
pub(super) struct Question<'r> {
    pub(super) parts: request::Parts,
    /// The URL's host, unless it is an address, which no client asks for by SNI.
    pub(super) server_name: Option<String>,
    pub(super) port: TransportPort,
    /// It is a connection or a flow that is asked about, and no request.
    pub(super) stream: Option<Stream>,
    pub(super) source: SocketAddr,
    pub(super) source_has_port: bool,
    pub(super) source_is_assumed: bool,
    pub(super) gateway: Option<&'r str>,
    pub(super) local: Option<SocketAddr>,
}

/// What is asked about beside requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stream {
    /// A connection without a server name, or a flow of datagrams.
    Plain,
    /// A connection with the server name of the URL.
    Tls,
}

impl<'r> Question<'r> {
    /// Errors are sentences that name the key and what was expected.
    pub(super) fn read(request: &'r ExplainRequest) -> Result<Self, String> {
        let (uri, port, stream) = read_url(&request.url)?;
        let (source, source_has_port) = read_source(request.source.as_deref())?;
        let local = request
            .local
            .as_deref()
            .map(|local| local.parse().map_err(|_invalid| format!("\"local\": expected IP:PORT, not {local}", local = quoted(local))));
        Ok(Self {
            parts: read_parts(request, &uri)?,
            stream,
            server_name: server_name(&uri),
            port,
            source,
            source_has_port,
            source_is_assumed: request.source.is_none(),
            gateway: request.gateway.as_deref(),
            local: local.transpose()?,
        })
    }
}

fn read_url(text: &str) -> Result<(Uri, TransportPort, Option<Stream>), String> {
    let expected = || {
        let text = quoted(text);
        format!("\"url\": expected http://HOST[:PORT]/PATH, or tcp://HOST:PORT, udp://HOST:PORT or tls://NAME:PORT, not {text}")
    };
    let uri: Uri = match text.contains("://") {
        true => text.parse(),
        false => format!("http://{text}").parse(),
    }
    .map_err(|error| format!("{}: {error}", expected()))?;
    let (default_port, transport, stream) = match uri.scheme_str() {
        Some("http") => (Some(80), Transport::Tcp, None),
        Some("https") => (Some(443), Transport::Tcp, None),
        Some("tcp") => (None, Transport::Tcp, Some(Stream::Plain)),
        Some("udp") => (None, Transport::Udp, Some(Stream::Plain)),
        Some("tls") => (Some(443), Transport::Tcp, Some(Stream::Tls)),
        _ => return Err(expected()),
    };
    let authority = uri.authority().ok_or_else(expected)?;
    let number = authority.port_u16().or(default_port).ok_or_else(expected)?;
    Ok((uri, TransportPort { number, transport }, stream))
}

fn server_name(uri: &Uri) -> Option<String> {
    let host = uri.host().filter(|host| !host.starts_with('[') && host.parse::<IpAddr>().is_err())?;
    Some(host.trim_end_matches('.').to_ascii_lowercase())
}

fn read_source(source: Option<&str>) -> Result<(SocketAddr, bool), String> {
    let Some(source) = source else { return Ok((SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), false)) };
    if let Ok(address) = source.parse::<SocketAddr>() {
        return Ok((address, true));
    }
    let ip: IpAddr =
        source.parse().map_err(|_invalid| format!("\"source\": expected IP or IP:PORT, not {source}", source = quoted(source)))?;
    Ok((SocketAddr::from((ip, 0)), false))
}

fn read_parts(request: &ExplainRequest, uri: &Uri) -> Result<request::Parts, String> {
    let mut parts = request::Parts::default();
    if let Some(method) = &request.method {
        parts.method = Method::from_bytes(method.as_bytes())
            .map_err(|_invalid| format!("\"method\": {method} is no method", method = quoted(method)))?;
    }
    let target = uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    // `http://host?query` has no slash of its own.
    parts.uri = match target.as_str().starts_with('/') {
        true => Uri::from(target),
        false => format!("/{}", target.as_str()).parse().map_err(|error| format!("\"url\": {error}"))?,
    };
    for (name, value) in &request.headers {
        let header: HeaderName = name.parse().map_err(|_invalid| format!("\"headers\": {name} is no header name", name = quoted(name)))?;
        let value = HeaderValue::from_bytes(value.trim_matches([' ', '\t']).as_bytes())
            .map_err(|_invalid| format!("\"headers\": the value of {name} has a control character", name = quoted(name)))?;
        parts.headers.append(header, value);
    }
    if !parts.headers.contains_key(HOST) {
        let host = uri.authority().map(http::uri::Authority::as_str).unwrap_or_default();
        parts.headers.insert(HOST, HeaderValue::from_str(host).map_err(|_invalid| "\"url\": the host is no valid Host header".to_owned())?);
    }
    Ok(parts)
}
