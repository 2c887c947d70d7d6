//! Response heads (RFC 9112 section 4).

use http::{HeaderValue, StatusCode, Version, header};

use crate::base::head::response;
use crate::proxy::wire::{date, fields::field_line};

/// How the body of a response is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ResponseFraming {
    /// No body; whatever `content-length` the headers have describes another answer (to GET, or the one that is still good).
    None,
    /// `content-length`.
    Length(u64),
    /// `transfer-encoding: chunked`.
    Chunked,
    /// The end of the connection.
    UntilClose,
}

/// What the head says of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConnectionWord {
    /// Nothing: it stays open, as HTTP/1.1 has it.
    None,
    /// It ends after this response.
    Close,
    /// It stays open, which HTTP/1.0 has to be told.
    KeepAlive,
    /// It becomes a WebSocket.
    WebSocket,
}

/// How a response to this request is delimited, and whether the connection has to end for it.
pub(super) fn framing(is_head: bool, version: Version, status: StatusCode, length: Option<u64>) -> ResponseFraming {
    let bodyless = is_head || status.is_informational() || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    match length {
        _ if bodyless => ResponseFraming::None,
        Some(length) => ResponseFraming::Length(length),
        None if version == Version::HTTP_11 => ResponseFraming::Chunked,
        None => ResponseFraming::UntilClose,
    }
}

/// Headers that are written anew, or never: framing and the connection are not a header's business.
fn is_own(name: &[u8]) -> bool {
    matches!(name, b"content-length" | b"transfer-encoding" | b"connection" | b"upgrade" | b"keep-alive" | b"proxy-connection")
}

/// Appends a response head. `date`: the value of `date`, where the response has none and wants one.
pub(super) fn encode_head(
    out: &mut Vec<u8>,
    version: Version,
    parts: &response::Parts,
    framing: ResponseFraming,
    word: ConnectionWord,
    date: Option<&HeaderValue>,
) {
    status_line(out, version, parts.status);
    parts.headers.write_to(out, is_own);
    if let Some(date) = date.filter(|_| date::is_wanted(parts)) {
        field_line(out, b"date", date.as_bytes());
    }
    match framing {
        ResponseFraming::None if parts.status.is_informational() || parts.status == StatusCode::NO_CONTENT => {}
        ResponseFraming::None => {
            if let Some(length) = parts.headers.get(header::CONTENT_LENGTH) {
                field_line(out, b"content-length", length.as_bytes());
            }
        }
        ResponseFraming::Length(length) => field_line(out, b"content-length", itoa::Buffer::new().format(length).as_bytes()),
        ResponseFraming::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        ResponseFraming::UntilClose => {}
    }
    out.extend_from_slice(match word {
        ConnectionWord::None => b"",
        ConnectionWord::Close => b"connection: close\r\n",
        ConnectionWord::KeepAlive => b"connection: keep-alive\r\n",
        ConnectionWord::WebSocket => b"connection: Upgrade\r\nupgrade: websocket\r\n",
    });
    out.extend_from_slice(b"\r\n");
}

fn status_line(out: &mut Vec<u8>, version: Version, status: StatusCode) {
    if status == StatusCode::OK && version == Version::HTTP_11 {
        out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
        return;
    }
    out.extend_from_slice(if version == Version::HTTP_11 { b"HTTP/1.1 " } else { b"HTTP/1.0 " });
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
}
