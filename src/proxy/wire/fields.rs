//! Fields of HTTP/1.1 as bytes, and how many a message may have.

use http::{HeaderName, HeaderValue};

/// Most headers of a message, as Envoy's default.
pub(in crate::proxy) const MAX_HEADERS: usize = 100;

/// Appends a field (RFC 9112 section 5).
pub(in crate::proxy) fn field_line(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Appends what ends a chunked body: the last chunk and the trailers (RFC 9112 section 7.1).
pub(in crate::proxy) fn last_chunk<'a>(out: &mut Vec<u8>, trailers: impl IntoIterator<Item = (&'a HeaderName, &'a HeaderValue)>) {
    out.extend_from_slice(b"0\r\n");
    for (name, value) in trailers {
        field_line(out, name.as_str().as_bytes(), value.as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}
