//! Annotations of ingress-nginx.

use super::super::{document::Subject, output::Output, report::Effect};
use super::{
    annotations::Annotations,
    policy::{Affinity, Cookie, header, query_parameter, same_site, source_ip},
};

pub(super) const PREFIX: &str = "nginx.ingress.kubernetes.io/";

/// Annotations that keep somebody out, by how they begin.
pub(super) const GUARDS: [&str; 10] = [
    "auth-",
    "whitelist-source-range",
    "denylist-source-range",
    "allowlist-source-range",
    "limit-",
    "enable-modsecurity",
    "modsecurity-",
    "satisfy",
    "global-rate-limit",
    "enable-global-auth",
];

/// The affinity that the annotations ask for.
pub(super) fn affinity(source: &Subject, annotations: &mut Annotations<'_>, output: &mut Output) -> Option<Affinity> {
    let by_cookie = cookie(source, annotations, output);
    for subset in ["upstream-hash-by-subset", "upstream-hash-by-subset-size"] {
        annotations.lose(subset, "a key has one pod, not one of several", source, output);
    }
    let hashed = annotations.take("upstream-hash-by").filter(|expression| !expression.is_empty());
    annotations.lose("load-balance", "pods without affinity are chosen by least requests or in turn", source, output);
    match (by_cookie, hashed) {
        (Some(cookie), hashed) => {
            // ingress-nginx itself lets the hash win only where there is no cookie affinity.
            if hashed.is_some() {
                output.note(Effect::Lost, source.to_string(), format!("{PREFIX}upstream-hash-by: affinity by cookie comes before it"));
            }
            Some(cookie)
        }
        (None, Some(expression)) => by_expression(source, expression, output),
        (None, None) => None,
    }
}

fn cookie(source: &Subject, annotations: &mut Annotations<'_>, output: &mut Output) -> Option<Affinity> {
    let affinity = annotations.take("affinity");
    let persistent = annotations.take("affinity-mode") == Some("persistent");
    let name = annotations.take("session-cookie-name");
    let age = [annotations.take("session-cookie-max-age"), annotations.take("session-cookie-expires")];
    let path = annotations.take("session-cookie-path").unwrap_or_default();
    let domain = annotations.take("session-cookie-domain").unwrap_or_default();
    let same = annotations.take("session-cookie-samesite").unwrap_or_default();
    // `false` is as nothing there: a cookie is for HTTPS only if it was set over HTTPS.
    let secure = annotations.is_true("session-cookie-secure").then_some(true);
    let canaries = annotations.take("affinity-canary-behavior");
    if affinity != Some("cookie") {
        return None;
    }
    annotations.lose("session-cookie-change-on-failure", "the cookie is renewed when its pod is gone", source, output);
    annotations.lose("session-cookie-conditional-samesite-none", "SameSite is the same for all browsers", source, output);
    let seconds = age.into_iter().flatten().find_map(|seconds| seconds.parse::<u64>().ok()).unwrap_or_default();
    let what = "the cookie's value is ingress-nginx's own name of a pod: each session gets a pod anew once, when its traffic moves";
    output.note(Effect::Differs, source.to_string(), what);
    if !persistent {
        let what =
            "affinity-mode balanced: what a change of the pods moves is the least that a table must move, not a share of all sessions";
        output.note(Effect::Differs, source.to_string(), what);
    }
    let cookie = Cookie {
        name: name.unwrap_or("INGRESSCOOKIE"),
        ttl: Some(format!("{seconds}s")),
        path,
        domain,
        same_site: same_site(same),
        secure,
        http_only: None,
    };
    Some(Affinity { holds: persistent, splits_by_key: canaries != Some("legacy") && canaries.is_some(), ..Affinity::by(cookie.key()) })
}

/// The variables of an expression such as `$remote_addr$http_x_user`.
fn by_expression(source: &Subject, expression: &str, output: &mut Output) -> Option<Affinity> {
    let mut keys = Vec::new();
    for variable in expression.split('$').skip(1) {
        let end = variable.trim_start_matches('{').find(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '_'));
        let name = variable.trim_start_matches('{');
        let name = end.and_then(|end| name.get(..end)).unwrap_or(name);
        let key = match name {
            "remote_addr" | "binary_remote_addr" | "the_real_ip" => Some(source_ip()),
            "host" | "http_host" => Some(header("host")),
            _ => None,
        };
        let dashed = |name: &str| name.replace('_', "-");
        let key = key
            .or_else(|| Some(header(&dashed(name.strip_prefix("http_")?))))
            .or_else(|| Some(query_parameter(name.strip_prefix("arg_")?)))
            .or_else(|| Some(Cookie { name: name.strip_prefix("cookie_")?, ..Cookie::default() }.key()));
        match key {
            Some(key) => keys.push(key),
            None => {
                let text = format!("{PREFIX}upstream-hash-by: ${name} is no key here; the nearest is pathSegment, header or jwtClaim");
                output.note(Effect::Lost, source.to_string(), text);
                return None;
            }
        }
    }
    if keys.is_empty() {
        let text = format!("{PREFIX}upstream-hash-by: expected a variable such as $remote_addr");
        output.note(Effect::Lost, source.to_string(), text);
        return None;
    }
    let what = "upstream-hash-by: nginx's hash is another one: each key gets a pod anew once, when its traffic moves";
    output.note(Effect::Differs, source.to_string(), what);
    Some(Affinity { keys, combined: true, ..Affinity::default() })
}
