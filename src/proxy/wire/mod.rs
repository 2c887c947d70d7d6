//! Bytes and fields that both legs read and write: pure, or as good as that.

pub(super) mod date;
pub(super) mod frame_allowance;
pub(super) mod frames;
pub(super) mod headers;
pub mod opening;
pub(super) mod proxy_protocol;
pub(super) mod spare;
pub(super) mod trailers;
