//! HTTP/1.1 of clients. It needs no task beside the connection's own, and no allocation for a request beyond its head.
//!
//! What is accepted is narrower than what a lenient server takes: every line ends in CR LF, a request has one framing, and after anything
//! that leaves the framing in doubt the connection ends (RFC 9112).

mod conversation;
mod delivery;
mod encode;
mod head;
mod out;
mod wire;

pub(in crate::proxy) use conversation::{Beginning, serve};
pub(super) use wire::SharedWire;
