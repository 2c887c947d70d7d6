//! A claim of a JSON Web Token, read without verifying the token: it only groups requests.

use serde_json::Value;

use crate::base::head::HeaderMap;
use crate::snapshot::JwtClaim;

/// Bytes of a token's payload that are looked at, at most. A longer one counts as absent.
const MOST_PAYLOAD: usize = 8 << 10;

/// The text of the claim: a string as it is, a number or boolean as JSON writes it. `None`: no token, none that can be read, no such claim, or
/// one that is empty or a list or object.
pub(super) fn value(headers: &HeaderMap, source: &JwtClaim) -> Option<String> {
    let header = headers.get(&source.header)?.as_bytes();
    let token = header.rsplit(|byte| *byte == b' ').next()?;
    let mut parts = token.split(|byte| *byte == b'.');
    let (_, payload, _) = (parts.next()?, parts.next()?, parts.next()?);
    let payload = decoded(payload)?;
    let claims: Value = serde_json::from_slice(&payload).ok()?;
    match claims.get(&*source.claim)? {
        Value::String(text) if text.is_empty() => None,
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// Base64 for URLs (RFC 4648, section 5), with or without padding.
fn decoded(text: &[u8]) -> Option<Vec<u8>> {
    if text.len() > MOST_PAYLOAD {
        return None;
    }
    let text = text.strip_suffix(b"==").or_else(|| text.strip_suffix(b"=")).unwrap_or(text);
    let mut bytes = Vec::with_capacity(text.len() * 3 / 4);
    for group in text.chunks(4) {
        if group.len() == 1 {
            return None;
        }
        let mut bits = 0_u32;
        for byte in group {
            bits = (bits << 6) | u32::from(sextet(*byte)?);
        }
        bits <<= 6 * (4 - group.len());
        let [_, whole @ ..] = bits.to_be_bytes();
        bytes.extend(whole.iter().take(group.len() - 1));
    }
    Some(bytes)
}

fn sextet(byte: u8) -> Option<u8> {
    match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'-' => Some(62),
        b'_' => Some(63),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn claim(name: &str, header: &str) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.insert(http::header::AUTHORIZATION, HeaderValue::from_str(header).unwrap());
        value(&headers, &JwtClaim { header: HeaderName::from_static("authorization"), claim: name.into() })
    }

    #[test]
    fn base64_for_urls_is_read_with_or_without_padding() {
        for (text, bytes) in
            [("", &b""[..]), ("Zg", b"f"), ("Zg==", b"f"), ("Zm8", b"fo"), ("Zm8=", b"fo"), ("Zm9v", b"foo"), ("-_8", b"\xfb\xff")]
        {
            assert_eq!(decoded(text.as_bytes()).as_deref(), Some(bytes), "{text}");
        }
        for text in ["Z", "Zm9vZ", "Zm+v", "Zm 9", "===="] {
            assert_eq!(decoded(text.as_bytes()), None, "{text}");
        }
        assert_eq!(decoded(&vec![b'A'; MOST_PAYLOAD + 1]), None);
    }

    #[test]
    fn a_claim_is_text_a_number_or_a_truth_value() {
        // {"sub":"alice","n":42,"t":true,"l":[1],"e":"","z":null}
        let payload = "eyJzdWIiOiJhbGljZSIsIm4iOjQyLCJ0Ijp0cnVlLCJsIjpbMV0sImUiOiIiLCJ6IjpudWxsfQ";
        for header in [format!("Bearer eyJhbGciOiJub25lIn0.{payload}.c2ln"), format!("a.{payload}."), format!("DPoP  a.{payload}.b")] {
            for (name, expected) in
                [("sub", Some("alice")), ("n", Some("42")), ("t", Some("true")), ("l", None), ("e", None), ("z", None), ("other", None)]
            {
                assert_eq!(claim(name, &header).as_deref(), expected, "{name} of {header}");
            }
        }
        for header in ["Bearer", "Bearer abc", "Bearer a.b", "Bearer a.!!.c", "Bearer a.WzFd.c", "Basic dXNlcjpwYXNz"] {
            assert_eq!(claim("sub", header), None, "{header}");
        }
    }
}
