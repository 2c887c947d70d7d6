use std::{collections::BTreeSet, fmt::Write as _};

use serde_json::{Value, json};

use super::*;
use crate::base::Kind;

/// Where the generated part of the document begins and ends.
const BEGIN: &str =
    "<!-- fields: generated from src/translate/gloo/fields, regenerate with GOLDEN_UPDATE=1 cargo test --lib gloo::fields -->\n";
const END: &str = "<!-- end of fields -->\n";

const TABLES: [(&str, &[Field]); 5] = [
    ("Upstream", UPSTREAM_FIELDS),
    ("RouteOption", ROUTE_OPTION_FIELDS),
    ("VirtualHostOption", VIRTUAL_HOST_OPTION_FIELDS),
    ("ListenerOption", LISTENER_OPTION_FIELDS),
    ("HttpListenerOption", HTTP_LISTENER_OPTION_FIELDS),
];

fn answer_in_words(answer: Answer) -> &'static str {
    match answer {
        Answer::Honoured => "honoured",
        Answer::Partly => "partly",
        Answer::Ignored => "ignored",
        Answer::NotApplied => "Warning",
        Answer::Refused => "Rejected, 500",
    }
}

fn tables() -> String {
    let mut text = String::new();
    for (title, table) in TABLES {
        write!(text, "\n### {title}\n\n| field | answer | note |\n|---|---|---|\n").unwrap();
        for field in table {
            writeln!(text, "| `{}` | {} | {} |", field.path, answer_in_words(field.answer), field.note).unwrap();
        }
    }
    text.push('\n');
    text
}

#[test]
fn the_document_holds_the_tables() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/gloo-compatibility.md");
    let document = std::fs::read_to_string(path).unwrap();
    let (head, rest) = document.split_once(BEGIN).expect("the mark of the begin");
    let (held, tail) = rest.split_once(END).expect("the mark of the end");
    #[expect(clippy::disallowed_methods, reason = "a switch of the test, not a setting of the program")]
    if std::env::var("GOLDEN_UPDATE").is_ok() {
        std::fs::write(path, format!("{head}{BEGIN}{}{END}{tail}", tables())).unwrap();
        return;
    }
    assert!(held == tables(), "docs/gloo-compatibility.md is stale: GOLDEN_UPDATE=1 cargo test --lib gloo::fields");
}

#[test]
fn a_path_comes_once() {
    for (_, table) in TABLES {
        let paths: BTreeSet<_> = table.iter().map(|field| field.path).collect();
        assert_eq!(paths.len(), table.len());
    }
}

#[test]
fn a_reason_is_given_for_what_is_refused() {
    for field in TABLES.iter().flat_map(|(_, table)| table.iter()) {
        assert!(field.answer != Answer::Refused || !field.note.is_empty(), "{}", field.path);
    }
}

#[test]
fn fields_are_answered_by_name() {
    let cases = [
        (json!({"kube": {"serviceName": "a", "servicePort": 1}}), vec![], vec![]),
        (json!({"kube": {"selector": {"a": "b"}}}), vec!["field spec.kube.selector is accepted but not applied"], vec![]),
        (json!({"kube": {"selektor": {"a": "b"}}}), vec!["field spec.kube.selektor is unknown and has no effect"], vec![]),
        (
            json!({"circuitBreakers": {"maxConnections": 1, "whatever": 2}}),
            vec!["field spec.circuitBreakers.whatever is unknown and has no effect"],
            vec![],
        ),
        (json!({"circuitBreakers": null, "healthChecks": [], "namespacedStatuses": {"x": 1}}), vec![], vec![]),
        (
            json!({"healthChecks": [{"timeout": "1s"}, {"customHealthCheck": {}}]}),
            vec!["field spec.healthChecks is accepted but not applied"],
            vec!["spec.healthChecks[1].customHealthCheck"],
        ),
        (
            json!({"healthChecks": [{"custom_health_check": {}}, {"http_health_check": {}}]}),
            vec!["field spec.healthChecks is accepted but not applied"],
            vec!["spec.healthChecks[0].custom_health_check"],
        ),
        (
            json!({"static": {"hosts": [{"addr": "a"}, {"x": 1}]}}),
            vec!["field spec.static.hosts[1].x is unknown and has no effect"],
            vec![],
        ),
        (
            json!({"loadBalancerConfig": {"maglev": {"tableSize": 1}, "roundRobin": {"slowStartConfig": {}}}}),
            vec![
                "field spec.loadBalancerConfig.maglev.tableSize is unknown and has no effect",
                "field spec.loadBalancerConfig.roundRobin.slowStartConfig is accepted but not applied",
            ],
            vec![],
        ),
        (
            json!({"load_balancer_config": {"maglev": {}}}),
            vec!["field spec.load_balancer_config is unknown and has no effect: expected spec.loadBalancerConfig"],
            vec![],
        ),
        (
            json!({"static": {"use_tls": false}, "odd": {"list": [{"httpProxyHostName": "x"}]}}),
            vec!["field spec.static.use_tls is unknown and has no effect: expected spec.static.useTls"],
            vec!["spec.odd.list[0].httpProxyHostName"],
        ),
        (json!({"kube": {"port": 1}}), vec!["field spec.kube.port is unknown and has no effect"], vec![]),
        (json!({"ssl_config": {}, "kube": {"sslConfig": {}}}), vec![], vec!["spec.kube.sslConfig", "spec.ssl_config"]),
        (
            json!({"static": {"use_tls": true, "hosts": [{"SSL-Config": 1}]}}),
            vec![],
            vec!["spec.static.hosts[0].SSL-Config", "spec.static.use_tls"],
        ),
        (json!({"aws": {"region": "x"}, "typo": {}}), vec!["field spec.typo is unknown and has no effect"], vec!["spec.aws"]),
    ];
    for (spec, warnings, refused) in cases {
        let mut findings = Findings::default();
        let found = survey(&spec, UPSTREAM_FIELDS, &mut findings);
        assert_eq!(findings.warnings, warnings, "{spec}");
        assert_eq!(found.iter().map(|field| field.path.as_str()).collect::<Vec<_>>(), refused, "{spec}");
    }
}

#[test]
fn a_guard_is_found_in_whichever_option_for_gateways_it_stands() {
    let refused = |kind: Kind, spec: Value| {
        let mut findings = Findings::default();
        let found = survey_gateway_option(kind, &spec, &mut findings);
        (found.into_iter().map(|field| field.path).collect::<Vec<_>>(), findings.warnings.len())
    };
    for kind in Kind::GATEWAY_OPTIONS {
        for name in ["extauth", "ext_auth", "waf", "csrf", "jwt", "rateLimitConfigs", "httpLocalRatelimit"] {
            assert_eq!(refused(kind, json!({"options": {name: {}}})), (vec![format!("spec.options.{name}")], 0), "{kind}");
            assert_eq!(refused(kind, json!({name: {}})), (vec![format!("spec.{name}")], 0), "{kind}");
        }
        assert_eq!(refused(kind, json!({"options": {"extensions": {"a": 1}}})), (vec![], 1));
        let of_plugins = json!({"options": {"extensions": {"configs": {"rate-limit": {}, "ext_auth": {}, "other": {}}}}});
        let guards = ["ext_auth", "rate-limit"].map(|name| format!("spec.options.extensions.configs.{name}"));
        assert_eq!(refused(kind, of_plugins), (guards.to_vec(), 0), "{kind}");
        assert_eq!(refused(kind, json!({"options": {"extauth": null}})), (vec![], 0));
        assert_eq!(refused(kind, json!({"options": {"whatever": 1}})), (vec![], 1));
    }
    let response_only = json!({"options": {"headerManipulation": {"responseHeadersToRemove": ["x"]}}});
    assert_eq!(refused(Kind::VirtualHostOption, response_only), (vec![], 1));
    let request = json!({"options": {"headerManipulation": {"requestHeadersToRemove": ["x"]}}});
    assert_eq!(refused(Kind::VirtualHostOption, request).0, ["spec.options.headerManipulation.requestHeadersToRemove"]);
    let request = json!({"options": {"headerManipulation": {"request_headers_to_remove": ["x"], "response_headers_to_remove": ["x"]}}});
    assert_eq!(
        refused(Kind::VirtualHostOption, request),
        (vec!["spec.options.headerManipulation.request_headers_to_remove".to_owned()], 1)
    );
}

#[test]
fn a_guard_of_listeners_is_not_skipped_in_a_route_option() {
    for name in ["wasm", "connectionLimit", "http_local_ratelimit", "waf", "extensions.configs.rbac"] {
        let mut findings = Findings::default();
        let options = name.rsplit('.').fold(json!({}), |inner, name| json!({name: inner}));
        let found = survey_route_option(&json!({"options": options}), &mut findings);
        assert_eq!(found.iter().map(|field| field.path.as_str()).collect::<Vec<_>>(), [format!("spec.options.{name}")]);
        assert!(findings.warnings.is_empty(), "{:?}", findings.warnings);
    }
}
