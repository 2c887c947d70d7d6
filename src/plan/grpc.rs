//! What gRPC says in headers: whether a request is a call, how long it may take, and how it ended.

use std::time::Duration;

use http::{HeaderName, HeaderValue, StatusCode, header::CONTENT_TYPE};

use crate::base::head::{HeaderMap, response};

static GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
static GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
static GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// Most digits of a `grpc-timeout`.
const MAX_DIGITS: usize = 8;

/// Statuses of gRPC that the gateway gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are gRPC's")]
pub enum GrpcStatus {
    Unknown = 2,
    DeadlineExceeded = 4,
    PermissionDenied = 7,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    Unauthenticated = 16,
}

/// Whether the value of `content-type` makes a request a call of gRPC (Envoy: `Grpc::Common::hasGrpcContentType`). gRPC-Web is none.
pub fn is_grpc_content_type(value: &[u8]) -> bool {
    let rest = value.strip_prefix(b"application/grpc");
    rest.is_some_and(|rest| rest.first().is_none_or(|next| matches!(next, b'+' | b';')))
}

/// The time that a client gives its call (gRPC over HTTP2, "Timeout"); `None` without one, and where it is malformed.
pub fn grpc_timeout(headers: &HeaderMap) -> Option<Duration> {
    let (unit, digits) = headers.get(&GRPC_TIMEOUT)?.as_bytes().split_last()?;
    if digits.is_empty() || digits.len() > MAX_DIGITS || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = digits.iter().fold(0_u64, |number, digit| number * 10 + u64::from(digit - b'0'));
    match unit {
        b'H' => Some(Duration::from_secs(number * 3600)),
        b'M' => Some(Duration::from_secs(number * 60)),
        b'S' => Some(Duration::from_secs(number)),
        b'm' => Some(Duration::from_millis(number)),
        b'u' => Some(Duration::from_micros(number)),
        b'n' => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

/// The status of a call in the head of its answer, where it has one.
pub fn grpc_status(headers: &HeaderMap) -> Option<u8> {
    headers.get(&GRPC_STATUS)?.to_str().ok()?.parse().ok()
}

/// Turns the head of an answer of the gateway's own to a call into what clients of gRPC read: a head that is all there is, with the status of
/// gRPC in the place of HTTP's. `text`: what else would be the body.
pub fn answer_call(parts: &mut response::Parts, status: GrpcStatus, text: &str) {
    parts.status = StatusCode::OK;
    parts.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    parts.headers.insert(&GRPC_STATUS, HeaderValue::from(status as u16));
    if let Some(message) = message(text) {
        parts.headers.insert(&GRPC_MESSAGE, message);
    }
}

/// A `grpc-message`: percent-encoded, as the protocol asks.
fn message(text: &str) -> Option<HeaderValue> {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if matches!(byte, b' '..=b'~') && byte != b'%' {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    if text.is_empty() { None } else { HeaderValue::try_from(encoded).ok() }
}

// === impl GrpcStatus ===

impl GrpcStatus {
    /// What an error of HTTP is in gRPC (Envoy: `Grpc::Utility::httpToGrpcStatus`); `None`: it is no error.
    pub fn of_error(status: StatusCode) -> Option<Self> {
        match status.as_u16() {
            400 => Some(Self::Internal),
            401 => Some(Self::Unauthenticated),
            403 => Some(Self::PermissionDenied),
            404 => Some(Self::Unimplemented),
            429 | 502 | 503 | 504 => Some(Self::Unavailable),
            0..400 => None,
            _ => Some(Self::Unknown),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_requests_are_calls() {
        for (value, expected) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc; charset=utf-8", true),
            ("application/grpc-web", false),
            ("application/grpc-web+proto", false),
            ("application/json", false),
            ("", false),
        ] {
            assert_eq!(is_grpc_content_type(value.as_bytes()), expected, "{value}");
        }
    }

    #[test]
    fn timeouts_of_calls() {
        let timeout = |value: &'static str| grpc_timeout(&HeaderMap::from_iter([(GRPC_TIMEOUT.clone(), HeaderValue::from_static(value))]));
        for (value, expected) in [
            ("1H", Some(Duration::from_secs(3600))),
            ("2M", Some(Duration::from_secs(120))),
            ("3S", Some(Duration::from_secs(3))),
            ("100m", Some(Duration::from_millis(100))),
            ("5u", Some(Duration::from_micros(5))),
            ("7n", Some(Duration::from_nanos(7))),
            ("99999999H", Some(Duration::from_secs(99_999_999 * 3600))),
            ("0S", Some(Duration::ZERO)),
            ("123456789S", None),
            ("S", None),
            ("", None),
            ("-1S", None),
            ("1s", None),
            ("1.5S", None),
        ] {
            assert_eq!(timeout(value), expected, "{value}");
        }
        assert_eq!(grpc_timeout(&HeaderMap::new()), None);
    }

    #[test]
    fn an_answer_to_a_call_is_a_head_with_a_status() {
        let mut parts = response::Parts { status: StatusCode::SERVICE_UNAVAILABLE, ..response::Parts::default() };
        let status = GrpcStatus::of_error(parts.status).unwrap();
        answer_call(&mut parts, status, "100 % gone\n");
        let header = |name: &str| parts.headers.get(name).unwrap().to_str().unwrap().to_owned();
        assert_eq!(parts.status, StatusCode::OK);
        assert_eq!(
            (header("grpc-status"), header("grpc-message"), header("content-type")),
            ("14".to_owned(), "100 %25 gone%0A".to_owned(), "application/grpc".to_owned())
        );
        assert_eq!(grpc_status(&parts.headers), Some(14));
        assert_eq!(GrpcStatus::of_error(StatusCode::NOT_FOUND), Some(GrpcStatus::Unimplemented));
        assert_eq!(GrpcStatus::of_error(StatusCode::FOUND), None);
    }
}
