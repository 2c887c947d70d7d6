//! A request head as bytes, encoded straight from the header map.

use http::{Method, header};

use crate::base::head::HeaderMap;
use crate::proxy::wire::fields::field_line;

/// How the request body is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) enum RequestFraming {
    /// No body.
    None,
    /// `content-length`.
    Length(u64),
    /// `transfer-encoding: chunked`.
    Chunked,
}

/// Headers that are written anew, or never: framing and the connection are not a header's business.
fn is_own(name: &[u8]) -> bool {
    matches!(name, b"host" | b"content-length" | b"transfer-encoding" | b"connection" | b"upgrade" | b"expect")
}

/// Appends a request head to `out`; hop-by-hop headers other than those of framing and upgrade are expected to be gone.
///
/// `upgrade` asks for a switch of protocol. Header values cannot hold CR or LF, the path comes from a parsed `Uri`.
pub(in crate::proxy) fn encode_head(
    out: &mut Vec<u8>,
    method: &Method,
    path: &str,
    headers: &HeaderMap,
    framing: RequestFraming,
    upgrade: Option<&[u8]>,
) {
    out.extend_from_slice(method.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(path.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\nhost: ");
    if let Some(host) = headers.get(header::HOST) {
        out.extend_from_slice(host.as_bytes());
    }
    out.extend_from_slice(b"\r\n");
    headers.write_to(out, is_own);
    match framing {
        RequestFraming::None => {}
        RequestFraming::Length(length) => field_line(out, b"content-length", itoa::Buffer::new().format(length).as_bytes()),
        RequestFraming::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
    }
    if let Some(protocol) = upgrade {
        field_line(out, b"upgrade", protocol);
        out.extend_from_slice(b"connection: Upgrade\r\n");
    }
    out.extend_from_slice(b"\r\n");
}
