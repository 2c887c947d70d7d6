//! Sessions that a rule makes persistent (GEP-1619): what a request carries of one, whether it still counts, and what its client keeps.

use std::time::{SystemTime, UNIX_EPOCH};

use http::HeaderValue;

use crate::base::head::HeaderMap;
use crate::base::{AffinityKeys, SessionToken, Signature};
use crate::snapshot::{CookiePath, CookiePolicy, PathMatch, Persistence, TagCarrier};

use super::super::cookie;

/// Cookies or headers of one name that are looked into: each costs a signature.
const MOST_LOOKED_INTO: usize = 8;

/// A session that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::plan) struct Opened {
    /// What its client keeps of it.
    pub(super) token: SessionToken,
    /// The client should get a newer one.
    pub(super) is_due: bool,
}

/// Milliseconds since the epoch.
pub(super) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The first session among those that a request carries which counts at this time, in milliseconds since the epoch.
pub(super) fn open(persistence: &Persistence, carrier: &TagCarrier, keys: &AffinityKeys, headers: &HeaderMap, now: u64) -> Option<Opened> {
    let judge = |text: &[u8]| {
        let (token, signature) = SessionToken::open(text, keys, &persistence.scope)?;
        if persistence.is_over(&token, now) {
            return None;
        }
        Some(Opened { token, is_due: signature == Signature::Known || persistence.is_due(&token, now) })
    };
    match carrier {
        TagCarrier::KeyCookie(policy) | TagCarrier::Cookie(policy) => {
            cookie::values(headers, &policy.name).take(MOST_LOOKED_INTO).find_map(judge)
        }
        TagCarrier::Header(name) => headers.get_all(name).take(MOST_LOOKED_INTO).find_map(|value| judge(value.as_bytes())),
    }
}

/// Set-Cookie of a session, for a request that came by this match of the rule.
pub(super) fn set_cookie(
    persistence: &Persistence,
    policy: &CookiePolicy,
    token: &SessionToken,
    text: &[u8],
    now: u64,
    path: &PathMatch,
    is_https: bool,
) -> Option<HeaderValue> {
    let max_age = persistence.seconds_left(token, now).filter(|_| persistence.is_permanent).map(|left| format!("; Max-Age={left}"));
    let path = match &persistence.path {
        CookiePath::Unset => None,
        CookiePath::Is(path) => Some(&**path),
        CookiePath::OfMatch => Some(match_path(path)),
    };
    let path = path.map(|path| format!("; Path={path}"));
    let secure = if is_https && policy.secure_over_https { "; Secure" } else { "" };
    let attributes = [max_age.as_deref().unwrap_or_default(), path.as_deref().unwrap_or_default(), &policy.set_cookie_suffix, secure];
    let name = policy.name.as_bytes();
    HeaderValue::try_from([&[name, b"=", text][..], &attributes.map(str::as_bytes)].concat().concat()).ok()
}

/// The path below which requests come by a match; of a regular expression, as far as it is literal, whole elements of it.
fn match_path(path: &PathMatch) -> &str {
    let path = match path {
        PathMatch::Exact(path) | PathMatch::Prefix(path) => path,
        PathMatch::Regex(pattern) => literal_elements(pattern.source()),
    };
    // What cannot stand in an attribute (RFC 6265 section 4.1.1).
    let is_plain = |byte: u8| (0x21..0x7f).contains(&byte) && byte != b';';
    if path.is_empty() || !path.bytes().all(is_plain) { "/" } else { path }
}

fn literal_elements(pattern: &str) -> &str {
    // One of several beginnings is no beginning of all.
    if pattern.contains('|') {
        return "/";
    }
    let pattern = pattern.strip_prefix('^').unwrap_or(pattern);
    let literal = pattern.find(|c: char| !(c.is_ascii_alphanumeric() || "/-_~%".contains(c))).map_or(pattern, |end| &pattern[..end]);
    literal.rfind('/').map_or("/", |end| &pattern[..end])
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use super::*;
    use crate::base::Tag;
    use crate::snapshot::{Extent, Pattern};

    fn persistence() -> Persistence {
        Persistence {
            scope: "here".into(),
            absolute_timeout: Some(Duration::from_secs(100)),
            idle_timeout: Some(Duration::from_secs(16)),
            is_permanent: false,
            path: CookiePath::OfMatch,
        }
    }

    fn token(started: u64, used: u64) -> SessionToken {
        SessionToken { tag: Tag(7), started, used }
    }

    #[test]
    fn a_session_counts_until_it_has_lasted_or_rested_for_too_long() {
        let persistence = persistence();
        for (started, used, now, over, due) in [
            (0, 0, 0, false, false),
            (0, 0, 999, false, false),
            (0, 0, 1_000, false, true),
            (0, 0, 16_999, false, true),
            (0, 0, 17_000, true, true),
            (0, 90_000, 90_500, false, false),
            (0, 90_000, 99_999, false, true),
            (0, 99_999, 100_000, true, false),
            (5_000, 5_000, 0, false, false),
        ] {
            let token = token(started, used);
            assert_eq!((persistence.is_over(&token, now), persistence.is_due(&token, now)), (over, due), "{started} {used} {now}");
        }
        let endless = Persistence { absolute_timeout: None, idle_timeout: None, ..persistence };
        assert!(!endless.is_over(&token(0, 0), u64::MAX) && !endless.is_due(&token(0, 0), u64::MAX));
    }

    #[test]
    fn the_path_of_a_cookie_is_that_of_the_match() {
        let regex = |source: &str| PathMatch::Regex(Arc::new(Pattern::compile(source, Extent::Whole).unwrap()));
        for (path, expected) in [
            (PathMatch::Prefix("".into()), "/"),
            (PathMatch::Prefix("/a/b".into()), "/a/b"),
            (PathMatch::Exact("/a;b".into()), "/"),
            (regex("/p1/p2/[^/]*/p3"), "/p1/p2"),
            (regex("^/p1/p.*"), "/p1"),
            (regex("/v1\\.2/.*"), "/"),
            (regex("/a/x|/b"), "/"),
            (regex(".*"), "/"),
            (regex("/p"), "/"),
        ] {
            assert_eq!(match_path(&path), expected, "{path:?}");
        }
    }

    #[test]
    fn a_cookie_lives_for_the_session_or_until_the_session_is_over() {
        let policy = CookiePolicy { name: "s".into(), ttl_seconds: None, set_cookie_suffix: "; HttpOnly".into(), secure_over_https: true };
        let path = PathMatch::Prefix("/a".into());
        let made = |persistence: &Persistence, is_https| {
            let made = set_cookie(persistence, &policy, &token(1_000, 1_000), b"text", 31_500, &path, is_https).unwrap();
            made.to_str().unwrap().to_owned()
        };
        assert_eq!(made(&persistence(), false), "s=text; Path=/a; HttpOnly");
        let permanent = Persistence { is_permanent: true, path: CookiePath::Is("/x".into()), ..persistence() };
        assert_eq!(made(&permanent, true), "s=text; Max-Age=70; Path=/x; HttpOnly; Secure");
        assert_eq!(made(&Persistence { path: CookiePath::Unset, ..persistence() }, false), "s=text; HttpOnly");
    }
}
