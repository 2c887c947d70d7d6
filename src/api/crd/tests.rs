use serde_json::json;

use super::*;

/// An HTTPRoute with these members of `spec`.
fn route(spec: Value) -> Findings {
    check(Kind::HttpRoute, &object("HTTPRoute", spec))
}

fn gateway(spec: Value) -> Findings {
    check(Kind::Gateway, &object("Gateway", spec))
}

fn object(kind: &str, spec: Value) -> Value {
    json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": kind, "metadata": {"name": "n", "namespace": "default"}, "spec": spec})
}

/// A route whose only rule is this.
fn rule(rule: Value) -> Value {
    json!({"parentRefs": [{"name": "http"}], "rules": [rule]})
}

fn path(kind: &str, value: &str) -> Value {
    rule(json!({"matches": [{"path": {"type": kind, "value": value}}]}))
}

/// The fields that break something, and the beginnings of what is said about them.
fn broken(findings: &Findings) -> Vec<(&str, &str)> {
    findings.violations.iter().map(|violation| (violation.field.as_str(), violation.message.as_str())).collect()
}

#[track_caller]
fn refused(findings: &Findings, field: &str, message: &str) {
    assert!(
        broken(findings).iter().any(|(found, said)| *found == field && said.contains(message)),
        "expected {field}: {message}, found {:#?}",
        broken(findings)
    );
}

#[test]
fn the_schemas_can_be_read() {
    for kind in [Kind::Gateway, Kind::GatewayClass, Kind::HttpRoute, Kind::ReferenceGrant, Kind::RouteOption, Kind::Upstream] {
        let findings = check(kind, &json!({"apiVersion": "v", "kind": kind.as_str(), "metadata": {"name": "n"}, "spec": {}}));
        assert!(!findings.violations.iter().any(|violation| violation.field.is_empty()), "{kind}: {findings:?}");
    }
}

#[test]
fn what_is_right_is_taken() {
    let redirect = json!({"type": "RequestRedirect", "requestRedirect": {"scheme": "https"}});
    for spec in [
        json!({}),
        rule(json!({"backendRefs": [{"name": "web", "port": 80}]})),
        rule(json!({"filters": [redirect]})),
        rule(json!({"timeouts": {"request": "10s", "backendRequest": "2s"}, "retry": {"attempts": 1, "backoff": "1m"}})),
        path("RegularExpression", "a b?"),
        path("PathPrefix", "/a%20b"),
        json!({"parentRefs": [{"name": "a", "sectionName": "x"}, {"name": "a", "sectionName": "y"}]}),
        json!({"parentRefs": [{"name": "a", "namespace": "x"}, {"name": "a", "namespace": "y"}]}),
        json!({"hostnames": ["*.example.com", "example.com"]}),
    ] {
        assert_eq!(route(spec.clone()), Findings::default(), "{spec}");
    }
    let listener = json!({"name": "http", "port": 80, "protocol": "HTTP"});
    let spec = json!({"gatewayClassName": "c", "listeners": [listener], "addresses": [{"value": "10.0.0.1"}, {"type": "Hostname", "value": "a.b"}]});
    assert_eq!(gateway(spec), Findings::default());
}

#[test]
fn rules_of_routes_hold() {
    let redirect = json!({"type": "RequestRedirect", "requestRedirect": {"scheme": "https"}});
    let rewrite = json!({"type": "URLRewrite", "urlRewrite": {"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/"}}});
    let modifier = json!({"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [{"name": "a", "value": "b"}]}});
    let prefix = |value| json!({"path": {"type": "PathPrefix", "value": value}});
    for (spec, field, message) in [
        (
            rule(json!({"filters": [redirect], "backendRefs": [{"name": "web", "port": 80}]})),
            "spec.rules[0]",
            "RequestRedirect filter must not be used together",
        ),
        (rule(json!({"filters": [rewrite], "matches": [prefix("/a"), prefix("/b")]})), "spec.rules[0]", "exactly one PathPrefix match"),
        (rule(json!({"filters": [modifier, modifier]})), "spec.rules[0].filters", "cannot be repeated"),
        (
            rule(json!({"filters": [{"type": "RequestHeaderModifier"}]})),
            "spec.rules[0].filters[0]",
            "must be specified for RequestHeaderModifier",
        ),
        (rule(json!({"filters": [{"type": "CORS", "cors": {}, "urlRewrite": {}}]})), "spec.rules[0].filters[0]", "must be nil"),
        (rule(json!({"backendRefs": [{"name": "web"}]})), "spec.rules[0].backendRefs[0]", "Must have port for Service reference"),
        (rule(json!({"timeouts": {"request": "1s", "backendRequest": "2s"}})), "spec.rules[0].timeouts", "cannot be longer"),
        (json!({"parentRefs": [{"name": "a"}, {"name": "a"}]}), "spec.parentRefs", "must be unique"),
        (json!({"parentRefs": [{"name": "a"}, {"name": "a", "sectionName": "x"}]}), "spec.parentRefs", "must be"),
        (json!({"rules": [{"name": "x"}, {"name": "x"}]}), "spec.rules", "Rule name must be unique"),
    ] {
        refused(&route(spec), field, message);
    }
}

#[test]
fn paths_are_plain() {
    for value in ["/a b", "/a?b=c", "/a//b", "/a/../b", "/a/.", "/a%2fb", "/a#b", "a", "/a\"", "/%zz"] {
        let findings = route(path("Exact", value));
        assert!(!findings.violations.is_empty(), "{value}");
        assert!(findings.violations.iter().all(|violation| violation.field == "spec.rules[0].matches[0].path"), "{findings:?}");
    }
    refused(&route(path("Prefix", "/")), "spec.rules[0].matches[0].path.type", "\"Prefix\"");
}

#[test]
fn numbers_and_lengths_are_bounded() {
    let header = |index: usize| json!({"name": format!("h{index}"), "value": "v"});
    let headers: Vec<_> = (0..17).map(header).collect();
    let hostnames: Vec<_> = (0..17).map(|index| format!("h{index}.example")).collect();
    let eight: Vec<_> = (0..64).map(|index| json!({"path": {"value": format!("/{index}")}})).collect();
    for (spec, field, message) in [
        (json!({"hostnames": hostnames}), "spec.hostnames", "has 17 items: expected at most 16"),
        (rule(json!({"matches": [{"headers": headers}]})), "spec.rules[0].matches[0].headers", "at most 16"),
        (json!({"rules": [{"matches": eight}, {"matches": eight}, {}]}), "spec.rules", "less than 128"),
        (json!({"hostnames": [""]}), "spec.hostnames[0]", "is empty"),
        (json!({"hostnames": ["a b"]}), "spec.hostnames[0]", "expected what matches"),
        (rule(json!({"matches": [{"headers": [{"name": "", "value": "v"}]}]})), "spec.rules[0].matches[0].headers[0].name", "is empty"),
        (rule(json!({"backendRefs": [{"name": "", "port": 80}]})), "spec.rules[0].backendRefs[0].name", "is empty"),
        (rule(json!({"backendRefs": [{"name": "a", "port": 0}]})), "spec.rules[0].backendRefs[0].port", "expected at least 1"),
        (rule(json!({"backendRefs": [{"name": "a", "port": "80"}]})), "spec.rules[0].backendRefs[0].port", "expected a whole number"),
        (
            rule(json!({"backendRefs": [{"name": "a", "port": 80, "weight": 1_000_001}]})),
            "spec.rules[0].backendRefs[0].weight",
            "at most 1000000",
        ),
        (rule(json!({"timeouts": {"request": "1.5s"}})), "spec.rules[0].timeouts.request", "expected what matches"),
        (json!({"parentRefs": [{}]}), "spec.parentRefs[0].name", "is missing"),
        (json!({"parentRefs": null}), "spec.parentRefs", "is null"),
    ] {
        refused(&route(spec), field, message);
    }
    let filter = json!({"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [{"name": "x", "value": "1"}, {"name": "x", "value": "2"}]}});
    let field = "spec.rules[0].filters[0].requestHeaderModifier.set[1]";
    refused(&route(rule(json!({"filters": [filter]}))), field, "has the name of an item before it");
}

#[test]
fn rules_of_gateways_hold() {
    let http = json!({"name": "http", "port": 80, "protocol": "HTTP"});
    let spec = |listeners: Value| json!({"gatewayClassName": "c", "listeners": listeners});
    for (spec, field, message) in [
        (spec(json!([http, http])), "spec.listeners[1]", "has the name of an item before it"),
        (spec(json!([http, {"name": "b", "port": 80, "protocol": "HTTP"}])), "spec.listeners", "must be unique"),
        (
            spec(json!([{"name": "a", "port": 80, "protocol": "HTTP", "tls": {"mode": "Terminate", "certificateRefs": [{"name": "x"}]}}])),
            "spec.listeners",
            "tls must not be specified",
        ),
        (
            spec(json!([{"name": "a", "port": 80, "protocol": "TCP", "hostname": "a.b"}])),
            "spec.listeners",
            "hostname must not be specified",
        ),
        (spec(json!([{"name": "a", "port": 70000, "protocol": "HTTP"}])), "spec.listeners[0].port", "at most 65535"),
        (json!({"gatewayClassName": "", "listeners": [http]}), "spec.gatewayClassName", "is empty"),
        (
            json!({"gatewayClassName": "c", "listeners": [http], "addresses": [{"value": "no-address"}]}),
            "spec.addresses[0]",
            "does not fit",
        ),
        (
            json!({"gatewayClassName": "c", "listeners": [http], "addresses": [{"value": "10.0.0.1"}, {"value": "10.0.0.1"}]}),
            "spec.addresses",
            "must be unique",
        ),
    ] {
        refused(&gateway(spec), field, message);
    }
}

#[test]
fn unknown_fields_are_named() {
    let findings = route(rule(json!({"filtres": [], "backendRefs": [{"name": "web", "port": 80, "wait": 1}]})));
    assert_eq!(findings.unknown, ["spec.rules[0].backendRefs[0].wait", "spec.rules[0].filtres"]);
    assert!(findings.violations.is_empty());
    // And taken out: other kinds of routes know them.
    let stream = |rule: Value| {
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "UDPRoute", "metadata": {"name": "n", "labels": {"a": "b"}},
            "spec": {"parentRefs": [{"name": "g"}], "rules": [rule]},
        })
    };
    let mut written = stream(json!({"matches": [{"method": "GET"}], "backendRefs": [{"name": "web", "port": 80, "filters": []}]}));
    prune(Kind::UdpRoute, &mut written);
    assert_eq!(written, stream(json!({"backendRefs": [{"name": "web", "port": 80}]})));
    // Gloo's objects are looked at field by field elsewhere: their schema keeps what it does not know.
    let upstream = json!({"apiVersion": "gloo.solo.io/v1", "kind": "Upstream", "metadata": {"name": "n"}, "spec": {"anything": 1}});
    assert_eq!(check(Kind::Upstream, &upstream), Findings::default());
    let mut kept = upstream.clone();
    prune(Kind::Upstream, &mut kept);
    assert_eq!(kept, upstream);
}
