//! A request as its hosts read it.

use http::{Method, Uri, header::CONTENT_LENGTH};

use crate::base::head::HeaderMap;
use crate::{base::trace::TRACEPARENT, proxy::wire::spare, snapshot::UpstreamProtocol, telemetry::SpanChange};

use super::{
    h1::{self, RequestFraming},
    hosts::Hosts,
    http2,
    outbound::BodyLength,
};

/// Buffers that grew beyond this are not kept.
const KEPT_BYTES: usize = 16 * 1024;

/// A request as it is written, as often as it has to be.
#[derive(Debug)]
pub(in crate::proxy) struct Encoded(pub(super) Head);

/// Its head, in the protocol of its hosts.
#[derive(Debug)]
pub(super) enum Head {
    /// In HTTP/1.1.
    Http1(Http1Encoded),
    /// In HTTP/2.
    Http2(Box<http2::RequestHead>),
}

/// A request as it is written in HTTP/1.1.
#[derive(Debug)]
pub(super) struct Http1Encoded {
    pub(super) bytes: Vec<u8>,
    pub(super) framing: RequestFraming,
    pub(super) is_head: bool,
    pub(super) wants_upgrade: bool,
}

/// Methods whose empty body is not announced, unless the client does so; all others get `content-length: 0`, as from Envoy
/// (`requestShouldHaveNoBody` in `source/common/http/header_utility.cc`) and by RFC 9110 section 8.6.
fn has_no_content(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::DELETE | Method::TRACE | Method::CONNECT)
}

/// How the body of a request is delimited.
fn framing(method: &Method, headers: &HeaderMap, length: BodyLength) -> RequestFraming {
    match length {
        BodyLength::None if has_no_content(method) && !headers.contains_key(CONTENT_LENGTH) => RequestFraming::None,
        BodyLength::None => RequestFraming::Length(0),
        BodyLength::Exactly(length) => RequestFraming::Length(length),
        BodyLength::Unknown => RequestFraming::Chunked,
    }
}

// === impl Encoded ===

impl Encoded {
    /// Takes a planned head, hop-by-hop headers already removed, for hosts that speak this protocol.
    pub(in crate::proxy) fn new(
        hosts: &Hosts,
        protocol: UpstreamProtocol,
        method: &Method,
        uri: &Uri,
        headers: HeaderMap,
        length: BodyLength,
        wants_websocket: bool,
    ) -> Self {
        let framing = framing(method, &headers, length);
        match protocol {
            UpstreamProtocol::Http1 => {
                let mut bytes = hosts.spare_buffer();
                let path = uri.path_and_query().map_or("/", |path| path.as_str());
                let upgrade = wants_websocket.then_some(&b"websocket"[..]);
                h1::encode_head(&mut bytes, method, path, &headers, framing, upgrade);
                spare::give_back(headers);
                Self(Head::Http1(Http1Encoded { bytes, framing, is_head: *method == Method::HEAD, wants_upgrade: wants_websocket }))
            }
            UpstreamProtocol::H2c => {
                let length = match framing {
                    RequestFraming::Length(length) => Some(length),
                    RequestFraming::None | RequestFraming::Chunked => None,
                };
                Self(Head::Http2(Box::new(http2::RequestHead::new(method, uri, headers, length, wants_websocket))))
            }
        }
    }

    /// Names another span of ours as the host's parent.
    pub(in crate::proxy) fn change_span(&mut self, (old, new): SpanChange) {
        let (old, new) = (old.to_string(), new.to_string());
        match &mut self.0 {
            // It is random: nothing else in the head is it.
            Head::Http1(encoded) => {
                if let Some(at) = memchr::memmem::find(&encoded.bytes, old.as_bytes())
                    && let Some(place) = encoded.bytes.get_mut(at..at + old.len())
                {
                    place.copy_from_slice(new.as_bytes());
                }
            }
            Head::Http2(head) => head.replace_in(&TRACEPARENT, &old, &new),
        }
    }

    /// Gives buffers back.
    pub(in crate::proxy) fn discard(self, hosts: &Hosts) {
        let mut bytes = match self.0 {
            Head::Http1(encoded) => encoded.bytes,
            Head::Http2(_) => return,
        };
        if bytes.capacity() <= KEPT_BYTES {
            bytes.clear();
            hosts.keep_buffer(bytes);
        }
    }
}
