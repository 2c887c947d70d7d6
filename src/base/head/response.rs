//! The head of a response.

use http::{StatusCode, Version};

use super::HeaderMap;

/// The head of a response.
#[derive(Clone, Debug, Default)]
pub struct Parts {
    /// Its status.
    pub status: StatusCode,
    /// The version it came in, or leaves in.
    pub version: Version,
    /// Its fields.
    pub headers: HeaderMap,
    /// A filter has removed its `date`. Whoever writes a head adds the date where there is none, but not to such a one.
    pub date_removed: bool,
}

impl From<http::response::Parts> for Parts {
    fn from(parts: http::response::Parts) -> Self {
        Self { status: parts.status, version: parts.version, headers: HeaderMap::from(&parts.headers), date_removed: false }
    }
}

impl From<&Parts> for http::response::Parts {
    fn from(parts: &Parts) -> Self {
        let (mut head, ()) = http::Response::new(()).into_parts();
        head.status = parts.status;
        head.version = parts.version;
        head.headers = (&parts.headers).into();
        head
    }
}
