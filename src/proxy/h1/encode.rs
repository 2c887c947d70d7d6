//! A request head as bytes, encoded straight from the header map.

use http::{HeaderMap, HeaderName, Method, header};

/// How the request body is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RequestFraming {
    /// No body.
    None,
    /// `content-length`.
    Length(u64),
    /// `transfer-encoding: chunked`.
    Chunked,
}

/// Headers that are never copied: they speak of the client's connection, or are written anew.
fn is_dropped(name: &HeaderName) -> bool {
    matches!(
        *name,
        header::CONNECTION
            | header::CONTENT_LENGTH
            | header::EXPECT
            | header::HOST
            | header::TE
            | header::TRANSFER_ENCODING
            | header::UPGRADE
            | header::PROXY_AUTHENTICATE
    ) || matches!(name.as_str(), "keep-alive" | "proxy-connection" | "http2-settings")
}

/// Appends a request head to `out`.
///
/// Hop-by-hop headers are left out while encoding, as are those that `named` says the Connection header named; `te: trailers` is kept.
/// `upgrade` asks for a switch of protocol. Header values cannot hold CR or LF (`HeaderValue`), the path comes from a parsed `Uri`.
pub(crate) fn encode_head(
    out: &mut Vec<u8>,
    method: &Method,
    path: &str,
    headers: &HeaderMap,
    framing: RequestFraming,
    upgrade: Option<&[u8]>,
    named: impl Fn(&HeaderName) -> bool,
) {
    out.extend_from_slice(method.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(path.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\nhost: ");
    if let Some(host) = headers.get(header::HOST) {
        out.extend_from_slice(host.as_bytes());
    }
    out.extend_from_slice(b"\r\n");
    for (name, value) in headers {
        if !is_dropped(name) && !named(name) {
            line(out, name.as_str().as_bytes(), value.as_bytes());
        }
    }
    if headers.get(header::TE).is_some_and(|te| te.as_bytes().eq_ignore_ascii_case(b"trailers")) {
        out.extend_from_slice(b"te: trailers\r\n");
    }
    match framing {
        RequestFraming::None => {}
        RequestFraming::Length(length) => line(out, b"content-length", itoa::Buffer::new().format(length).as_bytes()),
        RequestFraming::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
    }
    if let Some(protocol) = upgrade {
        line(out, b"upgrade", protocol);
        out.extend_from_slice(b"connection: upgrade\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

fn line(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}
