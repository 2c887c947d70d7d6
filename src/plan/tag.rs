//! What a request carries of the host of its session.

use crate::base::head::HeaderMap;
use crate::base::{TAG_DIGITS, Tag};
use crate::snapshot::TagCarrier;

use super::cookie;

/// The tag that a request carries.
pub(super) fn tag(carrier: &TagCarrier, headers: &HeaderMap) -> Option<Tag> {
    match carrier {
        TagCarrier::KeyCookie(cookie) => split(cookie::value(headers, &cookie.name)?).1,
        TagCarrier::Cookie(cookie) => Tag::parse(cookie::value(headers, &cookie.name)?),
        TagCarrier::Header(name) => Tag::parse(headers.get(name)?.as_bytes()),
    }
}

/// Both that a cookie carries, a key and a tag, where it is there.
pub(super) fn key_and_tag<'h>(headers: &'h HeaderMap, name: &str) -> (Option<&'h [u8]>, Option<Tag>) {
    let (key, tag) = cookie::value(headers, name).map(split).unzip();
    (key.filter(|key| !key.is_empty()), tag.flatten())
}

/// Of a cookie that may carry a tag, the key: what is hashed. An empty one is none.
pub(super) fn key_of<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h [u8]> {
    key_and_tag(headers, name).0
}

/// `VALUE.TAG`, or a value alone.
fn split(value: &[u8]) -> (&[u8], Option<Tag>) {
    let tagged = || {
        let (front, text) = value.split_at_checked(value.len().checked_sub(TAG_DIGITS)?)?;
        Some((front.strip_suffix(b".")?, Some(Tag::parse(text)?)))
    };
    tagged().unwrap_or((value, None))
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue, header::COOKIE};

    use super::*;
    use crate::snapshot::CookiePolicy;

    const TAG: Option<Tag> = Some(Tag(0x0123_4567_89ab_cdef));

    fn headers(name: HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_str(value).unwrap())])
    }

    #[test]
    fn a_tag_is_16_digits_behind_the_last_dot() {
        let cookie = || CookiePolicy { name: "sid".into(), ttl_seconds: Some(0), set_cookie_suffix: "".into(), secure_over_https: false };
        for (sent, key, tag_sent) in [
            ("sid=abc.0123456789abcdef", Some("abc"), TAG),
            ("sid=\"a.b.0123456789abcdef\"", Some("a.b"), TAG),
            ("sid=298b1ac340fdea97", Some("298b1ac340fdea97"), None),
            ("sid=.0123456789abcdef", None, TAG),
            ("sid=0123456789abcdef", Some("0123456789abcdef"), None),
            ("sid=abc.0123456789ABCDEF", Some("abc.0123456789ABCDEF"), None),
            ("sid=abc.123456789abcdef", Some("abc.123456789abcdef"), None),
            ("sid=abc.", Some("abc."), None),
            ("sid=", None, None),
            ("other=1", None, None),
        ] {
            let headers = headers(COOKIE, sent);
            assert_eq!(key_of(&headers, "sid"), key.map(str::as_bytes), "{sent}");
            assert_eq!(tag(&TagCarrier::KeyCookie(cookie()), &headers), tag_sent, "{sent}");
        }
        for (sent, tag_sent) in [("sid=0123456789abcdef", TAG), ("sid=a.0123456789abcdef", None), ("sid=", None)] {
            assert_eq!(tag(&TagCarrier::Cookie(cookie()), &headers(COOKIE, sent)), tag_sent, "{sent}");
        }
        let name = HeaderName::from_static("x-session");
        for (sent, tag_sent) in [("0123456789abcdef", TAG), ("\"0123456789abcdef\"", None), ("", None)] {
            assert_eq!(tag(&TagCarrier::Header(name.clone()), &headers(name.clone(), sent)), tag_sent, "{sent}");
        }
    }
}
