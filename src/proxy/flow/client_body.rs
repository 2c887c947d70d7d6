//! The body of a client's request, as the client's leg brings it.

use std::{
    fmt::Debug,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::Frame;

/// The body of a client's request. The client's leg has one type of it for all protocols.
pub(in crate::proxy) trait ClientBody: Debug + Unpin + 'static {
    /// The next piece. Without any left: `None`, again and again.
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ClientBodyError>>>;

    /// The next read takes no more than this, where a read's size is not limited otherwise.
    fn limit_reads(&self, most: usize);

    /// Bytes of memory held for what was read, the piece of this length that was handed out last included; 0: it has left.
    fn held(&mut self, piece: usize) -> usize;

    /// Whether it is known that nothing follows.
    fn is_end_stream(&self) -> bool;

    /// Bytes that are still to come, where the head announced a length.
    fn exact_length(&self) -> Option<u64>;
}

/// Why a request's body breaks off.
#[derive(Debug, thiserror::Error)]
pub(in crate::proxy) enum ClientBodyError {
    /// The client closed the connection within the body, or it broke.
    #[error("the client's connection ended within the body")]
    Closed,
    /// The body is malformed; what is wrong with it.
    #[error("{0}")]
    Malformed(&'static str),
    /// The stream that brought it ended in an error.
    #[error("the client's stream ended: {0}")]
    Stream(#[source] Box<dyn std::error::Error + Send + Sync>),
}
