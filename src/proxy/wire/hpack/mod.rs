//! HPACK: how HTTP/2 compresses fields (RFC 7541). Pure.

mod decode;
mod encode;
mod huffman;
mod table;

#[cfg(test)]
mod tests;

pub(in crate::proxy) use decode::{Decoder, DecodingError};
pub(in crate::proxy) use encode::{Encoder, Field};
