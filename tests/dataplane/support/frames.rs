//! A host that speaks HTTP/2 frame by frame, and may speak it wrongly (RFC 9113 section 4).

use super::Conversation;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const ACK: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

const PREFACE: usize = 24;

/// The host's side of a connection.
pub(crate) struct Frames<'a>(pub(crate) &'a mut Conversation);

/// A frame that the gateway has sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

/// A frame as bytes.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A SETTINGS frame with these settings.
pub(crate) fn settings(settings: &[(u16, u32)]) -> Vec<u8> {
    let payload: Vec<u8> = settings.iter().flat_map(|(name, value)| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat()).collect();
    frame(SETTINGS, 0, 0, &payload)
}

/// A GOAWAY frame.
pub(crate) fn goaway(last_stream: u32, code: u32) -> Vec<u8> {
    frame(GOAWAY, 0, 0, &[last_stream.to_be_bytes(), code.to_be_bytes()].concat())
}

/// A RST_STREAM frame.
pub(crate) fn reset(stream: u32, code: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &code.to_be_bytes())
}

/// A header block of literal fields (RFC 7541 section 6.2.2).
pub(crate) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in fields {
        bytes.push(0);
        for text in [name, value] {
            length(&mut bytes, text.len());
            bytes.extend(text.as_bytes());
        }
    }
    bytes
}

/// A length with a prefix of seven bits (RFC 7541 section 5.1).
fn length(bytes: &mut Vec<u8>, length: usize) {
    if length < 127 {
        bytes.push(length as u8);
        return;
    }
    bytes.push(127);
    let mut rest = length - 127;
    while rest >= 128 {
        bytes.push((rest % 128) as u8 | 128);
        rest /= 128;
    }
    bytes.push(rest as u8);
}

/// The head of an answer without a body, or with one.
pub(crate) fn head(stream: u32, fields: &[(&str, &str)], ends: bool) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | if ends { END_STREAM } else { 0 }, stream, &block(fields))
}

/// A whole answer.
pub(crate) fn answer(stream: u32, body: &str) -> Vec<u8> {
    [head(stream, &[(":status", "200")], false), frame(DATA, END_STREAM, stream, body.as_bytes())].concat()
}

impl Frames<'_> {
    /// Reads the preface and sends SETTINGS. `false`: the gateway has closed.
    pub(crate) fn greet(&mut self, with: &[(u16, u32)]) -> bool {
        let begun = self.0.exactly(PREFACE).is_some();
        self.send(settings(with));
        begun
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.send(bytes);
    }

    /// The next frame; `None` once the gateway has closed.
    pub(crate) fn frame(&mut self) -> Option<Frame> {
        let head = self.0.exactly(9)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let payload = self.0.exactly(length)?;
        Some(Frame { kind: head[3], flags: head[4], stream, payload })
    }

    /// The stream of the next request head; other frames are passed over, SETTINGS and PING are acknowledged.
    pub(crate) fn request(&mut self) -> Option<u32> {
        self.until(|frame| frame.kind == HEADERS).map(|frame| frame.stream)
    }

    /// The next frame that is meant.
    pub(crate) fn until(&mut self, meant: impl Fn(&Frame) -> bool) -> Option<Frame> {
        loop {
            let next = self.frame()?;
            if meant(&next) {
                if next.kind == HEADERS {
                    self.0.note(format!("stream {}", next.stream));
                }
                return Some(next);
            }
            match next.kind {
                SETTINGS | PING if next.flags & ACK == 0 => {
                    let payload = if next.kind == PING { next.payload } else { Vec::new() };
                    self.send(frame(next.kind, ACK, 0, &payload));
                }
                _ => {}
            }
        }
    }
}
