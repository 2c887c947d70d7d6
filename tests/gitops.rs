//! The health checks for Flux in `docs/gitops`: what they say of objects with statuses as Clingfish writes them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{collections::BTreeMap, fs, path::Path};

use kube_cel::cel::{Context, Program, Value as CelValue, to_value};
use serde_json::{Value, json};

#[derive(Debug, PartialEq, Eq)]
enum Health {
    InProgress,
    Failed,
    Current,
}
use Health::{Current, Failed, InProgress};

/// The checks by kind.
fn checks() -> BTreeMap<String, Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/gitops/flux-kustomization.yaml");
    let kustomization: Value = serde_saphyr::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let checks = kustomization["spec"]["healthCheckExprs"].as_array().unwrap().clone();
    checks.into_iter().map(|check| (check["kind"].as_str().unwrap().to_owned(), check)).collect()
}

/// As Flux evaluates them: `failed` before `current`; what cannot be evaluated is waited for.
fn health(check: &Value, object: &Value) -> Health {
    let holds = |name: &str| {
        let program = Program::compile(check[name].as_str().unwrap()).unwrap_or_else(|error| panic!("{name}: {error}"));
        let mut context = Context::default();
        for field in ["metadata", "status"] {
            context.add_variable_from_value(field, to_value(object.get(field).cloned().unwrap_or_else(|| json!({}))).unwrap());
        }
        matches!(program.execute(&context), Ok(CelValue::Bool(true)))
    };
    match (holds("failed"), holds("current")) {
        (true, _) => Failed,
        (false, true) => Current,
        (false, false) => InProgress,
    }
}

fn condition(kind: &str, status: &str, reason: &str, generation: i64) -> Value {
    json!({"type": kind, "status": status, "reason": reason, "message": "words", "observedGeneration": generation})
}

fn conditions(given: &[(&str, &str, &str)]) -> Value {
    given.iter().map(|(kind, status, reason)| condition(kind, status, reason, 2)).collect()
}

#[test]
fn flux_waits_for_what_comes_and_fails_for_what_is_wrong() {
    let gateway = |given: &[(&str, &str, &str)]| json!({"conditions": conditions(given)});
    let route = |given: &[(&str, &str, &str)]| json!({"parents": [{"parentRef": {"name": "g"}, "conditions": conditions(given)}]});
    let gloo = |states: &[&str]| {
        let entries = states.iter().enumerate().map(|(index, state)| (format!("c{index}"), json!({"state": state, "reason": ""})));
        json!({"statuses": entries.collect::<serde_json::Map<_, _>>()})
    };
    let stale = json!({"conditions": [condition("Accepted", "True", "Accepted", 1), condition("Programmed", "True", "Programmed", 1)]});
    let refused_and_good = json!({"parents": [
        {"parentRef": {"name": "a"}, "conditions": conditions(&[("Accepted", "True", "Accepted"), ("ResolvedRefs", "True", "ResolvedRefs")])},
        {"parentRef": {"name": "b"}, "conditions": conditions(&[("Accepted", "False", "NoMatchingParent")])},
    ]});
    let cases = [
        ("GatewayClass", json!({}), InProgress),
        ("GatewayClass", gateway(&[("Accepted", "Unknown", "Pending")]), InProgress),
        ("GatewayClass", gateway(&[("Accepted", "True", "Accepted")]), Current),
        ("GatewayClass", gateway(&[("Accepted", "False", "InvalidParameters")]), Failed),
        ("Gateway", json!({}), InProgress),
        ("Gateway", stale, InProgress),
        ("Gateway", gateway(&[("Accepted", "Unknown", "Pending"), ("Programmed", "Unknown", "Pending")]), InProgress),
        ("Gateway", gateway(&[("Accepted", "True", "Accepted"), ("Programmed", "False", "AddressNotAssigned")]), InProgress),
        ("Gateway", gateway(&[("Accepted", "True", "Accepted"), ("Programmed", "False", "Pending")]), InProgress),
        ("Gateway", gateway(&[("Accepted", "True", "Accepted"), ("Programmed", "False", "Invalid")]), Failed),
        ("Gateway", gateway(&[("Accepted", "True", "Accepted"), ("Programmed", "True", "Programmed")]), Current),
        ("HTTPRoute", json!({}), InProgress),
        ("HTTPRoute", json!({"parents": []}), InProgress),
        ("HTTPRoute", route(&[("Accepted", "True", "Accepted")]), InProgress),
        ("HTTPRoute", route(&[("Accepted", "True", "Accepted"), ("ResolvedRefs", "False", "BackendNotFound")]), Failed),
        ("HTTPRoute", route(&[("Accepted", "True", "Accepted"), ("ResolvedRefs", "True", "ResolvedRefs")]), Current),
        ("HTTPRoute", refused_and_good, Failed),
        ("Upstream", json!({}), InProgress),
        ("Upstream", gloo(&[]), InProgress),
        ("Upstream", gloo(&["Accepted"]), Current),
        ("Upstream", gloo(&["Accepted", "Warning"]), Current),
        ("RouteOption", gloo(&["Rejected", "Accepted"]), Failed),
        ("RouteOption", gloo(&["Pending"]), InProgress),
    ];
    let checks = checks();
    for (kind, status, expected) in cases {
        let object = json!({"metadata": {"name": "x", "generation": 2}, "status": status});
        assert_eq!(health(&checks[kind], &object), expected, "{kind} {status}");
    }
}
