//! A release: one version everywhere, and no registry named.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::{fs, path::PathBuf, process::Command};

use regex::Regex;

const VERSION: &str = env!("CARGO_PKG_VERSION");

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn text(name: &str) -> String {
    fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// What people and tools read: the root, docs and chart.
fn documents() -> Vec<String> {
    let mut names = Vec::new();
    for directory in ["", "docs", "charts/clingfish", "charts/clingfish/templates", ".github/workflows", ".ci", "e2e", "e2e/cluster"] {
        let entries = fs::read_dir(path(directory)).unwrap_or_else(|error| panic!("{directory}: {error}"));
        let files = entries.map(Result::unwrap).filter(|entry| entry.file_type().unwrap().is_file());
        names.extend(files.map(|entry| format!("{directory}/{}", entry.file_name().to_str().unwrap()).trim_start_matches('/').to_owned()));
    }
    names.retain(|name| name != "Cargo.lock");
    names.sort();
    names
}

#[test]
fn every_place_that_names_the_version_names_this_one() {
    let chart: serde_json::Value = serde_saphyr::from_str(&text("charts/clingfish/Chart.yaml")).unwrap();
    for field in ["version", "appVersion"] {
        assert_eq!(chart.get(field).and_then(serde_json::Value::as_str), Some(VERSION), "{field} of Chart.yaml");
    }
    // An image, an archive, a package, or a flag of helm; the version of another chart or image is none of these.
    let named = Regex::new(r"(?:/clingfish:|clingfish-|/clingfish --version )v?(\d+\.\d+\.\d+[-.+a-z0-9]*)").unwrap();
    let mut places = 0;
    for name in documents() {
        let Ok(text) = fs::read_to_string(path(&name)) else { continue };
        for found in named.captures_iter(&text) {
            assert!(found[1].starts_with(VERSION), "{name}: {}; expected {VERSION}", &found[0]);
            places += 1;
        }
    }
    assert!(places >= 3, "only {places} places: the expression has become stale");
}

#[test]
fn the_changelog_begins_with_this_version() {
    let changelog = text("CHANGELOG.md");
    let first = changelog.lines().find_map(|line| line.strip_prefix("## ")).unwrap();
    let (version, date) = first.split_once(" - ").unwrap_or_else(|| panic!("{first}: expected VERSION - DATE"));
    assert_eq!(version, VERSION);
    assert!(date == "unreleased" || Regex::new(r"^\d{4}-\d{2}-\d{2}$").unwrap().is_match(date), "{date}");
    let notes = Command::new(path(".ci/release")).arg("notes").output().unwrap();
    let notes = String::from_utf8(notes.stdout).unwrap();
    assert!(notes.contains("### ") && !notes.contains("\n## "), "{notes}");
    let shown = Command::new(path(".ci/release")).arg("version").output().unwrap();
    assert_eq!(String::from_utf8(shown.stdout).unwrap().trim(), VERSION);
}

/// A tag of somebody else's repository can be moved; a commit cannot.
#[test]
fn what_the_workflow_uses_of_others_is_pinned_by_commit() {
    let workflow = text(".github/workflows/release.yml");
    let pinned = Regex::new(r"^[a-z-]+/[a-z-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$").unwrap();
    let uses: Vec<&str> = workflow.lines().filter_map(|line| line.trim_start().strip_prefix("- uses: ")).collect();
    assert!(uses.len() > 8, "{uses:?}");
    uses.into_iter().for_each(|action| assert!(pinned.is_match(action), "{action}"));
}

/// Where a release goes is the matter of whoever makes it.
#[test]
fn the_workflow_takes_its_registry_from_variables() {
    let workflow = text(".github/workflows/release.yml");
    let _: serde_json::Value = serde_saphyr::from_str(&workflow).unwrap();
    let host = Regex::new(r"\b[a-z0-9-]+(?:\.[a-z0-9-]+)*\.(?:io|com|dev|org|net|cloud)(?::\d+)?/").unwrap();
    assert_eq!(host.find(&workflow).map(|found| found.as_str()), None);
    assert!(workflow.contains("vars.REGISTRY") && workflow.contains("vars.IMAGE_REPOSITORY") && workflow.contains("vars.CHART_REPOSITORY"));
}
