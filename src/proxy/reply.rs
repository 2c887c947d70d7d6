//! Answers of the gateway's own.

use bytes::Bytes;
use http::{
    HeaderValue, Response,
    header::{CONTENT_TYPE, LOCATION},
    response,
};

use crate::{
    plan::{Reply, ReplyReason},
    telemetry::ResponseFlag,
};

use super::{body::ResponseBody, error::Verdict};

/// Head and body of the answer that a plan prescribes, and its response flag.
pub(super) fn planned(reply: &Reply) -> (response::Parts, ResponseBody, ResponseFlag) {
    let (flag, text) = describe(&reply.reason);
    let (mut parts, body) = text_response(reply.status, text);
    if let Some(location) = &reply.location {
        parts.headers.insert(LOCATION, location.clone());
    }
    (parts, body, flag)
}

/// Head and body of the answer to an error.
pub(super) fn failed(verdict: Verdict) -> (response::Parts, ResponseBody) {
    text_response(verdict.status, verdict.text)
}

/// The response flag of a reason, and what the client is told: nothing about the configuration.
fn describe(reason: &ReplyReason) -> (ResponseFlag, &'static str) {
    match reason {
        ReplyReason::BadRequest(what) => (ResponseFlag::DownstreamProtocolError, what),
        ReplyReason::NoListener | ReplyReason::NoRoute => (ResponseFlag::NoRoute, ""),
        ReplyReason::Misdirected => (ResponseFlag::NoRoute, "misdirected request"),
        ReplyReason::Rule(_) | ReplyReason::Redirect => (ResponseFlag::None, ""),
        ReplyReason::InvalidBackend(_) | ReplyReason::BackendRefused(_) => (ResponseFlag::NoCluster, ""),
        ReplyReason::NoHealthyUpstream => (ResponseFlag::NoHealthyUpstream, "no healthy upstream"),
    }
}

fn text_response(status: http::StatusCode, text: &'static str) -> (response::Parts, ResponseBody) {
    let (mut parts, ()) = Response::new(()).into_parts();
    parts.status = status;
    if text.is_empty() {
        return (parts, ResponseBody::empty());
    }
    parts.headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    (parts, ResponseBody::Text(Bytes::from_static(text.as_bytes())))
}
