//! Cookies as Envoy reads and writes them.

use http::HeaderValue;

use crate::base::head::{HeaderMap, Name};
use crate::snapshot::CookiePolicy;

const COOKIE: Name = Name::new("cookie");

/// The value of the first cookie with this name, without one pair of surrounding double quotes. Names are case-sensitive; of blanks only
/// spaces before a name are skipped, and nothing is decoded.
pub(super) fn value<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h [u8]> {
    let first = headers.get(COOKIE)?;
    let others = || headers.get_all(COOKIE).skip(1).find_map(|line| value_in_line(line.as_bytes(), name.as_bytes()));
    value_in_line(first.as_bytes(), name.as_bytes()).or_else(others)
}

/// The values of all cookies with this name, read as [`value`] reads them.
pub(super) fn values<'h>(headers: &'h HeaderMap, name: &'h str) -> impl Iterator<Item = &'h [u8]> {
    let parts = headers.get_all(COOKIE).flat_map(|line| line.as_bytes().split(|byte| *byte == b';'));
    parts.filter_map(|part| value_in_part(part, name.as_bytes()))
}

fn value_in_line<'l>(line: &'l [u8], name: &[u8]) -> Option<&'l [u8]> {
    let mut rest = line;
    loop {
        let end = memchr::memchr(b';', rest).unwrap_or(rest.len());
        let (part, behind) = rest.split_at(end);
        if let Some(value) = value_in_part(part, name) {
            return Some(value);
        }
        rest = behind.get(1..)?;
    }
}

fn value_in_part<'p>(part: &'p [u8], name: &[u8]) -> Option<&'p [u8]> {
    let start = part.iter().position(|&byte| byte != b' ')?;
    let value = part.get(start..)?.strip_prefix(name)?.strip_prefix(b"=")?;
    Some(match value {
        [b'"', inside @ .., b'"'] => inside,
        _ => value,
    })
}

/// The Set-Cookie value for a generated cookie.
pub(super) fn set_cookie(policy: &CookiePolicy, value: &[u8], is_https: bool) -> Option<HeaderValue> {
    let secure: &[u8] = if is_https && policy.secure_over_https { b"; Secure" } else { b"" };
    let text = [policy.name.as_bytes(), b"=\"", value, b"\"", policy.set_cookie_suffix.as_bytes(), secure].concat();
    HeaderValue::try_from(text).ok()
}

#[cfg(test)]
mod tests {
    use http::header::COOKIE;

    use super::*;

    #[test]
    fn cookies_are_read_as_envoy_reads_them() {
        for (lines, expected) in [
            (&["sid=abc"][..], Some("abc")),
            (&["sid=\"abc\""], Some("abc")),
            (&["sid=\"abc"], Some("\"abc")),
            (&["sid=\""], Some("\"")),
            (&["sid=\"\""], Some("")),
            (&["a=1; sid=abc; b=2"], Some("abc")),
            (&["a=1;   sid=abc"], Some("abc")),
            (&["\tsid=abc"], None),
            (&["sid = abc"], None),
            (&["sid= abc"], Some(" abc")),
            (&["sid=abc ;b=1"], Some("abc ")),
            (&["sid=first; sid=second"], Some("first")),
            (&["sid=; sid=second"], Some("")),
            (&["sid; sid=abc"], Some("abc")),
            (&["SID=abc"], None),
            (&["xsid=abc"], None),
            (&["sid=a=b"], Some("a=b")),
            (&["sid=%41"], Some("%41")),
            (&["a=1", "sid=abc"], Some("abc")),
            (&[";;;sid=abc;"], Some("abc")),
            (&["", ";", "  "], None),
            (&[], None),
        ] {
            let headers: Vec<HeaderValue> = lines.iter().map(|line| HeaderValue::from_str(line).unwrap()).collect();
            let mut map = HeaderMap::new();
            for line in headers {
                map.append(COOKIE, line);
            }
            assert_eq!(value(&map, "sid").map(|v| std::str::from_utf8(v).unwrap()), expected, "{lines:?}");
        }
    }

    #[test]
    fn a_generated_cookie_is_quoted() {
        let policy = CookiePolicy {
            name: "sid".into(),
            ttl_seconds: Some(60),
            set_cookie_suffix: "; Max-Age=60; Path=/; HttpOnly".into(),
            secure_over_https: false,
        };
        assert_eq!(set_cookie(&policy, b"298b1ac340fdea97", true).unwrap(), "sid=\"298b1ac340fdea97\"; Max-Age=60; Path=/; HttpOnly");
    }
}
