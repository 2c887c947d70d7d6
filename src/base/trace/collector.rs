//! Where spans go.

use std::path::PathBuf;

use http::{HeaderName, HeaderValue, Uri, uri::PathAndQuery};

use super::Sampler;

/// How spans are handed to a collector, in the words of OpenTelemetry (`OTEL_EXPORTER_OTLP_PROTOCOL`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CollectorProtocol {
    /// Protobuf in the body of an HTTP/1.1 request.
    #[default]
    HttpProtobuf,
    /// gRPC.
    Grpc,
}

/// The address of an OTLP receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CollectorEndpoint {
    /// `HOST:PORT`, as in the URL.
    pub authority: String,
    /// Name or address, without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Whether it is spoken to with TLS.
    pub is_tls: bool,
    /// Path of the requests.
    pub path: PathAndQuery,
    /// How requests are made.
    pub protocol: CollectorProtocol,
}

/// Whose signature under a collector's certificate is trusted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum CollectorRoots {
    /// That of the authorities which the system trusts.
    #[default]
    System,
    /// That of the certificates in this PEM file.
    File(PathBuf),
}

/// An address is no OTLP receiver's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CollectorError {
    /// The URL cannot be used.
    #[error(
        "{0:?} is no address of a collector; expected http://HOST:PORT or https://HOST:PORT, for example http://collector.observability:4318"
    )]
    Url(String),
    /// A user is named, perhaps with a password, so that the URL is not told.
    #[error("a user in the URL is not supported; expected a URL without one, and what the collector asks for in --tracing-headers")]
    User,
    /// A path is given, where gRPC has its own.
    #[error("with the protocol grpc a path is not used; expected http://HOST:PORT or https://HOST:PORT")]
    Path,
    /// A header cannot be sent. Its value is a secret, and is not told.
    #[error("header {0} cannot be used; expected NAME=VALUE, several separated by commas, in visible ASCII")]
    Header(usize),
}

/// What tracing needs to know.
#[derive(Clone, Debug)]
pub struct TracingConfig {
    /// Where spans go.
    pub endpoint: CollectorEndpoint,
    /// Whom it is trusted by, where it is spoken to with TLS.
    pub roots: CollectorRoots,
    /// Headers of the requests to the collector, such as a token.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Which requests are recorded.
    pub sampler: Sampler,
    /// Attributes of the process that records, such as `service.name`.
    pub resource: Vec<(&'static str, String)>,
}

/// Path of the gRPC method (`trace_service.proto`).
const GRPC_PATH: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
/// Path of OTLP over HTTP where none is given (OTLP specification, "OTLP/HTTP Request").
const HTTP_PATH: &str = "/v1/traces";

// === impl CollectorEndpoint ===

impl CollectorEndpoint {
    /// Reads a URL. A missing port is the protocol's own: 4318, or 4317 for gRPC.
    ///
    /// # Errors
    /// It is no URL of a host.
    pub fn parse(url: &str, protocol: CollectorProtocol) -> Result<Self, CollectorError> {
        let wrong = || CollectorError::Url(url.chars().take(200).collect());
        if url.contains('@') {
            return Err(CollectorError::User);
        }
        let uri: Uri = url.parse().map_err(|_| wrong())?;
        let is_tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(wrong()),
        };
        let authority = uri.authority().ok_or_else(wrong)?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() || uri.port_u16() == Some(0) {
            return Err(wrong());
        }
        let given = uri.path_and_query().filter(|path| path.as_str() != "/");
        let (port, path) = match (protocol, given) {
            (CollectorProtocol::HttpProtobuf, Some(path)) => (4318, path.clone()),
            (CollectorProtocol::HttpProtobuf, None) => (4318, PathAndQuery::from_static(HTTP_PATH)),
            (CollectorProtocol::Grpc, None) => (4317, PathAndQuery::from_static(GRPC_PATH)),
            (CollectorProtocol::Grpc, Some(_)) => return Err(CollectorError::Path),
        };
        let port = uri.port_u16().unwrap_or(port);
        Ok(Self { authority: format!("{}:{port}", authority.host()), host, port, is_tls, path, protocol })
    }
}

/// Reads `NAME=VALUE,NAME=VALUE`.
///
/// # Errors
/// Something of it is no header; its position is told, not its text.
pub fn collector_headers(text: &str) -> Result<Vec<(HeaderName, HeaderValue)>, CollectorError> {
    let pairs = text.split(',').enumerate().filter(|(_, pair)| !pair.trim().is_empty());
    let headers = pairs.map(|(index, pair)| header(pair).ok_or(CollectorError::Header(index + 1)));
    headers.collect()
}

fn header(pair: &str) -> Option<(HeaderName, HeaderValue)> {
    let (name, value) = pair.split_once('=')?;
    let mut value = HeaderValue::from_str(value.trim()).ok()?;
    value.set_sensitive(true);
    Some((name.trim().parse().ok()?, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collector_is_an_http_url() {
        use CollectorProtocol::{Grpc, HttpProtobuf};
        for (url, protocol, authority, host, path) in [
            ("http://collector:4318", HttpProtobuf, "collector:4318", "collector", HTTP_PATH),
            ("http://collector", HttpProtobuf, "collector:4318", "collector", HTTP_PATH),
            ("http://[fd00::1]:99/", HttpProtobuf, "[fd00::1]:99", "fd00::1", HTTP_PATH),
            ("http://10.0.0.1:80/otlp/traces?a=b", HttpProtobuf, "10.0.0.1:80", "10.0.0.1", "/otlp/traces?a=b"),
            ("http://collector", Grpc, "collector:4317", "collector", GRPC_PATH),
            ("https://collector", HttpProtobuf, "collector:4318", "collector", HTTP_PATH),
            ("https://collector:443", Grpc, "collector:443", "collector", GRPC_PATH),
            ("http://collector:1/", Grpc, "collector:1", "collector", GRPC_PATH),
        ] {
            let endpoint = CollectorEndpoint::parse(url, protocol).unwrap_or_else(|error| panic!("{url}: {error}"));
            assert_eq!((&*endpoint.authority, &*endpoint.host, endpoint.path.as_str()), (authority, host, path), "{url}");
            assert!(endpoint.authority.ends_with(&endpoint.port.to_string()) && endpoint.is_tls == url.starts_with("https"));
        }
        for (url, protocol, expected) in [
            ("collector:4318", HttpProtobuf, CollectorError::Url("collector:4318".into())),
            ("", HttpProtobuf, CollectorError::Url(String::new())),
            ("http://", HttpProtobuf, CollectorError::Url("http://".into())),
            ("http://a:0", HttpProtobuf, CollectorError::Url("http://a:0".into())),
            ("http://u:p@a:1", HttpProtobuf, CollectorError::User),
            ("grpc://a:1", Grpc, CollectorError::Url("grpc://a:1".into())),
            ("grpcs://a:1", Grpc, CollectorError::Url("grpcs://a:1".into())),
            ("http://a:1/x", Grpc, CollectorError::Path),
        ] {
            assert_eq!(CollectorEndpoint::parse(url, protocol), Err(expected), "{url}");
        }
    }

    #[test]
    fn headers_are_pairs_and_never_told() {
        let headers = collector_headers("Authorization=Bearer a=b, x-scope = 1,").unwrap();
        assert_eq!(headers[0], (http::header::AUTHORIZATION, HeaderValue::from_static("Bearer a=b")));
        assert_eq!(headers[1].1, "1");
        assert!(!format!("{headers:?}").contains("Bearer"));
        assert_eq!(collector_headers(""), Ok(Vec::new()));
        for (text, at) in [("secret", 1), ("a=1,secret", 2), ("a=1,b c=secret", 2), ("a=x\nsecret", 1)] {
            assert_eq!(collector_headers(text), Err(CollectorError::Header(at)));
        }
        assert!(!collector_headers("secret").unwrap_err().to_string().contains("secret"));
    }
}
