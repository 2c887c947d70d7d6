//! Frames of WebSocket as they go by (RFC 6455 section 5.2): where one ends, so that another can be put behind it. Pure.

/// A server's farewell to a client: a Close frame with the code 1001, going away (sections 5.5.1 and 7.4.1).
pub(in crate::proxy) const CLOSE_TO_CLIENT: [u8; 4] = [0x88, 0x02, 0x03, 0xe9];

/// A client's farewell to a server: the same, masked with zeros, which leave it as it is.
pub(in crate::proxy) const CLOSE_TO_HOST: [u8; 8] = [0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe9];

/// Finds the ends of frames in one direction of a connection, however its bytes are parted.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::proxy) struct FrameEnds {
    /// Bytes of the head at hand.
    have: u8,
    /// How long the head is, as far as that is known.
    head: u8,
    /// The length that the head says, as far as it has come.
    length: u64,
    /// Bytes of the payload that are still to come.
    payload: u64,
    /// Close was said: nothing may follow.
    is_closed: bool,
}

impl FrameEnds {
    /// Takes the next bytes.
    pub(in crate::proxy) fn pass(&mut self, mut bytes: &[u8]) {
        while let Some((first, rest)) = bytes.split_first() {
            if self.payload > 0 {
                let passed = usize::try_from(self.payload).unwrap_or(usize::MAX).min(bytes.len());
                self.payload -= passed as u64;
                bytes = bytes.get(passed..).unwrap_or_default();
                continue;
            }
            bytes = rest;
            self.head_byte(*first);
        }
    }

    /// Whether a frame of our own may follow.
    pub(in crate::proxy) fn is_between_frames(&self) -> bool {
        self.have == 0 && self.payload == 0 && !self.is_closed
    }

    fn head_byte(&mut self, byte: u8) {
        match self.have {
            0 => self.is_closed |= byte & 0x0f == 8,
            1 => {
                let mask = if byte & 0x80 == 0 { 0 } else { 4 };
                (self.head, self.length) = match byte & 0x7f {
                    126 => (2 + 2 + mask, 0),
                    127 => (2 + 8 + mask, 0),
                    short => (2 + mask, u64::from(short)),
                };
            }
            at if at < self.head - if self.is_masked() { 4 } else { 0 } => self.length = self.length << 8 | u64::from(byte),
            _ => {}
        }
        self.have += 1;
        if self.have >= 2 && self.have == self.head {
            self.payload = self.length;
            (self.have, self.head, self.length) = (0, 0, 0);
        }
    }

    /// Heads are 2, 4 or 10 bytes long, and 4 longer with a mask.
    fn is_masked(&self) -> bool {
        matches!(self.head, 6 | 8 | 14)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(opcode: u8, mask: bool, length: usize) -> Vec<u8> {
        let bit = if mask { 0x80 } else { 0 };
        let mut bytes = vec![0x80 | opcode];
        match length {
            0..126 => bytes.push(bit | length as u8),
            126..65_536 => {
                bytes.push(bit | 126);
                bytes.extend((length as u16).to_be_bytes());
            }
            _ => {
                bytes.push(bit | 127);
                bytes.extend((length as u64).to_be_bytes());
            }
        }
        if mask {
            bytes.extend([1, 2, 3, 4]);
        }
        bytes.extend(vec![0x88; length]);
        bytes
    }

    #[test]
    fn frames_end_where_they_end_however_they_are_parted() {
        for mask in [false, true] {
            for length in [0, 1, 4, 125, 126, 300, 65_535, 65_536, 70_000] {
                let bytes = frame(2, mask, length);
                for size in [1, 2, 3, 7, 1000, 100_000] {
                    let mut ends = FrameEnds::default();
                    let mut passed = 0;
                    for piece in bytes.chunks(size) {
                        ends.pass(piece);
                        passed += piece.len();
                        assert_eq!(ends.is_between_frames(), passed == bytes.len(), "{mask} {length} {size} {passed}");
                    }
                    ends.pass(&frame(9, mask, 3));
                    assert!(ends.is_between_frames());
                }
            }
        }
    }

    #[test]
    fn nothing_follows_a_close() {
        for close in [&CLOSE_TO_CLIENT[..], &CLOSE_TO_HOST] {
            let mut ends = FrameEnds::default();
            ends.pass(&frame(1, false, 5));
            assert!(ends.is_between_frames());
            ends.pass(close);
            assert!(!ends.is_between_frames());
        }
    }
}
