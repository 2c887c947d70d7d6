//! Response heads.

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use crate::proxy::wire::{fields::MAX_HEADERS, spare};

use super::{ExchangeError, MAX_HEAD_BYTES};

/// A parsed response head, hop-by-hop headers left out.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) framing: Framing,
    /// The upstream keeps the connection open after this answer.
    pub(super) keep_alive: bool,
}

/// How the head says that its body is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    Length(u64),
    Chunked,
    UntilClose,
}

/// Whether an answer has neither a body nor a field that speaks of one (RFC 9110 section 8.6, RFC 9112 section 6.1). Envoy refuses those
/// that do (`source/common/http/http1/codec_impl.cc`), except for `content-length: 0`.
fn has_no_framing(status: StatusCode) -> bool {
    status.is_informational() || status == StatusCode::NO_CONTENT
}

/// The length of the head at the start of `bytes`, its empty line included; `None`: not complete yet.
pub(super) fn head_length(bytes: &[u8]) -> Result<Option<usize>, ExchangeError> {
    // Another protocol need not ever send an empty line.
    if bytes.iter().zip(b"HTTP/1.").any(|(byte, expected)| byte != expected) {
        return Err(ExchangeError::Invalid("it is not HTTP/1"));
    }
    for end in memchr::memchr_iter(b'\n', bytes) {
        let rest = bytes.get(end + 1..).unwrap_or_default();
        match rest {
            [b'\n', ..] => return Ok(Some(end + 2)),
            [b'\r', b'\n', ..] => return Ok(Some(end + 3)),
            _ => {}
        }
    }
    if bytes.len() > MAX_HEAD_BYTES { Err(ExchangeError::Invalid("the head is larger than 60 KiB")) } else { Ok(None) }
}

/// Parses a complete head.
pub(super) fn parse(head: &Bytes) -> Result<Head, ExchangeError> {
    let mut slots = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    match config.parse_response_with_uninit_headers(&mut response, head, &mut slots) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return Err(ExchangeError::Invalid("the head is cut off")),
        Err(httparse::Error::TooManyHeaders) => return Err(ExchangeError::Invalid("more than 100 headers")),
        Err(_) => return Err(ExchangeError::Invalid("the head cannot be parsed")),
    }
    let status = response
        .code
        .and_then(|code| StatusCode::from_u16(code).ok())
        .ok_or(ExchangeError::Invalid("the status is not between 100 and 999"))?;
    let http_1_1 = response.version == Some(1);
    let mut parsed = Connection::default();
    let mut headers = spare::headers();
    for field in response.headers.iter() {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| ExchangeError::Invalid("a header name is invalid"))?;
        if !parsed.take(&name, field.value, &headers)? {
            let value = HeaderValue::from_maybe_shared(head.slice_ref(field.value))
                .map_err(|_| ExchangeError::Invalid("a header value holds a control character"))?;
            headers.append(name, value);
        }
    }
    parsed.finish(status, headers, http_1_1)
}

/// What the headers say about connection and framing.
#[derive(Debug, Default)]
struct Connection {
    length: Option<u64>,
    chunked: bool,
    close: bool,
    keep_alive: bool,
    named: Vec<HeaderName>,
}

impl Connection {
    /// Reads a header that speaks of the connection; true if it must not be passed on.
    fn take(&mut self, name: &HeaderName, value: &[u8], headers: &HeaderMap) -> Result<bool, ExchangeError> {
        match *name {
            header::CONTENT_LENGTH => self.content_length(value, headers),
            header::TRANSFER_ENCODING => {
                if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(ExchangeError::Invalid("the transfer-encoding is not exactly `chunked`"));
                }
                self.chunked = true;
                Ok(true)
            }
            header::CONNECTION => {
                self.connection(value);
                Ok(true)
            }
            _ => Ok(matches!(name.as_str(), "keep-alive" | "proxy-connection" | "proxy-authenticate")),
        }
    }

    fn content_length(&mut self, value: &[u8], headers: &HeaderMap) -> Result<bool, ExchangeError> {
        let invalid = ExchangeError::Invalid("the content-length is no number, or differs from another one");
        if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
            return Err(invalid);
        }
        let length = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
        let Some(length) = length else { return Err(invalid) };
        match self.length.replace(length) {
            None => Ok(false),
            Some(earlier) if earlier == length => Ok(headers.contains_key(header::CONTENT_LENGTH)),
            Some(_) => Err(invalid),
        }
    }

    fn connection(&mut self, value: &[u8]) {
        for token in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            if token.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if token.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            } else if let Ok(name) = HeaderName::from_bytes(token) {
                self.named.push(name);
            }
        }
    }

    fn finish(self, status: StatusCode, mut headers: HeaderMap, http_1_1: bool) -> Result<Head, ExchangeError> {
        if self.chunked && (!http_1_1 || self.length.is_some()) {
            return Err(ExchangeError::Invalid("transfer-encoding beside a content-length or in HTTP/1.0"));
        }
        for name in &self.named {
            let guarded =
                [header::CONTENT_LENGTH, header::CONTENT_TYPE, header::SET_COOKIE, header::TRAILER, header::UPGRADE].contains(name);
            if !guarded {
                headers.remove(name);
            }
        }
        if status != StatusCode::SWITCHING_PROTOCOLS {
            headers.remove(header::UPGRADE);
        }
        let framing = match (self.chunked, self.length) {
            (true, _) => Framing::Chunked,
            (false, Some(length)) => Framing::Length(length),
            (false, None) => Framing::UntilClose,
        };
        let mut keep_alive = if http_1_1 { !self.close } else { self.keep_alive && !self.close };
        if has_no_framing(status) {
            headers.remove(header::CONTENT_LENGTH);
            // An upstream that announces a body here may send one: the next answer could begin in the middle of it.
            keep_alive &= matches!(framing, Framing::UntilClose | Framing::Length(0));
        }
        Ok(Head { status, headers, framing, keep_alive })
    }
}
