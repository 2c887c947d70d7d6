//! Frames of HTTP/2 as they go by (RFC 9113 section 4.1): their heads are read, their payloads passed over. Pure.

/// Lengths of a frame's head, and of what stands behind it in a RST_STREAM frame: the error code.
const HEAD: u32 = 9;
const CODE: u32 = 4;

pub(in crate::proxy) const DATA: u8 = 0;
pub(in crate::proxy) const HEADERS: u8 = 1;
pub(in crate::proxy) const PRIORITY: u8 = 2;
pub(in crate::proxy) const RST_STREAM: u8 = 3;
pub(in crate::proxy) const SETTINGS: u8 = 4;
pub(in crate::proxy) const PUSH_PROMISE: u8 = 5;
pub(in crate::proxy) const PING: u8 = 6;
pub(in crate::proxy) const GOAWAY: u8 = 7;
pub(in crate::proxy) const WINDOW_UPDATE: u8 = 8;
pub(in crate::proxy) const CONTINUATION: u8 = 9;

/// Flags (RFC 9113 section 6); of SETTINGS and PING, the first is `ACK`.
pub(in crate::proxy) const END_STREAM: u8 = 1;
pub(in crate::proxy) const ACK: u8 = 1;
pub(in crate::proxy) const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const HAS_PRIORITY: u8 = 0x20;

/// Bytes of a frame's head.
pub(in crate::proxy) const FRAME_HEAD: usize = HEAD as usize;

/// The head of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) struct Frame {
    pub(in crate::proxy) kind: u8,
    flags: u8,
    pub(in crate::proxy) stream: u32,
    pub(in crate::proxy) length: usize,
    /// Of RST_STREAM: why. Else 0.
    pub(in crate::proxy) code: u32,
}

/// Finds the frames in one direction of a connection, however its bytes are parted.
#[derive(Debug, Default)]
pub(in crate::proxy) struct Scanner {
    /// What has come of a head, and how many bytes that is.
    head: u128,
    have: u32,
    /// Bytes of the payload that are still to come.
    payload: usize,
}

// === impl Frame ===

impl Frame {
    fn read(head: u128, code: u32) -> Self {
        let byte = |from_the_end: u32| (head >> (8 * from_the_end)) as u8;
        Self { kind: byte(5), flags: byte(4), stream: head as u32 & 0x7fff_ffff, length: (head >> 48) as usize & 0xff_ffff, code }
    }

    /// The frame whose head these bytes begin with; `None`: they are fewer than a head has.
    pub(in crate::proxy) fn parse(bytes: &[u8]) -> Option<Self> {
        let [long, length @ .., kind, flags, s1, s2, s3, s4] = *bytes.first_chunk::<FRAME_HEAD>()?;
        let length = usize::from(long) << 16 | usize::from(u16::from_be_bytes(length));
        Some(Self { kind, flags, stream: u32::from_be_bytes([s1, s2, s3, s4]) & 0x7fff_ffff, length, code: 0 })
    }

    /// Of DATA and HEADERS: padding follows, and its length stands first.
    pub(in crate::proxy) fn is_padded(self) -> bool {
        self.flags & PADDED != 0
    }

    /// Of HEADERS: what RFC 7540 said of priority stands before the block.
    pub(in crate::proxy) fn has_priority(self) -> bool {
        self.flags & HAS_PRIORITY != 0
    }

    /// Of HEADERS and CONTINUATION: the header block ends with it.
    pub(in crate::proxy) fn ends_headers(self) -> bool {
        self.flags & END_HEADERS != 0
    }

    /// The stream has no more to say.
    pub(in crate::proxy) fn ends_stream(self) -> bool {
        self.flags & 1 != 0
    }

    /// Of SETTINGS and PING: the peer has taken in what it was sent.
    pub(in crate::proxy) fn is_ack(self) -> bool {
        self.flags & 1 != 0
    }

    /// It is a part of a header block.
    pub(in crate::proxy) fn is_of_head(self) -> bool {
        matches!(self.kind, HEADERS | CONTINUATION)
    }

    /// A header block goes on in the next frame.
    pub(in crate::proxy) fn is_continued(self) -> bool {
        self.is_of_head() && self.flags & 4 == 0
    }
}

/// A frame's head.
pub(in crate::proxy) fn frame_head(kind: u8, flags: u8, stream: u32, length: usize) -> [u8; FRAME_HEAD] {
    let [_, l1, l2, l3] = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    let [s1, s2, s3, s4] = stream.to_be_bytes();
    [l1, l2, l3, kind, flags, s1, s2, s3, s4]
}

// === impl Scanner ===

impl Scanner {
    /// A scanner that passes over this many bytes first.
    pub(in crate::proxy) fn behind(bytes: usize) -> Self {
        Self { payload: bytes, ..Self::default() }
    }

    /// Whether the bytes so far end with a whole frame.
    pub(in crate::proxy) fn is_between_frames(&self) -> bool {
        self.have == 0 && self.payload == 0
    }

    /// Takes the next bytes, and tells of every frame whose head ends in them.
    pub(in crate::proxy) fn scan(&mut self, mut bytes: &[u8], mut found: impl FnMut(Frame)) {
        while let Some((first, rest)) = bytes.split_first() {
            if self.payload > 0 {
                let passed = self.payload.min(bytes.len());
                self.payload -= passed;
                bytes = bytes.get(passed..).unwrap_or_default();
                continue;
            }
            bytes = rest;
            self.head = self.head << 8 | u128::from(*first);
            self.have += 1;
            if let Some(frame) = self.complete() {
                self.payload = frame.length - (self.have - HEAD) as usize;
                (self.head, self.have) = (0, 0);
                found(frame);
            }
        }
    }

    fn complete(&self) -> Option<Frame> {
        if self.have < HEAD {
            return None;
        }
        let frame = Frame::read(self.head >> (8 * (self.have - HEAD)), 0);
        if frame.kind != RST_STREAM || frame.length < CODE as usize {
            return Some(frame);
        }
        (self.have == HEAD + CODE).then_some(Frame { code: self.head as u32, ..frame })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        bytes.extend([kind, flags]);
        bytes.extend(stream.to_be_bytes());
        bytes.extend(payload);
        bytes
    }

    #[test]
    fn frames_are_found_wherever_the_reads_part_them() {
        let bytes = [
            b"preface".to_vec(),
            frame(HEADERS, 4, 1, b"block"),
            frame(RST_STREAM, 0, 1, &8_u32.to_be_bytes()),
            frame(RST_STREAM, 0, 3, b"x"),
            frame(DATA, 1, 0x8000_0005, b""),
            frame(HEADERS, 1, 7, &[0; 300]),
        ]
        .concat();
        let known = |kind, flags, stream, length, code| Frame { kind, flags, stream, length, code };
        let expected = [
            known(HEADERS, 4, 1, 5, 0),
            known(RST_STREAM, 0, 1, 4, 8),
            known(RST_STREAM, 0, 3, 1, 0),
            known(DATA, 1, 5, 0, 0),
            known(HEADERS, 1, 7, 300, 0),
        ];
        for size in [1, 2, 3, 7, 10, 1000] {
            let mut scanner = Scanner::behind(7);
            let mut found = Vec::new();
            for piece in bytes.chunks(size) {
                scanner.scan(piece, |frame| found.push(frame));
            }
            assert_eq!(found, expected, "in pieces of {size}");
            assert!(scanner.is_between_frames());
            scanner.scan(b"\0", |_| {});
            assert!(!scanner.is_between_frames());
        }
        assert!(expected[3].ends_stream() && !expected[0].ends_stream());
        assert!(expected[4].is_continued() && !expected[0].is_continued());
    }
}
