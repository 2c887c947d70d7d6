use std::time::Duration;

use http::HeaderValue;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::api::RouteOption;
use crate::base::{Kind, ObjectName, ObjectRef};
use crate::snapshot::{CookiePolicy, Filters, HashPolicy, HashSource, HeaderOps, PathRewrite, RetryOn, RoutePolicy};
use crate::translate::gloo::findings::Findings;
use crate::translate::gloo::status::{RouteOptionFacts, route_option_status};
use crate::translate::patterns::Patterns;
use crate::translate::policy::Precedence;
use crate::translate::status::GlooState;

use super::*;

fn compiled(option: &RouteOption) -> CompiledRouteOption {
    compile(option, &Patterns::default().allowance(u64::MAX))
}

fn route_option(name: &str, spec: &Value) -> RouteOption {
    serde_json::from_value(json!({"metadata": {"name": name, "namespace": "gloo-system"}, "spec": spec})).unwrap()
}

fn options(options: &Value) -> CompiledRouteOption {
    compiled(&route_option("o", &json!({"options": options})))
}

fn named(name: &str, options: &Value) -> CompiledRouteOption {
    compiled(&route_option(name, &json!({"options": options})))
}

fn hash(policies: &Value) -> CompiledRouteOption {
    options(&json!({"lbHash": {"hashPolicies": policies}}))
}

fn policies(compiled: &CompiledRouteOption) -> Vec<HashPolicy> {
    assert_eq!(compiled.findings, Findings::default());
    match &*compiled.options["lbHash"] {
        OptionValue::LbHash(policies) => policies.to_vec(),
        other => panic!("not a hash: {other:?}"),
    }
}

fn cookie(name: &str, ttl_seconds: Option<u64>, suffix: &str) -> HashSource {
    HashSource::Cookie(CookiePolicy { name: name.into(), ttl_seconds, set_cookie_suffix: suffix.into(), secure_over_https: false })
}

#[test]
fn the_guides_cookie() {
    let guide = json!({
        "targetRefs": [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": "httpbin-upstream"}],
        "options": {"lbHash": {"hashPolicies": [{"cookie": {"name": "hashbasedcookie", "ttl": "60s", "path": "/"}}]}},
    });
    let compiled = compiled(&route_option("lbhash", &guide));
    assert_eq!(compiled.targets, [ObjectRef::new(Kind::HttpRoute, "gloo-system", "httpbin-upstream")]);
    let expected = HashPolicy { source: cookie("hashbasedcookie", Some(60), "; Max-Age=60; Path=/; HttpOnly"), terminal: false };
    assert_eq!(policies(&compiled), [expected]);
    let merged = merge([&compiled]);
    let mut policy = RoutePolicy::default();
    merged.apply_policy(&mut policy);
    assert_eq!((policy.hash.len(), merged.refused.is_some(), merged.has_filters()), (1, false, false));
}

#[test]
fn hash_keys() {
    let header = |name: &'static str| HashSource::Header(http::HeaderName::from_static(name));
    for (policy, source) in [
        (json!({"header": "X-User"}), header("x-user")),
        (json!({"header": ":authority"}), HashSource::PseudoHeader(":authority".into())),
        (json!({"header": "Host"}), HashSource::PseudoHeader(":authority".into())),
        (json!({"header": ":path"}), HashSource::PseudoHeader(":path".into())),
        (json!({"sourceIp": true}), HashSource::SourceIp),
        (json!({"cookie": {"name": "c"}}), cookie("c", None, "; HttpOnly")),
        (json!({"cookie": {"name": "c", "ttl": "0s"}}), cookie("c", Some(0), "; HttpOnly")),
        (json!({"cookie": {"name": "c", "ttl": "900ms", "path": "/a"}}), cookie("c", Some(0), "; Path=/a; HttpOnly")),
        (json!({"cookie": {"name": "c", "ttl": "1h"}}), cookie("c", Some(3600), "; Max-Age=3600; HttpOnly")),
    ] {
        assert_eq!(policies(&hash(&json!([policy]))), [HashPolicy { source: source.clone(), terminal: false }], "{policy}");
        let mut terminal = policy.clone();
        terminal["terminal"] = json!(true);
        assert_eq!(policies(&hash(&json!([terminal]))), [HashPolicy { source, terminal: true }], "{policy}");
    }
    // Gloo drops `sourceIp: false` together with its `terminal`.
    let dropped = hash(&json!([{"sourceIp": false, "terminal": true}, {"header": "a"}]));
    assert_eq!(policies(&dropped), [HashPolicy { source: header("a"), terminal: false }]);
}

/// Each of these has state Rejected, its reason contains the text, and a rule that gets it answers 500.
#[test]
fn refused() {
    let hash = |policy: Value| json!({"lbHash": {"hashPolicies": [{"header": "a"}, policy]}});
    let add = |header: Value| json!({"headerManipulation": {"requestHeadersToAdd": [header]}});
    for (set, reason) in [
        (hash(json!({})), "spec.options.lbHash.hashPolicies[1] has no key"),
        (hash(json!({"terminal": true})), "hashPolicies[1] has no key"),
        (hash(json!({"header": "a", "sourceIp": true})), "hashPolicies[1] has several keys"),
        (hash(json!({"cookie": {"name": "c"}, "header": "a"})), "hashPolicies[1] has several keys"),
        (hash(json!({"cookie": {"ttl": "1s"}})), "hashPolicies[1].cookie.name is missing"),
        (hash(json!({"cookie": {"name": ""}})), "hashPolicies[1].cookie.name is missing"),
        (hash(json!({"cookie": {"name": "a b"}})), "hashPolicies[1].cookie.name is \"a b\""),
        (hash(json!({"cookie": {"name": "a;b"}})), "hashPolicies[1].cookie.name"),
        (hash(json!({"cookie": {"name": "c", "path": "/;Domain=x"}})), "hashPolicies[1].cookie.path"),
        (hash(json!({"cookie": {"name": "c", "path": "/\r\nx"}})), "hashPolicies[1].cookie.path"),
        (hash(json!({"cookie": {"name": "c", "ttl": "-1s"}})), "hashPolicies[1].cookie.ttl is -1s: expected 0s or more"),
        (hash(json!({"header": "a b"})), "hashPolicies[1].header is \"a b\""),
        (hash(json!({"header": ""})), "hashPolicies[1].header is \"\""),
        (hash(json!({"header": ":status"})), "hashPolicies[1].header is \":status\""),
        (json!({"timeout": "-1s"}), "spec.options.timeout is -1s"),
        (json!({"idleTimeout": "-1s"}), "spec.options.idleTimeout is -1s"),
        (json!({"retries": {"retryOn": "5xx", "perTryTimeout": "-1s"}}), "spec.options.retries.perTryTimeout is -1s"),
        (json!({"retries": {"retryOn": "5xx", "retryBackOff": {"baseInterval": "0s"}}}), "retryBackOff.baseInterval is 0s"),
        (
            json!({"retries": {"retryOn": "5xx", "retryBackOff": {"baseInterval": "2s", "maxInterval": "1s"}}}),
            "baseInterval is 2s and maxInterval is 1s",
        ),
        (json!({"retries": {"retryOn": "5xx", "retryBackOff": {"maxInterval": "1ms"}}}), "baseInterval is 25ms and maxInterval is 1ms"),
        (json!({"retries": {"retryOn": "5xx", "retriableStatusCodes": [503, 99]}}), "retriableStatusCodes[1] is 99"),
        (json!({"prefixRewrite": "a"}), "spec.options.prefixRewrite is \"a\""),
        (json!({"prefixRewrite": "/a b"}), "spec.options.prefixRewrite"),
        (json!({"prefixRewrite": "/a?b"}), "spec.options.prefixRewrite"),
        (json!({"regexRewrite": {"substitution": "a"}}), "regexRewrite.pattern.regex is empty"),
        (json!({"regexRewrite": {"pattern": {"regex": "("}}}), "regexRewrite.pattern.regex is \"(\""),
        (json!({"regexRewrite": {"pattern": {"regex": "a{1000}{1000}{1000}"}}}), "regexRewrite.pattern.regex"),
        (json!({"regexRewrite": {"pattern": {"regex": "(a)"}, "substitution": "\\2"}}), "regexRewrite.substitution"),
        (json!({"regexRewrite": {"pattern": {"regex": "a"}, "substitution": "\\x"}}), "regexRewrite.substitution"),
        (json!({"regexRewrite": {"pattern": {"regex": "a"}, "substitution": "a b"}}), "regexRewrite.substitution"),
        (json!({"prefixRewrite": "/a", "regexRewrite": {"pattern": {"regex": "a"}}}), "prefixRewrite and regexRewrite"),
        (json!({"hostRewrite": "a b"}), "spec.options.hostRewrite is \"a b\""),
        (json!({"hostRewrite": "u@a"}), "spec.options.hostRewrite"),
        (json!({"hostRewrite": "a", "autoHostRewrite": true}), "hostRewrite and autoHostRewrite"),
        (add(json!({})), "requestHeadersToAdd[0].header is missing"),
        (add(json!({"header": {"key": "a b", "value": "c"}})), "requestHeadersToAdd[0].header.key is \"a b\""),
        (add(json!({"header": {"key": ":path", "value": "c"}})), "requestHeadersToAdd[0].header.key"),
        (add(json!({"header": {"key": "Host", "value": "c"}})), "expected hostRewrite"),
        (add(json!({"header": {"key": "Transfer-Encoding", "value": "chunked"}})), "frames the message"),
        (add(json!({"header": {"key": "a", "value": "b\r\nc: d"}})), "requestHeadersToAdd[0].header.value"),
        (add(json!({"header": {"key": "Keep-Alive", "value": "timeout=5"}})), "frames the message"),
        (json!({"headerManipulation": {"requestHeadersToRemove": ["content-length", ":path"]}}), "requestHeadersToRemove[1]"),
        (json!({"headerManipulation": {"responseHeadersToRemove": [":status"]}}), "responseHeadersToRemove[0]"),
        (json!({"destinationSpec": {"rest": {"functionName": "f"}}}), "field spec.options.destinationSpec is not supported"),
        (json!({"single": {"destination_spec": {}}}), "field spec.options.single.destination_spec is unknown and must not be skipped"),
        (json!({"upgrades": [{"connectTerminate": {"enabled": true}}]}), "spec.options.upgrades[0].connectTerminate is not supported"),
        (json!({"stagedTransformations": {}}), "field spec.options.stagedTransformations is not supported"),
    ] {
        assert_refused(&set, reason);
    }
}

#[test]
fn security_options_fail_closed() {
    for name in [
        "extauth",
        "jwt",
        "jwtStaged",
        "jwtProvidersStaged",
        "rbac",
        "waf",
        "csrf",
        "dlp",
        "extProc",
        "extProcEarly",
        "extProcLate",
        "ratelimit",
        "ratelimitEarly",
        "ratelimitRegular",
        "ratelimitBasic",
        "rateLimitConfigs",
        "rateLimitEarlyConfigs",
        "rateLimitRegularConfigs",
    ] {
        assert_refused(&json!({name: {}, "timeout": "1s"}), &format!("field spec.options.{name} is not supported: a security option"));
    }
}

fn assert_refused(set: &Value, reason: &str) {
    let compiled = options(set);
    let status = compiled.findings.status();
    assert_eq!(status.state, GlooState::Rejected, "{set}");
    assert!(status.reason.contains(reason), "{set}: {}", status.reason);
    let refusal = merge([&compiled]).refused.expect("the rule answers 500");
    assert_eq!(refusal.option, compiled.name);
    assert!(refusal.reason.starts_with("RouteOption gloo-system/o: "), "{}", refusal.reason);
    // A shadowed one does no harm, unless what it sets is set by nobody else.
    let shadow = named("first", set);
    assert_eq!(merge([&shadow, &compiled]).refused.unwrap().option, shadow.name);
}

/// Each of these serves, with state Warning and this reason.
#[test]
fn warned_of() {
    for (set, reason) in [
        (json!({"lbHash": {}}), "field spec.options.lbHash.hashPolicies is empty"),
        (json!({"lbHash": {"hashPolicies": [{"header": "a", "queryParameter": "b"}]}}), "hashPolicies[0].queryParameter is unknown"),
        (json!({"lbHash": {"hashPolicies": [{"cookie": {"name": "a", "secure": true}}]}}), "hashPolicies[0].cookie.secure is unknown"),
        (json!({"cors": {"allowOrigin": ["a"]}}), "field spec.options.cors is accepted but not applied"),
        (json!({"retries": {"retryOn": "retriable-headers,5xx"}}), "condition \"retriable-headers\" is accepted but not applied"),
        (json!({"retries": {"numRetries": 3}}), "retryOn names no condition"),
        (json!({"retries": {"retryOn": "5xx", "previousPriorities": {}}}), "field spec.options.retries.previousPriorities is accepted"),
        (json!({"headerManipulation": {"requestHeadersToAdd": [{"header": {"key": "a", "value": "%REQ(b)%"}}]}}), "formatters"),
        (
            json!({"headerManipulation": {"requestHeadersToAdd": [{"headerSecretRef": {"name": "a"}}]}}),
            "headerSecretRef is accepted but not applied",
        ),
        (json!({"upgrades": [{"websocket": {"enabled": false}}]}), "upgrades[0].websocket.enabled is accepted but not applied"),
        (json!({"autoHostRewrite": true}), "field spec.options.autoHostRewrite is accepted but not applied"),
        (json!({}), "field spec.options sets nothing"),
    ] {
        let compiled = options(&set);
        assert_eq!(compiled.findings.state(), GlooState::Warning, "{set}: {:?}", compiled.findings);
        assert!(compiled.findings.warnings.iter().any(|warning| warning.contains(reason)), "{set}: {:?}", compiled.findings);
        assert_eq!(merge([&compiled]).refused, None);
    }
}

#[test]
fn targets_are_http_routes_of_the_own_namespace() {
    let target = |group: &str, kind: &str, name: &str, namespace: Option<&str>| json!({"group": group, "kind": kind, "name": name, "namespace": namespace});
    let gateway_api = "gateway.networking.k8s.io";
    let refs = json!([
        target(gateway_api, "HTTPRoute", "b", None),
        target(gateway_api, "HTTPRoute", "a", Some("gloo-system")),
        target(gateway_api, "HTTPRoute", "a", Some("")),
        target(gateway_api, "HTTPRoute", "c", Some("other")),
        target(gateway_api, "Gateway", "d", None),
        target("", "HTTPRoute", "e", None),
        target(gateway_api, "HTTPRoute", "", None),
    ]);
    let compiled = compiled(&route_option("o", &json!({"options": {"timeout": "1s"}, "targetRefs": refs})));
    assert_eq!(
        compiled.targets,
        [ObjectRef::new(Kind::HttpRoute, "gloo-system", "a"), ObjectRef::new(Kind::HttpRoute, "gloo-system", "b")]
    );
    let warnings = compiled.findings.warnings;
    assert_eq!(warnings.len(), 4, "{warnings:?}");
    for (warning, text) in warnings.iter().zip([
        "[3].namespace is other: HTTPRoute other/c is not touched",
        "[4] has group",
        "[5] has group",
        "[6].name is empty",
    ]) {
        assert!(warning.contains(text), "{warning}");
    }
}

#[test]
fn the_oldest_comes_first_and_no_time_is_oldest() {
    let at = |name: &str, time: Option<&str>| {
        let mut option = route_option(name, &json!({}));
        option.metadata.creation_timestamp = time.map(|time| serde_json::from_value(json!(time)).unwrap());
        option
    };
    let mut given = [
        at("d", Some("2025-01-01T00:00:00Z")),
        at("c", Some("2025-01-01T00:00:00Z")),
        at("a", Some("2025-01-02T00:00:00Z")),
        at("z", None),
        at("b", Some("2024-12-31T23:59:59Z")),
    ];
    given.sort_by_key(|option| Precedence::of(&option.metadata));
    assert_eq!(given.map(|option| option.metadata.name.unwrap()), ["z", "b", "c", "d", "a"]);
}

#[test]
fn the_first_that_is_set_counts() {
    let policy_of = |in_order: &[&CompiledRouteOption]| {
        let mut policy = RoutePolicy::default();
        merge(in_order.iter().copied()).apply_policy(&mut policy);
        policy
    };
    let second = named("b", &json!({"timeout": "2s", "idleTimeout": "3s", "lbHash": {"hashPolicies": [{"header": "a"}, {"header": "b"}]}}));
    // A zero message counts as set, also where it says nothing.
    for (first, timeout, hash) in [
        (json!({"timeout": "1s"}), Some(Duration::from_secs(1)), 2),
        (json!({"timeout": "0s"}), None, 2),
        (json!({"timeout": null}), Some(Duration::from_secs(2)), 2),
        (json!({"lbHash": {}}), Some(Duration::from_secs(2)), 0),
        (json!({"lbHash": {"hashPolicies": [{"sourceIp": true}]}}), Some(Duration::from_secs(2)), 1),
    ] {
        let policy = policy_of(&[&named("a", &first), &second]);
        assert_eq!((policy.timeouts.request, policy.hash.len()), (timeout, hash), "{first}");
        assert_eq!(policy.timeouts.idle, Some(Duration::from_secs(3)));
    }
}

#[test]
fn host_rewrites_are_one_field() {
    let host = named("b", &json!({"hostRewrite": "b.example"}));
    for first in [json!({"autoHostRewrite": false}), json!({"hostRewriteHeader": "x"}), json!({"hostRewrite": ""})] {
        let merged = merge([&named("a", &first), &host]);
        assert!(!merged.has_filters(), "{first}");
        assert_eq!(
            merged.contributions[1],
            Contribution { option: host.name.clone(), used: false, gave_hash: false, shadowed_by: vec![named("a", &first).name] }
        );
    }
    for empty in [json!({"envoyMetadata": {}}), json!({"upgrades": []}), json!({"hostRewriteHeader": null})] {
        assert!(named("a", &empty).options.is_empty(), "{empty}");
        assert!(merge([&named("a", &empty), &host]).has_filters());
    }
}

#[test]
fn contributions_tell_who_gave_what() {
    let filter = named("filter", &json!({"lbHash": {"hashPolicies": [{"header": "a"}]}}));
    let part = named("part", &json!({"lbHash": {"hashPolicies": [{"header": "b"}]}, "timeout": "1s"}));
    let none = named("none", &json!({"timeout": "2s"}));
    let merged = merge([&filter, &part, &none, &filter]);
    let told: Vec<_> = merged.contributions.iter().map(|c| (&*c.option.name, c.used, c.gave_hash, c.shadowed_by.len())).collect();
    assert_eq!(told, [("filter", true, true, 0), ("part", true, false, 1), ("none", false, false, 1)]);
}

#[test]
fn two_path_rewrites_of_two_options_are_refused() {
    let prefix = named("a", &json!({"prefixRewrite": "/x"}));
    let regex = named("b", &json!({"regexRewrite": {"pattern": {"regex": "a"}, "substitution": "b"}}));
    assert_eq!(merge([&prefix, &regex]).refused.unwrap().option, regex.name);
    assert_eq!(merge([&named("c", &json!({"prefixRewrite": ""})), &regex]).refused, None);
}

#[test]
fn retries() {
    let retries = |retries: Value| {
        let mut policy = RoutePolicy::default();
        let compiled = options(&json!({"retries": retries}));
        assert_eq!(compiled.findings, Findings::default());
        merge([&compiled]).apply_policy(&mut policy);
        (policy.retry.unwrap(), policy.timeouts.backend_request)
    };
    let (retry, per_try) = retries(json!({"retryOn": "5xx, connect-failure"}));
    assert_eq!(retry.on, RetryOn { server_error: true, connect_failure: true, ..RetryOn::default() });
    assert_eq!((retry.attempts, per_try), (1, None));
    assert_eq!((retry.backoff_base, retry.backoff_max), (Duration::from_millis(25), Duration::from_millis(250)));
    let (retry, per_try) = retries(json!({
        "retryOn": "retriable-status-codes", "numRetries": 3, "perTryTimeout": "2s", "retriableStatusCodes": [418],
        "retryBackOff": {"baseInterval": "1s"},
    }));
    assert_eq!((retry.attempts, per_try, retry.backoff_max), (3, Some(Duration::from_secs(2)), Duration::from_secs(10)));
    assert_eq!(&*retry.status_codes, [http::StatusCode::IM_A_TEAPOT]);
}

#[test]
fn filters_follow_the_rules_own() {
    let set = json!({
        "prefixRewrite": "/new", "hostRewrite": "new.example:81",
        "headerManipulation": {
            "requestHeadersToAdd": [{"header": {"key": "A", "value": "100%%"}}, {"header": {"key": "b", "value": "c"}, "append": false}],
            "requestHeadersToRemove": ["C"], "responseHeadersToRemove": ["server"],
        },
    });
    let own = HeaderOps { remove: [http::HeaderName::from_static("own")].into(), ..HeaderOps::default() };
    let mut filters = Filters { request_headers: [own.clone()].into(), ..Filters::default() };
    let merged = merge([&options(&set)]);
    assert!(merged.has_filters());
    merged.apply_filters(&mut filters);
    assert_eq!(filters.request_headers.len(), 2);
    assert_eq!(filters.request_headers[0], own);
    assert_eq!(filters.request_headers[1].add[0].1, "100%");
    assert_eq!(filters.request_headers[1].set[0].0, "b");
    assert_eq!(filters.request_headers[1].remove[0], "c");
    assert_eq!(filters.response_headers[0].remove[0], "server");
    let rewrite = filters.rewrite.unwrap();
    assert_eq!(rewrite.hostname.unwrap(), "new.example:81");
    assert!(matches!(rewrite.path, Some(PathRewrite::Prefix(prefix)) if &*prefix == "/new"));
}

#[test]
fn re2_substitutions_do_what_re2_does() {
    for (regex, substitution, path, expected) in [
        ("^/(.*)/(.*)$", r"/\2/\1", "/a/b", "/b/a"),
        ("b", r"\0\0", "/abc", "/abbc"),
        ("b", "$1", "/abc", "/a$1c"),
        ("(b)", r"\11", "/abc", "/ab1c"),
        ("b", r"\\", "/abc", r"/a\c"),
        ("b", "", "/abbc", "/ac"),
    ] {
        let compiled = options(&json!({"regexRewrite": {"pattern": {"regex": regex}, "substitution": substitution}}));
        let OptionValue::Path(Some(PathRewrite::Regex { pattern, substitution })) = &*compiled.options["regexRewrite"] else {
            panic!("{:?}", compiled.findings)
        };
        assert_eq!(pattern.regex().replace_all(path, &**substitution), expected, "{regex} {substitution}");
    }
}

#[test]
fn statuses_tell_what_the_routes_make_of_it() {
    let compiled = hash(&json!([{"header": "a"}]));
    let attached = RouteOptionFacts { attached: true, used: true, ..RouteOptionFacts::default() };
    assert_eq!(route_option_status(&compiled, &attached).state, GlooState::Accepted);
    let rule = || vec!["HTTPRoute n/r rule 0".to_owned()];
    for (facts, text) in [
        (RouteOptionFacts::default(), "not attached to any rule"),
        (
            RouteOptionFacts { missing_routes: vec![ObjectRef::new(Kind::HttpRoute, "n", "gone")], ..attached.clone() },
            "HTTPRoute n/gone does not exist",
        ),
        (
            RouteOptionFacts { used: false, shadowed_by: vec![ObjectName::new("n", "a")], ..attached.clone() },
            "it has no effect: all its options are set by RouteOption n/a",
        ),
        (RouteOptionFacts { hash_without_table: rule(), ..attached.clone() }, "has no effect on HTTPRoute n/r rule 0: no backend"),
        (RouteOptionFacts { hash_in_split: rule(), ..attached.clone() }, "weighted backends of HTTPRoute n/r rule 0"),
        (RouteOptionFacts { hash_without_backend: rule(), ..attached }, "nothing is forwarded"),
    ] {
        let status = route_option_status(&compiled, &facts);
        assert_eq!(status.state, GlooState::Warning);
        assert!(status.reason.contains(text), "{}", status.reason);
    }
}

proptest! {
    /// Whatever a tenant writes, a cookie's Set-Cookie stays one header with one cookie, and nothing panics.
    #[test]
    fn cookies_cannot_smuggle(name in ".{0,12}", path in ".{0,12}", ttl in any::<i64>()) {
        let compiled = hash(&json!([{"cookie": {"name": name, "path": path, "ttl": crate::api::GoDuration(ttl).to_string()}}]));
        if let Some(OptionValue::LbHash(policies)) = compiled.options.get("lbHash").map(|value| &**value) {
            for policy in policies {
                let HashSource::Cookie(cookie) = &policy.source else { panic!("a cookie") };
                let line = format!("{}=\"0123456789abcdef\"{}", cookie.name, cookie.set_cookie_suffix);
                prop_assert!(HeaderValue::from_str(&line).is_ok());
                let attributes: Vec<&str> = line.split("; ").map(|part| part.split('=').next().unwrap()).collect();
                prop_assert_eq!(attributes[0], &name);
                prop_assert!(attributes[1..].iter().all(|attribute| ["Max-Age", "Path", "HttpOnly"].contains(attribute)));
            }
        } else {
            prop_assert_eq!(compiled.findings.state(), GlooState::Rejected);
        }
    }
}
