//! The chunked transfer coding of bodies (RFC 9112 section 7.1).

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::{fields::MAX_HEADERS, read_buffer::ReadBuffer, trailers};

/// Most bytes of chunk extensions of a whole body, and of trailers.
const MAX_EXTRA_BYTES: usize = 16 * 1024;
/// Chunks are gathered into one piece up to this size: each piece costs its reader far more than its bytes do.
const PIECE: usize = 16 * 1024;
/// Most chunks of a piece.
const PIECE_CHUNKS: usize = 1024;

/// Where in the coding the reader stands.
#[derive(Debug, Default)]
pub(in crate::proxy) struct Chunked {
    state: State,
    extra_bytes: usize,
    /// Nothing but an extension may follow a size: what a lenient reader takes, another one may read otherwise.
    strict: bool,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Size,
    Data(u64),
    DataEnd,
    Trailers,
}

/// What the buffered bytes hold next.
#[derive(Debug)]
pub(in crate::proxy) enum Step {
    /// More bytes are needed.
    More,
    /// Data, of this many chunks.
    Data(Bytes, usize),
    /// The body is complete.
    End(Option<HeaderMap>),
}

/// What is wrong with a body, in words that are no peer's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) struct Malformed(pub(in crate::proxy) &'static str);

/// What follows at the start of the buffer.
#[derive(Debug)]
enum Next {
    /// Not known before more bytes are there.
    Unknown,
    /// Up to this many bytes of a chunk.
    Data(u64),
    /// The trailers: all data was read.
    Trailers,
}

// === impl Chunked ===

impl Chunked {
    /// A reader of request bodies.
    pub(in crate::proxy) fn strict() -> Self {
        Self { strict: true, ..Self::default() }
    }

    /// Takes what is buffered, up to one piece of data.
    pub(in crate::proxy) fn step(&mut self, buffer: &mut ReadBuffer) -> Result<Step, Malformed> {
        let first = match self.next(buffer)? {
            Next::Unknown => return Ok(Step::More),
            Next::Trailers => return self.trailers(buffer),
            Next::Data(left) => buffer.take(left),
        };
        self.took(first.len());
        if first.len() >= PIECE || buffer.is_empty() {
            return Ok(Step::Data(first, 1));
        }
        Ok(self.gather(first, buffer))
    }

    /// Adds the chunks that follow to the first one. An error or the end is met again by the next step.
    fn gather(&mut self, first: Bytes, buffer: &mut ReadBuffer) -> Step {
        let mut chunks = 1;
        let mut gathered = BytesMut::new();
        while chunks < PIECE_CHUNKS
            && let Ok(Next::Data(left)) = self.next(buffer)
        {
            let held = first.len().max(gathered.len());
            let left = usize::try_from(left).unwrap_or(usize::MAX);
            if held.saturating_add(left) > PIECE {
                break;
            }
            let buffered = buffer.as_slice();
            let length = left.min(buffered.len());
            if gathered.is_empty() {
                gathered.extend_from_slice(&first);
            }
            gathered.extend_from_slice(buffered.get(..length).unwrap_or_default());
            buffer.skip(length);
            self.took(length);
            chunks += 1;
        }
        Step::Data(if gathered.is_empty() { first } else { gathered.freeze() }, chunks)
    }

    /// Advances over what stands between data.
    fn next(&mut self, buffer: &mut ReadBuffer) -> Result<Next, Malformed> {
        loop {
            match self.state {
                State::Data(left) => return Ok(if buffer.is_empty() { Next::Unknown } else { Next::Data(left) }),
                State::DataEnd => match buffer.as_slice() {
                    [b'\r', b'\n', ..] => {
                        buffer.skip(2);
                        self.state = State::Size;
                    }
                    [] | [b'\r'] => return Ok(Next::Unknown),
                    _ => return Err(Malformed("a chunk is longer than its size")),
                },
                State::Size => match self.size(buffer)? {
                    None => return Ok(Next::Unknown),
                    Some(0) => self.state = State::Trailers,
                    Some(size) => self.state = State::Data(size),
                },
                State::Trailers => return Ok(Next::Trailers),
            }
        }
    }

    fn took(&mut self, length: usize) {
        if let State::Data(left) = self.state {
            let left = left.saturating_sub(length as u64);
            self.state = if left > 0 { State::Data(left) } else { State::DataEnd };
        }
    }

    fn size(&mut self, buffer: &mut ReadBuffer) -> Result<Option<u64>, Malformed> {
        let bytes = buffer.as_slice();
        let Some(end) = memchr::memchr(b'\n', bytes) else {
            if bytes.len() > MAX_EXTRA_BYTES {
                return Err(Malformed("a chunk extension is larger than 16 KiB"));
            }
            return Ok(None);
        };
        let line = bytes.get(..end).unwrap_or_default();
        let invalid = Malformed("a chunk size is invalid");
        let Some(line) = line.strip_suffix(b"\r") else { return Err(invalid) };
        let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let rest = line.get(digits..).unwrap_or_default();
        let rest = if self.strict { rest } else { rest.trim_ascii_start() };
        if self.strict && rest.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') {
            return Err(invalid);
        }
        if digits == 0 || digits > 15 || !(rest.is_empty() || rest.first() == Some(&b';')) {
            return Err(invalid);
        }
        self.extra_bytes += line.len() - digits;
        if self.extra_bytes > MAX_EXTRA_BYTES {
            return Err(Malformed("chunk extensions are larger than 16 KiB"));
        }
        let size = line
            .get(..digits)
            .and_then(|hex| std::str::from_utf8(hex).ok())
            .and_then(|hex| u64::from_str_radix(hex, 16).ok())
            .ok_or(invalid)?;
        buffer.skip(end + 1);
        Ok(Some(size))
    }

    fn trailers(&self, buffer: &mut ReadBuffer) -> Result<Step, Malformed> {
        let bytes = buffer.as_slice();
        if bytes.starts_with(b"\r\n") {
            buffer.skip(2);
            return Ok(Step::End(None));
        }
        let mut slots = [httparse::EMPTY_HEADER; MAX_HEADERS];
        match httparse::parse_headers(bytes, &mut slots) {
            Ok(httparse::Status::Partial) if bytes.len() > MAX_EXTRA_BYTES => Err(Malformed("the trailers are larger than 16 KiB")),
            Ok(httparse::Status::Partial) => Ok(Step::More),
            Ok(httparse::Status::Complete((length, _))) if self.strict && has_bare_line_feed(bytes.get(..length).unwrap_or_default()) => {
                Err(Malformed("a line of the trailers ends without CR"))
            }
            Ok(httparse::Status::Complete((length, fields))) => {
                let mut kept = HeaderMap::with_capacity(fields.len());
                for field in fields {
                    let (Ok(name), Ok(value)) = (HeaderName::from_bytes(field.name.as_bytes()), HeaderValue::from_bytes(field.value))
                    else {
                        return Err(Malformed("a trailer is invalid"));
                    };
                    kept.append(name, value);
                }
                buffer.skip(length);
                trailers::sieve(&mut kept);
                Ok(Step::End((!kept.is_empty()).then_some(kept)))
            }
            Err(_) => Err(Malformed("the trailers cannot be parsed")),
        }
    }
}

fn has_bare_line_feed(bytes: &[u8]) -> bool {
    memchr::memchr_iter(b'\n', bytes).any(|at| bytes.get(at.wrapping_sub(1)) != Some(&b'\r'))
}
