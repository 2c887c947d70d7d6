//! The dashboard and the alert rules of the chart against what they rely on: the table of metric families, `docs/operate.md`, and promtool.
//!
//! promtool is `promtool` on the path, or what `PROMTOOL` names; without it its tests are left out.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout, reason = "tests")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
    process::Command,
};

use clingfish::telemetry::families::{self, FamilyKind};
use regex::Regex;
use serde_json::Value;

const RULES: &str = "charts/clingfish/files/rules.yaml";
const DASHBOARD: &str = "charts/clingfish/files/dashboard.json";

/// Labels that come from Prometheus and not from us, and the one of buckets.
const OTHERS: [&str; 5] = ["job", "namespace", "pod", "instance", "le"];

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn text(name: &str) -> String {
    fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Alerts by name.
fn alerts() -> BTreeMap<String, Value> {
    let rules: Value = serde_saphyr::from_str(&text(RULES)).unwrap();
    let groups = rules["groups"].as_array().unwrap().iter().flat_map(|group| group["rules"].as_array().unwrap());
    groups.filter_map(|rule| Some((rule["alert"].as_str()?.to_owned(), rule.clone()))).collect()
}

/// Recording rules by the name of what they record.
fn records() -> BTreeMap<String, Value> {
    let rules: Value = serde_saphyr::from_str(&text(RULES)).unwrap();
    let groups = rules["groups"].as_array().unwrap().iter().flat_map(|group| group["rules"].as_array().unwrap());
    groups.filter_map(|rule| Some((rule["record"].as_str()?.to_owned(), rule.clone()))).collect()
}

/// Where each query stands, and the query.
fn queries() -> Vec<(String, String)> {
    let dashboard: Value = serde_json::from_str(&text(DASHBOARD)).unwrap();
    let records = records();
    let rules = alerts().into_iter().chain(records.clone());
    // What an alert reads of a record, it reads of what is recorded.
    let expression = |rule: &Value| {
        let written = rule["expr"].as_str().unwrap().to_owned();
        records.iter().fold(written, |text, (name, record)| text.replace(name.as_str(), &format!("({})", record["expr"].as_str().unwrap())))
    };
    let mut queries: Vec<_> = rules.map(|(name, rule)| (name, expression(&rule))).collect();
    for panel in dashboard["panels"].as_array().unwrap() {
        let title = panel["title"].as_str().unwrap();
        for target in panel["targets"].as_array().into_iter().flatten() {
            queries.push((title.to_owned(), target["expr"].as_str().unwrap().to_owned()));
        }
    }
    assert!(queries.len() > 80, "{}", queries.len());
    queries
}

/// The labels of a metric name as a query may use them; `None`: there is no such metric.
fn labels_of(metric: &str) -> Option<Vec<&'static str>> {
    families::ALL.iter().find_map(|family| {
        let suffix = metric.strip_prefix(family.name)?;
        let fits = match family.kind {
            FamilyKind::Histogram => matches!(suffix, "_bucket" | "_sum" | "_count"),
            FamilyKind::Counter | FamilyKind::Gauge => suffix.is_empty(),
        };
        fits.then(|| family.labels.to_vec())
    })
}

#[test]
fn every_metric_and_label_is_in_the_table() {
    let metric = Regex::new(r"clingfish_[a-z0-9_]+(?:\{([^}]*)\})?").unwrap();
    let matcher = Regex::new(r#"([a-z_]+)\s*(?:=~|!~|!=|=)\s*"([^"]*)""#).unwrap();
    let grouped = Regex::new(r"\b(?:by|on) \(([^)]*)\)").unwrap();
    let mut wrong = Vec::new();
    for (place, query) in queries() {
        let mut known: BTreeSet<&str> = BTreeSet::from(OTHERS);
        for found in metric.captures_iter(&query) {
            let name = found[0].split('{').next().unwrap();
            let Some(labels) = labels_of(name) else {
                wrong.push(format!("{place}: {name} is no metric"));
                continue;
            };
            let help = families::ALL.iter().find(|family| name.starts_with(family.name)).unwrap().help;
            for used in matcher.captures_iter(found.get(1).map_or("", |matchers| matchers.as_str())) {
                if !labels.contains(&&used[1]) && !OTHERS.contains(&&used[1]) {
                    wrong.push(format!("{place}: {name} has no label {}", &used[1]));
                }
                // Closed sets are told in the family's help; flags are Envoy's.
                for value in used[2].split('|').filter(|_| labels.contains(&&used[1]) && &used[1] != "flag" && &used[1] != "code") {
                    if !help.contains(&format!("`{value}`")) {
                        wrong.push(format!("{place}: {name} has no {}={value}", &used[1]));
                    }
                }
            }
            known.extend(labels);
        }
        for group in grouped.captures_iter(&query) {
            for label in group[1].split(',').map(str::trim).filter(|label| !known.contains(label)) {
                wrong.push(format!("{place}: no metric of the query has a label {label}: {query}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What is measured and looked at by nobody is either not worth measuring, or forgotten.
#[test]
fn every_metric_is_shown_or_alerted_on() {
    let all = queries().into_iter().map(|(_, query)| query).collect::<Vec<_>>().join("\n");
    let unused: Vec<_> = families::ALL.iter().map(|family| family.name).filter(|name| !all.contains(name)).collect();
    assert_eq!(unused, ["clingfish_start_time_seconds"], "shown nowhere; the first one is for Prometheus itself");
}

#[test]
fn every_alert_says_what_it_is_and_what_to_do() {
    let (guide, tests) = (text("docs/operate.md"), text("tests/rules/alerts.test.yaml"));
    for (name, rule) in alerts() {
        for field in ["/labels/severity", "/annotations/summary", "/annotations/description"] {
            assert!(rule.pointer(field).and_then(Value::as_str).is_some_and(|text| !text.is_empty()), "{name} has no {field}");
        }
        assert!(guide.contains(&format!("| `{name}` |")), "docs/operate.md does not say what to do about {name}");
        assert!(tests.contains(&format!("alertname=\"{name}\"")), "no test lets {name} fire");
    }
}

/// promtool, or `None` with a word about it.
fn promtool() -> Option<String> {
    #[allow(clippy::disallowed_methods, reason = "tells where promtool is")]
    let promtool = std::env::var("PROMTOOL").unwrap_or_else(|_| "promtool".into());
    let answers = Command::new(&promtool).arg("--version").output().is_ok_and(|output| output.status.success());
    if !answers {
        println!("left out: there is no {promtool}");
    }
    answers.then_some(promtool)
}

#[test]
fn promtool_takes_the_rules_and_their_tests_pass() {
    let Some(promtool) = promtool() else { return };
    for arguments in [&["check", "rules", "--lint=all", "--lint-fatal", RULES][..], &["test", "rules", "tests/rules/alerts.test.yaml"]] {
        let output = Command::new(&promtool).args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
        let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "promtool {arguments:?}\n{out}\n{error}");
    }
}
