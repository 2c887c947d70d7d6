//! Header names with underscores: many backends read them as dashes, so that `x_forwarded_for` would say there what the edge alone may say.

use http::StatusCode;

use crate::base::head::HeaderMap;
use crate::snapshot::HeadersWithUnderscores;

use super::{decision::Reply, normalise::refusal};

/// Names that frame a message, or by which proxies say who the client is.
const GUARDED: [&str; 13] = [
    "connection",
    "content-length",
    "expect",
    "forwarded",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-real-ip",
    "x-request-id",
];

/// Families of such names.
const GUARDED_PREFIXES: [&str; 2] = ["x-envoy-", "x-forwarded-"];

/// Removes such headers, or refuses the request.
///
/// # Errors
/// 400, where the setting says so.
pub(super) fn sieve(headers: &mut HeaderMap, setting: HeadersWithUnderscores) -> Result<(), Reply> {
    let has_underscore = |name: &[u8]| name.contains(&b'_');
    if setting == HeadersWithUnderscores::Allow || !headers.has_underscores() {
        return Ok(());
    }
    match setting {
        HeadersWithUnderscores::Allow => {}
        HeadersWithUnderscores::RejectRequest => return Err(refusal(StatusCode::BAD_REQUEST, "the name of a header has an underscore")),
        HeadersWithUnderscores::DropHeader => headers.retain(|name| !has_underscore(name)),
        HeadersWithUnderscores::DropGuarded => headers.retain(|name| !has_underscore(name) || !is_guarded(name)),
    }
    Ok(())
}

fn is_guarded(name: &[u8]) -> bool {
    let read = String::from_utf8_lossy(name).replace('_', "-");
    GUARDED.contains(&read.as_str()) || GUARDED_PREFIXES.iter().any(|prefix| read.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    const NAMES: [&str; 8] =
        ["x-user", "x_user", "transfer_encoding", "content_length", "x_forwarded_for", "x-forwarded_proto", "x_envoy_retry_on", "my_host"];

    fn left(setting: HeadersWithUnderscores) -> Result<Vec<String>, StatusCode> {
        let mut headers: HeaderMap = NAMES.iter().map(|name| (HeaderName::from_static(name), HeaderValue::from_static("1"))).collect();
        sieve(&mut headers, setting).map_err(|reply| reply.status)?;
        Ok(headers.keys().map(|name| String::from_utf8(name.to_vec()).unwrap()).collect())
    }

    #[test]
    fn the_setting_says_which_stay() {
        let owned = |names: &[&str]| Ok(names.iter().map(ToString::to_string).collect());
        assert_eq!(left(HeadersWithUnderscores::DropGuarded), owned(&["x-user", "x_user", "my_host"]));
        assert_eq!(left(HeadersWithUnderscores::DropHeader), owned(&["x-user"]));
        assert_eq!(left(HeadersWithUnderscores::Allow), owned(&NAMES));
        assert_eq!(left(HeadersWithUnderscores::RejectRequest), Err(StatusCode::BAD_REQUEST));
    }

    #[test]
    fn requests_without_any_are_left_alone() {
        let mut headers: HeaderMap = [(HeaderName::from_static("x-user"), HeaderValue::from_static("1"))].into_iter().collect();
        assert!(sieve(&mut headers, HeadersWithUnderscores::RejectRequest).is_ok());
        assert_eq!(headers.len(), 1);
    }
}
