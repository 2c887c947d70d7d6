//! Several lines of one header, as Envoy keeps them.

use std::borrow::Cow;

use http::HeaderName;

use crate::base::head::{HeaderMap, LookupName, Value};

/// Headers that Envoy keeps in a slot of their own, where later lines are appended to the first with a comma; all others keep their lines.
/// Found by sending three lines through Envoy 1.40.0. Sorted.
const JOINED: &[&str] = &[
    "accept",
    "accept-encoding",
    "access-control-request-headers",
    "access-control-request-method",
    "access-control-request-private-network",
    "authorization",
    "cache-control",
    "cdn-loop",
    "content-encoding",
    "content-type",
    "expect",
    "grpc-accept-encoding",
    "grpc-timeout",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "origin",
    "pragma",
    "proxy-status",
    "referer",
    "user-agent",
    "via",
    "x-client-trace-id",
    "x-envoy-attempt-count",
    "x-envoy-decorator-operation",
    "x-envoy-downstream-service-cluster",
    "x-envoy-downstream-service-node",
    "x-envoy-external-address",
    "x-envoy-is-timeout-retry",
    "x-envoy-original-host",
    "x-envoy-original-path",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-proto",
    "x-request-id",
];

/// Whether Envoy has one line of this header, however many were sent.
pub(super) fn are_joined(name: &HeaderName) -> bool {
    JOINED.binary_search(&name.as_str()).is_ok()
}

/// All lines of a header as one, with commas; an empty line adds none.
pub(super) fn joined<'h>(headers: &'h HeaderMap, name: impl LookupName) -> Option<Cow<'h, [u8]>> {
    let mut lines = headers.get_all(name).map(Value::as_bytes);
    let first = Cow::Borrowed(lines.next()?);
    Some(lines.filter(|line| !line.is_empty()).fold(first, |list, line| match list.is_empty() {
        true => Cow::Borrowed(line),
        false => Cow::Owned([&list, b",".as_slice(), line].concat()),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_are_sorted_and_in_lower_case() {
        assert!(JOINED.is_sorted_by(|a, b| a < b));
        assert!(JOINED.iter().all(|name| HeaderName::from_bytes(name.as_bytes()).is_ok_and(|parsed| parsed.as_str() == *name)));
        assert!(are_joined(&http::header::AUTHORIZATION));
        assert!(!are_joined(&http::header::ACCEPT_LANGUAGE));
    }

    #[test]
    fn lines_are_joined_without_the_empty_ones() {
        let name = HeaderName::from_static("x-forwarded-for");
        let table: &[(&[&str], Option<&str>)] =
            &[(&[], None), (&[""], Some("")), (&["", ""], Some("")), (&["b", "", "a"], Some("b,a")), (&["", "a, b", "c"], Some("a, b,c"))];
        for (lines, expected) in table {
            let headers: HeaderMap = lines.iter().map(|line| (name.clone(), http::HeaderValue::from_str(line).unwrap())).collect();
            assert_eq!(joined(&headers, &name).as_deref(), expected.map(str::as_bytes), "{lines:?}");
        }
    }
}
