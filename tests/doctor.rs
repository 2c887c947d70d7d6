//! Goldens of `doctor`: `tests/doctor/healthy.in.yaml` is what is gathered of a healthy install, every other `NAME.in.yaml` is a list of what is
//! different, and `NAME.out.txt` is the page.
//!
//! `GOLDEN_UPDATE=1 cargo test --test doctor` writes the pages anew; look at the difference before you commit it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail by panicking")]

use std::{collections::BTreeSet, fs, path::Path, path::PathBuf};

use clingfish::{
    api,
    doctor::{Check, Format, Gathered, Report, Verdict, diagnose, needed_rights, write},
};
use serde::Deserialize;
use serde_json::{Value, json};

/// What is different: the value at a JSON pointer, or nothing. `-` is behind the last of a list, `right:VERB RESOURCE` a right.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Difference {
    at: String,
    #[serde(default)]
    to: Option<Value>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/doctor")
}

fn read(name: &str) -> String {
    fs::read_to_string(root().join(format!("{name}.in.yaml"))).unwrap()
}

fn healthy() -> Value {
    let mut gathered: Value = serde_saphyr::from_str(&read("healthy")).unwrap();
    let crds = gathered["lists"]["customresourcedefinitions"]["items"].as_array_mut().unwrap();
    crds.extend(api::crd_values().unwrap());
    let crds = crds.clone();
    let install = serde_json::from_value(gathered["install"].clone()).unwrap();
    let rights = needed_rights(&install, &crds).into_iter().map(|right| json!({"right": right, "allowed": true}));
    gathered["rights"] = rights.collect();
    gathered
}

fn change(gathered: &mut Value, difference: Difference) {
    let (parent, last) = difference.at.rsplit_once('/').unwrap();
    let mut at = gathered;
    for part in parent.split('/').skip(1) {
        let part = part.replace("~1", "/").replace("~0", "~");
        at = match at {
            Value::Array(items) => items.iter_mut().enumerate().find(|(index, item)| is_named(&part, *index, item)).unwrap().1,
            other => &mut other[part],
        };
    }
    let last = last.replace("~1", "/");
    match (at, difference.to) {
        (Value::Array(items), Some(value)) if last == "-" => items.push(value),
        (Value::Array(items), Some(value)) => items[last.parse::<usize>().unwrap()] = value,
        (Value::Array(items), None) => drop(items.remove(last.parse().unwrap())),
        (Value::Object(members), Some(value)) => drop(members.insert(last, value)),
        (Value::Object(members), None) => assert!(members.remove(&last).is_some(), "{} is not there", difference.at),
        (other, _) => panic!("{} is in {other}", difference.at),
    }
}

fn is_named(part: &str, index: usize, item: &Value) -> bool {
    let words = || {
        format!("right:{} {}", item["right"]["verb"].as_str().unwrap_or_default(), item["right"]["resource"].as_str().unwrap_or_default())
    };
    part.parse::<usize>().is_ok_and(|part| part == index) || part == words()
}

fn gathered(name: &str) -> Gathered {
    let mut value = healthy();
    if name != "healthy" {
        let differences: Vec<Difference> = serde_saphyr::from_str(&read(name)).unwrap();
        differences.into_iter().for_each(|difference| change(&mut value, difference));
    }
    serde_json::from_value(value).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn names() -> BTreeSet<String> {
    let entries = fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    entries.filter_map(|name| name.strip_suffix(".in.yaml").map(str::to_owned)).collect()
}

fn findings(report: &Report, check: Check) -> usize {
    report.outcomes.iter().find(|(found, _)| *found == check).map_or(0, |(_, outcome)| outcome.findings.len())
}

#[test]
fn a_page_says_what_the_goldens_say() {
    let mut stale = Vec::new();
    for name in names() {
        let page = write(&diagnose(&gathered(&name)), Format::Text);
        let path = root().join(format!("{name}.out.txt"));
        #[allow(clippy::disallowed_methods, reason = "the switch that writes the expected files anew")]
        if std::env::var("GOLDEN_UPDATE").is_ok() {
            fs::write(path, page).unwrap();
        } else if fs::read_to_string(path).unwrap_or_default() != page {
            stale.push(format!("{name}:\n{page}"));
        }
    }
    assert!(stale.is_empty(), "stale, GOLDEN_UPDATE=1 cargo test --test doctor:\n{}", stale.join("\n"));
}

#[test]
fn every_check_is_good_for_a_healthy_install_and_finds_something_in_some_golden() {
    let healthy = diagnose(&gathered("healthy"));
    assert_eq!(healthy.verdict(), Verdict::Good, "{}", write(&healthy, Format::Text));
    let reports: Vec<Report> = names().iter().map(|name| diagnose(&gathered(name))).collect();
    for check in Check::ALL {
        assert!(reports.iter().any(|report| findings(report, check) > 0), "{check:?} finds nothing in any golden");
    }
    assert_eq!(diagnose(&gathered("unasked")).verdict(), Verdict::Unasked);
    assert_eq!(diagnose(&gathered("mesh-kept-out")).verdict(), Verdict::Good);
}

#[test]
fn json_has_every_finding_and_the_page_only_the_first() {
    let mut many = gathered("healthy");
    let routes = many.lists.get_mut(&clingfish::doctor::Asked::HttpRoutes).unwrap();
    for number in 0..40 {
        routes.items.push(json!({"metadata": {"name": format!("r{number}"), "namespace": "n", "generation": 1}, "spec": {"parentRefs": [{"name": "gone"}]}}));
    }
    let report = diagnose(&many);
    let page = write(&report, Format::Text);
    assert!(page.lines().count() < 60 && page.contains("and 34 more"), "{page}");
    let json: Value = serde_json::from_str(&write(&report, Format::Json)).unwrap();
    let routes = json["checks"].as_array().unwrap().iter().find(|check| check["check"] == "routes").unwrap();
    assert_eq!((routes["findings"].as_array().unwrap().len(), &json["verdict"]), (40, &json!("findings")));
    assert!(routes["findings"][0]["to_do"].as_str().is_some_and(|to_do| !to_do.is_empty()));
}

#[test]
fn nothing_that_objects_hold_ends_the_doctor_or_forges_a_line() {
    for (pointer, odd) in [
        ("/lists/gateways/items/0/metadata/name", json!("a\nWRONG  everything\u{202e}")),
        ("/lists/gateways/items/0/status", json!(5)),
        ("/lists/gateways/items/0", json!("text")),
        ("/lists/httproutes/items/0/spec", json!([1])),
        ("/lists/pods/items/0/status/containerStatuses", json!({"a": 1})),
        ("/lists/customresourcedefinitions/items", json!([null, 1, {"spec": {"versions": [5]}}])),
        (
            "/pods/gloo-proxy-http-a/metrics",
            json!(["clingfish_leader{\nclingfish_leader x\nclingfish_snapshot_digest NaN\nclingfish_build_info{version=\"} 1"]),
        ),
    ] {
        let mut value = healthy();
        change(&mut value, Difference { at: pointer.to_owned(), to: Some(odd) });
        let page = write(&diagnose(&serde_json::from_value(value).unwrap()), Format::Text);
        assert!(!page.contains('\u{202e}') && !page.contains("\nWRONG  everything"), "{pointer}:\n{page}");
    }
}

#[test]
fn the_rights_that_are_asked_for_are_those_of_the_chart() {
    // As `helm template` renders the chart's own values.
    let text = fs::read_to_string(root().join("../chart/default.out.yaml")).unwrap();
    let documents: Vec<Value> =
        text.trim_start_matches("---\n").split("\n---\n").filter_map(|document| serde_saphyr::from_str(document).ok()).collect();
    let mut granted = BTreeSet::new();
    for role in documents.iter().filter(|document| ["ClusterRole", "Role"].contains(&document["kind"].as_str().unwrap_or_default())) {
        let namespace = role["metadata"]["namespace"].as_str().unwrap_or_default();
        for rule in role["rules"].as_array().unwrap() {
            let strings = |key: &str| -> Vec<String> {
                rule[key].as_array().into_iter().flatten().map(|item| item.as_str().unwrap().to_owned()).collect()
            };
            let mut names = strings("resourceNames");
            if names.is_empty() {
                names.push(String::new());
            }
            for group in strings("apiGroups") {
                for (resource, verb) in
                    strings("resources").iter().flat_map(|resource| strings("verbs").into_iter().map(move |verb| (resource.clone(), verb)))
                {
                    granted.extend(
                        names.iter().map(|name| (verb.clone(), group.clone(), resource.clone(), namespace.to_owned(), name.clone())),
                    );
                }
            }
        }
    }
    let deployments: Vec<Value> = documents.iter().filter(|document| document["kind"] == "Deployment").cloned().collect();
    let install = clingfish::doctor::installs(&deployments).pop().expect("the chart's Deployment is an install");
    let needed = needed_rights(&install, &[]);
    let needed: BTreeSet<_> =
        needed.into_iter().map(|right| (right.verb, right.group, right.resource, right.namespace, right.name)).collect();
    assert_eq!(needed, granted, "left: asked for, right: granted by the chart");
}
