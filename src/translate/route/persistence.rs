//! `sessionPersistence` of rules and of policies for their backends (GEP-1619).

use std::{collections::BTreeMap, time::Duration};

use http::{HeaderName, header};
use serde_json::Value;

use crate::api::{PersistenceCookie, RouteRule, SessionPersistence};
use crate::base::{ObjectRef, text::quoted};
use crate::lb::xxh64;
use crate::snapshot::{CookiePath, CookiePolicy, Hold, Persistence, TagCarrier};

use super::policy::duration;

/// Longest names (Gateway API): of a session, and of a cookie.
const LONGEST_SESSION_NAME: usize = 128;
const LONGEST_COOKIE_NAME: usize = 256;

/// Longest that a cookie lives: browsers keep none for longer (RFC 6265bis, section 5.5).
const LONGEST_COOKIE: Duration = Duration::from_secs(400 * 24 * 60 * 60);

/// Headers that say something else already.
const TAKEN: [HeaderName; 14] = [
    header::AUTHORIZATION,
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::COOKIE,
    header::DATE,
    header::EXPECT,
    header::HOST,
    header::LOCATION,
    header::SET_COOKIE,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Where sessions are made persistent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::translate) enum Place<'a> {
    /// In a rule. `scope`: what its sessions hold for.
    Rule {
        /// The rule in words.
        scope: &'a str,
    },
    /// In a policy for backends of the rule with this scope.
    Policy {
        /// The rule in words.
        scope: &'a str,
    },
}

/// What the sessions of a rule hold for: the rule by its name, else by what it matches, so that they live on when other rules come and go.
/// `earlier`: how many rules before it match the same.
pub(super) fn scope(route: &ObjectRef, rule: &RouteRule, earlier: usize) -> String {
    match rule.name.as_deref().filter(|name| !name.is_empty()) {
        Some(name) => format!("{route} rule {name}"),
        None => format!("{route} rule {:016x} {earlier}", matched(rule)),
    }
}

/// A digest of what a rule matches.
pub(super) fn matched(rule: &RouteRule) -> u64 {
    let written = serde_json::to_vec(&(&rule.matches, &rule.grpc_matches));
    written.map_or(0, |written| xxh64(&written, 0))
}

/// Reads it.
///
/// # Errors
/// Field, from `sessionPersistence` on, and expectation.
pub(in crate::translate) fn read(written: &SessionPersistence, place: Place<'_>) -> Result<Hold, String> {
    const FIELD: &str = "sessionPersistence";
    unknown(FIELD, &written.other)?;
    let is_header = match written.r#type.as_deref() {
        None => written.header.is_some() && written.cookie.is_none(),
        Some("Cookie") => false,
        Some("Header") => true,
        Some(other) => return Err(format!("{FIELD}.type: {}; expected Cookie or Header", quoted(other))),
    };
    let absolute_timeout = timeout("sessionPersistence.absoluteTimeout", written.absolute_timeout.as_deref())?;
    let idle_timeout = timeout("sessionPersistence.idleTimeout", written.idle_timeout.as_deref())?;
    let (Place::Rule { scope } | Place::Policy { scope }) = place;
    let persistence = Persistence { scope: scope.into(), absolute_timeout, idle_timeout, is_permanent: false, path: CookiePath::OfMatch };
    let session_name = session_name(written)?;
    if is_header { header_hold(written, session_name, persistence) } else { cookie_hold(written, session_name, place, persistence) }
}

fn header_hold(written: &SessionPersistence, session_name: Option<&str>, persistence: Persistence) -> Result<Hold, String> {
    for (field, is_given) in [("cookie", written.cookie.is_some()), ("cookieConfig", written.cookie_config.is_some())] {
        if is_given {
            return Err(format!("sessionPersistence.{field}: expected none beside type: Header"));
        }
    }
    let (field, name) = match &written.header {
        Some(header) => {
            unknown("sessionPersistence.header", &header.other)?;
            let name = header.name.as_deref().filter(|name| !name.is_empty());
            (HEADER_NAME, Some(name.ok_or_else(|| format!("{HEADER_NAME}: missing; expected the name of a header"))?))
        }
        None => (SESSION_NAME, session_name),
    };
    let generated = || generated_name(&persistence.scope);
    let name = name.map_or_else(generated, ToOwned::to_owned);
    let header =
        HeaderName::from_bytes(name.as_bytes()).ok().filter(|name| !TAKEN.contains(name) && !name.as_str().starts_with("x-forwarded"));
    let header = header.ok_or_else(|| format!("{field}: {}; expected the name of a header that has no other meaning", quoted(&name)))?;
    Ok(Hold { carrier: TagCarrier::Header(header), persistence: Some(persistence) })
}

const SESSION_NAME: &str = "sessionPersistence.sessionName";
const HEADER_NAME: &str = "sessionPersistence.header.name";
const COOKIE_NAME: &str = "sessionPersistence.cookie.name";

fn cookie_hold(
    written: &SessionPersistence,
    session_name: Option<&str>,
    place: Place<'_>,
    persistence: Persistence,
) -> Result<Hold, String> {
    if written.header.is_some() {
        return Err("sessionPersistence.header: expected none beside a cookie".to_owned());
    }
    let none = PersistenceCookie::default();
    let cookie = written.cookie.as_ref();
    let config = written.cookie_config.as_ref();
    for (field, part) in [("sessionPersistence.cookie", cookie), ("sessionPersistence.cookieConfig", config)] {
        unknown(field, &part.unwrap_or(&none).other)?;
    }
    if let Some(field) = config.and_then(|config| config.name.as_ref().map(|_| "name").or_else(|| config.path.as_ref().map(|_| "path"))) {
        return Err(format!("sessionPersistence.cookieConfig: there is no field {field}; expected lifetimeType"));
    }
    let is_permanent = lifetime(cookie.or(config))? == Lifetime::Permanent;
    match persistence.absolute_timeout {
        None if is_permanent => {
            return Err("sessionPersistence.absoluteTimeout: missing; expected one beside lifetimeType: Permanent".to_owned());
        }
        Some(most) if is_permanent && most > LONGEST_COOKIE => {
            let days = LONGEST_COOKIE.as_secs() / (24 * 60 * 60);
            return Err(format!("sessionPersistence.absoluteTimeout: expected at most {days} days beside lifetimeType: Permanent"));
        }
        Some(_) | None => {}
    }
    let path = match (cookie, place) {
        (Some(PersistenceCookie { path: Some(path), .. }), _) => CookiePath::Is(cookie_path(path)?.into()),
        // The default of the later shape.
        (Some(_), Place::Rule { .. }) => CookiePath::Is("/".into()),
        (None, Place::Rule { .. }) => CookiePath::OfMatch,
        // Requests of one session may come by other paths of the rule.
        (_, Place::Policy { .. }) => CookiePath::Unset,
    };
    let name = cookie_name(cookie.and_then(|cookie| cookie.name.as_deref()), session_name, place)?;
    // A rule is not to be told from another site what its sessions are, nor by scripts (GEP-1619, cookie attributes).
    let suffix = "; HttpOnly; SameSite=Strict".into();
    let policy = CookiePolicy { name: name.into(), ttl_seconds: None, set_cookie_suffix: suffix, secure_over_https: true };
    Ok(Hold { carrier: TagCarrier::Cookie(policy), persistence: Some(Persistence { is_permanent, path, ..persistence }) })
}

fn session_name(written: &SessionPersistence) -> Result<Option<&str>, String> {
    let Some(name) = written.session_name.as_deref().filter(|name| !name.is_empty()) else { return Ok(None) };
    if written.cookie.as_ref().is_some_and(|cookie| cookie.name.is_some()) || written.header.is_some() {
        return Err(format!("{SESSION_NAME}: expected none beside cookie.name and header.name"));
    }
    if name.len() > LONGEST_SESSION_NAME {
        return Err(format!("{SESSION_NAME}: {} characters; expected at most {LONGEST_SESSION_NAME}", name.len()));
    }
    Ok(Some(name))
}

/// The cookie's name. One that a policy gives is completed: its rules do not share sessions, and would take each other's away.
fn cookie_name(of_cookie: Option<&str>, session_name: Option<&str>, place: Place<'_>) -> Result<String, String> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let (field, given) = match of_cookie.filter(|name| !name.is_empty()) {
        Some(name) => (COOKIE_NAME, Some(name)),
        None => (SESSION_NAME, session_name),
    };
    if let Some(name) = given.filter(|name| !name.bytes().all(is_token) || name.len() > LONGEST_COOKIE_NAME) {
        let expected = format!("expected a token (no spaces, no separators) of at most {LONGEST_COOKIE_NAME} characters");
        return Err(format!("{field}: {}; {expected}", quoted(name)));
    }
    Ok(match (given, place) {
        (Some(name), Place::Rule { .. }) => name.to_owned(),
        (Some(name), Place::Policy { scope }) => format!("{name}-{:08x}", xxh64(scope.as_bytes(), 0) >> 32),
        (None, Place::Rule { scope } | Place::Policy { scope }) => generated_name(scope),
    })
}

fn generated_name(scope: &str) -> String {
    format!("clingfish-session-{:016x}", xxh64(scope.as_bytes(), 0))
}

fn cookie_path(path: &str) -> Result<&str, String> {
    let is_plain = |byte: u8| (0x21..0x7f).contains(&byte) && byte != b';';
    if path.starts_with('/') && path.bytes().all(is_plain) {
        Ok(path)
    } else {
        Err(format!("sessionPersistence.cookie.path: {}; expected a path that begins with /, without ';' and spaces", quoted(path)))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lifetime {
    Session,
    Permanent,
}

fn lifetime(cookie: Option<&PersistenceCookie>) -> Result<Lifetime, String> {
    match cookie.and_then(|cookie| cookie.lifetime_type.as_deref()) {
        None | Some("Session") => Ok(Lifetime::Session),
        Some("Permanent") => Ok(Lifetime::Permanent),
        Some(other) => Err(format!("sessionPersistence: lifetimeType {}; expected Session or Permanent", quoted(other))),
    }
}

/// A duration of GEP-2257; zero is none.
fn timeout(field: &str, text: Option<&str>) -> Result<Option<Duration>, String> {
    let duration = text.map(|text| duration(field, text)).transpose()?;
    Ok(duration.filter(|duration| !duration.is_zero()))
}

/// Refuses fields that there are not: one that is misspelled would quietly do nothing.
fn unknown(field: &str, other: &BTreeMap<String, Value>) -> Result<(), String> {
    match other.keys().next() {
        Some(name) => Err(format!("{field}: there is no field {}; expected those of the Gateway API", quoted(name))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn hold(written: Value, place: Place<'_>) -> Result<Hold, String> {
        read(&serde_json::from_value(written).unwrap(), place)
    }

    fn of_rule(written: Value) -> Result<(TagCarrier, Persistence), String> {
        hold(written, Place::Rule { scope: "here" }).map(|hold| (hold.carrier, hold.persistence.unwrap()))
    }

    fn name(carrier: &TagCarrier) -> String {
        match carrier {
            TagCarrier::KeyCookie(cookie) | TagCarrier::Cookie(cookie) => format!("cookie {}", cookie.name),
            TagCarrier::Header(name) => format!("header {name}"),
        }
    }

    #[test]
    fn both_shapes_say_the_same() {
        for (written, carrier, path, permanent) in [
            (json!({}), "cookie clingfish-session-4e3739ef91745af0", CookiePath::OfMatch, false),
            (json!({"sessionName": "s"}), "cookie s", CookiePath::OfMatch, false),
            (json!({"cookie": {"name": "s"}}), "cookie s", CookiePath::Is("/".into()), false),
            (json!({"type": "Cookie", "cookie": {"name": "s", "path": "/a"}}), "cookie s", CookiePath::Is("/a".into()), false),
            (json!({"type": "Header", "sessionName": "X-S"}), "header x-s", CookiePath::OfMatch, false),
            (json!({"type": "Header", "header": {"name": "X-S"}}), "header x-s", CookiePath::OfMatch, false),
            (json!({"header": {"name": "X-S"}}), "header x-s", CookiePath::OfMatch, false),
            (
                json!({"sessionName": "s", "absoluteTimeout": "1h", "cookieConfig": {"lifetimeType": "Permanent"}}),
                "cookie s",
                CookiePath::OfMatch,
                true,
            ),
            (
                json!({"absoluteTimeout": "1h", "cookie": {"name": "s", "lifetimeType": "Permanent"}}),
                "cookie s",
                CookiePath::Is("/".into()),
                true,
            ),
        ] {
            let (found, persistence) = of_rule(written.clone()).unwrap();
            assert_eq!((&*name(&found), persistence.path, persistence.is_permanent), (carrier, path, permanent), "{written}");
        }
    }

    #[test]
    fn timeouts_are_read_and_zero_is_none() {
        let (_, persistence) = of_rule(json!({"absoluteTimeout": "1h30m", "idleTimeout": "0s"})).unwrap();
        assert_eq!((persistence.absolute_timeout, persistence.idle_timeout), (Some(Duration::from_secs(5400)), None));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (written, expected) in [
            (json!({"type": "Url"}), "sessionPersistence.type: \"Url\""),
            (json!({"sessionname": "s"}), "there is no field \"sessionname\""),
            (json!({"sessionName": "a b"}), "sessionPersistence.sessionName: \"a b\""),
            (json!({"sessionName": "s".repeat(129)}), "129 characters"),
            (json!({"cookie": {"name": "a;b"}}), "sessionPersistence.cookie.name: \"a;b\""),
            (json!({"cookie": {"name": "s"}, "sessionName": "t"}), "sessionPersistence.sessionName: expected none"),
            (json!({"cookie": {"path": "a"}}), "sessionPersistence.cookie.path: \"a\""),
            (json!({"cookie": {"domain": "a"}}), "sessionPersistence.cookie: there is no field \"domain\""),
            (json!({"type": "Header", "cookie": {}}), "sessionPersistence.cookie: expected none"),
            (json!({"type": "Header", "cookieConfig": {}}), "sessionPersistence.cookieConfig: expected none"),
            (json!({"type": "Header", "header": {}}), "sessionPersistence.header.name: missing"),
            (json!({"type": "Header", "sessionName": "cookie"}), "sessionPersistence.sessionName: \"cookie\""),
            (json!({"type": "Cookie", "header": {"name": "s"}}), "sessionPersistence.header: expected none"),
            (json!({"cookieConfig": {"lifetimeType": "Permanent"}}), "sessionPersistence.absoluteTimeout: missing"),
            (
                json!({"cookieConfig": {"lifetimeType": "Permanent"}, "absoluteTimeout": "0s"}),
                "sessionPersistence.absoluteTimeout: missing",
            ),
            (json!({"cookieConfig": {"lifetimeType": "Permanent"}, "absoluteTimeout": "9601h"}), "at most 400 days"),
            (json!({"cookieConfig": {"lifetimeType": "Long"}}), "lifetimeType \"Long\""),
            (json!({"cookieConfig": {"name": "s"}}), "there is no field name"),
            (json!({"idleTimeout": "1d"}), "sessionPersistence.idleTimeout: \"1d\""),
        ] {
            let error = of_rule(written.clone()).unwrap_err();
            assert!(error.contains(expected), "{written}: {error}");
        }
    }

    #[test]
    fn rules_do_not_share_what_a_policy_names() {
        let name_in = |scope| name(&hold(json!({"sessionName": "s"}), Place::Policy { scope }).unwrap().carrier);
        assert_ne!(name_in("a"), name_in("b"));
        assert!(name_in("a").starts_with("cookie s-"), "{}", name_in("a"));
        let made = hold(json!({}), Place::Policy { scope: "a" }).unwrap();
        assert_eq!(made.persistence.unwrap().path, CookiePath::Unset);
    }

    #[test]
    fn sessions_hold_for_a_rule_wherever_it_stands() {
        use crate::base::Kind;
        let route = ObjectRef::new(Kind::HttpRoute, "n", "r");
        let rule = |path: &str| serde_json::from_value::<RouteRule>(json!({"matches": [{"path": {"value": path}}]})).unwrap();
        assert_ne!(scope(&route, &rule("/a"), 0), scope(&route, &rule("/b"), 0));
        assert_ne!(scope(&route, &rule("/a"), 0), scope(&route, &rule("/a"), 1));
        let named = RouteRule { name: Some("x".to_owned()), ..rule("/a") };
        assert_eq!(scope(&route, &named, 0), "HTTPRoute n/r rule x");
    }
}
