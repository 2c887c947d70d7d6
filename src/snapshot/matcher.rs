//! What a request must look like beyond host and path.

use http::{HeaderMap, HeaderName, Method, request};
use regex::{Regex, RegexBuilder};

/// The path condition of a match. Regular expressions match the whole path without the query, as Envoy's `safe_regex`.
#[derive(Clone, Debug)]
pub enum PathMatch {
    /// The whole path, case-sensitive.
    Exact(Box<str>),
    /// Whole path elements; kept without a trailing slash, the root prefix is empty.
    Prefix(Box<str>),
    /// Full match of the path. Boxed: it is rare, and entries are many.
    Regex(Box<PathRegex>),
}

/// A pattern for the whole path.
#[derive(Clone, Debug)]
pub struct PathRegex {
    /// Compiled with both anchors.
    pub pattern: Regex,
    /// As written.
    pub source: Box<str>,
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

/// Most bytes of a compiled pattern. The default of 10 MiB lets one pattern burn 90 ms before it is refused.
const PATTERN_SIZE_LIMIT: usize = 256 << 10;

/// Most bytes of the lazy automaton of a pattern, per thread that uses it.
const PATTERN_DFA_SIZE_LIMIT: usize = 1 << 20;

/// Compiles a pattern that must match a whole text, as Envoy's `safe_regex`. The error is one sentence for a status message.
pub fn compile_regex(pattern: &str) -> Result<Regex, String> {
    // The pattern alone first: `a)(b` would be valid between the anchors only.
    compile_pattern(pattern)?;
    compile_pattern(&format!("^(?:{pattern})$"))
}

/// Compiles a pattern that is looked for anywhere in a text (Gloo's `regexRewrite`), with the limits of `compile_regex`.
pub fn compile_pattern(pattern: &str) -> Result<Regex, String> {
    let build = |unicode: bool| {
        RegexBuilder::new(pattern).size_limit(PATTERN_SIZE_LIMIT).dfa_size_limit(PATTERN_DFA_SIZE_LIMIT).unicode(unicode).build()
    };
    // Without Unicode `\w` and `\d` are ASCII, as in RE2, and a tenth of the size; patterns that could split a character need Unicode.
    build(false).or_else(|_| build(true)).map_err(|error| match error {
        regex::Error::CompiledTooBig(limit) => format!("the compiled pattern is larger than {limit} bytes"),
        other => other.to_string().lines().last().unwrap_or_default().trim().trim_start_matches("error: ").to_owned(),
    })
}

// === impl PathMatch ===

impl PathMatch {
    /// A prefix of whole path elements; a trailing slash makes no difference.
    pub fn prefix(prefix: &str) -> Self {
        Self::Prefix(prefix.strip_suffix('/').unwrap_or(prefix).into())
    }

    /// A pattern for the whole path.
    pub fn regex(source: &str) -> Result<Self, String> {
        Ok(Self::Regex(Box::new(PathRegex { pattern: compile_regex(source)?, source: source.into() })))
    }
}

// === impl Matcher ===

impl Matcher {
    /// Whether method, headers and query parameters are as demanded. `query` is what follows the first `?`, undecoded.
    pub fn matches(&self, parts: &request::Parts, query: &str) -> bool {
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
        headers.get_all(&self.name).iter().any(|value| self.value.matches(value.as_bytes()))
    }
}

// === impl QueryMatch ===

impl QueryMatch {
    /// Names and values are compared as sent, without decoding `%41` or `+`, as Envoy does.
    fn matches(&self, query: &str) -> bool {
        query_value(query, &self.name).is_some_and(|value| self.value.matches(value.as_bytes()))
    }
}

/// The undecoded value of the first parameter with this name; empty without `=`.
pub fn query_value<'q>(query: &'q str, name: &str) -> Option<&'q str> {
    // Envoy sees no parameter in an empty query, but an empty name between two `&`.
    if query.is_empty() {
        return None;
    }
    query
        .split('&')
        .map(|parameter| parameter.split_once('=').unwrap_or((parameter, "")))
        .find_map(|(n, value)| (n == name).then_some(value))
}

// === impl ValueMatch ===

impl ValueMatch {
    /// A pattern for the whole value.
    pub fn regex(source: &str) -> Result<Self, String> {
        Ok(Self::Regex { pattern: compile_regex(source)?, source: source.into() })
    }

    fn matches(&self, value: &[u8]) -> bool {
        match self {
            Self::Exact(expected) => expected.as_bytes() == value,
            Self::Regex { pattern, .. } => std::str::from_utf8(value).is_ok_and(|value| pattern.is_match(value)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(method: &str, headers: &[(&str, &str)]) -> request::Parts {
        let request = headers.iter().fold(http::Request::builder().method(method), |b, (n, v)| b.header(*n, *v));
        request.body(()).unwrap().into_parts().0
    }

    fn exact(value: &str) -> ValueMatch {
        ValueMatch::Exact(value.into())
    }

    #[test]
    fn a_header_in_several_lines_matches_if_any_line_does() {
        let matcher =
            Matcher { headers: [HeaderMatch { name: HeaderName::from_static("x-a"), value: exact("2") }].into(), ..Matcher::default() };
        assert!(matcher.matches(&parts("GET", &[("X-A", "1"), ("x-a", "2")]), ""));
        assert!(!matcher.matches(&parts("GET", &[("x-a", "1,2")]), ""));
        assert!(!matcher.matches(&parts("GET", &[]), ""));
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
            assert_eq!(matcher.matches(&parts("GET", &[]), query), expected, "{query}");
        }
        assert_eq!(query_value("a&b=", "a"), Some(""));
        assert_eq!(query_value("", ""), None);
    }

    #[test]
    fn a_method_is_compared_whole() {
        let matcher = Matcher { method: Some(Method::POST), ..Matcher::default() };
        assert!(matcher.matches(&parts("POST", &[]), ""));
        assert!(!matcher.matches(&parts("GET", &[]), ""));
        assert!(!matcher.matches(&parts("post", &[]), ""));
    }

    #[test]
    fn patterns_match_the_whole_text() {
        for (pattern, text, expected) in [
            ("a|ab", "ab", true),
            ("a|b", "ab", false),
            ("/v[0-9]+/.*", "/v2/x", true),
            ("/v", "/v2", false),
            ("(?i)/A", "/a", true),
            ("\\w{64}", &"a".repeat(64), true),
            ("[^/]{64}", &"a".repeat(64), true),
        ] {
            assert_eq!(compile_regex(pattern).unwrap().is_match(text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn a_bad_pattern_is_refused_with_one_line() {
        for pattern in ["a)(b", "(", "[a", "\\w{500}{500}"] {
            let error = compile_regex(pattern).unwrap_err();
            assert!(!error.is_empty() && !error.contains('\n'), "{error}");
        }
    }
}
