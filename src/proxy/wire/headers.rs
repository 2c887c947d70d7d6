//! Hop-by-hop headers: what a message may carry across the proxy, and what ends with the connection.

use http::{
    HeaderName, HeaderValue, Method, Version,
    header::{CONNECTION, CONTENT_TYPE, EXPECT, PROXY_AUTHENTICATE, TE, TRANSFER_ENCODING, UPGRADE},
};
use smallvec::SmallVec;

use crate::base::head::{HeaderMap, Value};
use crate::plan::is_grpc_content_type;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

/// Which hop-by-hop headers a message carries. One pass over the names finds them, so that the usual message without any pays for
/// nothing else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::proxy) struct HopHeaders(u16);

/// Lengths of the names below: a cheap sieve before any comparison.
const LENGTHS: u32 = 1 << 2 | 1 << 6 | 1 << 7 | 1 << 10 | 1 << 12 | 1 << 14 | 1 << 16 | 1 << 17 | 1 << 18;

const HAS_CONNECTION: u16 = 1;
const HAS_KEEP_ALIVE: u16 = 1 << 1;
const HAS_PROXY_CONNECTION: u16 = 1 << 2;
const HAS_TRANSFER_ENCODING: u16 = 1 << 3;
const HAS_TE: u16 = 1 << 4;
const HAS_UPGRADE: u16 = 1 << 5;
const HAS_EXPECT: u16 = 1 << 6;
const HAS_HTTP2_SETTINGS: u16 = 1 << 7;
const HAS_PROXY_AUTHENTICATE: u16 = 1 << 8;
/// No hop-by-hop header: found on the way.
const HAS_CONTENT_TYPE: u16 = 1 << 9;
const HOP_BY_HOP: u16 = HAS_CONTENT_TYPE - 1;

/// Which names go with which bit; `te` and `upgrade` are decided on their own.
const PLAIN: [(u16, HeaderName); 6] = [
    (HAS_KEEP_ALIVE, KEEP_ALIVE),
    (HAS_PROXY_CONNECTION, PROXY_CONNECTION),
    (HAS_TRANSFER_ENCODING, TRANSFER_ENCODING),
    (HAS_EXPECT, EXPECT),
    (HAS_HTTP2_SETTINGS, HTTP2_SETTINGS),
    (HAS_PROXY_AUTHENTICATE, PROXY_AUTHENTICATE),
];

/// Headers that `Connection` may not name away: a client could hide them from the backend that relies on them.
fn is_guarded(name: &str) -> bool {
    matches!(name, "host" | "content-length" | "content-type" | "authorization" | "cookie" | "trailer" | "te" | "upgrade" | "x-real-ip")
        || name.starts_with("x-forwarded-")
        || name.starts_with("x-envoy-")
        || name == "forwarded"
        || name == "x-request-id"
}

// === impl HopHeaders ===

impl HopHeaders {
    /// Looks through the names once.
    pub(in crate::proxy) fn scan(headers: &HeaderMap) -> Self {
        let mut found = 0;
        for name in headers.keys() {
            if name.len() < 32 && LENGTHS >> name.len() & 1 == 1 {
                found |= Self::bit(name);
            }
        }
        Self(found)
    }

    fn bit(name: &[u8]) -> u16 {
        match name {
            b"te" => HAS_TE,
            b"expect" => HAS_EXPECT,
            b"upgrade" => HAS_UPGRADE,
            b"connection" => HAS_CONNECTION,
            b"keep-alive" => HAS_KEEP_ALIVE,
            b"content-type" => HAS_CONTENT_TYPE,
            b"http2-settings" => HAS_HTTP2_SETTINGS,
            b"proxy-connection" => HAS_PROXY_CONNECTION,
            b"transfer-encoding" => HAS_TRANSFER_ENCODING,
            b"proxy-authenticate" => HAS_PROXY_AUTHENTICATE,
            _ => 0,
        }
    }

    fn has(self, bit: u16) -> bool {
        self.0 & bit != 0
    }

    /// Whether a request is a call of gRPC.
    pub(in crate::proxy) fn grpc(self, headers: &HeaderMap) -> bool {
        self.has(HAS_CONTENT_TYPE) && headers.get(CONTENT_TYPE).is_some_and(|value| is_grpc_content_type(value.as_bytes()))
    }

    /// The protocol a request asks to switch to, if that is one the proxy carries: WebSocket over HTTP/1.1.
    pub(in crate::proxy) fn websocket(self, headers: &HeaderMap, method: &Method, version: Version) -> bool {
        self.has(HAS_UPGRADE)
            && self.has(HAS_CONNECTION)
            && version == Version::HTTP_11
            && method == Method::GET
            && headers.get_all(CONNECTION).any(|value| tokens(value).any(|token| token.eq_ignore_ascii_case("upgrade")))
            && is_websocket(headers)
    }

    /// Removes what ends with the client's connection. `TE: trailers` stays, since gRPC asks for it end to end.
    pub(in crate::proxy) fn strip_request(self, headers: &mut HeaderMap) {
        if !self.has(HOP_BY_HOP) {
            return;
        }
        if self.has(HAS_TE) {
            let trailers = headers.get_all(TE).any(|value| tokens(value).any(|token| token.eq_ignore_ascii_case("trailers")));
            if trailers {
                headers.insert(TE, HeaderValue::from_static("trailers"));
            } else {
                headers.remove(TE);
            }
        }
        self.strip(headers);
    }

    /// Removes what an answer must not carry to the client's connection, which has framing and words of its own.
    pub(in crate::proxy) fn strip_response(self, headers: &mut HeaderMap) {
        if !self.has(HOP_BY_HOP) {
            return;
        }
        headers.remove(TE);
        self.strip(headers);
    }

    fn strip(self, headers: &mut HeaderMap) {
        if self.has(HAS_CONNECTION) {
            strip_nominated(headers);
        }
        if self.has(HAS_UPGRADE) {
            headers.remove(UPGRADE);
        }
        for (bit, name) in &PLAIN {
            if self.has(*bit) {
                headers.remove(name);
            }
        }
    }
}

/// Whether the only `Upgrade` value is `websocket`.
pub(in crate::proxy) fn is_websocket(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(UPGRADE);
    let websocket = values.next().is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"));
    websocket && values.next().is_none()
}

/// Removes `Connection` and every header that it names, save the guarded ones.
fn strip_nominated(headers: &mut HeaderMap) {
    let named: SmallVec<[HeaderName; 4]> = headers
        .get_all(CONNECTION)
        .flat_map(tokens)
        .filter(|token| !token.eq_ignore_ascii_case("close") && !token.eq_ignore_ascii_case("keep-alive"))
        .filter_map(|token| HeaderName::from_bytes(token.as_bytes()).ok())
        .filter(|name| !is_guarded(name.as_str()))
        .collect();
    headers.remove(CONNECTION);
    for name in named {
        headers.remove(name);
    }
}

fn tokens(value: Value<'_>) -> impl Iterator<Item = &str> {
    value.to_str().unwrap_or_default().split(',').map(str::trim).filter(|token| !token.is_empty())
}

/// Whether a name that came in HTTP/2 frames is a token (RFC 9110 section 5.6.2). The `http` crate lets a double quote pass there.
pub(in crate::proxy) fn is_token(name: &[u8]) -> bool {
    !name.contains(&b'"')
}

/// What the bytes of a name are (RFC 9110 section 5.6.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) enum NameKind {
    /// A token in lower case, as HTTP/2 wants it.
    Token,
    /// No message may have it (RFC 9113 section 8.2.1).
    Malformed,
    /// It is no token, and no HTTP/1.1 peer takes it.
    NoToken,
}

const NO_TOKEN: u8 = 1;
const MALFORMED: u8 = 2;

static NAME_BYTES: [u8; 256] = {
    let mut kinds = [MALFORMED; 256];
    let mut byte = 0x21_u8;
    while byte < 0x7f {
        let kind = match byte {
            b'A'..=b'Z' | b':' => MALFORMED,
            b'a'..=b'z' | b'0'..=b'9' => 0,
            b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~' => 0,
            _ => NO_TOKEN,
        };
        #[allow(clippy::indexing_slicing, reason = "the compiler evaluates it")]
        {
            kinds[byte as usize] = kind;
        }
        byte += 1;
    }
    kinds
};

/// What a name is that came in HTTP/2 frames.
pub(in crate::proxy) fn name_kind(name: &[u8]) -> NameKind {
    let kinds = name.iter().fold(0, |kinds, byte| kinds | NAME_BYTES.get(usize::from(*byte)).copied().unwrap_or(MALFORMED));
    match kinds {
        0 if !name.is_empty() => NameKind::Token,
        NO_TOKEN => NameKind::NoToken,
        0 | MALFORMED.. => NameKind::Malformed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(lines: &[(&str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in lines {
            map.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
        }
        map
    }

    fn names(headers: &HeaderMap) -> Vec<&str> {
        let mut names: Vec<_> = headers.keys().map(|name| std::str::from_utf8(name).unwrap()).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn every_hop_by_hop_name_passes_the_sieve() {
        for (_, name) in &PLAIN {
            assert_ne!(HopHeaders::scan(&map(&[(name.as_str(), "x")])).0, 0, "{name}");
        }
        for name in ["te", "upgrade", "connection"] {
            assert_ne!(HopHeaders::scan(&map(&[(name, "x")])).0, 0, "{name}");
        }
        assert_eq!(HopHeaders::scan(&map(&[("host", "x"), ("cookie", "x"), ("x-forwarded-for", "x")])).0, 0);
    }

    #[test]
    fn connection_takes_what_it_names_but_not_the_guarded() {
        let mut headers = map(&[
            ("host", "a"),
            ("connection", "close, X-Secret"),
            ("connection", "x-forwarded-for, Host, cookie"),
            ("x-secret", "1"),
            ("x-forwarded-for", "1.2.3.4"),
            ("cookie", "a=b"),
            ("keep-alive", "timeout=5"),
            ("upgrade", "h2c"),
            ("http2-settings", "AAMA"),
            ("te", "gzip"),
            ("expect", "100-continue"),
            ("transfer-encoding", "chunked"),
            ("trailer", "x-sum"),
        ]);
        HopHeaders::scan(&headers).strip_request(&mut headers);
        assert_eq!(names(&headers), ["cookie", "host", "trailer", "x-forwarded-for"]);
    }

    #[test]
    fn te_keeps_only_trailers() {
        let mut headers = map(&[("te", "gzip;q=1, trailers"), ("connection", "te")]);
        HopHeaders::scan(&headers).strip_request(&mut headers);
        assert_eq!(headers.get(TE).unwrap(), "trailers");
        assert_eq!(names(&headers), ["te"]);
    }

    #[test]
    fn only_a_whole_websocket_handshake_is_one() {
        let ask = |lines: &[(&str, &str)], method: Method, version: Version| {
            let headers = map(lines);
            HopHeaders::scan(&headers).websocket(&headers, &method, version)
        };
        let good = [("connection", "keep-alive, Upgrade"), ("upgrade", "WebSocket")];
        assert!(ask(&good, Method::GET, Version::HTTP_11));
        assert!(!ask(&good, Method::POST, Version::HTTP_11));
        assert!(!ask(&good, Method::GET, Version::HTTP_10));
        assert!(!ask(&[("upgrade", "websocket")], Method::GET, Version::HTTP_11));
        assert!(!ask(&[("connection", "upgrade"), ("upgrade", "h2c")], Method::GET, Version::HTTP_11));
        assert!(!ask(&[("connection", "upgrade"), ("upgrade", "websocket, h2c")], Method::GET, Version::HTTP_11));
    }

    #[test]
    fn a_name_in_frames_is_a_token_in_lower_case() {
        assert_eq!(
            (name_kind(b""), name_kind(b"x-A"), name_kind(b"x\" ")),
            (NameKind::Malformed, NameKind::Malformed, NameKind::Malformed)
        );
        for byte in 0..=u8::MAX {
            let expected = match HeaderName::from_bytes(&[b'x', byte]) {
                _ if byte.is_ascii_uppercase() || !byte.is_ascii_graphic() || byte == b':' => NameKind::Malformed,
                Ok(_) if byte != b'"' => NameKind::Token,
                Ok(_) | Err(_) => NameKind::NoToken,
            };
            assert_eq!(name_kind(&[b'x', byte]), expected, "{byte:#x}");
            let token = byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"!#$%&'*+-.^_`|~".contains(&byte);
            assert_eq!(HeaderName::from_lowercase(&[b'x', byte]).is_ok_and(|name| is_token(name.as_str().as_bytes())), token, "{byte:#x}");
        }
    }
}
