//! `lbHash`: Gloo's hash policies, one to one Envoy's.

use std::fmt::Write as _;

use http::HeaderName;

use crate::api;
use crate::base::text::quoted;
use crate::snapshot::{CookiePolicy, HashPolicy, HashSource};
use crate::translate::gloo::findings::Findings;

use super::duration::duration;

/// Envoy's pseudo headers that have a value here.
const PSEUDO_HEADERS: [&str; 4] = [":authority", ":method", ":path", ":scheme"];

/// The policies in order, or the first thing that is wrong.
pub(super) fn compile(lb_hash: &api::LbHash, findings: &mut Findings) -> Result<Box<[HashPolicy]>, String> {
    let policies = lb_hash.hash_policies.as_deref().unwrap_or_default();
    if policies.is_empty() {
        findings.warn("field spec.options.lbHash.hashPolicies is empty: no key, a random host is chosen".to_owned());
    }
    let mut compiled = Vec::with_capacity(policies.len());
    for (index, policy) in policies.iter().enumerate() {
        let field = format!("spec.options.lbHash.hashPolicies[{index}]");
        if let Some(source) = source(policy, &field)? {
            compiled.push(HashPolicy { source, terminal: policy.terminal == Some(true) });
        }
    }
    Ok(compiled.into())
}

/// Where the key is read; `None` for `sourceIp: false`, which Gloo drops together with its `terminal`.
fn source(policy: &api::HashPolicy, field: &str) -> Result<Option<HashSource>, String> {
    match (&policy.header, &policy.cookie, policy.source_ip) {
        (Some(header), None, None) => header_source(header, field).map(Some),
        (None, Some(cookie), None) => cookie_source(cookie, field).map(Some),
        (None, None, Some(true)) => Ok(Some(HashSource::SourceIp)),
        (None, None, Some(false)) => Ok(None),
        (None, None, None) => Err(format!("field {field} has no key: expected one of header, cookie, sourceIp")),
        _ => Err(format!("field {field} has several keys: expected one of header, cookie, sourceIp")),
    }
}

fn header_source(header: &str, field: &str) -> Result<HashSource, String> {
    let lower = header.to_ascii_lowercase();
    // Envoy keeps Host as `:authority` and finds it under both names.
    let lower = if lower == "host" { ":authority".to_owned() } else { lower };
    if PSEUDO_HEADERS.contains(&lower.as_str()) {
        return Ok(HashSource::PseudoHeader(lower.into()));
    }
    let name = HeaderName::from_bytes(lower.as_bytes()).map_err(|_| {
        format!(
            "field {field}.header is {}: expected the name of a header (letters, digits, '-' and the like), or {}",
            quoted(header),
            PSEUDO_HEADERS.join(", ")
        )
    })?;
    Ok(HashSource::Header(name))
}

fn cookie_source(cookie: &api::Cookie, field: &str) -> Result<HashSource, String> {
    let name = cookie.name.as_deref().unwrap_or_default();
    if name.is_empty() {
        return Err(format!("field {field}.cookie.name is missing: expected the name of a cookie"));
    }
    if !name.bytes().all(is_token) {
        return Err(format!("field {field}.cookie.name is {name}: expected a token (no spaces, no separators)", name = quoted(name)));
    }
    let path = cookie.path.as_deref().unwrap_or_default();
    if !path.bytes().all(|byte| (0x20..0x7f).contains(&byte) && byte != b';') {
        return Err(format!("field {field}.cookie.path is {path}: expected printable ASCII without ';'", path = quoted(path)));
    }
    let ttl_seconds = cookie.ttl.map(|ttl| duration(&format!("{field}.cookie.ttl"), ttl).map(|ttl| ttl.as_secs())).transpose()?;
    let set_cookie_suffix = set_cookie_suffix(ttl_seconds.unwrap_or(0), path).into();
    Ok(HashSource::Cookie(CookiePolicy { name: name.into(), ttl_seconds, set_cookie_suffix, secure_over_https: false }))
}

/// What follows the value in Set-Cookie, as Envoy writes it. Gloo's cookies have no further attributes.
fn set_cookie_suffix(max_age: u64, path: &str) -> String {
    let mut suffix = String::new();
    if max_age > 0 {
        let _infallible = write!(suffix, "; Max-Age={max_age}");
    }
    if !path.is_empty() {
        let _infallible = write!(suffix, "; Path={path}");
    }
    suffix.push_str("; HttpOnly");
    suffix
}

/// RFC 9110's `tchar`.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
