//! Request heads (RFC 9112 sections 2 to 6).

use std::mem::MaybeUninit;

use http::{Method, Uri, Version, header};

use crate::base::head::request;
use crate::proxy::wire::{fields::MAX_HEADERS, read_buffer::ReadBuffer, spare};

/// A request's head, and what it says of the connection.
#[derive(Debug)]
pub(super) struct RequestHead {
    pub(super) parts: request::Parts,
    pub(super) framing: BodyFraming,
    /// The client leaves the connection open after the answer.
    pub(super) keep_alive: bool,
    /// It waits for `100 Continue` before it sends the body.
    pub(super) expects_continue: bool,
    /// It takes trailer fields (`TE: trailers`).
    pub(super) takes_trailers: bool,
}

/// How the body is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyFraming {
    Length(u64),
    Chunked,
}

/// Why what came is no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Malformed (400); what is wrong with it.
    Malformed(&'static str),
    /// Longer than a head may be, or with more fields (431).
    TooLarge,
    /// A target that is longer than any (414).
    TargetTooLong,
}

/// A record of a TLS handshake begins with this byte: the client takes the port for one that speaks TLS.
const TLS_HANDSHAKE: u8 = 22;

/// The longest target that `http::Uri` holds.
const MAX_TARGET_BYTES: usize = u16::MAX as usize - 1;

/// Takes the head at the start of the buffer; `None`: it is not complete yet. `scanned` remembers how far no end was found, so that a head
/// that comes byte by byte is not looked through anew each time.
///
/// # Errors
/// What is there is not the beginning of a request.
pub(super) fn parse(buffer: &mut ReadBuffer, scanned: &mut usize, max_bytes: usize) -> Result<Option<RequestHead>, Refusal> {
    // RFC 9112 section 2.2: empty lines before a request are passed over.
    while buffer.as_slice().starts_with(b"\r\n") {
        buffer.skip(2);
        *scanned = scanned.saturating_sub(2);
    }
    let bytes = buffer.as_slice();
    // Nearly every head comes whole: it is not looked through for its end first.
    if *scanned == 0
        && let Some((head, length)) = read_at_once(bytes, max_bytes)
    {
        buffer.skip(length);
        return head.map(Some);
    }
    let from = scanned.saturating_sub(3);
    if let Some(at) = bytes.get(from..).and_then(|tail| memchr::memmem::find(tail, b"\r\n\r\n")) {
        let length = from + at + 4;
        if length > max_bytes {
            return Err(Refusal::TooLarge);
        }
        *scanned = 0;
        let head = read(bytes.get(..length).unwrap_or_default())?;
        buffer.skip(length);
        return Ok(Some(head));
    }
    if bytes.len() > max_bytes {
        return Err(Refusal::TooLarge);
    }
    look_at_beginning(bytes, *scanned)?;
    *scanned = bytes.len();
    Ok(None)
}

/// What cannot become a request is refused at once: nothing that comes later would end it.
fn look_at_beginning(bytes: &[u8], scanned: usize) -> Result<(), Refusal> {
    if bytes.first() == Some(&TLS_HANDSHAKE) {
        return Err(Refusal::Malformed("a TLS handshake on a port without TLS"));
    }
    let is_bare = |at: usize| bytes.get((scanned + at).wrapping_sub(1)) != Some(&b'\r');
    if memchr::memchr_iter(b'\n', bytes.get(scanned..).unwrap_or_default()).any(is_bare) {
        return Err(Refusal::Malformed(BARE_LINE_FEED));
    }
    if scanned > 0 {
        return Ok(());
    }
    let mut slots = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(bytes, &mut slots) {
        Ok(_) => Ok(()),
        Err(error) => Err(refusal(error)),
    }
}

const BARE_LINE_FEED: &str = "a line ends without CR";

fn refusal(error: httparse::Error) -> Refusal {
    match error {
        httparse::Error::TooManyHeaders => Refusal::TooLarge,
        httparse::Error::HeaderName => Refusal::Malformed("an invalid header name"),
        httparse::Error::HeaderValue => Refusal::Malformed("an invalid header value"),
        httparse::Error::Version => Refusal::Malformed("an unsupported version"),
        httparse::Error::NewLine | httparse::Error::Status | httparse::Error::Token => {
            Refusal::Malformed("a malformed request line or header")
        }
    }
}

/// Reads a head that is there as a whole, and tells its length. `None`: it is not, or there is something about it.
fn read_at_once(bytes: &[u8], max_bytes: usize) -> Option<(Result<RequestHead, Refusal>, usize)> {
    let mut slots = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut []);
    let Ok(httparse::Status::Complete(length)) = request.parse_with_uninit_headers(bytes, &mut slots) else { return None };
    let head = bytes.get(..length).filter(|head| head.len() <= max_bytes && head.ends_with(b"\r\n\r\n"))?;
    Some((taken(head, &request), length))
}

/// Reads a whole head.
fn read(head: &[u8]) -> Result<RequestHead, Refusal> {
    let mut slots = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(head, &mut slots).map_err(refusal)? {
        httparse::Status::Complete(length) if length == head.len() => taken(head, &request),
        // Its end is where a lenient reader sees one.
        httparse::Status::Complete(_) | httparse::Status::Partial => Err(Refusal::Malformed(BARE_LINE_FEED)),
    }
}

/// Takes a head over that was parsed.
fn taken(head: &[u8], request: &httparse::Request<'_, '_>) -> Result<RequestHead, Refusal> {
    let method = method(request.method.unwrap_or_default())?;
    let uri = target(request.path.unwrap_or_default())?;
    let http_1_1 = request.version == Some(1);
    let version = if http_1_1 { Version::HTTP_11 } else { Version::HTTP_10 };
    let mut said = Said::default();
    let mut headers = spare::headers();
    headers.set_text(head);
    for field in request.headers.iter() {
        if !begins_a_line(head, field.name) {
            return Err(Refusal::Malformed(BARE_LINE_FEED));
        }
        // The parser takes tokens for names, and for values what may be in one.
        let name = headers.add_line(head, field.name.as_bytes(), field.value).map_err(|_long| Refusal::TooLarge)?;
        if !said.listen(name, field.value, http_1_1)? {
            headers.drop_last();
        }
    }
    said.finish(request::Parts { method, uri, version, headers }, http_1_1)
}

fn method(text: &str) -> Result<Method, Refusal> {
    Method::from_bytes(text.as_bytes()).map_err(|_invalid| Refusal::Malformed("an invalid method"))
}

fn target(target: &str) -> Result<Uri, Refusal> {
    // RFC 9112 section 3.2: no form of a target has one, and what is behind it would be cut off in silence.
    if memchr::memchr(b'#', target.as_bytes()).is_some() {
        return Err(Refusal::Malformed("a fragment in the target"));
    }
    if target.len() > MAX_TARGET_BYTES {
        return Err(Refusal::TargetTooLong);
    }
    Uri::try_from(target).map_err(|_invalid| Refusal::Malformed("an invalid target"))
}

/// Whether a field's name follows CR LF: the parser takes LF alone too.
fn begins_a_line(head: &[u8], name: &str) -> bool {
    let at = (name.as_ptr() as usize).wrapping_sub(head.as_ptr() as usize);
    at.checked_sub(2).and_then(|from| head.get(from..at)) == Some(b"\r\n")
}

/// What the fields say of framing and connection.
#[derive(Debug, Default)]
struct Said {
    length: Option<u64>,
    chunked: bool,
    close: bool,
    keep_alive: bool,
    expects_continue: bool,
    takes_trailers: bool,
}

// === impl Said ===

impl Said {
    /// Takes a field in; whether it is to be kept among the headers.
    fn listen(&mut self, name: &[u8], value: &[u8], http_1_1: bool) -> Result<bool, Refusal> {
        match name {
            b"content-length" => self.content_length(value),
            b"transfer-encoding" => {
                // RFC 9112 section 6.1. The next receiver of the body could read a list of codings differently.
                if !http_1_1 || self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(Refusal::Malformed("unsupported transfer encoding"));
                }
                self.chunked = true;
                Ok(false)
            }
            b"connection" => {
                for token in tokens(value) {
                    self.close |= token.eq_ignore_ascii_case(b"close");
                    self.keep_alive |= token.eq_ignore_ascii_case(b"keep-alive");
                }
                Ok(true)
            }
            b"expect" => {
                self.expects_continue |= http_1_1 && value.eq_ignore_ascii_case(b"100-continue");
                Ok(true)
            }
            b"te" => {
                self.takes_trailers |= tokens(value).any(|token| token.eq_ignore_ascii_case(b"trailers"));
                Ok(true)
            }
            _ => Ok(true),
        }
    }

    /// RFC 9112 section 6.3: a repeated length is one message's only if it is the same; a list of lengths is refused.
    fn content_length(&mut self, value: &[u8]) -> Result<bool, Refusal> {
        let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
        let length: Option<u64> = std::str::from_utf8(value).ok().filter(|_| digits).and_then(|text| text.parse().ok());
        let Some(length) = length else { return Err(Refusal::Malformed("an invalid content-length")) };
        match self.length.replace(length) {
            None => Ok(true),
            Some(earlier) if earlier == length => Ok(false),
            Some(_) => Err(Refusal::Malformed("several content-lengths")),
        }
    }

    fn finish(self, mut parts: request::Parts, http_1_1: bool) -> Result<RequestHead, Refusal> {
        let mut keep_alive = if http_1_1 { !self.close } else { self.keep_alive && !self.close };
        let framing = match (self.chunked, self.length) {
            (false, length) => BodyFraming::Length(length.unwrap_or(0)),
            (true, None) => BodyFraming::Chunked,
            // RFC 9112 section 6.1: the coding holds, the length is removed, and the connection ends: somebody may have counted by it.
            (true, Some(_)) => {
                parts.headers.remove(header::CONTENT_LENGTH);
                keep_alive = false;
                BodyFraming::Chunked
            }
        };
        let Self { expects_continue, takes_trailers, .. } = self;
        Ok(RequestHead { parts, framing, keep_alive, expects_continue, takes_trailers })
    }
}

fn tokens(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buffered(bytes: &[u8]) -> ReadBuffer {
        let mut buffer = ReadBuffer::default();
        buffer.extend(bytes);
        buffer
    }

    fn parse_all(text: &str) -> Result<Option<RequestHead>, Refusal> {
        parse(&mut buffered(text.as_bytes()), &mut 0, 4096)
    }

    fn head(lines: &str) -> RequestHead {
        parse_all(&format!("{lines}\r\n")).unwrap().unwrap()
    }

    #[test]
    fn framing_and_connection_are_read_off_the_fields() {
        let (none, chunked) = (BodyFraming::Length(0), BodyFraming::Chunked);
        for (lines, framing, keep_alive) in [
            ("GET / HTTP/1.1\r\nhost: a\r\n", none, true),
            ("GET / HTTP/1.0\r\n", none, false),
            ("GET / HTTP/1.0\r\nconnection: Keep-Alive\r\n", none, true),
            ("GET / HTTP/1.1\r\nconnection: foo, Close\r\n", none, false),
            ("GET / HTTP/1.1\r\nconnection: keep-alive, close\r\n", none, false),
            ("POST / HTTP/1.1\r\ncontent-length: 7\r\n", BodyFraming::Length(7), true),
            ("POST / HTTP/1.1\r\ncontent-length: 7\r\ncontent-length: 7\r\n", BodyFraming::Length(7), true),
            ("POST / HTTP/1.1\r\ntransfer-encoding: Chunked\r\n", chunked, true),
            ("POST / HTTP/1.1\r\ncontent-length: 7\r\ntransfer-encoding: chunked\r\n", chunked, false),
        ] {
            let head = head(lines);
            assert_eq!((head.framing, head.keep_alive), (framing, keep_alive), "{lines}");
            assert!(!head.parts.headers.contains_key(header::TRANSFER_ENCODING), "{lines}");
            let lengths = head.parts.headers.get_all(header::CONTENT_LENGTH).count();
            assert_eq!(lengths, usize::from(matches!(framing, BodyFraming::Length(1..))), "{lines}");
        }
    }

    #[test]
    fn a_head_is_found_wherever_the_reads_part_it() {
        let text = b"\r\n\r\nGET /a?b HTTP/1.1\r\nhost: a\r\nte: trailers\r\nexpect: 100-Continue\r\n\r\nnext";
        for at in 0..text.len() {
            let (mut buffer, mut scanned) = (ReadBuffer::default(), 0);
            buffer.extend(&text[..at]);
            let early = parse(&mut buffer, &mut scanned, 4096).unwrap();
            buffer.extend(&text[at..]);
            let head = early.or_else(|| parse(&mut buffer, &mut scanned, 4096).unwrap()).unwrap();
            assert_eq!(head.parts.uri, "/a?b", "{at}");
            assert!(head.takes_trailers && head.expects_continue, "{at}");
            assert_eq!(buffer.as_slice(), b"next", "{at}");
        }
    }

    #[test]
    fn what_cannot_become_a_request_is_refused_before_it_ends() {
        for (begun, expected) in [
            ("\u{16}\u{3}\u{1}", Refusal::Malformed("a TLS handshake on a port without TLS")),
            ("GET / HTTP/1.1\n", Refusal::Malformed(BARE_LINE_FEED)),
            ("\nGET / HTTP/1.1", Refusal::Malformed(BARE_LINE_FEED)),
            ("GET / FTP/1.1\r\n", Refusal::Malformed("an unsupported version")),
            ("G(T / HTTP/1.1", Refusal::Malformed("a malformed request line or header")),
        ] {
            assert_eq!(parse_all(begun).unwrap_err(), expected, "{begun:?}");
        }
        assert!(parse_all("GET / HT").unwrap().is_none());
    }

    #[test]
    fn heads_have_a_length_and_a_number_of_fields() {
        let long = format!("GET / HTTP/1.1\r\nx: {}", "y".repeat(4096));
        assert_eq!(parse_all(&long).unwrap_err(), Refusal::TooLarge);
        assert_eq!(parse_all(&format!("{long}\r\n\r\n")).unwrap_err(), Refusal::TooLarge);
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(MAX_HEADERS + 1));
        assert_eq!(parse_all(&many).unwrap_err(), Refusal::TooLarge);
    }

    #[test]
    fn a_head_that_comes_byte_by_byte_is_looked_through_once() {
        let (mut buffer, mut scanned) = (ReadBuffer::default(), 0);
        for byte in b"GET / HTTP/1.1\r\nhost: a" {
            buffer.extend(&[*byte]);
            assert!(parse(&mut buffer, &mut scanned, 4096).unwrap().is_none());
            assert_eq!(scanned, buffer.as_slice().len());
        }
    }
}
