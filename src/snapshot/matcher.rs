//! What a request must look like beyond host and path.

use http::{HeaderName, Method};
use regex::Regex;

/// The path condition of a match. Regular expressions match the whole path without the query, as Envoy's `safe_regex`.
#[derive(Clone, Debug)]
pub enum PathMatch {
    /// The whole path, case-sensitive.
    Exact(Box<str>),
    /// Whole path elements; kept without a trailing slash, the root prefix is empty.
    Prefix(Box<str>),
    /// Full match of the path. The pattern was compiled anchored; the source text as written by the user is beside it.
    Regex {
        /// Compiled with both anchors.
        pattern: Regex,
        /// As written.
        source: Box<str>,
    },
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
    /// Full match. The pattern was compiled anchored; the source text is beside it.
    Regex {
        /// Compiled with both anchors.
        pattern: Regex,
        /// As written.
        source: Box<str>,
    },
}
