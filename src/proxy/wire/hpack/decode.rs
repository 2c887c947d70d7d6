//! From bytes to fields (RFC 7541 section 3).

use super::{
    huffman,
    table::{Entry, FIELDS, Table},
};

/// The largest table that the other end may ask for: what holds without a setting of ours.
const TABLE_BYTES: usize = 4096;
/// No number of a header block has to be larger.
const LARGEST: usize = 1 << 28;

/// Decodes the header blocks of one direction of a connection.
#[derive(Debug)]
pub(in crate::proxy) struct Decoder {
    table: Table,
    /// Where strings are decoded to.
    name: Vec<u8>,
    value: Vec<u8>,
}

/// The block is malformed. Nothing that follows on its connection can be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) struct DecodingError;

/// How a field is written (RFC 7541 section 6).
enum Form {
    Indexed,
    Literal { is_remembered: bool },
    TableSize,
}

/// What is left of a block.
struct Block<'b>(&'b [u8]);

// === impl Decoder ===

impl Decoder {
    pub(in crate::proxy) fn new() -> Self {
        Self { table: Table::new(TABLE_BYTES), name: Vec::new(), value: Vec::new() }
    }

    /// Gives memory back that only a block needs.
    pub(in crate::proxy) fn release(&mut self) {
        (self.name, self.value) = (Vec::new(), Vec::new());
    }

    /// Hands out the fields of a block, name and value, one after the other.
    ///
    /// # Errors
    /// The block is malformed.
    pub(in crate::proxy) fn decode(&mut self, block: &[u8], mut field: impl FnMut(&[u8], &[u8])) -> Result<(), DecodingError> {
        let mut block = Block(block);
        let mut at_the_start = true;
        while let Some(first) = block.0.first().copied() {
            let (form, bits) = form(first);
            let number = block.number(bits)?;
            match form {
                Form::Indexed => {
                    let (name, value) = known(&self.table, number)?;
                    field(name, value);
                }
                Form::Literal { is_remembered } => {
                    self.name.clear();
                    if number == 0 {
                        block.string(&mut self.name)?;
                    } else {
                        self.name.extend_from_slice(known(&self.table, number)?.0);
                    }
                    self.value.clear();
                    block.string(&mut self.value)?;
                    field(&self.name, &self.value);
                    if is_remembered {
                        self.table.insert(Entry::new(&self.name, &self.value, 0));
                    }
                }
                Form::TableSize if at_the_start && number <= TABLE_BYTES => {
                    self.table.resize(number);
                    continue;
                }
                Form::TableSize => return Err(DecodingError),
            }
            at_the_start = false;
        }
        Ok(())
    }
}

/// How a field that begins with this byte is written, and in how many bits of it a number begins.
fn form(first: u8) -> (Form, u32) {
    match first {
        0x80.. => (Form::Indexed, 7),
        0x40..0x80 => (Form::Literal { is_remembered: true }, 6),
        0x20..0x40 => (Form::TableSize, 5),
        0..0x20 => (Form::Literal { is_remembered: false }, 4),
    }
}

/// The field with this number.
fn known(table: &Table, number: usize) -> Result<(&[u8], &[u8]), DecodingError> {
    let index = number.checked_sub(1).ok_or(DecodingError)?;
    match FIELDS.get(index) {
        Some(field) => Ok(*field),
        None => table.get(index - FIELDS.len()).map(Entry::field).ok_or(DecodingError),
    }
}

// === impl Block ===

impl<'b> Block<'b> {
    fn byte(&mut self) -> Result<u8, DecodingError> {
        let (first, rest) = self.0.split_first().ok_or(DecodingError)?;
        self.0 = rest;
        Ok(*first)
    }

    /// A number that begins in the last bits of a byte (RFC 7541 section 5.1).
    fn number(&mut self, bits: u32) -> Result<usize, DecodingError> {
        let most = (1_usize << bits) - 1;
        let mut number = usize::from(self.byte()?) & most;
        if number < most {
            return Ok(number);
        }
        let mut shift = 0;
        loop {
            let byte = self.byte()?;
            number += usize::from(byte & 0x7f) << shift;
            if number > LARGEST {
                return Err(DecodingError);
            }
            if byte & 0x80 == 0 {
                return Ok(number);
            }
            shift += 7;
            // Bytes that add nothing could go on for ever.
            if shift > 28 {
                return Err(DecodingError);
            }
        }
    }

    fn string(&mut self, out: &mut Vec<u8>) -> Result<(), DecodingError> {
        let is_coded = self.0.first().ok_or(DecodingError)? & 0x80 != 0;
        let length = self.number(7)?;
        let (text, rest) = self.0.split_at_checked(length).ok_or(DecodingError)?;
        self.0 = rest;
        if is_coded {
            return huffman::decode(text, out).map_err(|_invalid| DecodingError);
        }
        out.extend_from_slice(text);
        Ok(())
    }
}
