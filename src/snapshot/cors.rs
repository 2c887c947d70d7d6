//! Which requests of other origins browsers may send (Fetch standard, section 3.2; Gateway API, `HTTPCORSFilter`).

use std::fmt;

use http::HeaderValue;

use super::lower_case;

/// What the gateway tells browsers about requests of other origins.
#[derive(Clone, Debug)]
pub struct Cors {
    /// Origins that may send requests.
    pub origins: Box<[OriginPattern]>,
    /// Methods that they may use, beside those that need no leave.
    pub methods: CorsList,
    /// Request headers that they may set, beside those that need no leave.
    pub headers: CorsList,
    /// Response headers that they may read, beside those that need no leave.
    pub exposed: CorsList,
    /// Whether requests with cookies and client certificates are meant too.
    pub credentials: bool,
    /// How long a browser may keep what it was told, in seconds.
    pub max_age: HeaderValue,
}

/// Names that are allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CorsList {
    /// Nothing is said.
    Unset,
    /// `*`.
    Any,
    /// These, separated by commas.
    Named(HeaderValue),
}

/// Origins as a filter writes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OriginPattern {
    /// `*`: all.
    Any,
    /// `SCHEME://HOST[:PORT]`.
    Web {
        /// Lower case.
        scheme: Box<str>,
        /// Lower case, between the places where any text may stand: one piece is a host without `*`.
        host: Box<[Box<str>]>,
        /// As written, or what the scheme has by default; `None`: the scheme has none.
        port: Option<u16>,
    },
}

// === impl Cors ===

impl Cors {
    /// Whether requests of the origin (the value of the header `Origin`) are allowed.
    pub fn allows(&self, origin: &str) -> bool {
        self.origins.iter().any(|pattern| pattern.matches(origin))
    }

    /// Whether everybody is told the same, whatever the origin.
    pub fn is_public(&self) -> bool {
        !self.credentials && self.origins.contains(&OriginPattern::Any)
    }
}

// === impl OriginPattern ===

impl OriginPattern {
    /// Reads an origin of a filter; `None`: it is none.
    pub fn parse(written: &str) -> Option<Self> {
        if written == "*" {
            return Some(Self::Any);
        }
        let written = lower_case(written);
        let Origin { scheme, host, port } = Origin::parse(&written)?;
        let host = host.split('*').map(Into::into).collect();
        Some(Self::Web { scheme: scheme.into(), host, port })
    }

    /// Whether the origin is one of these. `null`, which browsers say for what has no origin of its own, is matched by `*` only.
    pub fn matches(&self, origin: &str) -> bool {
        let Self::Web { scheme, host, port } = self else { return true };
        let origin = lower_case(origin);
        let Some(Origin { scheme: own_scheme, host: own_host, port: own_port }) = Origin::parse(&origin) else { return false };
        **scheme == *own_scheme && *port == own_port && matches_pieces(host, own_host)
    }
}

impl fmt::Display for OriginPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Web { scheme, host, port } = self else { return f.write_str("*") };
        write!(f, "{scheme}://{}", host.join("*"))?;
        match port {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

/// An origin in its parts.
struct Origin<'a> {
    scheme: &'a str,
    host: &'a str,
    port: Option<u16>,
}

impl<'a> Origin<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let (host, port) = match rest.rsplit_once(':') {
            // A colon may also stand within the brackets of an IPv6 address.
            Some((host, port)) if !port.ends_with(']') => (host, Some(port.parse().ok().filter(|port| *port > 0)?)),
            Some(_) | None => (rest, None),
        };
        let default = match scheme {
            "http" => Some(80),
            "https" => Some(443),
            _ => None,
        };
        let is_host = !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'/' | b'?' | b'#' | b'@'));
        (!scheme.is_empty() && is_host).then_some(Self { scheme, host, port: port.or(default) })
    }
}

/// Whether the text is these pieces with anything between them.
fn matches_pieces(pieces: &[Box<str>], text: &str) -> bool {
    let Some((first, rest)) = pieces.split_first() else { return false };
    let Some((last, middle)) = rest.split_last() else { return text == &**first };
    let Some(mut text) = text.strip_prefix(&**first).and_then(|text| text.strip_suffix(&**last)) else { return false };
    for piece in middle {
        let Some(at) = text.find(&**piece) else { return false };
        text = text.get(at + piece.len()..).unwrap_or_default();
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_matched_by_scheme_host_and_port() {
        for (pattern, origin, expected) in [
            ("*", "https://a.example", true),
            ("*", "null", true),
            ("https://a.example", "https://a.example", true),
            ("https://A.example", "https://a.example", true),
            ("https://a.example", "HTTPS://A.EXAMPLE", true),
            ("https://a.example", "https://a.example:443", true),
            ("https://a.example:443", "https://a.example", true),
            ("https://a.example:8443", "https://a.example", false),
            ("https://a.example", "https://a.example:8443", false),
            ("http://a.example", "https://a.example", false),
            ("http://a.example:443", "https://a.example", false),
            ("https://a.example", "https://b.a.example", false),
            ("https://a.example", "https://a.example.evil", false),
            ("https://a.example", "null", false),
            ("https://a.example", "", false),
            ("https://*.bar.com", "https://www.bar.com", true),
            ("https://*.bar.com", "https://a.b.bar.com", true),
            ("https://*.bar.com", "https://bar.com", false),
            ("https://*.bar.com", "https://evilbar.com", false),
            ("https://*.bar.com", "https://a.bar.com.evil.com", false),
            ("https://*.bar.com", "https://evil.com/.bar.com", false),
            ("https://*.bar.com", "https://evil.com#.bar.com", false),
            ("https://*.bar.com:8443", "https://www.bar.com:8443", true),
            ("https://*", "https://a.example", true),
            ("https://*", "http://a.example", false),
            ("https://*", "https://a.example:8443", false),
            ("https://a*b*c", "https://a.b.c", true),
            ("https://a*b*c", "https://abc", true),
            ("https://a*b*c", "https://ac", false),
            ("https://a*a", "https://a", false),
            ("https://[::1]:8443", "https://[::1]:8443", true),
            ("https://[::1]", "https://[::1]", true),
            ("chrome-extension://abc", "chrome-extension://abc", true),
            ("chrome-extension://abc", "chrome-extension://abd", false),
        ] {
            assert_eq!(OriginPattern::parse(pattern).unwrap().matches(origin), expected, "{pattern} {origin}");
        }
    }

    #[test]
    fn what_is_no_origin_is_refused() {
        for wrong in
            ["", "a.example", "https://", "://a", "https://a/b", "https://a:0", "https://a:65536", "https://a:x", "https://u@a", "null"]
        {
            assert_eq!(OriginPattern::parse(wrong), None, "{wrong}");
        }
    }
}
