//! The request's hash: the policies of a route, evaluated exactly as Envoy does.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use http::{HeaderName, HeaderValue, header::HOST};
use smallvec::SmallVec;

use crate::base::head::{HeaderMap, Value, request};
use crate::lb::{self, HashAccumulator};
use crate::snapshot::{CookiePolicy, HashPolicy, HashSource, RewrittenHeader, query_value};

use super::{claim, cookie, decision::KeySource, lines, scheme::scheme, tag};

/// What a route's hash policies make of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyResult {
    /// The request hash; `None` if no policy found a key.
    pub hash: Option<u64>,
    /// Which kind of policy gave it; `KeySource::Missing` if none did.
    pub source: KeySource,
    /// Set-Cookie values for the cookies that were generated.
    pub set_cookie: SmallVec<[HeaderValue; 1]>,
}

/// What one policy found, for explanations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyTrace {
    /// The policy in words: `cookie sid`, `header x-user`, `sourceIp`, `query user`.
    pub policy: String,
    /// The key found or generated.
    pub value: Option<String>,
    /// The hash of this policy alone.
    pub hash: Option<u64>,
    /// Whether the key is a cookie that was generated from the connection's addresses.
    pub generated: bool,
}

/// What a request was decided by, beside the plan; collected for explanations only.
#[derive(Debug, Default)]
pub(super) struct Trace {
    /// The hash policies that were looked at.
    pub(super) policies: Vec<PolicyTrace>,
    /// What drew the backend.
    pub(super) drawn_by: DrawnBy,
}

/// What draws the backend of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum DrawnBy {
    /// The weights, at random.
    #[default]
    Weight,
    /// The request's key.
    Key,
    /// The name that the request carries.
    Name,
}

/// What stands for the key of a connection's requests that have none.
pub(super) fn connection_hash(remote: SocketAddr, local: SocketAddr) -> u64 {
    lb::xxh64(&lb::generated_cookie_value(remote, local), 0)
}

/// The connection as far as keys depend on it.
#[derive(Clone, Copy)]
struct Ends {
    client: IpAddr,
    remote: SocketAddr,
    local: SocketAddr,
}

/// What one policy yields.
struct Found {
    hash: u64,
    source: KeySource,
}

/// Evaluates hash policies in order. `client` is the address after X-Forwarded-For; `remote` and `local` are the TCP connection's, of which
/// generated cookies are made. A trace, if given, receives one entry for each policy that was looked at.
pub fn evaluate(
    policies: &[HashPolicy],
    parts: &request::Parts,
    client: IpAddr,
    remote: SocketAddr,
    local: SocketAddr,
    mut trace: Option<&mut Vec<PolicyTrace>>,
) -> KeyResult {
    let ends = Ends { client, remote, local };
    let mut hash = HashAccumulator::default();
    let mut result = KeyResult { hash: None, source: KeySource::Missing, set_cookie: SmallVec::new() };
    for policy in policies {
        let found = look_up(&policy.source, parts, ends, &mut result.set_cookie);
        if let Some(trace) = &mut trace {
            trace.push(describe(&policy.source, parts, ends, found.as_ref()));
        }
        if let Some(found) = found {
            hash.add(found.hash);
            result.source = if result.source == KeySource::Missing { found.source } else { KeySource::Combined };
        }
        // Any hash so far counts, not only this policy's.
        if policy.terminal && hash.value().is_some() {
            break;
        }
    }
    result.hash = hash.value();
    result
}

fn look_up(source: &HashSource, parts: &request::Parts, ends: Ends, set_cookie: &mut SmallVec<[HeaderValue; 1]>) -> Option<Found> {
    match source {
        HashSource::Header(name) => header_hash(&parts.headers, name).map(|hash| Found { hash, source: KeySource::Header }),
        HashSource::PseudoHeader(name) => {
            pseudo_header(name, parts).map(|value| Found { hash: lb::xxh64(value, 0), source: KeySource::Header })
        }
        HashSource::Cookie(policy) => match cookie_value(&parts.headers, policy) {
            Some(value) => Some(Found { hash: lb::xxh64(value, 0), source: KeySource::Cookie }),
            None => policy.ttl_seconds.map(|_ttl| {
                let value = lb::generated_cookie_value(ends.remote, ends.local);
                set_cookie.extend(cookie::set_cookie(policy, &value, scheme(parts) == "https"));
                Found { hash: lb::xxh64(&value, 0), source: KeySource::GeneratedCookie }
            }),
        },
        HashSource::TaggedCookie(policy) => Some(match tag::key_of(&parts.headers, &policy.name) {
            Some(value) => Found { hash: lb::xxh64(value, 0), source: KeySource::Cookie },
            // It is set once it is known which host answers.
            None => Found { hash: lb::xxh64(&lb::generated_cookie_value(ends.remote, ends.local), 0), source: KeySource::GeneratedCookie },
        }),
        HashSource::SourceIp => Some(Found { hash: lb::source_ip_hash(ends.client), source: KeySource::SourceIp }),
        HashSource::QueryParameter(name) => parts
            .uri
            .query()
            .and_then(|query| query_value(query, name))
            .map(|value| Found { hash: lb::xxh64(value.as_bytes(), 0), source: KeySource::QueryParameter }),
        HashSource::SourcePrefix { ipv4, ipv6 } => {
            Some(Found { hash: lb::source_ip_hash(prefix(ends.client, *ipv4, *ipv6)), source: KeySource::SourceIp })
        }
        HashSource::RewrittenHeader(header) => rewritten_hash(&parts.headers, header).map(|hash| Found { hash, source: KeySource::Header }),
        HashSource::PathSegment(segment) => path_segment(parts.uri.path(), *segment)
            .map(|value| Found { hash: lb::xxh64(value.as_bytes(), 0), source: KeySource::PathSegment }),
        HashSource::JwtClaim(source) => {
            claim::value(&parts.headers, source).map(|value| Found { hash: lb::xxh64(value.as_bytes(), 0), source: KeySource::JwtClaim })
        }
    }
}

/// The first bits of an address, the others being 0.
fn prefix(client: IpAddr, ipv4: u8, ipv6: u8) -> IpAddr {
    match client {
        IpAddr::V4(ip) => {
            let host_bits = u32::MAX.checked_shr(ipv4.into()).unwrap_or(0);
            Ipv4Addr::from_bits(ip.to_bits() & !host_bits).into()
        }
        IpAddr::V6(ip) => {
            let host_bits = u128::MAX.checked_shr(ipv6.into()).unwrap_or(0);
            Ipv6Addr::from_bits(ip.to_bits() & !host_bits).into()
        }
    }
}

/// What is made of the values of a header, each by itself, as in Envoy's `HeaderHashMethod`.
fn rewritten<'h>(headers: &'h HeaderMap, header: &'h RewrittenHeader) -> impl Iterator<Item = String> + 'h {
    let text = |value: Value<'h>| String::from_utf8_lossy(value.as_bytes());
    let values = headers.get_all(&header.name).map(text);
    values.map(|value| header.pattern.regex().replace_all(&value, &*header.substitution).into_owned())
}

fn rewritten_hash(headers: &HeaderMap, header: &RewrittenHeader) -> Option<u64> {
    let values: SmallVec<[String; 1]> = rewritten(headers, header).collect();
    lb::header_values_hash(&mut values.iter().map(String::as_bytes).collect::<SmallVec<[&[u8]; 4]>>())
}

/// A segment of a path, counted from 1; `None` if there is none or it is empty.
fn path_segment(path: &str, segment: u16) -> Option<&str> {
    path.strip_prefix('/')?.split('/').nth(usize::from(segment).checked_sub(1)?).filter(|segment| !segment.is_empty())
}

/// An empty cookie is none.
fn cookie_value<'h>(headers: &'h HeaderMap, policy: &CookiePolicy) -> Option<&'h [u8]> {
    cookie::value(headers, &policy.name).filter(|value| !value.is_empty())
}

fn header_hash(headers: &HeaderMap, name: &HeaderName) -> Option<u64> {
    let mut values: SmallVec<[&[u8]; 4]> = headers.get_all(name).map(Value::as_bytes).collect();
    if values.len() > 1 && lines::are_joined(name) {
        return lines::joined(headers, name).map(|list| lb::xxh64(&list, 0));
    }
    lb::header_values_hash(&mut values)
}

fn pseudo_header<'p>(name: &str, parts: &'p request::Parts) -> Option<&'p [u8]> {
    match name {
        ":authority" => parts.headers.get(HOST).map(Value::as_bytes),
        ":path" => parts.uri.path_and_query().map(|target| target.as_str().as_bytes()),
        ":method" => Some(parts.method.as_str().as_bytes()),
        ":scheme" => Some(scheme(parts).as_bytes()),
        _ => None,
    }
}

/// The policy in words, as explanations name it.
pub(super) fn label(source: &HashSource) -> String {
    match source {
        HashSource::Header(name) => format!("header {name}"),
        HashSource::PseudoHeader(name) => format!("header {name}"),
        HashSource::Cookie(policy) | HashSource::TaggedCookie(policy) => format!("cookie {}", policy.name),
        HashSource::SourceIp => "sourceIp".to_owned(),
        HashSource::SourcePrefix { ipv4, ipv6 } => format!("sourceIp /{ipv4} or /{ipv6}"),
        HashSource::RewrittenHeader(header) => format!("header {} by pattern", header.name),
        HashSource::QueryParameter(name) => format!("query {name}"),
        HashSource::PathSegment(segment) => format!("path segment {segment}"),
        HashSource::JwtClaim(source) => format!("claim {}", source.claim),
    }
}

fn describe(source: &HashSource, parts: &request::Parts, ends: Ends, found: Option<&Found>) -> PolicyTrace {
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    let generated = found.is_some_and(|found| found.source == KeySource::GeneratedCookie);
    let value = found.map(|_| match source {
        HashSource::Header(name) => parts.headers.get_all(name).map(|value| text(value.as_bytes())).collect::<Vec<_>>().join(", "),
        HashSource::PseudoHeader(name) => pseudo_header(name, parts).map(text).unwrap_or_default(),
        HashSource::Cookie(_) | HashSource::TaggedCookie(_) if generated => text(&lb::generated_cookie_value(ends.remote, ends.local)),
        HashSource::Cookie(policy) => cookie_value(&parts.headers, policy).map(text).unwrap_or_default(),
        HashSource::TaggedCookie(policy) => tag::key_of(&parts.headers, &policy.name).map(text).unwrap_or_default(),
        HashSource::SourceIp => ends.client.to_string(),
        HashSource::QueryParameter(name) => parts.uri.query().and_then(|query| query_value(query, name)).unwrap_or_default().to_owned(),
        HashSource::SourcePrefix { ipv4, ipv6 } => prefix(ends.client, *ipv4, *ipv6).to_string(),
        HashSource::RewrittenHeader(header) => rewritten(&parts.headers, header).collect::<Vec<_>>().join(", "),
        HashSource::PathSegment(segment) => path_segment(parts.uri.path(), *segment).unwrap_or_default().to_owned(),
        HashSource::JwtClaim(source) => claim::value(&parts.headers, source).unwrap_or_default(),
    });
    PolicyTrace { policy: label(source), value, hash: found.map(|found| found.hash), generated }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: u64 = 0xef46_db37_51d8_e999;

    fn parts(target: &str, headers: &[(&str, &str)]) -> request::Parts {
        let request = headers.iter().fold(http::Request::builder().uri(target), |b, (n, v)| b.header(*n, *v));
        request.body(()).unwrap().into_parts().0.into()
    }

    fn policies(sources: &[(HashSource, bool)]) -> Vec<HashPolicy> {
        sources.iter().map(|(source, terminal)| HashPolicy { source: source.clone(), terminal: *terminal }).collect()
    }

    fn header(name: &'static str) -> HashSource {
        HashSource::Header(HeaderName::from_static(name))
    }

    fn cookie_source(ttl: Option<u64>) -> HashSource {
        HashSource::Cookie(CookiePolicy {
            name: "sid".into(),
            ttl_seconds: ttl,
            set_cookie_suffix: "; HttpOnly".into(),
            secure_over_https: false,
        })
    }

    fn key(sources: &[(HashSource, bool)], target: &str, headers: &[(&str, &str)]) -> KeyResult {
        let (remote, local) = ("127.0.0.1:50412".parse().unwrap(), "127.0.0.1:8080".parse().unwrap());
        evaluate(&policies(sources), &parts(target, headers), "10.1.2.3".parse().unwrap(), remote, local, None)
    }

    fn hash(sources: &[(HashSource, bool)], target: &str, headers: &[(&str, &str)]) -> Option<u64> {
        key(sources, target, headers).hash
    }

    fn xx(text: &str) -> Option<u64> {
        Some(lb::xxh64(text.as_bytes(), 0))
    }

    #[test]
    fn headers_hash_by_sorted_chained_values() {
        let source = [(header("x-user"), false)];
        assert_eq!(hash(&source, "/", &[]), None);
        assert_eq!(hash(&source, "/", &[("x-user", "")]), Some(EMPTY));
        assert_eq!(hash(&source, "/", &[("x-user", "a,b")]), xx("a,b"));
        let chained = Some(lb::xxh64(b"b", lb::xxh64(b"a", 0)));
        assert_eq!(hash(&source, "/", &[("x-user", "b"), ("X-User", "a")]), chained);
        let joined = [(header("authorization"), false)];
        assert_eq!(hash(&joined, "/", &[("authorization", "b"), ("authorization", "a")]), xx("b,a"));
    }

    #[test]
    fn an_empty_cookie_counts_as_absent_and_is_generated_only_with_a_ttl() {
        for headers in [&[][..], &[("cookie", "sid=")], &[("cookie", "sid=\"\"")], &[("cookie", "sid=; sid=x")]] {
            let kept = key(&[(cookie_source(None), false)], "/", headers);
            assert_eq!((kept.hash, kept.source, kept.set_cookie.len()), (None, KeySource::Missing, 0));
            let generated = key(&[(cookie_source(Some(0)), false)], "/", headers);
            let value = lb::generated_cookie_value("127.0.0.1:50412".parse().unwrap(), "127.0.0.1:8080".parse().unwrap());
            assert_eq!((generated.hash, generated.source), (Some(lb::xxh64(&value, 0)), KeySource::GeneratedCookie));
            let text = format!("sid=\"{}\"; HttpOnly", std::str::from_utf8(&value).unwrap());
            assert_eq!(generated.set_cookie.as_slice(), [text.as_str()]);
            // The client comes back with the cookie, quoted or not, and keeps its hash.
            let back = format!("sid=\"{}\"", std::str::from_utf8(&value).unwrap());
            assert_eq!(hash(&[(cookie_source(Some(0)), false)], "/", &[("cookie", &back)]), generated.hash);
        }
    }

    #[test]
    fn two_missing_cookies_get_the_same_value() {
        let both = key(&[(cookie_source(Some(60)), false), (cookie_source(Some(60)), false)], "/", &[]);
        assert_eq!(both.set_cookie.len(), 2);
        assert_eq!(both.set_cookie[0], both.set_cookie[1]);
    }

    #[test]
    fn queries_are_read_undecoded() {
        let source = [(HashSource::QueryParameter("user".into()), false)];
        for (target, expected) in [
            ("/?user=a", xx("a")),
            ("/?user", Some(EMPTY)),
            ("/?user=", Some(EMPTY)),
            ("/?x=1&user=a&user=b", xx("a")),
            ("/?user=%61", xx("%61")),
            ("/?us%65r=a", None),
            ("/?User=a", None),
            ("/?user=a=b?c", xx("a=b?c")),
            ("/", None),
        ] {
            assert_eq!(hash(&source, target, &[]), expected, "{target}");
        }
    }

    #[test]
    fn pseudo_headers_and_the_source_address_hash_as_text() {
        let pseudo = |name: &str| [(HashSource::PseudoHeader(name.into()), false)];
        let headers = [("host", "A.example:80")];
        assert_eq!(hash(&pseudo(":authority"), "/p?q", &headers), xx("A.example:80"));
        assert_eq!(hash(&pseudo(":path"), "/p?q", &headers), xx("/p?q"));
        assert_eq!(hash(&pseudo(":method"), "/p?q", &headers), xx("GET"));
        assert_eq!(hash(&pseudo(":scheme"), "/p?q", &headers), xx("http"));
        assert_eq!(hash(&pseudo(":scheme"), "/p?q", &[("x-forwarded-proto", "https")]), xx("https"));
        assert_eq!(hash(&[(HashSource::SourceIp, false)], "/", &[]), xx("10.1.2.3"));
    }

    #[test]
    fn segments_of_the_path_are_counted_from_one() {
        let segment = |number| [(HashSource::PathSegment(number), false)];
        for (target, number, expected) in [
            ("/a/b%2Fc/d?x", 1, xx("a")),
            ("/a/b%2Fc/d?x", 2, xx("b%2Fc")),
            ("/a/b%2Fc/d?x", 3, xx("d")),
            ("/a/b%2Fc/d?x", 4, None),
            ("/a//d", 2, None),
            ("/", 1, None),
            ("/a", 0, None),
        ] {
            assert_eq!(hash(&segment(number), target, &[]), expected, "{number} of {target}");
        }
    }

    #[test]
    fn of_an_address_as_many_bits_count_as_asked_for() {
        for (client, ipv4, ipv6, expected) in [
            ("10.1.2.3", 24, 64, "10.1.2.0"),
            ("10.1.2.3", 0, 64, "0.0.0.0"),
            ("10.1.2.3", 32, 0, "10.1.2.3"),
            ("2001:db8:1:2:3::4", 24, 64, "2001:db8:1:2::"),
            ("2001:db8:1:2:3::4", 24, 0, "::"),
            ("2001:db8:1:2:3::4", 24, 128, "2001:db8:1:2:3::4"),
        ] {
            assert_eq!(prefix(client.parse().unwrap(), ipv4, ipv6), expected.parse::<IpAddr>().unwrap(), "{client} /{ipv4} /{ipv6}");
        }
        let by_prefix = [(HashSource::SourcePrefix { ipv4: 16, ipv6: 64 }, false)];
        assert_eq!(hash(&by_prefix, "/", &[]), xx("10.1.0.0"));
    }

    #[test]
    fn a_pattern_makes_the_key_of_each_value() {
        let pattern = crate::snapshot::Pattern::compile("^([^.]+)\\..*$", crate::snapshot::Extent::Anywhere).unwrap();
        let source = HashSource::RewrittenHeader(Box::new(RewrittenHeader {
            name: HeaderName::from_static("x-user"),
            pattern: std::sync::Arc::new(pattern),
            substitution: "$1".into(),
        }));
        let source = [(source, false)];
        assert_eq!(hash(&source, "/", &[("x-user", "alice.7")]), xx("alice"));
        assert_eq!(hash(&source, "/", &[("x-user", "alice")]), xx("alice"));
        assert_eq!(hash(&source, "/", &[]), None);
        let chained = Some(lb::xxh64(b"b", lb::xxh64(b"a", 0)));
        assert_eq!(hash(&source, "/", &[("x-user", "b.1"), ("x-user", "a.1")]), chained);
    }

    #[test]
    fn a_cookie_is_secure_where_the_request_came_by_https() {
        let source = |secure_over_https| {
            let cookie =
                CookiePolicy { name: "sid".into(), ttl_seconds: Some(0), set_cookie_suffix: "; HttpOnly".into(), secure_over_https };
            [(HashSource::Cookie(cookie), false)]
        };
        for (secure_over_https, proto, secure) in [(true, "https", true), (true, "http", false), (false, "https", false)] {
            let made = key(&source(secure_over_https), "/", &[("x-forwarded-proto", proto)]).set_cookie;
            let text = made[0].to_str().unwrap();
            assert_eq!(text.ends_with("; HttpOnly; Secure"), secure, "{text}");
        }
    }

    #[test]
    fn policies_combine_and_terminal_looks_at_any_hash_so_far() {
        let (user, sid, query) = (header("x-user"), cookie_source(None), HashSource::QueryParameter("u".into()));
        let (a, b) = (xx("a").unwrap(), xx("b").unwrap());
        let headers = [("x-user", "a")];
        let combined = key(&[(user.clone(), false), (query.clone(), false)], "/?u=b", &headers);
        assert_eq!((combined.hash, combined.source), (Some(a.rotate_left(1) ^ b), KeySource::Combined));
        let stopped = [(user.clone(), false), (sid, true), (query.clone(), false)];
        assert_eq!(hash(&stopped, "/?u=b", &headers), Some(a));
        assert_eq!(hash(&stopped, "/?u=b", &[]), Some(b));
        assert_eq!(key(&[(user, true), (query, false)], "/?u=b", &headers).source, KeySource::Header);
    }

    #[test]
    fn a_trace_names_every_policy_looked_at() {
        let mut trace = Vec::new();
        let sources =
            policies(&[(header("x-user"), false), (cookie_source(None), false), (HashSource::SourceIp, true), (header("x-b"), false)]);
        let (remote, local) = ("127.0.0.1:1".parse().unwrap(), "127.0.0.1:2".parse().unwrap());
        let parts = parts("/", &[("cookie", "sid=v")]);
        evaluate(&sources, &parts, "10.1.2.3".parse().unwrap(), remote, local, Some(&mut trace));
        let seen: Vec<_> = trace.iter().map(|t| (t.policy.as_str(), t.value.as_deref(), t.hash)).collect();
        assert_eq!(
            seen,
            [("header x-user", None, None), ("cookie sid", Some("v"), xx("v")), ("sourceIp", Some("10.1.2.3"), xx("10.1.2.3"))]
        );
    }
}
