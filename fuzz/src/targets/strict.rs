//! A second parser of HTTP/1.1 requests, which knows no leniency: what has more than one meaning is malformed (RFC 9112).

use std::fmt;

/// A request as it was framed.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) method: Vec<u8>,
    pub(super) target: Vec<u8>,
    pub(super) framing: Framing,
    pub(super) body: Vec<u8>,
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = String::from_utf8_lossy;
        write!(f, "{:?} {:?} {:?} {:?}", text(&self.method), text(&self.target), self.framing, text(&self.body))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    None,
    Length,
    Chunked,
}

/// What bytes begin with.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Parsed {
    /// A message, and how many bytes it takes.
    Message(Message, usize),
    /// The beginning of a message, or nothing.
    Incomplete,
    /// What no strict reader takes; why.
    Malformed(&'static str),
}

/// Everything before the first byte that belongs to no whole message.
pub(super) fn messages(mut bytes: &[u8]) -> (Vec<Message>, Parsed) {
    let mut found = Vec::new();
    loop {
        match parse(bytes) {
            Parsed::Message(message, length) => {
                found.push(message);
                bytes = &bytes[length..];
            }
            end => return (found, end),
        }
    }
}

/// Reads the first message.
pub(super) fn parse(bytes: &[u8]) -> Parsed {
    match head(bytes).and_then(|(message, length, at)| body(bytes, message, length, at)) {
        Ok((message, length)) => Parsed::Message(message, length),
        Err(parsed) => parsed,
    }
}

type Step<T> = Result<T, Parsed>;

/// The lengths and codings that the head declares.
#[derive(Default)]
struct Declared<'a> {
    hosts: Vec<&'a [u8]>,
    lengths: Vec<&'a [u8]>,
    codings: Vec<&'a [u8]>,
}

/// A message without its body, its declared length, and where the body begins.
fn head(bytes: &[u8]) -> Step<(Message, usize, usize)> {
    let (line, mut at) = line(bytes, 0)?;
    let mut words = line.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(b"HTTP/1.1"), None) = (words.next(), words.next(), words.next(), words.next()) else {
        return Err(Parsed::Malformed("the request line"));
    };
    let is_target = target == b"*" || (target.starts_with(b"/") && target.iter().all(|byte| matches!(byte, b'!'..=b'~') && *byte != b'#'));
    if !is_token(method) || !is_target {
        return Err(Parsed::Malformed("the method or the target"));
    }
    let mut declared = Declared::default();
    at = fields(bytes, at, |name, value| {
        let list = if name.eq_ignore_ascii_case(b"host") {
            &mut declared.hosts
        } else if name.eq_ignore_ascii_case(b"content-length") {
            &mut declared.lengths
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            &mut declared.codings
        } else {
            return;
        };
        list.push(value);
    })?;
    let host_bytes = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+;=:[]".contains(byte);
    if !matches!(declared.hosts[..], [host] if !host.is_empty() && host.iter().all(host_bytes)) {
        return Err(Parsed::Malformed("the Host"));
    }
    let (framing, length) = framing(&declared)?;
    Ok((Message { method: method.to_vec(), target: target.to_vec(), framing, body: Vec::new() }, length, at))
}

fn framing(declared: &Declared<'_>) -> Step<(Framing, usize)> {
    match (&declared.codings[..], &declared.lengths[..]) {
        ([], []) => Ok((Framing::None, 0)),
        ([b"chunked"], []) => Ok((Framing::Chunked, 0)),
        ([], [length]) if is_number(length) => {
            let length = std::str::from_utf8(length).ok().and_then(|length| length.parse().ok());
            Ok((Framing::Length, length.ok_or(Parsed::Malformed("the length"))?))
        }
        _ => Err(Parsed::Malformed("the framing")),
    }
}

fn body(bytes: &[u8], mut message: Message, length: usize, at: usize) -> Step<(Message, usize)> {
    let end = match message.framing {
        Framing::None => at,
        Framing::Length => {
            let end = at.checked_add(length).filter(|end| *end <= bytes.len()).ok_or(Parsed::Incomplete)?;
            message.body = bytes[at..end].to_vec();
            end
        }
        Framing::Chunked => chunks(bytes, at, &mut message.body)?,
    };
    Ok((message, end))
}

fn chunks(bytes: &[u8], mut at: usize, body: &mut Vec<u8>) -> Step<usize> {
    loop {
        let (size, data) = line(bytes, at)?;
        if size.is_empty() || size.len() > 16 || !size.iter().all(u8::is_ascii_hexdigit) {
            return Err(Parsed::Malformed("the size of a chunk"));
        }
        let size = std::str::from_utf8(size).ok().and_then(|size| usize::from_str_radix(size, 16).ok()).unwrap_or(usize::MAX);
        if size == 0 {
            return fields(bytes, data, |_, _| {});
        }
        let end = data.saturating_add(size);
        let after = bytes.get(end..end.saturating_add(2)).ok_or(Parsed::Incomplete)?;
        if after != b"\r\n" {
            return Err(Parsed::Malformed("no CRLF behind a chunk"));
        }
        body.extend_from_slice(&bytes[data..end]);
        at = end + 2;
    }
}

/// Header or trailer lines up to the empty one; where they end.
fn fields<'a>(bytes: &'a [u8], mut at: usize, mut field: impl FnMut(&'a [u8], &'a [u8])) -> Step<usize> {
    loop {
        let (line, next) = line(bytes, at)?;
        at = next;
        if line.is_empty() {
            return Ok(at);
        }
        let colon = line.iter().position(|byte| *byte == b':').ok_or(Parsed::Malformed("a line without a colon"))?;
        let (name, value) = (&line[..colon], blanks_off(&line[colon + 1..]));
        if !is_token(name) || !value.iter().all(|byte| matches!(byte, b'\t' | b' '..=b'~' | 0x80..)) {
            return Err(Parsed::Malformed("a header"));
        }
        field(name, value);
    }
}

/// A line without its CRLF, and where the next begins. Neither may stand alone.
fn line(bytes: &[u8], at: usize) -> Step<(&[u8], usize)> {
    let rest = bytes.get(at..).unwrap_or_default();
    let end = rest.iter().position(|byte| matches!(byte, b'\r' | b'\n')).ok_or(Parsed::Incomplete)?;
    match rest.get(end..end + 2) {
        Some(b"\r\n") => Ok((&rest[..end], at + end + 2)),
        None if rest[end] == b'\r' => Err(Parsed::Incomplete),
        _ => Err(Parsed::Malformed("a CR or LF alone")),
    }
}

fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte))
}

fn is_number(bytes: &[u8]) -> bool {
    matches!(bytes, b"0" | [b'1'..=b'9', ..]) && bytes.len() <= 20 && bytes.iter().all(u8::is_ascii_digit)
}

fn blanks_off(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}
