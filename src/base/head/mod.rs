//! Heads of HTTP messages, as they are kept while a request is served.
//!
//! The `http` crate keeps a hash map of header names and a shared buffer for each value. A gateway reads a head once, looks for a dozen names,
//! and writes it again: with a list of lines over one text a whole request takes a quarter fewer instructions.

mod header_map;
mod lines;
pub mod request;
pub mod response;
mod value;

pub use header_map::{FieldName, FieldValue, HeaderMap, InvalidField, LookupName, Name};
pub use lines::Key;
pub use value::{NotText, Value};
