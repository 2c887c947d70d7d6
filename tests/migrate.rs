//! Goldens of `migrate gloo`: the exported files of `tests/migrate/NAME/` give `tests/migrate/NAME.out.yaml`, the report and then the files.
//!
//! `GOLDEN_UPDATE=1 cargo test --test migrate` writes the expected files anew; look at the difference before you commit it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail by panicking")]

use std::{collections::BTreeSet, fmt::Write as _, fs, path::Path, path::PathBuf};

use clingfish::{
    controller::read_documents,
    migrate::{Effect, Migration, MigrationOptions, Step, migrate},
};
use serde_json::{Value, json};

fn options() -> MigrationOptions {
    MigrationOptions { class: "clingfish".into(), suffix: "-clingfish".into() }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/migrate")
}

fn documents(name: &str) -> Vec<Value> {
    let read = read_documents(&root().join(name)).unwrap();
    assert_eq!(read.notices, []);
    read.documents
}

fn shown(migration: &Migration) -> String {
    let mut text = String::new();
    for note in &migration.notes {
        writeln!(text, "# {note}").unwrap();
    }
    for file in &migration.files {
        let yaml = serde_saphyr::to_string(&file.document).unwrap();
        writeln!(text, "---\n# {}/{}\n{}", file.step.directory(), file.name, yaml.trim_end()).unwrap();
    }
    text
}

fn names() -> BTreeSet<String> {
    let entries = fs::read_dir(root()).unwrap().map(|entry| entry.unwrap());
    let inputs = entries.filter(|entry| entry.file_type().unwrap().is_dir());
    inputs.map(|entry| entry.file_name().into_string().unwrap()).collect()
}

#[test]
fn a_migration_gives_what_the_goldens_say() {
    let mut stale = Vec::new();
    assert!(names().len() >= 3);
    for name in names() {
        let found = shown(&migrate(documents(&name), &options()));
        let path = root().join(format!("{name}.out.yaml"));
        #[allow(clippy::disallowed_methods, reason = "the switch that writes the expected files anew")]
        if std::env::var("GOLDEN_UPDATE").is_ok() {
            fs::write(path, found).unwrap();
            continue;
        }
        if fs::read_to_string(path).unwrap_or_default() != found {
            stale.push(name);
        }
    }
    assert_eq!(stale, [] as [String; 0], "GOLDEN_UPDATE=1 cargo test --test migrate, and read the difference");
}

#[test]
fn the_guide_is_served_whole_and_the_shop_loses_its_guard() {
    let guide = migrate(documents("guide"), &options());
    assert!(!guide.is_refused(), "{}", shown(&guide));
    let shop = migrate(documents("shop"), &options());
    let unguarded: Vec<_> = shop.notes.iter().filter(|note| note.effect == Effect::Unguarded).map(|note| note.object.as_str()).collect();
    assert_eq!((shop.is_refused(), unguarded), (true, vec!["VirtualHostOption shop/guard"]));
}

#[test]
fn no_secret_is_written() {
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "shop-tls", "namespace": "shop", "annotations": {"a": "hunter2"}},
        "type": "kubernetes.io/tls", "data": {"tls.crt": "aHVudGVyMg==", "tls.key": "aHVudGVyMg==", "hunter2": 5},
    });
    for documents in [documents("shop"), vec![]] {
        let migration = migrate(documents.into_iter().chain([secret.clone()]).collect(), &options());
        let text = shown(&migration);
        assert!(!text.contains("hunter2") && !text.contains("aHVudGVyMg"), "{text}");
        assert!(migration.files.iter().all(|file| file.document["kind"] != "Secret"));
    }
}

#[test]
fn what_was_migrated_once_is_not_changed_again() {
    for name in names() {
        let before = documents(&name);
        let first = migrate(before.clone(), &options());
        // The first version of an object counts.
        let after = first.files.iter().map(|file| file.document.clone()).chain(before).collect();
        let again = migrate(after, &options());
        let changed: Vec<_> = again.files.iter().filter(|file| file.step == Step::Changed).map(|file| &file.name).collect();
        assert_eq!(changed, Vec::<&String>::new(), "{name}");
        let new =
            |migration: &Migration| migration.files.iter().filter(|file| file.step == Step::New && file.name.contains("_gateway_")).count();
        assert_eq!(new(&again), new(&first), "{name}");
    }
}

#[test]
fn odd_documents_do_no_harm() {
    let odd = [
        json!(null),
        json!([1]),
        json!("text"),
        json!({"kind": "List", "items": 5}),
        json!({"kind": "List", "items": [null, [], {"kind": "List", "items": [{"kind": "List"}]}]}),
        json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": "a"}, "spec": {"gatewayClassName": "gloo-gateway"}}),
        json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": "b/../c"}, "spec": {"gatewayClassName": "gloo-gateway", "listeners": [5, {"tls": 5, "port": "x"}, {"tls": {"options": 5, "certificateRefs": [5, {}]}}], "infrastructure": 5, "addresses": 5}}),
        json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": "a"}, "spec": {"parentRefs": [5, {"name": "a"}], "rules": [5, {"filters": 5, "backendRefs": [5], "matches": [5], "timeouts": 5}]}}),
        json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": 5, "spec": 5}),
        json!({"apiVersion": "gateway.solo.io/v1", "kind": "VirtualHostOption", "metadata": {"name": "a"}, "spec": {"targetRefs": [5], "options": 5}}),
        json!({"apiVersion": "gloo.solo.io/v1", "kind": "Upstream", "metadata": {"name": "a", "labels": {"app": "gloo"}}, "spec": 5}),
    ];
    let migration = migrate(odd.to_vec(), &options());
    for file in &migration.files {
        assert!(!file.name.contains('/') && !file.name.starts_with('.'), "{}", file.name);
    }
    assert!(migration.is_refused());
    assert!(!migrate(Vec::new(), &options()).is_refused());
}
