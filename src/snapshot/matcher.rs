//! What a request must look like beyond host and path.

use std::sync::Arc;

use http::{HeaderName, Method};

use crate::base::head::{HeaderMap, request};

use super::{Pattern, Query};

/// The path condition of a match. Regular expressions match the whole path without the query, as Envoy's `safe_regex`.
#[derive(Clone, Debug)]
pub enum PathMatch {
    /// The whole path, case-sensitive.
    Exact(Box<str>),
    /// Whole path elements; kept without a trailing slash, the root prefix is empty.
    Prefix(Box<str>),
    /// Full match of the path.
    Regex(Arc<Pattern>),
}

/// Conditions beside host and path; all must hold.
#[derive(Clone, Debug, Default)]
pub struct Matcher {
    /// Method, if the match names one.
    pub method: Option<Method>,
    /// Header conditions; duplicates of a name are already dropped (the first counts).
    pub headers: Box<[HeaderMatch]>,
    /// Query conditions; duplicates of a name are already dropped (the first counts).
    pub query: Box<[QueryMatch]>,
}

/// A header condition: holds if any one line of the header matches.
#[derive(Clone, Debug)]
pub struct HeaderMatch {
    /// Name of the header.
    pub name: HeaderName,
    /// Condition on the value.
    pub value: ValueMatch,
}

/// A condition on a query parameter; the first occurrence of the name counts.
#[derive(Clone, Debug)]
pub struct QueryMatch {
    /// Name of the parameter, case-sensitive.
    pub name: Box<str>,
    /// Condition on the value.
    pub value: ValueMatch,
}

/// A condition on a value.
#[derive(Clone, Debug)]
pub enum ValueMatch {
    /// Equal, case-sensitive.
    Exact(Box<str>),
    /// Full match.
    Regex(Arc<Pattern>),
}

// === impl PathMatch ===

impl PathMatch {
    /// A prefix of whole path elements; a trailing slash makes no difference.
    pub fn prefix(prefix: &str) -> Self {
        Self::Prefix(prefix.strip_suffix('/').unwrap_or(prefix).into())
    }

    /// The path, prefix or expression as a route writes it; a prefix without its trailing slash.
    pub fn text(&self) -> &str {
        match self {
            Self::Prefix(prefix) if prefix.is_empty() => "/",
            Self::Exact(text) | Self::Prefix(text) => text,
            Self::Regex(pattern) => pattern.source(),
        }
    }
}

// === impl Matcher ===

impl Matcher {
    /// Whether method, headers and query parameters are as demanded.
    pub fn matches(&self, parts: &request::Parts, query: &Query<'_>) -> bool {
        self.method.as_ref().is_none_or(|method| *method == parts.method)
            && self.headers.iter().all(|header| header.matches(&parts.headers))
            && self.query.iter().all(|parameter| parameter.matches(query))
    }

    /// Whether every request matches.
    pub fn is_empty(&self) -> bool {
        self.method.is_none() && self.headers.is_empty() && self.query.is_empty()
    }
}

// === impl HeaderMatch ===

impl HeaderMatch {
    fn matches(&self, headers: &HeaderMap) -> bool {
        headers.get_all(&self.name).any(|value| self.value.matches(value.as_bytes()))
    }
}

// === impl QueryMatch ===

impl QueryMatch {
    fn matches(&self, query: &Query<'_>) -> bool {
        query.value(&self.name).is_some_and(|value| self.value.matches(value.as_bytes()))
    }
}

// === impl ValueMatch ===

impl ValueMatch {
    fn matches(&self, value: &[u8]) -> bool {
        match self {
            Self::Exact(expected) => expected.as_bytes() == value,
            Self::Regex(pattern) => std::str::from_utf8(value).is_ok_and(|value| pattern.is_match(value)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(method: &str, headers: &[(&str, &str)]) -> request::Parts {
        let request = headers.iter().fold(http::Request::builder().method(method), |b, (n, v)| b.header(*n, *v));
        request.body(()).unwrap().into_parts().0.into()
    }

    fn exact(value: &str) -> ValueMatch {
        ValueMatch::Exact(value.into())
    }

    #[test]
    fn a_header_in_several_lines_matches_if_any_line_does() {
        let matcher =
            Matcher { headers: [HeaderMatch { name: HeaderName::from_static("x-a"), value: exact("2") }].into(), ..Matcher::default() };
        assert!(matcher.matches(&parts("GET", &[("X-A", "1"), ("x-a", "2")]), &Query::new("")));
        assert!(!matcher.matches(&parts("GET", &[("x-a", "1,2")]), &Query::new("")));
        assert!(!matcher.matches(&parts("GET", &[]), &Query::new("")));
    }

    #[test]
    fn the_first_query_parameter_of_a_name_counts_undecoded() {
        for (query, expected) in [
            ("a=1", true),
            ("b=2&a=1", true),
            ("a=2&a=1", false),
            ("a=%31", false),
            ("A=1", false),
            ("a", false),
            ("a=1=2", false),
            ("", false),
        ] {
            let matcher = Matcher { query: [QueryMatch { name: "a".into(), value: exact("1") }].into(), ..Matcher::default() };
            assert_eq!(matcher.matches(&parts("GET", &[]), &Query::new(query)), expected, "{query}");
        }
    }

    #[test]
    fn a_method_is_compared_whole() {
        let matcher = Matcher { method: Some(Method::POST), ..Matcher::default() };
        assert!(matcher.matches(&parts("POST", &[]), &Query::new("")));
        assert!(!matcher.matches(&parts("GET", &[]), &Query::new("")));
        assert!(!matcher.matches(&parts("post", &[]), &Query::new("")));
    }
}
