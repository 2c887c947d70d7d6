//! Annotations of the two ingress controllers that run HAProxy, on Ingresses and Services.

use crate::base::ObjectName;

use super::super::{document::Subject, installation::Installation, output::Output, report::Effect};
use super::{
    annotations::Annotations,
    policy::{Affinity, Cookie, Target, header, query_parameter, same_site, source_ip},
};

/// HAProxy Technologies' controller.
pub(super) const TECHNOLOGIES: &str = "haproxy.org/";

/// The community's controller.
pub(super) const COMMUNITY: &str = "haproxy-ingress.github.io/";

/// Annotations that keep somebody out, by how they begin.
pub(super) const GUARDS: [&str; 12] = [
    "auth-",
    "allowlist",
    "denylist",
    "whitelist",
    "blacklist",
    "allow-list",
    "deny-list",
    "rate-limit",
    "limit-",
    "client-ca",
    "waf",
    "oauth",
];

/// Annotations of HAProxy Technologies' controller.
pub(super) fn of_technologies(source: &Subject, annotations: &mut Annotations<'_>, output: &mut Output) -> Option<Affinity> {
    let cookies = [annotations.take("cookie-persistence"), annotations.take("cookie-persistence-no-dynamic")];
    let balance = annotations.take("load-balance");
    let cookie = cookies.into_iter().flatten().find(|name| !name.is_empty());
    let by_cookie = cookie.map(|name| held(source, Cookie { name, ttl: Some("0s".to_owned()), ..Cookie::default() }, output));
    by_cookie.or_else(|| by_balance(source, &format!("{TECHNOLOGIES}load-balance"), balance?, output))
}

/// Annotations of the community's controller.
pub(super) fn of_community(source: &Subject, annotations: &mut Annotations<'_>, output: &mut Output) -> Option<Affinity> {
    let by_cookie = annotations.take("affinity") == Some("cookie");
    let name = annotations.take("session-cookie-name").unwrap_or("INGRESSCOOKIE");
    let same = annotations.take("session-cookie-same-site");
    let domain = annotations.take("session-cookie-domain").unwrap_or_default();
    let keywords = annotations.take("session-cookie-keywords").unwrap_or_default();
    let strategy = annotations.take("session-cookie-strategy");
    for moot in ["session-cookie-dynamic", "session-cookie-value-strategy", "session-cookie-shared", "session-cookie-preserve"] {
        annotations.lose(moot, "the value of the cookie is Clingfish's own", source, output);
    }
    let balance = annotations.take("balance-algorithm");
    if !by_cookie {
        return by_balance(source, &format!("{COMMUNITY}balance-algorithm"), balance?, output);
    }
    if let Some(strategy @ ("rewrite" | "prefix")) = strategy {
        let text = format!(
            "{COMMUNITY}session-cookie-strategy {strategy}: the application's cookie is left as it is; a cookie is set as with insert"
        );
        output.note(Effect::Differs, source.to_string(), text);
    }
    let words: Vec<&str> = keywords.split_whitespace().collect();
    let cookie = Cookie {
        name,
        ttl: Some("0s".to_owned()),
        domain,
        // The controller writes `SameSite=None; Secure` for true.
        same_site: same.map_or("", |same| if same == "true" { "None" } else { same_site(same) }),
        secure: (words.contains(&"secure") || same == Some("true")).then_some(true),
        http_only: Some(words.is_empty() || words.contains(&"httponly")),
        ..Cookie::default()
    };
    Some(held(source, cookie, output))
}

fn held(source: &Subject, cookie: Cookie<'_>, output: &mut Output) -> Affinity {
    let what = "the cookie's value is HAProxy's name of a pod: each session gets a pod anew once, when its traffic moves";
    output.note(Effect::Differs, source.to_string(), what);
    Affinity { holds: true, ..Affinity::by(cookie.key()) }
}

/// HAProxy's `balance`.
fn by_balance(source: &Subject, annotation: &str, balance: &str, output: &mut Output) -> Option<Affinity> {
    let mut words = balance.split_whitespace();
    let algorithm = words.next().unwrap_or_default();
    let within = |name: &str| algorithm.strip_prefix(name)?.strip_prefix('(')?.strip_suffix(')');
    let key = match algorithm {
        "source" => Some(source_ip()),
        "url_param" => words.next().map(query_parameter),
        _ => within("hdr").map(header).or_else(|| within("url_param").map(query_parameter)),
    };
    if let Some(key) = key {
        let what = format!("{annotation} {balance}: HAProxy's hash is another one: each key gets a pod anew once, when its traffic moves");
        output.note(Effect::Differs, source.to_string(), what);
        return Some(Affinity::by(key));
    }
    if algorithm == "uri" || algorithm.starts_with("uri") {
        let what = format!("{annotation} uri: the whole path is no key here; pathSegment or a header is, where one says which cache");
        output.note(Effect::Lost, source.to_string(), what);
    } else if !["roundrobin", "leastconn", "static-rr", "random", "first"].contains(&algorithm) {
        output.note(Effect::Lost, source.to_string(), format!("{annotation} {balance}: no key here is like it"));
    }
    None
}

/// Services with annotations of their own.
pub(super) fn services(installation: &Installation, output: &mut Output) {
    for (subject, service) in installation.of("", "Service") {
        for prefix in [TECHNOLOGIES, COMMUNITY] {
            let mut annotations = Annotations::of(service, prefix);
            if annotations.is_empty() {
                continue;
            }
            let affinity = match prefix {
                TECHNOLOGIES => of_technologies(subject, &mut annotations, output),
                _ => of_community(subject, &mut annotations, output),
            };
            annotations.finish(&[], subject, output);
            if let Some(affinity) = affinity {
                let name = ObjectName::new(subject.namespace.as_str(), subject.name.as_str());
                affinity.write(&name, &[Target::service(&subject.name, None)], output);
            }
        }
    }
}
