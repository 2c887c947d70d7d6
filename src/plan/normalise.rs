//! What must hold of every request head, and the one form of host and path that matching, hashing and forwarding share.
//!
//! The client's leg parses; it does not insist on a Host, on a valid one, or on a path without dot segments.

use std::{borrow::Cow, net::SocketAddr};

use http::{HeaderValue, Method, StatusCode, Uri, Version, header::HOST, uri::PathAndQuery};

use crate::base::head::{HeaderMap, request};
use crate::snapshot::{EscapedSlashesAction, PathNormalization};

use super::decision::{Reply, ReplyReason};

/// Where the host's name ends within the Host header, and whether it has to be turned to lower case for matching.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Authority {
    name_len: usize,
    has_upper_case: bool,
}

/// Refuses what is malformed. Afterwards there is exactly one Host header and the target is in origin form (or `*`), with a normalised path.
pub(super) fn request_head(parts: &mut request::Parts, local: SocketAddr, settings: PathNormalization) -> Result<Authority, Reply> {
    if parts.method == Method::CONNECT {
        return Err(refusal(StatusCode::METHOD_NOT_ALLOWED, "CONNECT is not supported"));
    }
    if parts.uri.scheme_str().is_some_and(|scheme| !is_served(scheme)) {
        return Err(bad_request("the scheme is neither http nor https"));
    }
    let authority = one_host(parts, local).map_err(bad_request)?;
    match target(parts, settings).map_err(bad_request)? {
        Target::Settled => Ok(authority),
        Target::Elsewhere => Err(redirect(&parts.uri)),
    }
}

/// What becomes of a target once it is normalised.
enum Target {
    /// The request goes on with it.
    Settled,
    /// The client is to ask for it.
    Elsewhere,
}

fn is_served(scheme: &str) -> bool {
    scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https")
}

/// The client is sent to the normalised target, as Envoy's `UNESCAPE_AND_REDIRECT` does.
fn redirect(target: &Uri) -> Reply {
    let location = target.path_and_query().and_then(|target| HeaderValue::from_str(target.as_str()).ok());
    Reply { status: StatusCode::TEMPORARY_REDIRECT, location, reason: ReplyReason::EscapedSlashes }
}

impl Authority {
    /// The host as hostnames are matched with it: lower case, without port and without a trailing dot.
    pub(super) fn name<'h>(self, headers: &'h HeaderMap) -> Cow<'h, str> {
        let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        let name = host.get(..self.name_len).unwrap_or_default();
        if self.has_upper_case { Cow::Owned(name.to_ascii_lowercase()) } else { Cow::Borrowed(name) }
    }
}

/// A Host value without its port.
pub(super) fn without_port(host: &str) -> &str {
    match host.rfind([':', ']']) {
        Some(at) if host.as_bytes().get(at) == Some(&b':') => host.get(..at).unwrap_or(host),
        Some(_) | None => host,
    }
}

/// An answer to a malformed request.
pub(super) fn refusal(status: StatusCode, why: &'static str) -> Reply {
    Reply { status, location: None, reason: ReplyReason::BadRequest(why) }
}

fn bad_request(why: &'static str) -> Reply {
    refusal(StatusCode::BAD_REQUEST, why)
}

/// Leaves exactly one Host header: the target's authority (HTTP/2's `:authority`, absolute form) wins over the header.
fn one_host(parts: &mut request::Parts, local: SocketAddr) -> Result<Authority, &'static str> {
    let first = parts.headers.get(HOST);
    if parts.headers.has_several(HOST) {
        return Err("several Host headers");
    }
    let Some(authority) = parts.uri.authority() else {
        return match first {
            Some(host) => parse_authority(host.as_bytes()),
            None if parts.version == Version::HTTP_10 => insert_host(&mut parts.headers, &local.to_string()),
            None => Err("no Host header"),
        };
    };
    if first.is_none() && parts.version == Version::HTTP_11 {
        return Err("no Host header");
    }
    if first.is_some_and(|host| host.as_bytes() == authority.as_str().as_bytes()) {
        return parse_authority(authority.as_str().as_bytes());
    }
    insert_host(&mut parts.headers, authority.as_str())
}

fn insert_host(headers: &mut HeaderMap, host: &str) -> Result<Authority, &'static str> {
    let authority = parse_authority(host.as_bytes())?;
    headers.insert(HOST, HeaderValue::from_str(host).map_err(|_invalid| INVALID_HOST)?);
    Ok(authority)
}

const INVALID_HOST: &str = "invalid character in the Host";

/// Stricter than RFC 3986 in two points: no user information, and no comma, which a list-minded backend would split at.
fn parse_authority(host: &[u8]) -> Result<Authority, &'static str> {
    let (name_len, has_upper_case) = match host.first() {
        Some(b'[') => (bracketed_len(host)?, true),
        Some(_) | None => name_len(host)?,
    };
    if name_len < host.len() {
        check_port(host.get(name_len..).unwrap_or_default())?;
    }
    match host.get(..name_len) {
        Some([] | b".") | None => Err("empty Host"),
        Some([name @ .., b'.']) => Ok(Authority { name_len: name.len(), has_upper_case }),
        Some(_) => Ok(Authority { name_len, has_upper_case }),
    }
}

/// The length of a name, which a colon or the end ends, and whether there is an upper-case letter in it.
fn name_len(host: &[u8]) -> Result<(usize, bool), &'static str> {
    let mut has_upper_case = false;
    for (at, &byte) in host.iter().enumerate() {
        match NAME_BYTES.get(usize::from(byte)).unwrap_or(&NameByte::Invalid) {
            NameByte::Plain => {}
            NameByte::UpperCase => has_upper_case = true,
            NameByte::Colon => return Ok((at, has_upper_case)),
            NameByte::Invalid => return Err(INVALID_HOST),
        }
    }
    Ok((host.len(), has_upper_case))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum NameByte {
    Plain,
    UpperCase,
    Colon,
    Invalid,
}

/// What each byte is within a host.
static NAME_BYTES: [NameByte; 256] = {
    let mut bytes = [NameByte::Invalid; 256];
    let mut byte = 0;
    while byte < 256 {
        #[expect(clippy::indexing_slicing, reason = "below 256, and the compiler would notice")]
        {
            bytes[byte] = match byte as u8 {
                b'A'..=b'Z' => NameByte::UpperCase,
                b':' => NameByte::Colon,
                b'a'..=b'z'
                | b'0'..=b'9'
                | b'-'
                | b'.'
                | b'_'
                | b'~'
                | b'%'
                | b'!'
                | b'$'
                | b'&'
                | b'\''
                | b'('
                | b')'
                | b'*'
                | b'+'
                | b';'
                | b'=' => NameByte::Plain,
                _ => NameByte::Invalid,
            };
        }
        byte += 1;
    }
    bytes
};

fn bracketed_len(host: &[u8]) -> Result<usize, &'static str> {
    let end = host.iter().position(|&byte| byte == b']').ok_or(INVALID_HOST)?;
    let inside = host.get(1..end).and_then(|inside| std::str::from_utf8(inside).ok());
    let is_address = inside.is_some_and(|inside| inside.parse::<std::net::Ipv6Addr>().is_ok());
    if is_address { Ok(end + 1) } else { Err("invalid address in the Host") }
}

/// `:port` or nothing; RFC 3986 allows the port to be empty.
fn check_port(rest: &[u8]) -> Result<(), &'static str> {
    let Some((colon, digits)) = rest.split_first() else { return Ok(()) };
    let port = std::str::from_utf8(digits).unwrap_or("x");
    let is_port = port.is_empty() || (port.bytes().all(|digit| digit.is_ascii_digit()) && port.parse::<u16>().is_ok());
    if *colon == b':' && is_port { Ok(()) } else { Err("invalid port in the Host") }
}

/// Leaves the target in origin form with a normalised path.
fn target(parts: &mut request::Parts, settings: PathNormalization) -> Result<Target, &'static str> {
    let path = parts.uri.path();
    if path == "*" {
        return if parts.method == Method::OPTIONS { Ok(Target::Settled) } else { Err("`*` is a target for OPTIONS only") };
    }
    if !path.starts_with('/') {
        return Err("the target is no path");
    }
    // `Uri` refuses control characters and spaces, and lets bytes through that no URI has (RFC 3986 section 2).
    if !parts.uri.query().unwrap_or_default().is_ascii() {
        return Err("invalid character in the query");
    }
    match normalise_path(path, settings)? {
        Some(Normalised { path, was_unescaped }) => {
            replace_path(&mut parts.uri, &path).map_err(|_invalid| "invalid path")?;
            let redirects = was_unescaped && settings.escaped_slashes == EscapedSlashesAction::UnescapeAndRedirect;
            Ok(if redirects { Target::Elsewhere } else { Target::Settled })
        }
        None => {
            if parts.uri.scheme().is_some() || parts.uri.authority().is_some() {
                to_origin_form(&mut parts.uri)?;
            }
            Ok(Target::Settled)
        }
    }
}

fn to_origin_form(uri: &mut Uri) -> Result<(), &'static str> {
    let target = std::mem::take(uri).into_parts().path_and_query;
    *uri = match target {
        // `http://host` and `http://host?query` have no slash of their own.
        Some(target) if target.query().is_none() && target.path() == "/" => Uri::from(PathAndQuery::from_static("/")),
        Some(target) if !target.as_str().starts_with('/') => {
            Uri::try_from(format!("/{target}").replacen("//?", "/?", 1)).map_err(|_invalid| "invalid target")?
        }
        Some(target) => Uri::from(target),
        None => Uri::from(PathAndQuery::from_static("/")),
    };
    Ok(())
}

/// Puts another path in front of the query; the target is in origin form afterwards.
pub(super) fn replace_path(uri: &mut Uri, path: &str) -> Result<(), http::uri::InvalidUri> {
    let target = match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    *uri = Uri::from(PathAndQuery::try_from(target)?);
    Ok(())
}

/// A path that is another one after normalisation.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Normalised {
    /// The path.
    pub(super) path: String,
    /// There were percent-encoded slashes in it.
    was_unescaped: bool,
}

/// What is there in a path to be normalised.
#[derive(Clone, Copy, Debug, Default)]
struct PathScan {
    may_have_dots: bool,
    escaped_slashes: bool,
    double_slashes: bool,
}

/// The path without dot segments (RFC 3986 section 5.2.4, `%2e` counting as a dot), and with slashes as the settings want them; `None` where
/// nothing is to be done. The order is Envoy's (`conn_manager_utility.cc`, `maybeNormalizePath`): escaped slashes, dot segments, slashes in a
/// row. Nothing else is decoded. What backends read in different ways is refused.
pub(super) fn normalise_path(path: &str, settings: PathNormalization) -> Result<Option<Normalised>, &'static str> {
    let scan = scan(path)?;
    let was_unescaped = match settings.escaped_slashes {
        _ if !scan.escaped_slashes => false,
        EscapedSlashesAction::KeepUnchanged => false,
        EscapedSlashesAction::RejectRequest => return Err("escaped slash in the path"),
        EscapedSlashesAction::UnescapeAndRedirect | EscapedSlashesAction::UnescapeAndForward => true,
    };
    let mut changed = was_unescaped.then(|| unescape_slashes(path));
    // What was a part of a segment may be a dot segment now.
    if scan.may_have_dots || was_unescaped {
        changed = without_dot_segments(changed.as_deref().unwrap_or(path)).or(changed);
    }
    if settings.merge_slashes && (scan.double_slashes || changed.as_deref().is_some_and(|path| path.contains("//"))) {
        changed = Some(merge_slashes(changed.as_deref().unwrap_or(path)));
    }
    Ok(changed.map(|path| Normalised { path, was_unescaped }))
}

fn scan(path: &str) -> Result<PathScan, &'static str> {
    let mut scan = PathScan::default();
    let mut at_start = false;
    for (at, byte) in path.bytes().enumerate() {
        let starts_segment = std::mem::replace(&mut at_start, byte == b'/');
        match byte {
            b'/' => scan.double_slashes |= starts_segment,
            b'.' => scan.may_have_dots |= starts_segment,
            b'%' => {
                scan.may_have_dots |= starts_segment;
                match path.as_bytes().get(at + 1..at + 3) {
                    Some(b"00") => return Err("NUL in the path"),
                    Some(b"2f" | b"2F" | b"5c" | b"5C") => scan.escaped_slashes = true,
                    Some(_) | None => {}
                }
            }
            b'\\' => return Err("backslash in the path"),
            b'#' => return Err("fragment in the target"),
            0x21..=0x7e => {}
            _ => return Err("invalid character in the path"),
        }
    }
    Ok(scan)
}

/// `%2f` and `%5c` as slashes: Envoy unescapes a backslash too, and its normalisation makes a slash of that.
fn unescape_slashes(path: &str) -> String {
    ["%2f", "%2F", "%5c", "%5C"].iter().fold(path.to_owned(), |path, escaped| path.replace(escaped, "/"))
}

/// As Envoy's `PathTransformer::mergeSlashes`, also in that a path of slashes only is `//` afterwards.
fn merge_slashes(path: &str) -> String {
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    let end = if path.ends_with('/') { "/" } else { "" };
    format!("/{}{end}", segments.join("/"))
}

fn without_dot_segments(path: &str) -> Option<String> {
    let segments = || path.split('/').skip(1);
    if !segments().any(|segment| dots(segment) > 0) {
        return None;
    }
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = segments().peekable();
    while let Some(segment) = segments.next() {
        match dots(segment) {
            0 => kept.push(segment),
            1 => {}
            _ => drop(kept.pop()),
        }
        // A dot segment at the end leaves the slash before it.
        if dots(segment) > 0 && segments.peek().is_none() {
            kept.push("");
        }
    }
    Some(kept.iter().flat_map(|segment| ["/", segment]).collect())
}

/// 1 for `.`, 2 for `..`, 0 for every other segment. Parameters (`..;x`) make no difference: servlet containers leave them out, and Envoy's
/// normalisation takes such a segment for a dot segment too.
fn dots(segment: &str) -> usize {
    let mut rest = segment;
    let mut count = 0;
    while let Some(next) = rest.strip_prefix('.').or_else(|| rest.strip_prefix("%2e")).or_else(|| rest.strip_prefix("%2E")) {
        rest = next;
        count += 1;
    }
    if (rest.is_empty() || rest.starts_with(';')) && count <= 2 { count } else { 0 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn head(version: Version, method: &str, target: &str, hosts: &[&[u8]]) -> Result<(String, String, String), StatusCode> {
        let mut builder = http::Request::builder().version(version).method(method).uri(target);
        for host in hosts {
            builder = builder.header(HOST, HeaderValue::from_bytes(host).unwrap());
        }
        let mut parts = request::Parts::from(builder.body(()).unwrap().into_parts().0);
        let authority =
            request_head(&mut parts, "10.0.0.1:8080".parse().unwrap(), PathNormalization::default()).map_err(|reply| reply.status)?;
        assert_eq!(parts.headers.get_all(HOST).count(), 1);
        assert!(parts.uri.authority().is_none() && parts.uri.scheme().is_none());
        let host = parts.headers.get(HOST).unwrap().to_str().unwrap().to_owned();
        Ok((authority.name(&parts.headers).into_owned(), host, parts.uri.to_string()))
    }

    fn one(target: &str, host: &str) -> Result<(String, String, String), StatusCode> {
        head(Version::HTTP_11, "GET", target, &[host.as_bytes()])
    }

    #[test]
    fn hosts_are_matched_in_lower_case_without_port_and_trailing_dot_and_forwarded_as_sent() {
        for (host, name) in [
            ("a.example", "a.example"),
            ("A.Example:8080", "a.example"),
            ("a.example.", "a.example"),
            ("a.example.:80", "a.example"),
            ("a.example:", "a.example"),
            ("[::1]:80", "[::1]"),
            ("[FD00::1]", "[fd00::1]"),
            ("10.0.0.1", "10.0.0.1"),
            ("a_b", "a_b"),
        ] {
            assert_eq!(one("/", host), Ok((name.to_owned(), host.to_owned(), "/".to_owned())), "{host}");
            assert_eq!(without_port(host).trim_end_matches('.').to_ascii_lowercase(), name);
        }
    }

    #[test]
    fn malformed_hosts_are_refused() {
        for host in
            ["", ".", "a b", "a,b", "a/b", "u@a", "a:x", "a:80:80", "a:65536", ":80", "[::1", "[x]", "[::1]x", "a?b", "a\\b", "a#b", "<a>"]
        {
            assert_eq!(one("/", host), Err(StatusCode::BAD_REQUEST), "{host}");
        }
        assert_eq!(head(Version::HTTP_11, "GET", "/", &[b"\xc3\xa4"]), Err(StatusCode::BAD_REQUEST));
        assert_eq!(head(Version::HTTP_11, "GET", "/", &[b"a", b"a"]), Err(StatusCode::BAD_REQUEST));
    }

    #[test]
    fn a_host_is_demanded_of_http_1_1_and_2() {
        assert_eq!(head(Version::HTTP_11, "GET", "/", &[]), Err(StatusCode::BAD_REQUEST));
        assert_eq!(head(Version::HTTP_2, "GET", "/", &[]), Err(StatusCode::BAD_REQUEST));
        assert_eq!(head(Version::HTTP_11, "GET", "http://a/", &[]), Err(StatusCode::BAD_REQUEST));
        let ok = head(Version::HTTP_10, "GET", "/", &[]).unwrap();
        assert_eq!((ok.0.as_str(), ok.1.as_str()), ("10.0.0.1", "10.0.0.1:8080"));
        assert_eq!(head(Version::HTTP_2, "GET", "http://a:1/x", &[]).unwrap().1, "a:1");
    }

    #[test]
    fn the_authority_of_the_target_wins_over_the_host_header() {
        for version in [Version::HTTP_11, Version::HTTP_2] {
            let ok = head(version, "GET", "http://A.example:8080/x?y=1", &[b"evil"]).unwrap();
            assert_eq!(ok, ("a.example".to_owned(), "A.example:8080".to_owned(), "/x?y=1".to_owned()));
        }
        assert_eq!(head(Version::HTTP_11, "GET", "http://u@a/", &[b"a"]), Err(StatusCode::BAD_REQUEST));
    }

    #[test]
    fn targets_are_brought_to_origin_form() {
        for (target, expected) in [
            ("http://a", "/"),
            ("http://a/", "/"),
            ("http://a?x=1", "/?x=1"),
            ("http://a/?x=1", "/?x=1"),
            ("http://a/./b?x=1", "/b?x=1"),
            ("/b?../x", "/b?../x"),
        ] {
            assert_eq!(one(target, "a").unwrap().2, expected, "{target}");
        }
        assert_eq!(head(Version::HTTP_11, "OPTIONS", "*", &[b"a"]).unwrap().2, "*");
        assert_eq!(one("*", "a"), Err(StatusCode::BAD_REQUEST));
        assert_eq!(one("a.example", "a"), Err(StatusCode::BAD_REQUEST));
        assert_eq!(one("/?a=\u{e4}", "a"), Err(StatusCode::BAD_REQUEST));
        assert_eq!(one("http://a?\u{e4}", "a"), Err(StatusCode::BAD_REQUEST));
        assert_eq!(head(Version::HTTP_11, "CONNECT", "a:80", &[b"a"]), Err(StatusCode::METHOD_NOT_ALLOWED));
    }

    #[test]
    fn dot_segments_are_removed_and_nothing_else() {
        for (path, expected) in [
            ("/", None),
            ("/a/b", None),
            ("/a//b/", None),
            ("/.well-known/x", None),
            ("/...", None),
            ("/a.b/c..", None),
            ("/%2ehidden", None),
            ("/a%2fb%41", None),
            ("/a/.", Some("/a/")),
            ("/a/./b", Some("/a/b")),
            ("/a/..", Some("/")),
            ("/a/b/..", Some("/a/")),
            ("/a/../b", Some("/b")),
            ("/../../b", Some("/b")),
            ("/..", Some("/")),
            ("/a//../b", Some("/a/b")),
            ("/a/%2e%2E/b", Some("/b")),
            ("/a/.%2e/b", Some("/b")),
            ("/a/%2e/b", Some("/a/b")),
            ("/a/..;x=1/b", Some("/b")),
            ("/a/.;/b", Some("/a/b")),
            ("/a/..;", Some("/")),
            ("/a/%2e%2e;/b", Some("/b")),
            ("/a/...;/b;c/;", None),
        ] {
            assert_eq!(normalised(path, PathNormalization::default()), Ok(expected.map(ToOwned::to_owned)), "{path}");
        }
    }

    fn normalised(path: &str, settings: PathNormalization) -> Result<Option<String>, &'static str> {
        normalise_path(path, settings).map(|normalised| normalised.map(|normalised| normalised.path))
    }

    #[test]
    fn slashes_are_treated_as_the_settings_say() {
        use EscapedSlashesAction::{KeepUnchanged, UnescapeAndForward};
        for (path, kept, merged, unescaped, both) in [
            ("/a%2fb", None, None, Some("/a/b"), Some("/a/b")),
            ("/a%2F%2fb", None, None, Some("/a//b"), Some("/a/b")),
            ("/a%5cb%5C", None, None, Some("/a/b/"), Some("/a/b/")),
            ("/a//b///", None, Some("/a/b/"), None, Some("/a/b/")),
            ("//", None, Some("//"), None, Some("//")),
            ("/a/..%2f..%2fb", None, None, Some("/b"), Some("/b")),
            ("/a%2f..", None, None, Some("/"), Some("/")),
            ("/a%2f%2e%2e/b", None, None, Some("/b"), Some("/b")),
            ("/a//../b", Some("/a/b"), Some("/a/b"), Some("/a/b"), Some("/a/b")),
            ("/a/.//b", Some("/a//b"), Some("/a/b"), Some("/a//b"), Some("/a/b")),
            ("/a%252fb;%41", None, None, None, None),
            ("/a/..;/b", Some("/b"), Some("/b"), Some("/b"), Some("/b")),
        ] {
            for (merge_slashes, escaped_slashes, expected) in [
                (false, KeepUnchanged, kept),
                (true, KeepUnchanged, merged),
                (false, UnescapeAndForward, unescaped),
                (true, UnescapeAndForward, both),
            ] {
                let settings = PathNormalization { merge_slashes, escaped_slashes };
                assert_eq!(normalised(path, settings), Ok(expected.map(ToOwned::to_owned)), "{path} {settings:?}");
            }
        }
    }

    #[test]
    fn escaped_slashes_are_refused_or_redirected_where_that_is_asked_for() {
        let asked = |target: &str, escaped_slashes: EscapedSlashesAction| {
            let mut parts = request::Parts::from(http::Request::builder().uri(target).header(HOST, "a").body(()).unwrap().into_parts().0);
            let settings = PathNormalization { merge_slashes: true, escaped_slashes };
            let reply = request_head(&mut parts, "10.0.0.1:8080".parse().unwrap(), settings).err();
            reply.map(|reply| (reply.status.as_u16(), reply.location.map(|location| location.to_str().unwrap().to_owned())))
        };
        let location = |text: &str| Some((307, Some(text.to_owned())));
        use EscapedSlashesAction::{RejectRequest, UnescapeAndRedirect};
        for (target, action, expected) in [
            ("/a%2fb", RejectRequest, Some((400, None))),
            ("/a%5Cb", RejectRequest, Some((400, None))),
            ("/a/b?x=%2f", RejectRequest, None),
            ("/a%2f/../b?x=%2f//", UnescapeAndRedirect, location("/a/b?x=%2f//")),
            ("http://a/a%2fb", UnescapeAndRedirect, location("/a/b")),
            ("/a//b?x=%2f", UnescapeAndRedirect, None),
        ] {
            assert_eq!(asked(target, action), expected, "{target} {action:?}");
        }
    }

    #[test]
    fn other_schemes_are_refused() {
        for (target, version, expected) in [
            ("ftp://a/x", Version::HTTP_11, Err(StatusCode::BAD_REQUEST)),
            ("javascript://a/x", Version::HTTP_2, Err(StatusCode::BAD_REQUEST)),
            ("HTTP://a/x", Version::HTTP_11, Ok("/x".to_owned())),
            ("https://a/x", Version::HTTP_2, Ok("/x".to_owned())),
        ] {
            assert_eq!(head(version, "GET", target, &[b"a"]).map(|head| head.2), expected, "{target}");
        }
    }

    #[test]
    fn ambiguous_paths_are_refused() {
        for path in ["/a%00", "/a\\b", "/\u{e4}", "/a#b", "/a b", "/a\u{7f}", "/a\nb"] {
            assert!(normalise_path(path, PathNormalization::default()).is_err(), "{path}");
        }
    }

    proptest! {
        #[test]
        fn normalising_twice_changes_nothing_and_no_dot_segment_stays(
            path in "(/(\\.|%2e|%2E|a|%41|%2f|%5C|/){0,3}){1,8}",
            merge_slashes: bool,
            unescapes: bool,
        ) {
            let escaped_slashes = if unescapes { EscapedSlashesAction::UnescapeAndForward } else { EscapedSlashesAction::KeepUnchanged };
            let settings = PathNormalization { merge_slashes, escaped_slashes };
            let once = normalised(&path, settings).unwrap().unwrap_or(path);
            let twice = normalised(&once, settings).unwrap();
            prop_assert!(twice.is_none_or(|twice| twice == once), "{}", once);
            prop_assert!(once.starts_with('/'));
            prop_assert!(!merge_slashes || once == "//" || !once.contains("//"), "{}", once);
            prop_assert!(!unescapes || !once.to_ascii_lowercase().contains("%2f"), "{}", once);
            prop_assert!(!once.split('/').any(|segment| segment == "." || segment == ".."));
        }
    }
}
