//! Filters: what a rule or a backend changes in requests and responses.

use std::sync::Arc;

use http::{HeaderName, HeaderValue, StatusCode};

use super::Pattern;

/// The filters of a rule or of one of its backends. Applied in the order: request headers, URL rewrite; response headers on the way back.
#[derive(Clone, Debug, Default)]
pub struct Filters {
    /// Changes to request headers, one entry a filter, in the order written.
    pub request_headers: Box<[HeaderOps]>,
    /// Changes to response headers, one entry a filter, in the order written.
    pub response_headers: Box<[HeaderOps]>,
    /// Rewrite of host and path.
    pub rewrite: Option<UrlRewrite>,
}

/// Header changes: remove, then set, then add.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderOps {
    /// Replace all values of the header.
    pub set: Box<[(HeaderName, HeaderValue)]>,
    /// Add a value, keeping the others.
    pub add: Box<[(HeaderName, HeaderValue)]>,
    /// Remove all values of the header.
    pub remove: Box<[HeaderName]>,
}

/// Rewrite of host and path before a request is forwarded.
#[derive(Clone, Debug, Default)]
pub struct UrlRewrite {
    /// New Host.
    pub hostname: Option<HeaderValue>,
    /// New path.
    pub path: Option<PathRewrite>,
}

/// How a path is rewritten; the query is kept.
#[derive(Clone, Debug)]
pub enum PathRewrite {
    /// The whole path.
    Full(Box<str>),
    /// The matched prefix; never leaves an empty path, never doubles or drops the slash between prefix and rest.
    Prefix(Box<str>),
    /// Every match of the pattern, with RE2's `\1` substitution already turned into the regex crate's form (Gloo's `regexRewrite`).
    Regex {
        /// Pattern looked for in the path.
        pattern: Arc<Pattern>,
        /// Replacement, in the regex crate's syntax.
        substitution: Box<str>,
    },
}

/// A redirect: parts that are absent are taken from the request.
#[derive(Clone, Debug)]
pub struct Redirect {
    /// `http` or `https`.
    pub scheme: Option<Box<str>>,
    /// Host of the Location.
    pub hostname: Option<Box<str>>,
    /// Port of the Location; absent: the well-known port of `scheme` if that is given, else the listener's.
    pub port: Option<u16>,
    /// Path of the Location.
    pub path: Option<PathRewrite>,
    /// 301, 302, 303, 307 or 308.
    pub status: StatusCode,
}
