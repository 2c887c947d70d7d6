//! The chart against what it stands for: the CRDs, the drain's times, the flags of `run`, and what helm makes of its values.
//!
//! `tests/chart/NAME.values.yaml` gives `NAME.out.yaml`. `default.out.yaml` is everything; the others leave out what is the same there.
//! `GOLDEN_UPDATE=1 cargo test --test chart` writes the expected files anew. Helm is `helm` on the path, or what `HELM` names; without it
//! these tests are left out.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, clippy::print_stdout, reason = "tests")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Write as _,
    path::PathBuf,
    process::{Command, Output, Stdio},
};

use serde_json::{Value, json};

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

/// Helm, or `None` with a word about it.
fn helm() -> Option<String> {
    #[allow(clippy::disallowed_methods, reason = "tells where helm is")]
    let helm = std::env::var("HELM").unwrap_or_else(|_| "helm".into());
    let answers = Command::new(&helm).arg("version").output().is_ok_and(|output| output.status.success());
    if !answers {
        println!("left out: there is no {helm}");
    }
    answers.then_some(helm)
}

/// `helm template` with these values.
fn template(helm: &str, release: &str, values: &str) -> Output {
    let mut command = Command::new(helm);
    command.args(["template", release, CHART, "-n", "gloo-system", "-f", "-"]).current_dir(env!("CARGO_MANIFEST_DIR"));
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(values.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn rendered(helm: &str, release: &str, values: &str) -> String {
    let output = template(helm, release, values);
    assert!(output.status.success(), "{values}\n{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn documents(text: &str) -> Vec<&str> {
    text.split("---\n").filter(|document| !document.trim().is_empty()).collect()
}

/// Kind and name.
fn object(document: &str) -> String {
    let parsed: Value = serde_saphyr::from_str(document).unwrap_or_else(|error| panic!("{error}\n{document}"));
    let text = |pointer| parsed.pointer(pointer).and_then(Value::as_str).unwrap_or_else(|| panic!("no text at {pointer}\n{document}"));
    format!("{} {}", text("/kind"), text("/metadata/name"))
}

/// Names and values of the values files.
fn snapshots() -> BTreeMap<String, String> {
    let names = files("tests/chart").into_iter().filter_map(|(name, text)| Some((name.strip_suffix(".values.yaml")?.to_owned(), text)));
    names.collect()
}

#[test]
fn values_give_what_the_snapshots_say() {
    let Some(helm) = helm() else { return };
    #[allow(clippy::disallowed_methods, reason = "the switch that writes the expected files anew")]
    let update = std::env::var("GOLDEN_UPDATE").is_ok_and(|value| value == "1");
    let snapshots = snapshots();
    assert!(snapshots.len() >= 20, "only {} snapshots", snapshots.len());
    let default = rendered(&helm, "clingfish", "{}");
    let common: BTreeSet<_> = documents(&default).into_iter().collect();
    let mut stale = Vec::new();
    for (name, values) in &snapshots {
        let text = rendered(&helm, "clingfish", values);
        let shown = documents(&text).into_iter().filter(|document| name == "default" || !common.contains(document));
        let shown = shown.map(|document| format!("---\n{document}"));
        let there: BTreeSet<_> = documents(&text).into_iter().map(object).collect();
        let gone = common.iter().map(|document| object(document)).filter(|object| !there.contains(object));
        let actual: String = gone.map(|object| format!("# without {object}\n")).chain(shown).collect();
        let output = format!("tests/chart/{name}.out.yaml");
        if fs::read_to_string(path(&output)).unwrap_or_default() == actual {
            continue;
        }
        if update {
            fs::write(path(&output), actual).unwrap();
        } else {
            stale.push(format!("{output}\n{actual}"));
        }
    }
    assert!(stale.is_empty(), "{}\nIf that is right: GOLDEN_UPDATE=1 cargo test --test chart", stale.join("\n"));
}

#[test]
fn every_snapshot_belongs_to_values() {
    let names: BTreeSet<_> = snapshots().into_keys().collect();
    for name in files("tests/chart").keys().filter_map(|name| name.strip_suffix(".out.yaml")) {
        assert!(names.contains(name), "tests/chart/{name}.out.yaml has no values");
    }
}

/// The environment of the gateway in each snapshot.
#[test]
fn every_variable_is_a_flag_of_run() {
    let help = Command::new(env!("CARGO_BIN_EXE_clingfish")).args(["run", "--help"]).output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let mut names = BTreeSet::new();
    for (file, text) in files("tests/chart").iter().filter(|(name, _)| name.ends_with(".out.yaml")) {
        for document in documents(text) {
            let parsed: Value = serde_saphyr::from_str(document).unwrap();
            let variables = parsed.pointer("/spec/template/spec/containers/0/env").and_then(Value::as_array).into_iter().flatten();
            for variable in variables {
                assert!(variable.get("value").is_none_or(Value::is_string), "{file}: {variable}");
                names.extend(variable.get("name").and_then(Value::as_str).map(str::to_owned));
            }
        }
    }
    let ours: Vec<_> = names.iter().filter(|name| name.starts_with("CLINGFISH_")).collect();
    assert!(ours.len() > 30, "{ours:?}");
    for name in ours {
        // The value of a secret one is not shown.
        let is_told = help.contains(&format!("[env: {name}=")) || help.contains(&format!("[env: {name}]"));
        assert!(is_told, "{name} is no variable of `clingfish run`");
    }
}

#[test]
fn names_are_kubernetes_names_whatever_the_release_is_called() {
    let Some(helm) = helm() else { return };
    let long = "a".repeat(53);
    for (release, values, expected) in [
        ("clingfish", json!({}), "clingfish".to_owned()),
        ("edge", json!({}), "edge-clingfish".to_owned()),
        ("my-clingfish.v2", json!({}), "my-clingfish-v2".to_owned()),
        ("123", json!({"nameOverride": "e"}), "123-e".to_owned()),
        ("edge", json!({"nameOverride": "edge"}), "edge".to_owned()),
        ("edge", json!({"nameOverride": "x", "fullnameOverride": "007"}), "007".to_owned()),
        (&long, json!({}), format!("{}-clingfish", "a".repeat(40))),
        (&long, json!({"nameOverride": "b".repeat(40)}), format!("{}-{}", "a".repeat(40), "b".repeat(9))),
    ] {
        let text = rendered(&helm, release, &values.to_string());
        let parsed: Vec<Value> = documents(&text).into_iter().map(|document| serde_saphyr::from_str(document).unwrap()).collect();
        let of_kind = |kind: &str| parsed.iter().find(|object| object.get("kind").is_some_and(|of| of == kind)).unwrap();
        let text = |object: &Value, pointer: &str| object.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        let deployment = of_kind("Deployment");
        assert_eq!(text(deployment, "/metadata/name").as_ref(), Some(&expected), "{release} {values}");
        assert_eq!(text(of_kind("ConfigMap"), "/metadata/name"), Some(format!("{expected}-install")));
        assert_eq!(text(of_kind("Service"), "/metadata/name"), Some(format!("metrics-{expected}")));
        let names = of_kind("Role").pointer("/rules/2/resourceNames").cloned();
        assert_eq!(names, Some(json!([expected, format!("{expected}-last-good")])), "the ConfigMaps that the gateway writes");
        let environment = deployment.pointer("/spec/template/spec/containers/0/env").and_then(Value::as_array).unwrap();
        let variable =
            |name: &str| environment.iter().find(|of| of.get("name").is_some_and(|of| of == name)).and_then(|of| text(of, "/value"));
        assert_eq!(variable("CLINGFISH_INSTANCE_NAME"), Some(expected.clone()));
        assert_eq!(variable("CLINGFISH_OWNER_CONFIG_MAP"), Some(format!("{expected}-install")));
        let labels = deployment.pointer("/spec/selector/matchLabels").and_then(Value::as_object).unwrap();
        let selector: Vec<_> = labels.iter().map(|(key, value)| format!("{key}={}", value.as_str().unwrap())).collect();
        let given = variable("CLINGFISH_POD_SELECTOR").unwrap();
        assert_eq!(given.split(',').collect::<BTreeSet<_>>(), selector.iter().map(String::as_str).collect(), "{release} {values}");
    }
}

#[test]
fn what_does_not_fit_is_refused_with_its_name() {
    let Some(helm) = helm() else { return };
    let cases: BTreeMap<String, Value> = serde_saphyr::from_str(&text("tests/chart/refused.yaml")).unwrap();
    assert!(cases.len() > 20);
    let mut failures = Vec::new();
    for (message, values) in cases {
        let output = template(&helm, "clingfish", &values.to_string());
        let error = String::from_utf8_lossy(&output.stderr);
        if output.status.success() || !error.contains(&message) {
            failures.push(format!("{values}: expected {message:?}, got {:?}\n{error}", output.status));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// A null and a value of a wrong type in the place of every value: refused by the schema, or text that can be read.
#[test]
fn no_null_and_no_wrong_type_reaches_the_templates() {
    let Some(helm) = helm() else { return };
    let mut paths = Vec::new();
    collect("", &values(), &mut paths);
    assert!(paths.len() > 100);
    let (some, others) = paths.split_at(paths.len() / 2);
    std::thread::scope(|scope| {
        for paths in [some, others] {
            let helm = &helm;
            scope.spawn(move || paths.iter().for_each(|(path, wrong)| must_not_reach_the_templates(helm, path, wrong)));
        }
    });
}

fn must_not_reach_the_templates(helm: &str, path: &str, wrong: &Value) {
    for wrong in [&Value::Null, wrong] {
        let values = path.rsplit('/').filter(|name| !name.is_empty()).fold(wrong.clone(), |value, name| json!({ name: value }));
        let output = template(helm, "clingfish", &values.to_string());
        if output.status.success() {
            let text = String::from_utf8(output.stdout).unwrap();
            for document in documents(&text) {
                let _: Value = serde_saphyr::from_str(document).unwrap_or_else(|error| panic!("{values}: {error}\n{document}"));
            }
            assert!(!text.contains("<nil>") && !text.contains("map["), "{values}");
        } else {
            let error = String::from_utf8_lossy(&output.stderr);
            assert!(error.contains("values don't meet the specifications of the schema"), "{values}: {error}");
        }
    }
}

/// The path of each value, and a value of another type than its own.
fn collect(at: &str, value: &Value, paths: &mut Vec<(String, Value)>) {
    for (name, value) in value.as_object().into_iter().flatten() {
        let path = format!("{at}/{name}");
        collect(&path, value, paths);
        paths.push((path, if value.is_array() || value.is_object() { json!(-1.5) } else { json!([{"a": 5}]) }));
    }
}
