//! Trailers: which fields may follow a body (RFC 9110 section 6.5.1, RFC 9113 section 8.2.2).

use http::{HeaderMap, HeaderName};
use smallvec::SmallVec;

/// Fields that must stand before the body: framing, the connection, routing, authentication, request modifiers, response control, and what
/// says how to read the content. Sorted. `proxy-status` and the digests are no part of it: their RFCs allow them as trailers.
const FORBIDDEN: &[&str] = &[
    "age",
    "authorization",
    "cache-control",
    "connection",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-length",
    "content-location",
    "content-range",
    "content-type",
    "cookie",
    "date",
    "expect",
    "expires",
    "forwarded",
    "host",
    "http2-settings",
    "keep-alive",
    "location",
    "max-forwards",
    "pragma",
    "proxy-authenticate",
    "proxy-authentication-info",
    "proxy-authorization",
    "proxy-connection",
    "range",
    "retry-after",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "vary",
    "warning",
    "www-authenticate",
    "x-real-ip",
    "x-request-id",
];

/// Families of such fields: conditions, WebSocket's handshake, and what the edge alone says about the client and the route.
const FORBIDDEN_PREFIXES: &[&str] = &["if-", "sec-websocket-", "x-envoy-", "x-forwarded"];

/// Removes the fields that must not follow a body. A recipient may merge trailers into the headers, so that they would be believed there.
pub(in crate::proxy) fn sieve(trailers: &mut HeaderMap) {
    let forbidden: SmallVec<[HeaderName; 4]> = trailers.keys().filter(|name| !may_trail(name.as_str())).cloned().collect();
    for name in &forbidden {
        trailers.remove(name);
    }
}

/// A name with underscores for dashes is one that some recipients read alike.
fn may_trail(name: &str) -> bool {
    let read = || name.bytes().map(|byte| if byte == b'_' { b'-' } else { byte });
    let listed = FORBIDDEN.binary_search_by(|known| known.bytes().cmp(read())).is_ok();
    let in_family = FORBIDDEN_PREFIXES.iter().any(|prefix| name.len() >= prefix.len() && prefix.bytes().zip(read()).all(|(p, n)| p == n));
    !listed && !in_family
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_sorted() {
        assert!(FORBIDDEN.is_sorted());
    }

    #[test]
    fn what_must_stand_before_the_body_is_dropped_however_it_is_spelt() {
        for name in FORBIDDEN {
            assert!(!may_trail(name), "{name}");
            assert!(!may_trail(&name.replace('-', "_")), "{name}");
        }
        for name in ["x-forwarded", "x-forwarded-for", "x_forwarded_proto", "x-envoy-internal", "if-none-match", "sec-websocket-key"] {
            assert!(!may_trail(name), "{name}");
        }
    }

    #[test]
    fn what_is_only_known_after_the_body_passes() {
        for name in [
            "grpc-status",
            "grpc-message",
            "grpc-status-details-bin",
            "server-timing",
            "digest",
            "content-digest",
            "content-md5",
            "etag",
            "proxy-status",
            "x-sum",
            "x-amz-checksum-crc32",
            "x-user",
            "x",
            "hostname",
        ] {
            assert!(may_trail(name), "{name}");
        }
    }

    #[test]
    fn all_lines_of_a_forbidden_field_go() {
        let mut trailers = HeaderMap::new();
        for (name, value) in [("set-cookie", "a"), ("x-sum", "1"), ("set-cookie", "b"), ("x-sum", "2")] {
            trailers.append(HeaderName::from_static(name), value.parse().unwrap());
        }
        sieve(&mut trailers);
        assert_eq!((trailers.len(), trailers.keys_len()), (2, 1));
    }
}
