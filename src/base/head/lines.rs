//! Where the fields of a head stand in its text.

/// A field: its name and value, as places in the text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line {
    pub(super) name_at: u32,
    pub(super) value_at: u32,
    pub(super) value_len: u32,
    pub(super) name_len: u16,
    /// Of the name: lines with another key have another name.
    pub(super) key: Key,
    /// In the text stands `name: value` and the end of the line behind it.
    pub(super) is_whole: bool,
    /// It must not be put into an index of a compression that others share (RFC 7541 section 7.1.3).
    pub(super) is_sensitive: bool,
}

/// A digest of a name in lower case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key(u16);

/// Which keys may be among the lines. Most names that are looked for are not there: one look tells.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen(u64);

// === impl Key ===

impl Key {
    /// Three of its bytes and its length tell a name from nearly all others.
    pub(super) const fn of(name: &[u8]) -> Self {
        let (front, back) = name.split_at(name.len() / 2);
        let (Some(middle), Some(last)) = (back.first(), back.last()) else { return Self(0) };
        let first = match front.first() {
            Some(first) => *first,
            None => *last,
        };
        let mixed = ((name.len() as u32) << 24) ^ ((first as u32) << 16) ^ ((*middle as u32) << 8) ^ *last as u32;
        Self((mixed.wrapping_mul(0x9e37_79b1) >> 16) as u16)
    }
}

// === impl Seen ===

impl Seen {
    pub(super) fn add(&mut self, key: Key) {
        self.0 |= 1 << (key.0 & 63);
    }

    pub(super) fn may_have(self, key: Key) -> bool {
        (self.0 >> (key.0 & 63)) & 1 == 1
    }
}

/// Turns a name to lower case; whether there is an underscore in it.
pub(super) fn to_lower_case(name: &mut [u8]) -> bool {
    let mut has_underscore = false;
    if name.len() < 8 {
        for byte in name {
            byte.make_ascii_lowercase();
            has_underscore |= *byte == b'_';
        }
        return has_underscore;
    }
    for eight in name.as_chunks_mut().0 {
        has_underscore |= eight_to_lower_case(eight);
    }
    // What is left over, with some that were turned already.
    if let Some(eight) = name.last_chunk_mut() {
        has_underscore |= eight_to_lower_case(eight);
    }
    has_underscore
}

/// The same for eight bytes at once.
fn eight_to_lower_case(eight: &mut [u8; 8]) -> bool {
    const ONES: u64 = u64::MAX / 255;
    const HIGH_BITS: u64 = ONES << 7;
    let bytes = u64::from_le_bytes(*eight);
    let low_bits = bytes & !HIGH_BITS;
    let from_a = low_bits + ONES * (0x80 - b'A' as u64);
    let beyond_z = low_bits + ONES * (0x7f - b'Z' as u64);
    let upper = from_a & !beyond_z & !bytes & HIGH_BITS;
    *eight = (bytes | (upper >> 2)).to_le_bytes();
    let without = bytes ^ (ONES * b'_' as u64);
    without.wrapping_sub(ONES) & !without & HIGH_BITS != 0
}

// === impl Line ===

impl Line {
    pub(super) fn name<'t>(&self, text: &'t [u8]) -> &'t [u8] {
        let at = self.name_at as usize;
        text.get(at..at + usize::from(self.name_len)).unwrap_or_default()
    }

    pub(super) fn value<'t>(&self, text: &'t [u8]) -> &'t [u8] {
        let at = self.value_at as usize;
        text.get(at..at + self.value_len as usize).unwrap_or_default()
    }

    /// Where the line that follows this one in the text begins.
    pub(super) fn end(&self) -> u32 {
        self.value_at.saturating_add(self.value_len).saturating_add(2)
    }
}
