//! Bytes and fields that both legs read and write: pure, or as good as that.

pub(super) mod chunked;
pub(super) mod date;
pub(super) mod fields;
pub(super) mod frame_allowance;
pub(super) mod frames;
pub(super) mod headers;
pub(super) mod hpack;
pub mod opening;
pub(super) mod poll_budget;
pub(super) mod proxy_protocol;
pub(super) mod read_buffer;
pub(super) mod reason;
pub(super) mod spare;
pub(super) mod trailers;
pub(super) mod websocket;
