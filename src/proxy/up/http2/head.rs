//! Heads of HTTP/2 requests and answers (RFC 9113 section 8).

use h2::ext::Protocol;
use http::{
    HeaderName, HeaderValue, Method, Request, StatusCode, Uri, Version,
    header::{CONTENT_LENGTH, EXPECT, HOST, UPGRADE},
    uri::{Authority, PathAndQuery, Scheme},
};

use crate::{
    base::crypto::websocket_accept,
    base::head::{HeaderMap, Value, response},
    proxy::wire::{
        fields::MAX_HEADERS,
        headers::{HopHeaders, is_token},
        spare,
    },
};

use super::error::StreamError;

/// Most bytes of an answer's head, by the size that HTTP/2 gives it (RFC 9113 section 6.5.2).
pub(super) const MAX_HEAD_BYTES: u32 = 60 * 1024;

const SEC_WEBSOCKET_KEY: HeaderName = HeaderName::from_static("sec-websocket-key");
const SEC_WEBSOCKET_ACCEPT: HeaderName = HeaderName::from_static("sec-websocket-accept");

/// A request's head, as often as it has to be sent.
#[derive(Debug)]
pub(in crate::proxy) struct RequestHead {
    method: Method,
    uri: Uri,
    headers: http::HeaderMap,
    websocket: bool,
}

// === impl RequestHead ===

impl RequestHead {
    /// A planned head, its hop-by-hop headers already removed. `length`: what `content-length` says; `None`: nothing. `websocket`: it asks for
    /// that protocol (RFC 8441).
    pub(in crate::proxy) fn new(method: &Method, path: &Uri, mut headers: HeaderMap, length: Option<u64>, websocket: bool) -> Self {
        headers.remove(CONTENT_LENGTH);
        if let Some(length) = length {
            headers.append(CONTENT_LENGTH, HeaderValue::from(length));
        }
        // The gateway answers it by itself.
        headers.remove(EXPECT);
        let method = if websocket { Method::CONNECT } else { method.clone() };
        let uri = target(path, &mut headers);
        let fields = http::HeaderMap::from(&headers);
        spare::give_back(headers);
        Self { method, uri, headers: fields, websocket }
    }

    /// Puts one text in the place of another in a field, if it is there.
    pub(in crate::proxy) fn replace_in(&mut self, name: &HeaderName, old: &str, new: &str) {
        let Some(value) = self.headers.get_mut(name) else { return };
        let changed = value.to_str().ok().and_then(|text| HeaderValue::try_from(text.replace(old, new)).ok());
        if let Some(changed) = changed {
            *value = changed;
        }
    }

    /// The key of a WebSocket handshake, if the client has sent one.
    pub(super) fn websocket_key(&self) -> Option<&HeaderValue> {
        self.headers.get(SEC_WEBSOCKET_KEY)
    }

    /// Whether it asks for WebSocket.
    pub(super) fn asks_for_websocket(&self) -> bool {
        self.websocket
    }

    pub(super) fn is_head(&self) -> bool {
        self.method == Method::HEAD
    }

    /// One request with it.
    pub(super) fn request(&self) -> Request<()> {
        let mut request = Request::new(());
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        if self.websocket {
            request.extensions_mut().insert(Protocol::from_static("websocket"));
        }
        request
    }
}

/// `:scheme`, `:authority` and `:path`. A host that is no authority stays where it is: the field is allowed (RFC 9113 section 8.3.1).
fn target(path: &Uri, headers: &mut HeaderMap) -> Uri {
    let authority = headers.get(HOST).and_then(|host| Authority::try_from(host.as_bytes()).ok());
    let path = path.path_and_query().cloned();
    let Some(authority) = authority else {
        return path.map_or_else(Uri::default, Uri::from);
    };
    headers.remove(HOST);
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = Some(authority);
    parts.path_and_query = Some(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
    Uri::from_parts(parts).unwrap_or_default()
}

/// The head of an answer as it is passed on, and the length of the body that it announces.
pub(super) fn answer(parts: http::response::Parts) -> Result<(response::Parts, Option<u64>), StreamError> {
    check(&parts.headers)?;
    let mut parts = response::Parts::from(parts);
    parts.version = Version::HTTP_11;
    HopHeaders::scan(&parts.headers).strip_response(&mut parts.headers);
    if parts.status == StatusCode::NO_CONTENT || parts.status.is_informational() {
        parts.headers.remove(CONTENT_LENGTH);
    }
    let Some(value) = parts.headers.get(CONTENT_LENGTH).and_then(Value::to_header_value) else { return Ok((parts, None)) };
    // The library refuses values that are no numbers, or differ.
    let length = value.to_str().ok().and_then(|length| length.parse().ok());
    parts.headers.insert(CONTENT_LENGTH, value);
    Ok((parts, length))
}

/// What the library lets pass and no HTTP/1.1 peer takes, of a head or of trailers.
pub(super) fn check(headers: &http::HeaderMap) -> Result<(), StreamError> {
    if headers.len() > MAX_HEADERS {
        return Err(StreamError::Invalid("more than 100 headers"));
    }
    if !headers.keys().all(|name| is_token(name.as_str().as_bytes())) {
        return Err(StreamError::Invalid("a header name is invalid"));
    }
    Ok(())
}

/// Bytes of a head, by the size that HTTP/2 gives it.
pub(super) fn size(headers: &http::HeaderMap) -> usize {
    const OVERHEAD: usize = 32;
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + OVERHEAD).sum()
}

/// Makes the answer to an extended CONNECT the one that an HTTP/1.1 client's WebSocket handshake expects (RFC 6455 section 4.2.2). A host that
/// is a gateway itself may have the field from the host behind it, since the key was passed on, as Envoy passes it.
pub(super) fn switch(mut parts: response::Parts, key: Option<&HeaderValue>) -> response::Parts {
    parts.status = StatusCode::SWITCHING_PROTOCOLS;
    parts.headers.remove(CONTENT_LENGTH);
    parts.headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    if let Some(key) = key
        && !parts.headers.contains_key(SEC_WEBSOCKET_ACCEPT)
        && let Ok(accept) = HeaderValue::try_from(&*websocket_accept(key.as_bytes()))
    {
        parts.headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    }
    parts
}
