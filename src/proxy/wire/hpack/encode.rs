//! From fields to bytes (RFC 7541 section 6). Strings are not Huffman-coded: fields that come again are named by number, and for the rest the
//! code costs more than it saves.

use super::table::{Entry, FIELDS, Table, number_of_name};

/// The largest table that is used, whatever the other end allows.
const TABLE_BYTES: usize = 4096;
/// A field that is longer is not remembered.
const LONGEST: usize = 512;
/// Places for the digests of fields that came once.
const ONCE: usize = 64;

/// A field to encode. The name is in lower case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) struct Field<'f> {
    pub(in crate::proxy) name: &'f [u8],
    pub(in crate::proxy) value: &'f [u8],
    /// No compression may remember it (RFC 7541 section 7.1.3).
    pub(in crate::proxy) is_sensitive: bool,
}

/// Encodes the header blocks of one direction of a connection.
#[derive(Debug)]
pub(in crate::proxy) struct Encoder {
    table: Table,
    /// Digests of fields that came and are not in the table: what comes a second time is worth a place there.
    once: Box<[u32; ONCE]>,
    /// Sizes that the other end has to be told of: the smallest since the last block, and the present one.
    resized: Option<(usize, usize)>,
}

// === impl Encoder ===

impl Encoder {
    pub(in crate::proxy) fn new() -> Self {
        Self { table: Table::new(TABLE_BYTES), once: Box::new([0; ONCE]), resized: None }
    }

    /// The other end allows a table of so many bytes.
    pub(in crate::proxy) fn resize(&mut self, most: usize) {
        let most = most.min(TABLE_BYTES);
        if most == self.table.most() {
            return;
        }
        self.table.resize(most);
        let smallest = self.resized.map_or(most, |(smallest, _)| smallest.min(most));
        self.resized = Some((smallest, most));
    }

    /// Begins a block; the fields follow.
    pub(in crate::proxy) fn begin(&mut self, out: &mut Vec<u8>) {
        let Some((smallest, most)) = self.resized.take() else { return };
        if smallest < most {
            number(out, 0x20, 5, smallest);
        }
        number(out, 0x20, 5, most);
    }

    /// Encodes the status of a response, the first field of its block.
    pub(in crate::proxy) fn status(out: &mut Vec<u8>, status: &str) {
        match FIELDS.iter().position(|field| *field == (b":status", status.as_bytes())) {
            Some(index) => number(out, 0x80, 7, index + 1),
            None => {
                number(out, 0, 4, 8);
                string(out, status.as_bytes());
            }
        }
    }

    /// Encodes a field.
    pub(in crate::proxy) fn field(&mut self, out: &mut Vec<u8>, field: Field<'_>) {
        let Field { name, value, is_sensitive } = field;
        if is_sensitive || is_never_the_same(name) || name.len() + value.len() > LONGEST {
            return literal(out, if is_sensitive { 0x10 } else { 0 }, 4, name, value);
        }
        let digest = digest(name, value);
        if let Some(index) = self.table.find(name, value, digest) {
            return number(out, 0x80, 7, FIELDS.len() + 1 + index);
        }
        let came_before = self.once.get_mut(digest as usize % ONCE).is_some_and(|place| std::mem::replace(place, digest) == digest);
        if came_before && self.table.most() > 0 {
            literal(out, 0x40, 6, name, value);
            self.table.insert(Entry::new(name, value, digest));
        } else {
            literal(out, 0, 4, name, value);
        }
    }
}

/// Fields whose value is another one each time, and those that others must not be able to guess.
fn is_never_the_same(name: &[u8]) -> bool {
    matches!(name, b"set-cookie" | b"content-length" | b"etag" | b"x-request-id" | b"authorization")
}

fn literal(out: &mut Vec<u8>, form: u8, bits: u32, name: &[u8], value: &[u8]) {
    match number_of_name(name) {
        Some(known) => number(out, form, bits, known),
        None => {
            out.push(form);
            string(out, name);
        }
    }
    string(out, value);
}

fn string(out: &mut Vec<u8>, text: &[u8]) {
    number(out, 0, 7, text.len());
    out.extend_from_slice(text);
}

/// A number in the last bits of a byte (RFC 7541 section 5.1), whose other bits are given.
fn number(out: &mut Vec<u8>, form: u8, bits: u32, number: usize) {
    let most = (1_usize << bits) - 1;
    if number < most {
        out.push(form | number as u8);
        return;
    }
    out.push(form | most as u8);
    let mut rest = number - most;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// A digest of a field, never 0.
fn digest(name: &[u8], value: &[u8]) -> u32 {
    const PRIME: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut mixed = (name.len() as u64) << 32 | value.len() as u64;
    for text in [name, value] {
        let (words, rest) = text.as_chunks::<8>();
        for word in words {
            mixed = (mixed ^ u64::from_le_bytes(*word)).wrapping_mul(PRIME).rotate_left(23);
        }
        let rest = rest.iter().fold(1_u64, |rest, byte| rest << 8 | u64::from(*byte));
        mixed = (mixed ^ rest).wrapping_mul(PRIME).rotate_left(23);
    }
    ((mixed ^ mixed >> 32) as u32).max(1)
}
