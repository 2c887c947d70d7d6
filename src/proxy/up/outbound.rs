//! What a request gives to its exchange with a host, whichever protocol that speaks.

use bytes::Bytes;
use http::StatusCode;
use http_body::Body;

use crate::base::head::HeaderMap;

/// Any error of a request's body.
pub(in crate::proxy) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A request's body on its way to a host.
pub(in crate::proxy) trait Outbound: Body<Data = Bytes, Error: Into<BoxError>> + Unpin {
    /// The host's connection has taken something of what was handed out.
    fn moved(&self) {}
}

/// How long a request's body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) enum BodyLength {
    /// There is none.
    None,
    /// So many bytes.
    Exactly(u64),
    /// As many as come.
    Unknown,
}

/// Is called with each interim head that a proxy passes on (RFC 9110 section 15.2): every 1xx except 100, which the gateway sends itself,
/// and 101. Headers of the connection and of framing are removed.
pub(super) type OnInterim<'a> = dyn FnMut(StatusCode, HeaderMap) + 'a;
