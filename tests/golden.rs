//! Goldens of translation: `tests/golden/NAME.in.yaml` gives `NAME.out.yaml` (statuses, snapshot, notices).
//!
//! `GOLDEN_UPDATE=1 cargo test --test golden` writes the expected files anew; look at the difference before you commit it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail by panicking")]

use std::{fmt::Write as _, fs, path::Path, path::PathBuf};

use clingfish::{
    api::{self, Document},
    snapshot::{BindAddress, EscapedSlashesAction, Observed, dump},
    translate::{AssumedClasses, Change, CrossNamespace, HostnameOwnership, Options, Resources, report, translate},
};
use serde_json::{Value, json};

/// Reads the documents of a stream into changes, in order. A document `{"golden": "delete", ...}` is no object but an instruction.
fn changes(text: &str) -> Vec<Change> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text).unwrap();
    documents.into_iter().filter(|document| !document.is_null()).flat_map(decode).collect()
}

fn decode(document: Value) -> Vec<Change> {
    match api::decode(document) {
        Ok(Document::Object(object)) => vec![Change::Apply(object)],
        Ok(Document::List(items)) => items.into_iter().flat_map(decode).collect(),
        Ok(Document::Other(_)) => Vec::new(),
        Err(error) => vec![Change::Undecodable(error)],
    }
}

/// Options by directives in comments of the first lines: `# options: standalone, grant`.
fn options(text: &str) -> Options {
    let line = text.lines().find_map(|line| line.strip_prefix("# options: ")).unwrap_or_default();
    let mut options = Options { any_controller: false, assumed_classes: AssumedClasses::None, ..Options::validate() };
    for word in line.split([',', ' ']).filter(|word| !word.is_empty()) {
        match word {
            "standalone" => options = Options { bind: "127.0.0.1".parse().unwrap(), ..Options::default() },
            "grant" => options.cross_namespace = CrossNamespace::Grant,
            "release-namespace" => options.cross_namespace = CrossNamespace::ReleaseNamespace("gloo-system".into()),
            "validate" => options = Options::validate(),
            "any-controller" => options.any_controller = true,
            "no-local-endpoints" => options.allow_local_endpoints = false,
            "first-namespace" => options.hostname_ownership = HostnameOwnership::FirstNamespace,
            "merge-slashes" => options.path.merge_slashes = true,
            "reject-escaped-slashes" => options.path.escaped_slashes = EscapedSlashesAction::RejectRequest,
            other => match other.split_once('=').map(|(name, number)| (name, number.parse::<u64>().unwrap())) {
                Some(("ring-points", points)) => options.limits = options.limits.with_ring_points(points),
                Some(("pattern-price", price)) => options.limits.pattern_price = price,
                Some(("matches-per-path", matches)) => options.limits.matches_per_path = usize::try_from(matches).unwrap(),
                _ => panic!("unknown option {other}"),
            },
        }
    }
    options
}

/// `127.0.0.1:80`, or of UDP `127.0.0.1:53/UDP`.
fn bind_address(text: &str) -> BindAddress {
    match text.strip_suffix("/UDP") {
        Some(address) => BindAddress::udp(address.parse().unwrap()),
        None => BindAddress::tcp(text.parse().unwrap()),
    }
}

/// What is seen: `# bound: 127.0.0.1:80` and `# failed: 127.0.0.1:81 address in use`.
fn observed(text: &str) -> Observed {
    use clingfish::snapshot::BindState;
    let mut observed = Observed { ipv6: text.contains("# ipv6"), ..Observed::default() };
    if text.contains("# affinity keys") {
        observed.affinity_keys = Some(std::sync::Arc::new(clingfish::base::AffinityKeys::parse(&"5a".repeat(32)).unwrap()));
    }
    for line in text.lines() {
        if let Some(second) = line.strip_prefix("# second: ") {
            observed.second = Some(second.parse().unwrap());
        }
        if let Some(address) = line.strip_prefix("# bound: ") {
            observed.bound.insert(bind_address(address), BindState::Bound);
        }
        if let Some((address, words)) = line.strip_prefix("# no address: ").and_then(|rest| rest.split_once(' ')) {
            observed.bound.insert(bind_address(address), BindState::NoAddress(words.into()));
        }
        if let Some((address, words)) = line.strip_prefix("# failed: ").and_then(|rest| rest.split_once(' ')) {
            observed.bound.insert(bind_address(address), BindState::Failed(words.into()));
        }
        if let Some((name, addresses)) = line.strip_prefix("# dns: ").and_then(|rest| rest.split_once(' ')) {
            observed.dns.insert(name.into(), addresses.split(' ').map(|ip| ip.parse().unwrap()).collect());
        }
    }
    observed
}

fn translated(text: &str) -> String {
    let (options, observed) = (options(text), observed(text));
    let mut resources = Resources::default();
    for change in changes(text) {
        resources.apply(change);
    }
    let translation = translate(&resources, &observed, &options, None);
    let report = report::report(&resources, &translation, &options);
    let findings: Vec<_> = report.findings.iter().map(ToString::to_string).collect();
    let mut out = String::new();
    let statuses: Vec<_> = report::status_documents(&translation).collect();
    for (name, value) in [
        ("findings", json!(findings)),
        ("notices", json!(translation.notices)),
        ("statuses", json!(statuses)),
        ("snapshot", dump(&translation.snapshot)),
    ] {
        let yaml = serde_saphyr::to_string(&json!({ name: value })).unwrap();
        writeln!(out, "{}", yaml.trim_end()).unwrap();
    }
    if !translation.slots.is_empty() || translation.due.is_some() {
        let writes: Vec<_> = translation.slots.values().map(|write| json!({ "object": write.object(), "uid": write.target_uid })).collect();
        let yaml = serde_saphyr::to_string(&json!({ "slots": writes, "due": translation.due })).unwrap();
        writeln!(out, "{}", yaml.trim_end()).unwrap();
    }
    out
}

/// The lines that differ, each with the line number of the expected file.
fn difference(expected: &str, actual: &str) -> String {
    let (expected, actual): (Vec<_>, Vec<_>) = (expected.lines().collect(), actual.lines().collect());
    let same_start = expected.iter().zip(&actual).take_while(|(one, other)| one == other).count();
    let (old, new) = (&expected[same_start..], &actual[same_start..]);
    let same_end = old.iter().rev().zip(new.iter().rev()).take_while(|(one, other)| one == other).count();
    let mut text = format!("from line {}:\n", same_start + 1);
    for line in &old[..old.len() - same_end] {
        writeln!(text, "- {line}").unwrap();
    }
    for line in &new[..new.len() - same_end] {
        writeln!(text, "+ {line}").unwrap();
    }
    text
}

fn goldens() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut inputs: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    inputs.retain(|path| path.to_string_lossy().ends_with(".in.yaml"));
    inputs.sort();
    inputs
}

#[test]
fn translation_gives_what_the_goldens_say() {
    #[allow(clippy::disallowed_methods, reason = "the switch that writes the expected files anew")]
    let update = std::env::var("GOLDEN_UPDATE").is_ok_and(|value| value == "1");
    let inputs = goldens();
    assert!(inputs.len() >= 40, "only {} goldens", inputs.len());
    let mut failures = String::new();
    for input in inputs {
        let output = PathBuf::from(input.to_string_lossy().replace(".in.yaml", ".out.yaml"));
        let actual = translated(&fs::read_to_string(&input).unwrap());
        let expected = fs::read_to_string(&output).unwrap_or_default();
        if actual == expected {
            continue;
        }
        if update {
            fs::write(&output, actual).unwrap();
        } else {
            writeln!(failures, "{}\n{}", output.display(), difference(&expected, &actual)).unwrap();
        }
    }
    assert!(failures.is_empty(), "{failures}\nIf that is right: GOLDEN_UPDATE=1 cargo test --test golden");
}

#[test]
fn every_expected_file_belongs_to_an_input() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let input = path.to_string_lossy().replace(".out.yaml", ".in.yaml");
        assert!(Path::new(&input).exists(), "{} has no input", path.display());
    }
}

/// What a value may be replaced by.
fn odd_values() -> Vec<Value> {
    vec![
        Value::Null,
        json!(-1),
        json!(70_000),
        json!(1e300),
        json!(""),
        json!("*"),
        json!("\u{0}\u{e9}/../%2f"),
        json!("("),
        json!([]),
        json!([{}]),
        json!({}),
        json!(true),
    ]
}

/// Paths of all values within a document.
fn pointers(value: &Value, at: &str, all: &mut Vec<String>) {
    all.push(at.to_owned());
    match value {
        Value::Object(map) => {
            map.iter().for_each(|(key, value)| pointers(value, &format!("{at}/{}", key.replace('~', "~0").replace('/', "~1")), all))
        }
        Value::Array(list) => list.iter().enumerate().for_each(|(index, value)| pointers(value, &format!("{at}/{index}"), all)),
        _ => {}
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { cases: 192, ..proptest::prelude::ProptestConfig::default() })]

    /// Odd values anywhere are refused or served, with a status that can be written; nothing panics.
    #[test]
    fn odd_values_never_panic(golden: proptest::sample::Index, picks: [(proptest::sample::Index, proptest::sample::Index, proptest::sample::Index); 3]) {
        let inputs = goldens();
        let text = fs::read_to_string(&inputs[golden.index(inputs.len())]).unwrap();
        let mut documents: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
        let (options, observed) = (options(&text), observed(&text));
        let mut resources = Resources::default();
        for document in documents.iter().cloned() {
            decode(document).into_iter().for_each(|change| resources.apply(change));
        }
        let mut translation = translate(&resources, &observed, &options, None);
        resources.clear_changes();
        for (document, pointer, value) in picks {
            let count = documents.len();
            let document = &mut documents[document.index(count)];
            let mut all = Vec::new();
            pointers(document, "", &mut all);
            let values = odd_values();
            *document.pointer_mut(&all[pointer.index(all.len())]).unwrap() = values[value.index(values.len())].clone();
            decode(document.clone()).into_iter().for_each(|change| resources.apply(change));
            translation = translate(&resources, &observed, &options, Some(translation));
            resources.clear_changes();
        }
        report::statuses_yaml(&translation).unwrap();
        dump(&translation.snapshot);
        report::report(&resources, &translation, &options);
    }
}
