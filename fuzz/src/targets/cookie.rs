//! The cookie that is hashed is the one that Envoy finds.

use clingfish::{
    lb,
    plan::affinity,
    snapshot::{CookiePolicy, HashPolicy, HashSource},
};
use http::{HeaderName, HeaderValue, Request, header::COOKIE};

/// A name on the first line, then lines of the header.
pub fn run(data: &[u8]) {
    let mut lines = data.split(|byte| *byte == b'\n');
    let name = lines.next().unwrap_or_default();
    // The names that a policy may have (RFC 9110 section 5.6.2).
    let Some(name) = HeaderName::from_bytes(name).ok().and_then(|_| std::str::from_utf8(name).ok()) else { return };
    let mut request = Request::new(());
    for line in lines {
        if let Ok(value) = HeaderValue::from_bytes(line) {
            request.headers_mut().append(COOKIE, value);
        }
    }
    let expected = reference(request.headers().get_all(COOKIE).iter().map(HeaderValue::as_bytes), name.as_bytes());
    let expected = expected.filter(|value| !value.is_empty()).map(|value| lb::xxh64(value, 0));
    let source =
        HashSource::Cookie(CookiePolicy { name: name.into(), ttl_seconds: None, set_cookie_suffix: "".into(), secure_over_https: false });
    let policies = [HashPolicy { source, terminal: false }];
    let parts = request.clone().into_parts().0.into();
    let address = "127.0.0.1:1".parse().expect("an address");
    let found = affinity::evaluate(&policies, &parts, [127, 0, 0, 1].into(), address, address, None);
    assert_eq!(found.hash, expected, "{name} in {:?}", parts.headers);
}

/// What Envoy's documentation and recorded choices say of cookies, written as plainly as can be: parts between semicolons, in the order of
/// the lines; a part without `=` is none; the name is what stands between leading spaces and the first `=`; of the value one pair of double
/// quotes around it is taken off; the first part of the name counts.
fn reference<'l>(lines: impl Iterator<Item = &'l [u8]>, wanted: &[u8]) -> Option<&'l [u8]> {
    for line in lines {
        for part in line.split(|byte| *byte == b';') {
            let Some(equals) = part.iter().position(|byte| *byte == b'=') else { continue };
            let spaces = part.iter().take_while(|byte| **byte == b' ').count();
            if &part[spaces..equals] == wanted {
                let value = &part[equals + 1..];
                let is_quoted = value.len() >= 2 && value.first() == Some(&b'"') && value.last() == Some(&b'"');
                return Some(if is_quoted { &value[1..value.len() - 1] } else { value });
            }
        }
    }
    None
}
