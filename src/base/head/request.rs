//! The head of a request.

use http::{Method, Uri, Version};

use super::HeaderMap;

/// The head of a request.
#[derive(Clone, Debug, Default)]
pub struct Parts {
    /// Its method.
    pub method: Method,
    /// Its target.
    pub uri: Uri,
    /// The version it came in.
    pub version: Version,
    /// Its fields.
    pub headers: HeaderMap,
}

impl From<http::request::Parts> for Parts {
    fn from(parts: http::request::Parts) -> Self {
        Self { method: parts.method, uri: parts.uri, version: parts.version, headers: HeaderMap::from(&parts.headers) }
    }
}
