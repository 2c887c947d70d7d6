//! The head of a request, and its trailers, from a header block (RFC 9113 section 8).

use std::ops::Range;

use bytes::Bytes;
use http::{
    HeaderName, HeaderValue, Method, Uri, Version,
    uri::{self, Authority, PathAndQuery, Scheme},
};

use crate::{
    base::head::{HeaderMap, request},
    proxy::{
        state::error::ProxyError,
        wire::{
            fields::MAX_HEADERS,
            headers::{NameKind, name_kind},
            hpack::{Decoder, DecodingError},
            spare,
        },
    },
};

/// What a field counts beside its bytes (RFC 9113 section 6.5.2).
const OVERHEAD: usize = 32;
/// The longest target that `http::Uri` holds.
const MAX_TARGET_BYTES: usize = u16::MAX as usize - 1;

/// The head of a request.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) parts: request::Parts,
    /// What the field `content-length` announces.
    pub(super) length: Option<u64>,
    /// It is answered with this.
    pub(super) refused: Option<ProxyError>,
}

/// The block is no request's: the stream is reset (RFC 9113 section 8.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// What the fields of a block have said so far.
struct Reader {
    method: Option<Method>,
    scheme: Option<Scheme>,
    /// The text of what follows.
    target: Vec<u8>,
    authority: Option<Range<usize>>,
    path: Option<Range<usize>>,
    headers: HeaderMap,
    length: Option<u64>,
    /// Bytes of the fields, as HTTP/2 counts them; and what they may be.
    size: usize,
    most: usize,
    malformed: bool,
    refused: Option<ProxyError>,
}

/// Reads the head of a request, of which no more is kept than a head may have.
///
/// # Errors
/// The block cannot be decoded.
pub(super) fn read(decoder: &mut Decoder, block: &[u8], most: usize) -> Result<Result<Head, Malformed>, DecodingError> {
    let mut reader = Reader {
        method: None,
        scheme: None,
        target: Vec::new(),
        authority: None,
        path: None,
        headers: spare::headers(),
        length: None,
        size: 0,
        most,
        malformed: false,
        refused: None,
    };
    decoder.decode(block, |name, value| reader.take(name, value))?;
    Ok(reader.finish())
}

/// Reads trailers; what is wrong with them, if no host would take them.
///
/// # Errors
/// The block cannot be decoded.
pub(super) fn read_trailers(
    decoder: &mut Decoder,
    block: &[u8],
    most: usize,
) -> Result<Result<Result<http::HeaderMap, &'static str>, Malformed>, DecodingError> {
    let (mut trailers, mut size, mut malformed, mut wrong) = (http::HeaderMap::new(), 0_usize, false, None);
    decoder.decode(block, |name, value| {
        size = size.saturating_add(name.len() + value.len() + OVERHEAD);
        malformed |= is_malformed(name, value);
        if trailers.len() >= MAX_HEADERS || size > most {
            wrong = wrong.or(Some("the trailers are too many"));
        } else if malformed || name_kind(name) != NameKind::Token {
            wrong = wrong.or(Some("the name of a trailer is invalid"));
        } else if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            trailers.append(name, value);
        } else {
            malformed = true;
        }
    })?;
    Ok(if malformed { Err(Malformed) } else { Ok(wrong.map_or(Ok(trailers), Err)) })
}

/// Whether no message may have this field, pseudo fields included (RFC 9113 sections 8.2.1, 8.2.2 and 8.3).
fn is_malformed(name: &[u8], value: &[u8]) -> bool {
    match name {
        [] | [b':', ..] | b"connection" | b"keep-alive" | b"proxy-connection" | b"transfer-encoding" | b"upgrade" => true,
        b"te" => !value.eq_ignore_ascii_case(b"trailers"),
        _ => name_kind(name) == NameKind::Malformed,
    }
}

/// Sets what may be there once.
fn set_once<T>(place: &mut Option<T>, value: T) -> bool {
    place.replace(value).is_none()
}

// === impl Reader ===

impl Reader {
    fn take(&mut self, name: &[u8], value: &[u8]) {
        if let [b':', pseudo @ ..] = name {
            // They come before all others, and once each.
            self.malformed |= !self.headers.is_empty() || self.size > self.most || !self.pseudo(pseudo, value);
            return;
        }
        self.size = self.size.saturating_add(name.len() + value.len() + OVERHEAD);
        if self.size > self.most || self.headers.len() >= MAX_HEADERS {
            self.size = self.size.max(self.most.saturating_add(1));
            self.refused = Some(ProxyError::HeadTooLarge);
            return;
        }
        if is_malformed(name, value) {
            self.malformed = true;
            return;
        }
        if name == b"content-length" {
            let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
            let length = std::str::from_utf8(value).ok().filter(|_| digits).and_then(|text| text.parse::<u64>().ok());
            let Some(length) = length else {
                self.malformed = true;
                return;
            };
            match self.length.replace(length) {
                None => {}
                Some(earlier) => {
                    self.malformed |= earlier != length;
                    return;
                }
            }
        }
        if name_kind(name) != NameKind::Token {
            self.refused.get_or_insert(ProxyError::BadRequest("an invalid header name"));
        } else if self.headers.append_bytes(name, value).is_err() {
            self.malformed = true;
        }
    }

    fn pseudo(&mut self, name: &[u8], value: &[u8]) -> bool {
        match name {
            b"method" => Method::from_bytes(value).is_ok_and(|method| set_once(&mut self.method, method)),
            b"scheme" => Scheme::try_from(value).is_ok_and(|scheme| set_once(&mut self.scheme, scheme)),
            b"authority" => {
                let place = self.place(value);
                set_once(&mut self.authority, place)
            }
            b"path" => {
                self.size = self.size.saturating_add(value.len());
                if self.size > self.most {
                    self.refused = Some(ProxyError::HeadTooLarge);
                }
                let place = self.place(value);
                !value.is_empty() && set_once(&mut self.path, place)
            }
            _ => false,
        }
    }

    fn place(&mut self, value: &[u8]) -> Range<usize> {
        // What is refused anyhow is not kept.
        let value = if value.len() > self.most { &[] } else { value };
        let start = self.target.len();
        self.target.extend_from_slice(value);
        start..self.target.len()
    }

    fn finish(mut self) -> Result<Head, Malformed> {
        let is_connect = self.method == Some(Method::CONNECT);
        let has_all = if is_connect {
            self.scheme.is_none() && self.path.is_none() && self.authority.is_some()
        } else {
            self.scheme.is_some() && self.path.is_some()
        };
        let Some(method) = self.method.take().filter(|_| has_all && !self.malformed) else { return Err(Malformed) };
        let uri = match self.target() {
            Ok(uri) => uri,
            Err(error) => {
                self.refused.get_or_insert(error);
                Uri::default()
            }
        };
        let parts = request::Parts { method, uri, version: Version::HTTP_2, headers: self.headers };
        Ok(Head { parts, length: self.length, refused: self.refused })
    }

    fn target(&mut self) -> Result<Uri, ProxyError> {
        let invalid = |_error| ProxyError::BadRequest("an invalid target");
        let text = Bytes::from(std::mem::take(&mut self.target));
        let slice = |range: &Range<usize>| text.slice(range.clone());
        let mut parts = uri::Parts::default();
        if let Some(path) = &self.path {
            let path = slice(path);
            // No form of a target has one (RFC 9113 section 8.3.1), and what is behind it would be cut off in silence.
            if memchr::memchr(b'#', &path).is_some() {
                return Err(ProxyError::BadRequest("a fragment in the target"));
            }
            if path.len() > MAX_TARGET_BYTES {
                return Err(ProxyError::TargetTooLong);
            }
            parts.path_and_query = Some(PathAndQuery::from_maybe_shared(path).map_err(invalid)?);
        }
        if let Some(authority) = self.authority.as_ref().filter(|authority| !authority.is_empty()) {
            parts.authority =
                Some(Authority::from_maybe_shared(slice(authority)).map_err(|_error| ProxyError::BadRequest("an invalid authority"))?);
            // A target that names no authority names no scheme either: the field `host` has it.
            parts.scheme = self.scheme.take();
        }
        Uri::from_parts(parts).map_err(|_error| ProxyError::BadRequest("an invalid target"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::wire::hpack::{Encoder, Field};

    const MOST: usize = 1000;
    const GET: [(&str, &str); 4] = [(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/p?q")];

    fn block(fields: &[(&str, &str)]) -> Vec<u8> {
        let (mut encoder, mut out) = (Encoder::new(), Vec::new());
        for (name, value) in fields {
            encoder.field(&mut out, Field { name: name.as_bytes(), value: value.as_bytes(), is_sensitive: false });
        }
        out
    }

    fn head(fields: &[(&str, &str)]) -> Result<Head, Malformed> {
        read(&mut Decoder::new(), &block(fields), MOST).unwrap()
    }

    fn with(more: &[(&str, &str)]) -> Result<Head, Malformed> {
        head(&[&GET, more].concat())
    }

    #[test]
    fn a_request_is_read() {
        let head = with(&[("x-a", "1"), ("content-length", "3"), ("content-length", "3"), ("te", "trailers"), ("x-a", "2")]).unwrap();
        assert_eq!((head.parts.method, head.parts.uri.to_string(), head.length), (Method::GET, "http://a/p?q".to_owned(), Some(3)));
        let fields: Vec<_> = head.parts.headers.iter().map(|(name, value)| (name.to_vec(), value.as_bytes().to_vec())).collect();
        let expected: [(&[u8], &[u8]); 4] = [(b"x-a", b"1"), (b"content-length", b"3"), (b"te", b"trailers"), (b"x-a", b"2")];
        assert_eq!(fields, expected.map(|(name, value)| (name.to_vec(), value.to_vec())));
        assert!(head.refused.is_none());
    }

    #[test]
    fn a_request_may_name_its_host_in_a_field() {
        let head = head(&[GET[0], GET[1], GET[3], ("host", "b")]).unwrap();
        assert_eq!((head.parts.uri.to_string(), head.parts.headers.get("host").unwrap().as_bytes()), ("/p?q".to_owned(), &b"b"[..]));
    }

    #[test]
    fn connect_names_an_authority_and_nothing_else() {
        let connect = [(":method", "CONNECT"), (":authority", "a:80")];
        assert_eq!(head(&connect).unwrap().parts.uri, "a:80");
        assert_eq!(head(&[connect[0], connect[1], (":path", "/")]).unwrap_err(), Malformed);
        assert_eq!(head(&connect[..1]).unwrap_err(), Malformed);
    }

    #[test]
    fn what_is_no_message_is_malformed() {
        for more in [
            ("connection", "close"),
            ("keep-alive", "1"),
            ("proxy-connection", "x"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("te", "gzip"),
            ("X-Upper", "1"),
            ("x:y", "1"),
            ("x y", "1"),
            ("x\u{e4}", "1"),
            ("", "1"),
            ("x", "a\r\nb"),
            ("x", "a\0"),
            ("content-length", ""),
            ("content-length", "+1"),
            ("content-length", "99999999999999999999"),
            (":path", "/again"),
            (":status", "200"),
            (":protocol", "websocket"),
        ] {
            assert_eq!(with(&[more]).unwrap_err(), Malformed, "{more:?}");
        }
        assert_eq!(with(&[("content-length", "1"), ("content-length", "2")]).unwrap_err(), Malformed);
        assert_eq!(head(&[GET[0], GET[1], ("x", "1"), GET[3]]).unwrap_err(), Malformed, "a pseudo field behind others");
        for missing in GET {
            let fields: Vec<_> = GET.into_iter().filter(|field| *field != missing).collect();
            assert_eq!(head(&fields).is_err(), missing != GET[2], "without {missing:?}");
        }
        assert_eq!(head(&[GET[0], GET[1], GET[2], (":path", "")]).unwrap_err(), Malformed);
    }

    #[test]
    fn what_no_host_takes_is_refused() {
        let refused = |path: &str, authority: &str, field: (&str, &str)| {
            let head = head(&[GET[0], GET[1], (":authority", authority), (":path", path), field]).unwrap();
            format!("{:?}", head.refused)
        };
        let fine = ("x", "1");
        assert_eq!(refused("/a", "a", fine), "None");
        assert!(refused("/a#b", "a", fine).contains("a fragment in the target"));
        assert!(refused("/a b", "a", fine).contains("an invalid target"));
        assert!(refused("a", "a", fine).contains("an invalid target"));
        assert!(refused("/a", "a b", fine).contains("an invalid authority"));
        assert!(refused("/a", "a", ("keep-ali\"e", "1")).contains("an invalid header name"));
        assert!(refused("/a", "a", ("x", &"x".repeat(MOST))).contains("HeadTooLarge"));
        assert!(refused(&format!("/{}", "x".repeat(MOST)), "a", fine).contains("HeadTooLarge"));
        let many: Vec<_> = (0..=MAX_HEADERS).map(|_| fine).collect();
        assert!(matches!(
            read(&mut Decoder::new(), &block(&[&GET, &*many].concat()), 100_000).unwrap().unwrap().refused,
            Some(ProxyError::HeadTooLarge)
        ));
    }

    #[test]
    fn trailers_are_read_or_refused() {
        let read = |fields: &[(&str, &str)]| read_trailers(&mut Decoder::new(), &block(fields), MOST).unwrap();
        assert_eq!(read(&[("x", "1"), ("x", "2")]).unwrap().unwrap().len(), 2);
        assert_eq!(read(&[(":path", "/")]), Err(Malformed));
        assert_eq!(read(&[("X", "/")]), Err(Malformed));
        assert_eq!(read(&[("x", "a\nb")]), Err(Malformed));
        assert_eq!(read(&[("x\"y", "1")]).unwrap(), Err("the name of a trailer is invalid"));
        assert_eq!(read(&[("x", &"y".repeat(MOST))]).unwrap(), Err("the trailers are too many"));
    }
}
