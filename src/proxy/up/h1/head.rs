//! Response heads.

use std::mem::MaybeUninit;

use http::{HeaderName, StatusCode, header};

use crate::base::head::HeaderMap;
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
fn head_length(bytes: &[u8]) -> Result<Option<usize>, ExchangeError> {
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

/// Parses the head at the start of `bytes`, and tells its length; `None`: not complete yet.
///
/// `may_be_whole`: it has only just begun. Nearly every head comes whole, and is not looked through for its end first.
pub(super) fn parse(bytes: &[u8], may_be_whole: bool) -> Result<Option<(Head, usize)>, ExchangeError> {
    if may_be_whole && bytes.starts_with(b"HTTP/1.") {
        let mut slots = [const { MaybeUninit::uninit() }; MAX_HEADERS];
        let mut response = httparse::Response::new(&mut []);
        let config = httparse::ParserConfig::default();
        if let Ok(httparse::Status::Complete(length)) = config.parse_response_with_uninit_headers(&mut response, bytes, &mut slots)
            && let Some(head) = bytes.get(..length).filter(|head| head.ends_with(b"\r\n\r\n"))
        {
            return taken(head, &response).map(|head| Some((head, length)));
        }
    }
    let Some(length) = head_length(bytes)? else { return Ok(None) };
    let head = parse_whole(bytes.get(..length).unwrap_or_default())?;
    Ok(Some((head, length)))
}

/// Parses a complete head.
fn parse_whole(head: &[u8]) -> Result<Head, ExchangeError> {
    let mut slots = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    match config.parse_response_with_uninit_headers(&mut response, head, &mut slots) {
        Ok(httparse::Status::Complete(_)) => taken(head, &response),
        Ok(httparse::Status::Partial) => Err(ExchangeError::Invalid("the head is cut off")),
        Err(httparse::Error::TooManyHeaders) => Err(ExchangeError::Invalid("more than 100 headers")),
        Err(_) => Err(ExchangeError::Invalid("the head cannot be parsed")),
    }
}

/// Takes a head over that was parsed.
fn taken(head: &[u8], response: &httparse::Response<'_, '_>) -> Result<Head, ExchangeError> {
    let status = response
        .code
        .and_then(|code| StatusCode::from_u16(code).ok())
        .ok_or(ExchangeError::Invalid("the status is not between 100 and 999"))?;
    let http_1_1 = response.version == Some(1);
    let mut parsed = Connection::default();
    let mut headers = spare::headers();
    headers.set_text(head);
    for field in response.headers.iter() {
        // The parser takes tokens for names, and for values what may be in one.
        let name = headers.add_line(head, field.name.as_bytes(), field.value);
        if parsed.take(name.map_err(|_long| ExchangeError::Invalid("a header name is invalid"))?, field.value)? {
            headers.drop_last();
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
    fn take(&mut self, name: &[u8], value: &[u8]) -> Result<bool, ExchangeError> {
        match name {
            b"content-length" => self.content_length(value),
            b"transfer-encoding" => {
                if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(ExchangeError::Invalid("the transfer-encoding is not exactly `chunked`"));
                }
                self.chunked = true;
                Ok(true)
            }
            b"connection" => {
                self.connection(value);
                Ok(true)
            }
            _ => Ok(matches!(name, b"keep-alive" | b"proxy-connection" | b"proxy-authenticate")),
        }
    }

    fn content_length(&mut self, value: &[u8]) -> Result<bool, ExchangeError> {
        let invalid = ExchangeError::Invalid("the content-length is no number, or differs from another one");
        if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
            return Err(invalid);
        }
        let length = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
        let Some(length) = length else { return Err(invalid) };
        match self.length.replace(length) {
            None => Ok(false),
            Some(earlier) if earlier == length => Ok(true),
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
