//! Who the client is, and the headers that say so to the backend, as Envoy's HttpConnectionManager does it.
//!
//! At the edge (`use_remote_address`) the client's word counts for nothing beyond the trusted hops; behind another proxy (Gloo's default)
//! what arrives is left alone.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderValue, header::COOKIE};
use smallvec::SmallVec;

use crate::base::head::{HeaderMap, Name};
use crate::snapshot::{ClientProfile, Timeouts};

use super::{connection::Connection, lines};

const X_FORWARDED_FOR: Name = Name::new("x-forwarded-for");
pub(super) const X_FORWARDED_PROTO: Name = Name::new("x-forwarded-proto");
const X_FORWARDED_CLIENT_CERT: Name = Name::new("x-forwarded-client-cert");
const X_REQUEST_ID: Name = Name::new("x-request-id");
const X_ENVOY_EXTERNAL_ADDRESS: Name = Name::new("x-envoy-external-address");
const X_ENVOY_EXPECTED_RQ_TIMEOUT_MS: Name = Name::new("x-envoy-expected-rq-timeout-ms");

/// The client's address by the bind's profile. Rewrites the headers in which requests speak of their origin.
pub(super) fn identify(headers: &mut HeaderMap, connection: &Connection<'_>, random: &mut fastrand::Rng) -> IpAddr {
    // Only a gateway may say who the client is by its certificate, and this one does not: Envoy's `SANITIZE`, its default everywhere.
    headers.remove(X_FORWARDED_CLIENT_CERT);
    if connection.bind.profile.use_remote_address {
        identify_at_the_edge(headers, connection, random)
    } else {
        identify_behind_a_proxy(headers, connection, random)
    }
}

/// The client's address as Envoy finds it: the entry of X-Forwarded-For that the profile trusts, if it is a bare address, else the TCP peer.
pub fn client_address(headers: &HeaderMap, profile: &ClientProfile, peer: SocketAddr) -> IpAddr {
    trusted_address(lines::joined(headers, X_FORWARDED_FOR).as_deref(), profile).unwrap_or_else(|| peer.ip().to_canonical())
}

fn trusted_address(forwarded_for: Option<&[u8]>, profile: &ClientProfile) -> Option<IpAddr> {
    // At the edge the peer itself is the last hop.
    let skipped = match profile.use_remote_address {
        true => profile.xff_num_trusted_hops.checked_sub(1)?,
        false => profile.xff_num_trusted_hops,
    };
    nth_from_the_right(forwarded_for?, skipped)
}

/// Tells the backend how long the gateway will wait: one attempt, else the whole request; nothing where there is no limit.
pub(super) fn announce_timeout(headers: &mut HeaderMap, timeouts: &Timeouts) {
    let timeout = timeouts.backend_request.or(timeouts.request).map(|timeout| timeout.as_millis());
    match timeout {
        Some(15_000) => headers.insert(X_ENVOY_EXPECTED_RQ_TIMEOUT_MS, HeaderValue::from_static("15000")),
        Some(millis) => {
            headers.insert(X_ENVOY_EXPECTED_RQ_TIMEOUT_MS, HeaderValue::from(u64::try_from(millis).unwrap_or(u64::MAX)));
        }
        None => {
            headers.remove(X_ENVOY_EXPECTED_RQ_TIMEOUT_MS);
        }
    }
}

fn identify_at_the_edge(headers: &mut HeaderMap, connection: &Connection<'_>, random: &mut fastrand::Rng) -> IpAddr {
    let hops = connection.bind.profile.xff_num_trusted_hops;
    strip_foreign(headers, hops);
    let peer = connection.remote.ip().to_canonical();
    let peer_text = address_text(peer);
    let forwarded_for = lines::joined(headers, X_FORWARDED_FOR);
    let client = trusted_address(forwarded_for.as_deref(), &connection.bind.profile).unwrap_or(peer);
    let appended = match &forwarded_for {
        Some(before) if !before.is_empty() => Some([before, b",".as_slice(), &peer_text].concat()),
        Some(_) | None => None,
    };
    // Addresses are always valid, and so is what was a field before.
    let _ = headers.insert_bytes(X_FORWARDED_FOR, appended.as_deref().unwrap_or(&peer_text));
    let client_text = if client == peer { peer_text } else { address_text(client) };
    let _ = headers.insert_bytes(X_ENVOY_EXTERNAL_ADDRESS, &client_text);
    if hops == 0 || !headers.contains_key(X_FORWARDED_PROTO) {
        headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(connection.scheme()));
    }
    insert_request_id(headers, random);
    client
}

fn identify_behind_a_proxy(headers: &mut HeaderMap, connection: &Connection<'_>, random: &mut fastrand::Rng) -> IpAddr {
    let client = client_address(headers, &connection.bind.profile, connection.remote);
    if !headers.contains_key(X_FORWARDED_PROTO) {
        headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(connection.scheme()));
    }
    if !headers.contains_key(X_REQUEST_ID) {
        insert_request_id(headers, random);
    }
    client
}

/// An address. Written by hand where every request pays for it: the formatter takes ten times as long.
fn address_text(address: IpAddr) -> SmallVec<[u8; 16]> {
    let IpAddr::V4(address) = address else { return SmallVec::from_slice(address.to_string().as_bytes()) };
    let mut text: SmallVec<[u8; 16]> = SmallVec::new();
    for octet in address.octets() {
        if !text.is_empty() {
            text.push(b'.');
        }
        if octet >= 100 {
            text.push(b'0' + octet / 100);
        }
        if octet >= 10 {
            text.push(b'0' + octet / 10 % 10);
        }
        text.push(b'0' + octet % 10);
    }
    text
}

/// A random UUID.
fn insert_request_id(headers: &mut HeaderMap, random: &mut fastrand::Rng) {
    let id = uuid::Builder::from_random_bytes(random.u128(..).to_ne_bytes()).into_uuid();
    let mut text = uuid::Uuid::encode_buffer();
    // It is always a valid value.
    let _ = headers.insert_bytes(X_REQUEST_ID, id.hyphenated().encode_lower(&mut text).as_bytes());
}

/// The entry with `skipped` others to its right, if there is one and it is a bare address. A list that ends in a comma has none, as in Envoy.
fn nth_from_the_right(list: &[u8], skipped: u32) -> Option<IpAddr> {
    let comma = |list: &[u8]| list.iter().rposition(|&byte| byte == b',');
    let mut list = list;
    for _ in 0..skipped {
        list = list.get(..comma(list)?)?;
    }
    let entry = match comma(list) {
        Some(at) if at + 1 < list.len() => list.get(at + 1..)?,
        Some(_) | None => list,
    };
    std::str::from_utf8(entry.trim_ascii()).ok()?.parse().ok()
}

/// Removes what only a trusted proxy may say: `x-envoy-*`, and without trusted hops also the other names for the client's origin. A name
/// with underscores for dashes is one that some backends read alike.
fn strip_foreign(headers: &mut HeaderMap, hops: u32) {
    headers.retain(|name| !is_foreign(name, hops));
}

fn is_foreign(name: &[u8], hops: u32) -> bool {
    match name.first() {
        Some(b'x') => {
            let reads_like = |prefix: &str| {
                name.len() >= prefix.len() && name.iter().zip(prefix.bytes()).all(|(n, p)| *n == p || (*n == b'_' && p == b'-'))
            };
            reads_like("x-envoy-")
                || (name.contains(&b'_') && reads_like("x-forwarded-"))
                || (hops == 0 && (reads_like("x-forwarded-host") || reads_like("x-real-ip")))
        }
        Some(b'f') => hops == 0 && name == b"forwarded",
        _ => false,
    }
}

/// The Cookie fields of an HTTP/2 request are one (RFC 9113 section 8.2.3): an HTTP/1.1 backend must see one, and so must the hash.
pub(super) fn join_cookies(headers: &mut HeaderMap) {
    let mut lines = headers.get_all(COOKIE);
    let (Some(first), Some(second)) = (lines.next(), lines.next()) else { return };
    let joined = std::iter::once(second).chain(lines).fold(first.as_bytes().to_vec(), |mut joined, line| {
        joined.extend_from_slice(b"; ");
        joined.extend_from_slice(line.as_bytes());
        joined
    });
    if let Ok(value) = HeaderValue::try_from(joined) {
        headers.insert(COOKIE, value);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::HeaderName;

    use super::*;
    use crate::plan::fixture;

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        lines.iter().map(|(n, v)| (n.parse::<HeaderName>().unwrap(), v.parse::<HeaderValue>().unwrap())).collect()
    }

    fn identified(edge: bool, hops: u32, peer: &str, lines: &[(&str, &str)]) -> (String, HeaderMap) {
        let bind = fixture::bind_with_profile(edge, hops);
        let connection = Connection { bind: &bind, remote: peer.parse().unwrap(), local: "10.0.0.9:80".parse().unwrap(), tls: None };
        let mut headers: HeaderMap = lines.iter().fold(HeaderMap::new(), |mut map, (n, v)| {
            map.append(n.parse::<HeaderName>().unwrap(), v.parse::<HeaderValue>().unwrap());
            map
        });
        let client = identify(&mut headers, &connection, &mut fastrand::Rng::with_seed(1));
        (client.to_string(), headers)
    }

    #[test]
    fn the_client_is_found_as_envoy_finds_it() {
        let peer = "10.0.0.1:1234";
        for (edge, hops, xff, client) in [
            (false, 0, "", "10.0.0.1"),
            (false, 0, "1.1.1.1", "1.1.1.1"),
            (false, 0, "1.1.1.1, 2.2.2.2", "2.2.2.2"),
            (false, 1, "1.1.1.1, 2.2.2.2", "1.1.1.1"),
            (false, 1, "2.2.2.2", "10.0.0.1"),
            (false, 0, "1.1.1.1:80", "10.0.0.1"),
            (false, 0, "[2001:db8::9]", "10.0.0.1"),
            (false, 0, "2001:DB8:0::9", "2001:db8::9"),
            (false, 0, "::ffff:1.2.3.4", "::ffff:1.2.3.4"),
            (false, 0, "1.1.1.1,", "10.0.0.1"),
            (false, 0, "unknown", "10.0.0.1"),
            (true, 0, "1.1.1.1", "10.0.0.1"),
            (true, 1, "1.1.1.1, 2.2.2.2", "2.2.2.2"),
            (true, 2, "1.1.1.1, 2.2.2.2", "1.1.1.1"),
            (true, 3, "1.1.1.1, 2.2.2.2", "10.0.0.1"),
        ] {
            let lines: Vec<_> = [("x-forwarded-for", xff)].into_iter().filter(|(_, v)| !v.is_empty()).collect();
            assert_eq!(identified(edge, hops, peer, &lines).0, client, "edge {edge} hops {hops} {xff}");
        }
        let lines = [("x-forwarded-for", "1.1.1.1"), ("x-forwarded-for", "2.2.2.2")];
        assert_eq!(identified(false, 0, peer, &lines).0, "2.2.2.2");
        assert_eq!(identified(false, 1, peer, &lines).0, "1.1.1.1");
        assert_eq!(identified(false, 0, "[::ffff:9.9.9.9]:1", &[]).0, "9.9.9.9");
    }

    #[test]
    fn nobody_says_of_himself_which_certificate_he_has() {
        for edge in [true, false] {
            for hops in [0, 1] {
                let (_, headers) = identified(edge, hops, "10.0.0.1:1", &[("x-forwarded-client-cert", "Hash=0;Subject=\"CN=admin\"")]);
                assert!(!headers.contains_key("x-forwarded-client-cert"), "edge {edge} hops {hops}");
            }
        }
    }

    #[test]
    fn at_the_edge_the_clients_word_is_replaced() {
        let sent = [
            ("x-forwarded-for", "1.1.1.1"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "evil"),
            ("x_forwarded_for", "2.2.2.2"),
            ("x-real-ip", "2.2.2.2"),
            ("forwarded", "for=2.2.2.2"),
            ("x-request-id", "mine"),
            ("x-envoy-max-retries", "9"),
            ("x-envoy-external-address", "3.3.3.3"),
            ("x-user", "kept"),
        ];
        let (_, headers) = identified(true, 0, "10.0.0.1:1", &sent);
        let mut names: Vec<&str> = headers.keys().map(|name| std::str::from_utf8(name).unwrap()).collect();
        names.sort_unstable();
        assert_eq!(names, ["x-envoy-external-address", "x-forwarded-for", "x-forwarded-proto", "x-request-id", "x-user"]);
        assert_eq!(headers.get(X_FORWARDED_FOR).unwrap(), "1.1.1.1,10.0.0.1");
        assert_eq!(headers.get(X_FORWARDED_PROTO).unwrap(), "http");
        assert_eq!(headers.get(X_ENVOY_EXTERNAL_ADDRESS).unwrap(), "10.0.0.1");
        let id = headers.get(X_REQUEST_ID).unwrap().to_str().unwrap();
        assert!(id.len() == 36 && id.as_bytes()[14] == b'4', "{id}");
    }

    #[test]
    fn a_trusted_hop_is_believed() {
        let sent = [("x-forwarded-for", "1.1.1.1"), ("x-forwarded-proto", "https"), ("x-forwarded-host", "a")];
        let (_, headers) = identified(true, 1, "10.0.0.1:1", &sent);
        assert_eq!(headers.get(X_FORWARDED_PROTO).unwrap(), "https");
        assert_eq!(headers.get("x-forwarded-host").unwrap(), "a");
        assert_eq!(headers.get(X_ENVOY_EXTERNAL_ADDRESS).unwrap(), "1.1.1.1");
        assert_eq!(headers.get(X_FORWARDED_FOR).unwrap(), "1.1.1.1,10.0.0.1");
    }

    #[test]
    fn behind_a_proxy_headers_are_left_alone() {
        let sent = [("x-forwarded-for", "1.1.1.1"), ("x-forwarded-proto", "https"), ("x-request-id", "mine"), ("x-envoy-a", "b")];
        assert_eq!(identified(false, 0, "10.0.0.1:1", &sent).1, headers(&sent));
        let (_, fresh) = identified(false, 0, "10.0.0.1:1", &[]);
        assert_eq!((fresh.len(), fresh.get(X_FORWARDED_FOR)), (2, None));
        assert_eq!(fresh.get(X_FORWARDED_PROTO).unwrap(), "http");
        assert_eq!(fresh.get(X_REQUEST_ID).unwrap().len(), 36);
    }

    #[test]
    fn cookie_lines_become_one() {
        let mut headers = headers(&[("cookie", "a=1"), ("cookie", "b=2"), ("cookie", "c=3")]);
        join_cookies(&mut headers);
        assert_eq!(headers.get_all(COOKIE).collect::<Vec<_>>(), ["a=1; b=2; c=3"]);
    }

    #[test]
    fn the_timeout_of_one_attempt_is_announced_else_that_of_the_request() {
        for (request, attempt, expected) in
            [(Some(15_000), None, Some("15000")), (Some(15_000), Some(250), Some("250")), (Some(1), None, Some("1")), (None, None, None)]
        {
            let timeouts = Timeouts {
                request: request.map(Duration::from_millis),
                backend_request: attempt.map(Duration::from_millis),
                ..Timeouts::default()
            };
            let mut headers = headers(&[("x-envoy-expected-rq-timeout-ms", "9")]);
            announce_timeout(&mut headers, &timeouts);
            assert_eq!(headers.get(X_ENVOY_EXPECTED_RQ_TIMEOUT_MS).map(|v| v.to_str().unwrap()), expected);
        }
    }
}
