//! Why a stream fails.

use std::io;

use h2::Reason;

use crate::proxy::up::outbound::BoxError;

use super::connection::{Connection, Failure};

/// Why a stream failed.
#[derive(Debug, thiserror::Error)]
pub(in crate::proxy) enum StreamError {
    /// The connection broke or was closed.
    #[error("the connection to the upstream broke: {0}")]
    Closed(io::ErrorKind),
    /// The host goes away and has not looked at the stream (GOAWAY).
    #[error("the upstream goes away and has not processed the stream")]
    GoneAway,
    /// The host has refused the stream and done nothing about it (`REFUSED_STREAM`).
    #[error("the upstream refused the stream")]
    Refused,
    /// The host has reset the stream.
    #[error("the upstream reset the stream: {0}")]
    Reset(Reason),
    /// The host takes no WebSocket over HTTP/2.
    #[error("the upstream takes no WebSocket over HTTP/2")]
    NoWebSocket,
    /// What the host sent is no valid HTTP/2.
    #[error("the upstream's answer is invalid: {0}")]
    Invalid(&'static str),
    /// The client's request body failed.
    #[error("the client's request body failed: {0}")]
    RequestBody(BoxError),
}

/// What the library's code for a refusal says.
pub(super) fn what_is_wrong(reason: Reason) -> &'static str {
    match reason {
        Reason::PROTOCOL_ERROR => "malformed HTTP/2",
        Reason::FLOW_CONTROL_ERROR => "more HTTP/2 data than there is window for",
        Reason::STREAM_CLOSED => "a frame on a closed HTTP/2 stream",
        Reason::FRAME_SIZE_ERROR => "an HTTP/2 frame of an invalid size",
        Reason::COMPRESSION_ERROR => "an HTTP/2 header block that cannot be decoded",
        Reason::ENHANCE_YOUR_CALM => "the host exceeds a limit of HTTP/2",
        _ => "an HTTP/2 error",
    }
}

// === impl StreamError ===

impl StreamError {
    /// What an error of the library says of a stream on this connection.
    pub(super) fn new(error: &h2::Error, connection: &Connection) -> Self {
        match error.reason() {
            // Those that the host may have processed end with the connection, and not with this.
            Some(_) if error.is_go_away() && error.is_remote() => Self::GoneAway,
            Some(Reason::REFUSED_STREAM) if error.is_remote() => Self::Refused,
            Some(reason) if error.is_remote() => Self::Reset(reason),
            Some(reason) if error.is_library() => Self::Invalid(what_is_wrong(reason)),
            _ => match connection.failure() {
                Some(Failure::Invalid(what)) => Self::Invalid(what),
                Some(Failure::Closed(kind)) => Self::Closed(kind),
                _ => Self::Closed(error.get_io().map_or(io::ErrorKind::ConnectionReset, io::Error::kind)),
            },
        }
    }
}
