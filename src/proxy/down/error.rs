//! Why a client's body breaks off.

/// Why a request's body breaks off.
#[derive(Debug, thiserror::Error)]
pub(in crate::proxy) enum ClientBodyError {
    /// The client closed the connection within the body, or it broke.
    #[error("the client's connection ended within the body")]
    Closed,
    /// The body is malformed; what is wrong with it.
    #[error("{0}")]
    Malformed(&'static str),
    /// The HTTP/2 stream ended in an error.
    #[error("the client's stream ended: {0}")]
    Stream(#[from] h2::Error),
}
