//! Filters: what a rule or a backend changes in requests and responses.

use std::sync::Arc;

use http::{HeaderName, HeaderValue, StatusCode};

use super::{BackendName, ClusterId, Cors, Pattern};

/// The filters of a rule or of one of its backends. Applied in the order: request headers, URL rewrite; response headers on the way back.
#[derive(Clone, Debug, Default)]
pub struct Filters {
    /// Changes to request headers, one entry a filter, in the order written.
    pub request_headers: Box<[HeaderOps]>,
    /// Changes to response headers, one entry a filter, in the order written.
    pub response_headers: Box<[HeaderOps]>,
    /// Rewrite of host and path.
    pub rewrite: Option<UrlRewrite>,
    /// Requests of other origins. A rule's only.
    pub cors: Option<Box<Cors>>,
    /// Backends that get a copy of requests.
    pub mirrors: Box<[Mirror]>,
}

/// A backend that gets a copy of requests, whose answers nobody sees.
#[derive(Clone, Debug)]
pub struct Mirror {
    /// The backend, as written.
    pub name: Arc<BackendName>,
    /// Its cluster.
    pub cluster: ClusterId,
    /// How many of the requests it gets.
    pub fraction: Fraction,
}

/// A share of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fraction {
    /// So many of `denominator`.
    pub numerator: u32,
    /// Above 0.
    pub denominator: u32,
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
#[derive(Clone, Debug, PartialEq, Eq)]
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
#[derive(Clone, Debug, PartialEq, Eq)]
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

// === impl Fraction ===

impl Fraction {
    /// All requests.
    pub const ALL: Self = Self { numerator: 1, denominator: 1 };

    /// Whether a request is of the share. `random`: a number that is new for each request.
    pub fn takes(self, random: u64) -> bool {
        self.numerator >= self.denominator || random % u64::from(self.denominator.max(1)) < u64::from(self.numerator)
    }
}

// === impl Filters ===

impl Filters {
    /// Whether nothing is changed.
    pub fn is_empty(&self) -> bool {
        let Self { request_headers, response_headers, rewrite, cors, mirrors } = self;
        request_headers.is_empty() && response_headers.is_empty() && rewrite.is_none() && cors.is_none() && mirrors.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fraction_takes_its_share_and_the_ends_are_exact() {
        let taken = |numerator, denominator| (0..1000).filter(|n| Fraction { numerator, denominator }.takes(*n)).count();
        assert_eq!((taken(1, 1), taken(0, 100), taken(20, 100), taken(1, 2), taken(3, 1)), (1000, 0, 200, 500, 1000));
    }
}
