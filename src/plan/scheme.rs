//! How a client came.

use crate::base::head::{Value, request};

use super::client::X_FORWARDED_PROTO;

/// As Envoy: what X-Forwarded-Proto says, which at the edge is how the client itself came.
pub(super) fn scheme(parts: &request::Parts) -> &'static str {
    match parts.headers.get(X_FORWARDED_PROTO).map(Value::as_bytes) {
        Some(b"https") => "https",
        Some(_) | None => "http",
    }
}
