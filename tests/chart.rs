//! The chart against what it stands for: the CRDs, the drain's times and the flags of `run`.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "tests")]

use std::{collections::BTreeMap, fs, path::PathBuf};

use serde_json::Value;

const CHART: &str = "charts/clingfish";

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn text(name: &str) -> String {
    fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn values() -> Value {
    serde_saphyr::from_str(&text(&format!("{CHART}/values.yaml"))).unwrap()
}

/// File name and content of a directory's files.
fn files(directory: &str) -> BTreeMap<String, String> {
    let entries = fs::read_dir(path(directory)).unwrap_or_else(|error| panic!("{directory}: {error}"));
    let entries = entries.map(Result::unwrap).filter(|entry| entry.file_type().unwrap().is_file());
    let files = entries.map(|entry| entry.file_name().into_string().unwrap());
    files.map(|name| (name.clone(), text(&format!("{directory}/{name}")))).collect()
}

#[test]
fn the_charts_crds_are_ours() {
    let (ours, charts) = (files("crds"), files(&format!("{CHART}/crds")));
    assert!(!ours.is_empty());
    assert_eq!(ours.keys().collect::<Vec<_>>(), charts.keys().collect::<Vec<_>>());
    for (name, content) in &ours {
        assert!(charts.get(name) == Some(content), "{CHART}/crds/{name} is stale: cp crds/*.yaml {CHART}/crds/");
    }
}

#[test]
fn the_kubelet_waits_longer_than_the_drain() {
    let values = values();
    let seconds = |pointer: &str| values.pointer(pointer).and_then(Value::as_u64).unwrap_or_else(|| panic!("values.yaml has no {pointer}"));
    let (min, max, grace) = (seconds("/drain/minSeconds"), seconds("/drain/maxSeconds"), seconds("/terminationGracePeriodSeconds"));
    // Even if the two times of the drain came one after the other, the process ends by itself.
    assert!(min + max < grace, "a drain of {min} s + {max} s is cut off after {grace} s");
    assert!(min <= max);
}

#[test]
fn versions_agree() {
    let chart: Value = serde_saphyr::from_str(&text(&format!("{CHART}/Chart.yaml"))).unwrap();
    assert_eq!(chart.get("appVersion").and_then(Value::as_str), Some(env!("CARGO_PKG_VERSION")));
}

#[test]
fn every_value_has_a_schema() {
    let schema: Value = serde_json::from_str(&text(&format!("{CHART}/values.schema.json"))).unwrap();
    compare("", &values(), &schema);
}

/// Every key of the values is a property of the schema, which lets no other in.
fn compare(at: &str, values: &Value, schema: &Value) {
    let (Some(values), Some(properties)) = (values.as_object(), schema.get("properties").and_then(Value::as_object)) else { return };
    assert_eq!(schema.get("additionalProperties"), Some(&Value::Bool(false)), "{at} lets unknown values in");
    for (name, value) in values {
        let property = properties.get(name).unwrap_or_else(|| panic!("{at}/{name} has no schema"));
        compare(&format!("{at}/{name}"), value, property);
    }
}
