//! Answers of the gateway's own.

use bytes::Bytes;
use http::{
    HeaderName, HeaderValue,
    header::{CONTENT_TYPE, LOCATION},
};

use crate::{
    base::head::response,
    plan::{self, GrpcStatus, Reply, ReplyReason},
    proxy::state::error::Verdict,
    telemetry::ResponseFlag,
};

/// Envoy's mark of an answer that a circuit breaker gave.
const OVERLOADED: HeaderName = HeaderName::from_static("x-envoy-overloaded");

/// Head and text of the answer that a plan prescribes, and its response flag.
pub(in crate::proxy) fn planned(reply: &Reply) -> (response::Parts, Bytes, ResponseFlag) {
    let (flag, text) = describe(&reply.reason);
    let (mut parts, text) = text_response(reply.status, text);
    if let Some(location) = &reply.location {
        parts.headers.insert(LOCATION, location.clone());
    }
    (parts, text, flag)
}

/// Head and text of the answer to an error.
pub(in crate::proxy) fn failed(verdict: Verdict) -> (response::Parts, Bytes) {
    let (mut parts, text) = text_response(verdict.status, verdict.text);
    if verdict.flag == ResponseFlag::UpstreamOverflow {
        // A gateway in front that speaks Envoy's words does not send the request once more.
        parts.headers.insert(OVERLOADED, HeaderValue::from_static("true"));
    }
    (parts, text)
}

/// Makes the answer one to a call of gRPC where it is an error; returns the body that is left.
pub(in crate::proxy) fn to_call(parts: &mut response::Parts, text: Bytes, status: Option<GrpcStatus>) -> Bytes {
    let Some(status) = status else { return text };
    plan::answer_call(parts, status, std::str::from_utf8(&text).unwrap_or_default());
    Bytes::new()
}

/// The response flag of a reason, and what the client is told: nothing about the configuration.
fn describe(reason: &ReplyReason) -> (ResponseFlag, &'static str) {
    match reason {
        ReplyReason::BadRequest(what) => (ResponseFlag::DownstreamProtocolError, what),
        ReplyReason::NoListener | ReplyReason::NoRoute => (ResponseFlag::NoRoute, ""),
        ReplyReason::Misdirected => (ResponseFlag::NoRoute, "misdirected request"),
        ReplyReason::ListenerRefused(_)
        | ReplyReason::Rule(_)
        | ReplyReason::Redirect
        | ReplyReason::Preflight { .. }
        | ReplyReason::EscapedSlashes => (ResponseFlag::None, ""),
        ReplyReason::InvalidBackend(_) | ReplyReason::BackendRefused(_) => (ResponseFlag::NoCluster, ""),
        ReplyReason::NoAffinityKey(_) => (ResponseFlag::None, "the request has no key of affinity"),
        ReplyReason::NoHealthyUpstream(_) => (ResponseFlag::NoHealthyUpstream, "no healthy upstream"),
    }
}

/// The response flag of a reason.
pub(in crate::proxy) fn flag(reason: &ReplyReason) -> ResponseFlag {
    describe(reason).0
}

/// Why the gateway answers by itself, for the log: Envoy's words where it has some, and nothing that the configuration chose.
pub(in crate::proxy) fn why(reason: &ReplyReason) -> &'static str {
    match reason {
        ReplyReason::BadRequest(what) => what,
        ReplyReason::Misdirected => "misdirected request",
        ReplyReason::NoListener => "no listener",
        ReplyReason::NoRoute => "route not found",
        ReplyReason::ListenerRefused(_) => "listener refused",
        ReplyReason::Rule(_) => "direct response",
        ReplyReason::InvalidBackend(_) => "invalid backend",
        ReplyReason::BackendRefused(_) => "backend refused",
        ReplyReason::NoAffinityKey(_) => "no affinity key",
        ReplyReason::NoHealthyUpstream(_) => "no healthy upstream",
        ReplyReason::Redirect => "redirect",
        ReplyReason::Preflight { .. } => "CORS preflight",
        ReplyReason::EscapedSlashes => "path normalization redirect",
    }
}

fn text_response(status: http::StatusCode, text: &'static str) -> (response::Parts, Bytes) {
    let mut parts = response::Parts { status, ..response::Parts::default() };
    if !text.is_empty() {
        parts.headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    }
    (parts, Bytes::from_static(text.as_bytes()))
}
