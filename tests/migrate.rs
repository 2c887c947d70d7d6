//! Goldens of `migrate gloo`: the exported files of `tests/migrate/NAME/` give `tests/migrate/NAME.out.yaml`, the report and then the files.
//! Those of `migrate DIR`: the same in `tests/migrate_others`, a folder for each gateway.
//!
//! `GOLDEN_UPDATE=1 cargo test --test migrate` writes the expected files anew; look at the difference before you commit it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail by panicking")]

use std::{collections::BTreeSet, fmt::Write as _, fs, path::Path, path::PathBuf};

use clingfish::{
    base::ObjectName,
    controller::read_documents,
    migrate::{Effect, Migration, MigrationOptions, OtherOptions, Step, migrate, migrate_others},
};
use serde_json::{Value, json};

fn options() -> MigrationOptions {
    MigrationOptions { class: "clingfish".into(), suffix: "-clingfish".into() }
}

fn other_options() -> OtherOptions {
    OtherOptions { class: "clingfish".into(), gateway: ObjectName::new("clingfish-system", "migrated") }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/migrate")
}

fn others() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/migrate_others")
}

fn documents(name: &str) -> Vec<Value> {
    documents_in(&root().join(name))
}

fn documents_in(folder: &Path) -> Vec<Value> {
    let read = read_documents(folder).unwrap();
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
    names_in(&root())
}

fn names_in(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let inputs = entries.filter(|entry| entry.file_type().unwrap().is_dir());
    inputs.map(|entry| entry.file_name().into_string().unwrap()).collect()
}

#[test]
fn a_migration_gives_what_the_goldens_say() {
    assert!(names().len() >= 3);
    check(&root(), |documents| migrate(documents, &options()));
}

#[test]
fn a_migration_from_another_gateway_gives_what_the_goldens_say() {
    assert!(names_in(&others()).len() >= 7);
    check(&others(), |documents| migrate_others(documents, &other_options()));
}

fn check(folder: &Path, migrate: impl Fn(Vec<Value>) -> Migration) {
    let mut stale = Vec::new();
    for name in names_in(folder) {
        let found = shown(&migrate(documents_in(&folder.join(&name))));
        let path = folder.join(format!("{name}.out.yaml"));
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
fn every_policy_that_is_written_for_another_gateway_s_affinity_is_accepted() {
    for name in names_in(&others()).into_iter().filter(|name| name != "odd") {
        let migration = migrate_others(documents_in(&others().join(&name)), &other_options());
        let policies = migration.files.iter().filter(|file| file.document["kind"] == "AffinityPolicy");
        assert!(policies.count() > 0, "{name}");
        // What is refused was refused by `migrate` itself, and not by the translation of what it wrote.
        let refused = migration.notes.iter().filter(|note| note.effect == Effect::Refused && note.object.starts_with("AffinityPolicy"));
        assert_eq!(refused.collect::<Vec<_>>(), Vec::<&clingfish::migrate::Note>::new(), "{name}");
    }
}

#[test]
fn no_two_objects_of_the_output_are_the_same_and_those_of_others_stay() {
    for name in names_in(&others()) {
        let before = documents_in(&others().join(&name));
        let first = migrate_others(before.clone(), &other_options());
        let mut seen = BTreeSet::new();
        for file in first.files.iter().filter(|file| file.step == Step::New) {
            let (kind, metadata) = (&file.document["kind"], &file.document["metadata"]);
            assert!(
                seen.insert(format!("{kind} {} {}", metadata["namespace"], metadata["name"])),
                "{name}: {kind} {metadata} is there twice"
            );
        }
        // What an earlier run has written is written over, and a route of somebody else is not.
        let after = before.clone().into_iter().chain(first.files.iter().map(|file| file.document.clone())).collect();
        let names = |migration: &Migration| {
            migration.files.iter().filter(|file| file.step == Step::New).map(|file| file.name.clone()).collect::<Vec<_>>()
        };
        assert_eq!(names(&migrate_others(after, &other_options())), names(&first), "{name}");
    }
    let other = json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": "by-uri", "namespace": "shop"}, "spec": {}});
    let migration = migrate_others(documents_in(&others().join("ingress_nginx")).into_iter().chain([other]).collect(), &other_options());
    let names: Vec<_> = migration.files.iter().map(|file| file.document["metadata"]["name"].as_str().unwrap_or_default()).collect();
    assert!(names.contains(&"by-uri-2") && !names.contains(&"by-uri"), "{names:?}");
}

#[test]
fn routes_that_somebody_guards_are_not_written_open() {
    for (name, guarded) in [("ingress_nginx", "staff"), ("traefik", "shop-3"), ("contour", "staff"), ("haproxy", "uri")] {
        let migration = migrate_others(documents_in(&others().join(name)), &other_options());
        assert!(migration.notes.iter().any(|note| note.effect == Effect::Unguarded), "{name}");
        assert!(migration.is_refused());
        let written = migration.files.iter().any(|file| file.document["metadata"]["name"] == guarded);
        assert!(!written, "{name}: {guarded}");
    }
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

fn gateway(namespace: &str, name: &str, listener: &Value) -> Value {
    json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": name, "namespace": namespace},
        "spec": {"gatewayClassName": "gloo-gateway", "listeners": [listener]}})
}

fn http() -> Value {
    json!({"name": "http", "port": 80, "protocol": "HTTP"})
}

fn notes(migration: &Migration) -> Vec<String> {
    migration.notes.iter().map(ToString::to_string).collect()
}

#[test]
fn nothing_of_an_export_is_lost_without_a_word() {
    let route = |name: &str| json!({"metadata": {"name": name, "namespace": "n"}, "spec": {"parentRefs": [{"name": "g"}], "rules": [{}]}});
    let typed = json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRouteList", "items": [route("listed")]});
    let mut without_version = route("bare");
    without_version["kind"] = json!("HTTPRoute");
    let nameless = json!({"apiVersion": "v1", "kind": "Service", "metadata": {}});
    let other = gateway("n", "g", &json!({"name": "another", "port": 81, "protocol": "HTTP"}));
    let first = gateway("n", "g", &http());
    let migration = migrate(vec![first.clone(), first, typed, without_version, nameless, json!("text"), other], &options());
    assert!(migration.files.iter().any(|file| file.document["metadata"]["name"] == "listed"), "{:?}", migration.files);
    let notes = notes(&migration);
    for expected in [
        "refused: export: a document, HTTPRoute bare, has no apiVersion, and is not read",
        "refused: export: a document, Service, has no metadata.name, and is not read",
        "refused: export: a document has no apiVersion, and is not read",
        "to do: Gateway n/g: is in the export more than once, and the first one counts: export again",
    ] {
        assert!(notes.iter().any(|note| note == expected), "{expected}: {notes:#?}");
    }
}

#[test]
fn an_option_whose_target_has_an_empty_namespace_guards_the_twin_too() {
    let target = json!({"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "g", "namespace": ""});
    let option = json!({"apiVersion": "gateway.solo.io/v1", "kind": "VirtualHostOption", "metadata": {"name": "o", "namespace": "n"},
        "spec": {"targetRefs": [target], "options": {"jwt": {}}}});
    let migration = migrate(vec![gateway("n", "g", &http()), option], &options());
    let changed = migration.files.iter().find(|file| file.step == Step::Changed).expect("the option");
    assert_eq!(changed.document["spec"]["targetRefs"][1]["name"], "g-clingfish");
    assert!(
        notes(&migration).iter().any(|note| note.starts_with("refused: Gateway n/g-clingfish listener http")),
        "{:?}",
        notes(&migration)
    );
}

#[test]
fn a_guard_that_names_no_gateway_is_told_of() {
    let misspelled = json!({"apiVersion": "gateway.solo.io/v1", "kind": "VirtualHostOption", "metadata": {"name": "o", "namespace": "n"},
        "spec": {"target_refs": [{"kind": "Gateway", "name": "g"}], "options": {"extauth": {}, "cors": {}}}});
    let notes = notes(&migrate(vec![gateway("n", "g", &http()), misspelled], &options()));
    let expected =
        "unguarded: VirtualHostOption n/o: extauth of spec.options: it names no Gateway in spec.targetRefs, so it guards nothing";
    assert!(notes.iter().any(|note| note.starts_with(expected)), "{notes:#?}");
}

#[test]
fn every_object_of_the_output_has_a_name_of_its_own_that_is_short_enough() {
    let https = |namespace: &str, secret: &str| {
        let reference = json!({"name": secret, "namespace": namespace});
        json!({"name": "https", "port": 443, "protocol": "HTTPS", "tls": {"certificateRefs": [reference]}})
    };
    let long = "a".repeat(250);
    let export = vec![
        gateway("a", "g", &https("certs", "b-c")),
        gateway("a-b", "g", &https("certs", "c")),
        gateway("n", &long, &http()),
        gateway("n", "g", &https("certs", &long)),
    ];
    let migration = migrate(export, &options());
    let names: Vec<_> = migration.files.iter().map(|file| (&file.document["kind"], &file.document["metadata"])).collect();
    for (index, one) in names.iter().enumerate() {
        assert!(one.1["name"].as_str().unwrap().len() <= 253, "{one:?}");
        assert!(!names[..index].contains(one), "{one:?} is there twice");
    }
    let notes = notes(&migration);
    assert!(
        notes.iter().any(|note| note.starts_with("refused: Gateway n/aaa") && note.ends_with("choose a shorter --suffix")),
        "{notes:#?}"
    );
    assert!(notes.iter().any(|note| note.ends_with("; write the ReferenceGrant that it needs")), "{notes:#?}");
}
