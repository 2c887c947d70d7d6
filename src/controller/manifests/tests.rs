use proptest::prelude::*;

use super::*;
use crate::base::Kind;
use crate::translate::LastGoodVersion;

fn service(name: &str, note: &str) -> String {
    format!("---\napiVersion: v1\nkind: Service\nmetadata:\n  name: {name}\n  annotations: {{note: {note:?}}}\n")
}

fn all(manifests: &Manifests) -> Vec<Notice> {
    manifests.notices().iter().flat_map(|block| block.iter().cloned()).collect()
}

fn texts(manifests: &Manifests) -> Vec<String> {
    all(manifests).into_iter().map(|notice| notice.text.to_string()).collect()
}

fn shown(change: &FileChange) -> Vec<String> {
    change.changes.iter().map(show).collect()
}

fn show(change: &Change) -> String {
    match change {
        Change::Apply(object) => {
            let note = object.annotations().and_then(|all| all.get("note")).cloned().unwrap_or_default();
            format!("apply {} {note}", object.object_ref().name.name)
        }
        Change::Route(route) => format!("apply {} ", route.object().name.name),
        Change::Delete(object) => format!("delete {}", object.name.name),
        Change::Undecodable(error) => format!("undecodable {error}"),
        Change::Unparsed(unparsed) => {
            let objects: Vec<_> = unparsed.objects.iter().map(|object| &*object.name.name).collect();
            format!("unparsed {}: {}", unparsed.file, objects.join(" "))
        }
    }
}

#[test]
fn a_change_is_only_what_changed() {
    let mut manifests = Manifests::new();
    let all = service("a", "1") + &service("b", "1") + &service("c", "1");
    assert_eq!(shown(&manifests.update("x.yaml", all.as_bytes())), ["apply a 1", "apply b 1", "apply c 1"]);
    assert_eq!(shown(&manifests.update("x.yaml", all.as_bytes())), Vec::<String>::new());
    let changed = service("c", "1") + &service("b", "2");
    assert_eq!(shown(&manifests.update("x.yaml", changed.as_bytes())), ["apply b 2", "delete a"]);
    assert_eq!(shown(&manifests.remove("x.yaml")), ["delete b", "delete c"]);
    assert!(texts(&manifests).is_empty());
}

#[test]
fn a_document_that_cannot_be_parsed_keeps_the_whole_file() {
    let mut manifests = Manifests::new();
    manifests.update("x.yaml", service("a", "1").as_bytes());
    let broken = service("a", "2") + "---\napiVersion: v1\nkind: [\n";
    assert_eq!(shown(&manifests.update("x.yaml", broken.as_bytes())), Vec::<String>::new());
    let notices = texts(&manifests);
    assert_eq!(notices.len(), 1, "{notices:?}");
    assert!(notices[0].starts_with("x.yaml:"), "{notices:?}");
    assert!(notices[0].ends_with("; the file's last version keeps serving"), "{notices:?}");
    assert!(all(&manifests)[0].refused);
    let line: usize = notices[0].split(':').nth(1).unwrap().parse().unwrap();
    assert!((8..=10).contains(&line), "the broken document is in lines 7 to 9: {notices:?}");
    let mended = service("a", "2") + &service("b", "1");
    assert_eq!(shown(&manifests.update("x.yaml", mended.as_bytes())), ["apply a 2", "apply b 1"]);
    assert!(texts(&manifests).is_empty());
}

#[test]
fn a_document_that_cannot_be_parsed_costs_a_new_file_only_itself() {
    let mut manifests = Manifests::new();
    let broken = "---\napiVersion: v1\nkind: [\n";
    assert_eq!(shown(&manifests.update("x.yaml", broken.as_bytes())), Vec::<String>::new());
    let between = service("a", "1") + broken + &service("b", "1");
    assert_eq!(shown(&manifests.update("x.yaml", between.as_bytes())), ["apply a 1", "apply b 1"]);
    let notices = texts(&manifests);
    assert!(notices[0].starts_with("x.yaml:7: cannot be parsed (line 9, column 7): "), "{notices:?}");
    assert!(notices[0].ends_with("; this document is not served"), "{notices:?}");
    assert!(notices.len() == 1 && all(&manifests)[0].refused, "{notices:?}");
    // From now on there is something to lose.
    assert!(manifests.update("x.yaml", (service("a", "2") + broken).as_bytes()).changes.is_empty());
    assert_eq!(texts(&manifests).len(), 2, "{:?}", texts(&manifests));
}

#[test]
fn a_file_that_is_not_text_or_cannot_be_read_keeps_its_last_version() {
    let mut manifests = Manifests::new();
    manifests.update("x.yaml", service("a", "1").as_bytes());
    assert!(manifests.update("x.yaml", b"\xff\xfe").changes.is_empty());
    assert_eq!(texts(&manifests), ["x.yaml: not UTF-8; the file's last version keeps serving"]);
    manifests.unreadable("x.yaml", &"cannot be read: permission denied");
    assert_eq!(texts(&manifests), ["x.yaml: cannot be read: permission denied; the file's last version keeps serving"]);
    manifests.unreadable("y.yaml", &"cannot be read: permission denied");
    assert_eq!(texts(&manifests)[1], "y.yaml: cannot be read: permission denied; the file is not served");
    assert_eq!(shown(&manifests.remove("x.yaml")), ["delete a"]);
}

#[test]
fn a_broken_object_is_refused_alone_with_its_field_and_place() {
    let mut manifests = Manifests::new();
    let route = |hostnames: &str| {
        format!("---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: r}}\nspec: {{hostnames: {hostnames}}}\n")
    };
    let text = service("a", "1") + &route("3");
    let changes = shown(&manifests.update("x.yaml", text.as_bytes()));
    assert_eq!(changes.len(), 2, "{changes:?}");
    assert_eq!(changes[0], "apply a 1");
    assert!(changes[1].starts_with("undecodable HTTPRoute default/r: field spec.hostnames: "), "{changes:?}");
    assert!(changes[1].ends_with("(x.yaml:7)"), "{changes:?}");
    let notices = texts(&manifests);
    assert!(notices[0].starts_with("x.yaml:7: HTTPRoute default/r: field spec.hostnames: "), "{notices:?}");
    // The same text again: nothing changes, and it is still said.
    assert!(manifests.update("x.yaml", text.as_bytes()).changes.is_empty());
    assert_eq!(texts(&manifests), notices);
    let mended = service("a", "1") + &route("[a.example]");
    assert_eq!(shown(&manifests.update("x.yaml", mended.as_bytes())), ["apply r "]);
    assert!(texts(&manifests).is_empty());
}

#[test]
fn other_kinds_are_a_notice_each() {
    let mut manifests = Manifests::new();
    let text = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\n".to_owned() + &service("a", "1");
    assert_eq!(shown(&manifests.update("x.yaml", text.as_bytes())), ["apply a 1"]);
    let notice = Notice::aside("x.yaml:1: apps/v1/Deployment d is ignored: Clingfish does not read this kind");
    assert_eq!(all(&manifests), [notice], "other kinds are no refusal");
    for may_guard in [
        "gateway.kgateway.dev/v1alpha1/TrafficPolicy",
        "gateway.solo.io/v2/VirtualHostOption",
        "gateway.solo.io/v1alpha1/RouteOption",
        "gateway.solo.io/v1/RouteOptions",
    ] {
        let (api_version, kind) = may_guard.rsplit_once('/').unwrap();
        manifests.update("x.yaml", format!("apiVersion: {api_version}\nkind: {kind}\nmetadata: {{name: v}}\n").as_bytes());
        let notice = format!("{may_guard} v is ignored: Clingfish does not read this kind, so its security options have no effect");
        assert!(texts(&manifests).iter().any(|text| text.contains(&notice)), "{:?}", texts(&manifests));
    }
}

#[test]
fn a_document_without_a_name_costs_a_new_file_nothing_and_keeps_a_known_one() {
    let mut manifests = Manifests::new();
    let nameless = "---\napiVersion: v1\nkind: Service\nmetadata: {}\n";
    let first = manifests.update("x.yaml", (nameless.to_owned() + &service("a", "1")).as_bytes());
    assert_eq!(shown(&first), ["apply a 1"]);
    assert!(texts(&manifests)[0].starts_with("x.yaml:1: field metadata.name: "), "{:?}", texts(&manifests));
    assert!(manifests.update("x.yaml", nameless.as_bytes()).changes.is_empty());
    assert!(texts(&manifests)[0].contains("the file's last version keeps serving"), "{:?}", texts(&manifests));
}

#[test]
fn the_first_file_by_name_wins_and_the_next_takes_over() {
    let mut manifests = Manifests::new();
    assert_eq!(shown(&manifests.update("b.yaml", service("s", "b").as_bytes())), ["apply s b"]);
    assert_eq!(shown(&manifests.update("a.yaml", service("s", "a").as_bytes())), ["apply s a"]);
    assert_eq!(shown(&manifests.update("c.yaml", service("s", "c").as_bytes())), Vec::<String>::new());
    assert_eq!(texts(&manifests), ["b.yaml, c.yaml: Service default/s is ignored: it is declared in a.yaml too, whose name is first"]);
    assert_eq!(shown(&manifests.update("b.yaml", service("s", "b2").as_bytes())), Vec::<String>::new());
    let gone = manifests.remove("a.yaml");
    assert_eq!(shown(&gone), Vec::<String>::new());
    assert_eq!(gone.reread.iter().map(|name| &**name).collect::<Vec<_>>(), ["b.yaml"]);
    assert_eq!(shown(&manifests.update("b.yaml", service("s", "b2").as_bytes())), ["apply s b2"]);
    assert_eq!(texts(&manifests).len(), 1);
    manifests.remove("c.yaml");
    assert!(texts(&manifests).is_empty());
}

#[test]
fn twice_in_one_file_the_first_wins_and_the_second_takes_over() {
    let mut manifests = Manifests::new();
    let both = service("s", "1") + &service("s", "2");
    assert_eq!(shown(&manifests.update("x.yaml", both.as_bytes())), ["apply s 1"]);
    assert_eq!(texts(&manifests), ["x.yaml:7: Service default/s is ignored: it is declared in line 1 of the file too"]);
    assert_eq!(shown(&manifests.update("x.yaml", service("s", "2").as_bytes())), ["apply s 2"]);
    assert!(texts(&manifests).is_empty());
}

#[test]
fn json_and_lists() {
    let mut manifests = Manifests::new();
    let one = r#"{"apiVersion":"v1","kind":"Service","metadata":{"name":"j"}}"#;
    assert_eq!(shown(&manifests.update("x.json", one.as_bytes())), ["apply j "]);
    let list =
        format!(r#"{{"apiVersion":"v1","kind":"List","items":[{one},{{"kind":"Pod","apiVersion":"v1","metadata":{{"name":"p"}}}},7]}}"#);
    let changes = manifests.update("y.json", list.as_bytes());
    assert_eq!(shown(&changes), Vec::<String>::new(), "x.json declares it");
    assert_eq!(texts(&manifests).len(), 3, "{:?}", texts(&manifests));
    let broken = manifests.update("x.json", br#"{"apiVersion":"v1","#);
    assert!(broken.changes.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever is written, removed and put back: folding the changes gives what the files declare, the first by name.
    #[test]
    fn changes_fold_to_what_the_files_declare(
        steps in prop::collection::vec(
            (0..3_usize, prop::option::of(prop::collection::vec((0..4_usize, 0..3_usize), 0..5)), prop::bool::ANY), 1..25)
    ) {
        let mut manifests = Manifests::new();
        let mut files: BTreeMap<String, String> = BTreeMap::new();
        let mut held: BTreeMap<String, String> = BTreeMap::new();
        // What was deleted a moment ago: it may come back with its file.
        let mut away: BTreeMap<String, String> = BTreeMap::new();
        for (file, content, forget) in steps {
            let name = format!("{file}.yaml");
            let mut waiting = vec![match content {
                Some(objects) => {
                    let text: String = objects.iter().map(|(object, note)| service(&format!("s{object}"), &note.to_string())).collect();
                    files.insert(name.clone(), text.clone());
                    manifests.update(&name, text.as_bytes())
                }
                None => {
                    files.remove(&name);
                    manifests.remove(&name)
                }
            }];
            while let Some(change) = waiting.pop() {
                for object in &change.returned {
                    let (object, value) = away.remove_entry(&*object.name.name).expect("it was away");
                    held.insert(object, value);
                }
                for line in shown(&change) {
                    match line.split(' ').collect::<Vec<_>>()[..] {
                        ["apply", object, note] => {
                            away.remove(object);
                            held.insert(object.to_owned(), note.to_owned());
                        }
                        ["delete", object] => {
                            let gone = held.remove_entry(object);
                            prop_assert!(gone.is_some());
                            away.extend(gone);
                        }
                        _ => prop_assert!(false, "{line}"),
                    }
                }
                for name in change.reread {
                    waiting.push(manifests.update(&name, files[&*name].as_bytes()));
                }
            }
            let mut declared: BTreeMap<String, String> = BTreeMap::new();
            for text in files.values() {
                for object in Manifests::new().update("x.yaml", text.as_bytes()).changes {
                    let shown = show(&object);
                    let mut words = shown.split(' ').skip(1).map(str::to_owned);
                    let (name, value) = (words.next().unwrap(), words.next().unwrap());
                    declared.entry(name).or_insert(value);
                }
            }
            prop_assert_eq!(&held, &declared);
            if forget {
                (0..3).for_each(|file| manifests.forget(&format!("{file}.yaml")));
                away.clear();
            }
        }
    }
}

#[test]
fn a_document_between_others_is_told_apart_from_them() {
    let mut manifests = Manifests::new();
    let (a, b, c) = (service("a", "1"), service("b", "1"), service("c", "1"));
    manifests.update("x.yaml", (a.clone() + &b + &c).as_bytes());
    // Beside what stays at the beginning and at the end: one more, a changed one, one gone.
    assert_eq!(shown(&manifests.update("x.yaml", (a.clone() + &service("d", "1") + &b + &c).as_bytes())), ["apply d 1"]);
    assert_eq!(shown(&manifests.update("x.yaml", (a.clone() + &service("d", "2") + &b + &c).as_bytes())), ["apply d 2"]);
    assert_eq!(shown(&manifests.update("x.yaml", (a.clone() + &b + &c).as_bytes())), ["delete d"]);
    // One that is declared at the end already: now the version in the middle is the first.
    assert_eq!(shown(&manifests.update("x.yaml", (a.clone() + &service("c", "2") + &b + &c).as_bytes())), ["apply c 2"]);
    assert_eq!(texts(&manifests).len(), 1, "{:?}", texts(&manifests));
    // One that is declared at the beginning already: that version goes on counting.
    assert_eq!(shown(&manifests.update("x.yaml", (a.clone() + &b + &c).as_bytes())), ["apply c 1"]);
    assert_eq!(shown(&manifests.update("x.yaml", (a.clone() + &b + &service("a", "2") + &c).as_bytes())), Vec::<String>::new());
    assert_eq!(texts(&manifests), ["x.yaml:13: Service default/a is ignored: it is declared in line 1 of the file too"]);
    // The notice names a line, which moves with what is before it.
    assert_eq!(shown(&manifests.update("x.yaml", (a + &b + &b + &service("a", "2") + &c).as_bytes())), Vec::<String>::new());
    assert_eq!(texts(&manifests).len(), 2, "{:?}", texts(&manifests));
}

#[test]
fn a_file_that_comes_back_broken_has_its_last_version() {
    let mut manifests = Manifests::new();
    manifests.update("a.yaml", (service("one", "1") + &service("two", "1")).as_bytes());
    assert_eq!(shown(&manifests.remove("a.yaml")), ["delete one", "delete two"]);
    // Another file has taken one of its objects over.
    assert_eq!(shown(&manifests.update("b.yaml", service("two", "1").as_bytes())), ["apply two 1"]);
    let change = manifests.update("a.yaml", b"kind: [");
    assert!(change.changes.is_empty(), "{change:?}");
    assert_eq!(change.returned, [ObjectRef::new(Kind::Service, "default", "one")]);
    assert!(texts(&manifests)[0].ends_with("the file's last version keeps serving"), "{:?}", texts(&manifests));
    assert_eq!(shown(&manifests.update("a.yaml", service("one", "1").as_bytes())), ["apply one 1"]);
    assert_eq!(shown(&manifests.remove("b.yaml")), ["delete two"]);
    // Gone for good, it has none.
    manifests.remove("a.yaml");
    manifests.forget("a.yaml");
    assert!(manifests.update("a.yaml", b"kind: [").returned.is_empty());
    assert!(texts(&manifests)[0].ends_with("this document is not served"), "{:?}", texts(&manifests));
}

#[test]
fn what_a_file_declared_is_named_while_it_cannot_be_parsed() {
    let mut manifests = Manifests::new();
    manifests.restore(&Vec::new());
    let marks = |change: &FileChange| change.changes.iter().filter(|one| matches!(one, Change::Unparsed(_))).map(show).collect::<Vec<_>>();
    manifests.update("a.yaml", service("first", "1").as_bytes());
    assert!(marks(&manifests.update("x.yaml", (service("first", "2") + &service("b", "1")).as_bytes())).is_empty());
    assert_eq!(marks(&manifests.update("x.yaml", b"kind: [")), ["unparsed x.yaml: b"], "the other one comes from another file");
    assert_eq!(marks(&manifests.update("x.yaml", service("b", "1").as_bytes())), ["unparsed x.yaml: "]);
    assert!(marks(&manifests.update("x.yaml", service("b", "2").as_bytes())).is_empty());
    assert_eq!(marks(&manifests.unreadable("x.yaml", &"gone wrong")), ["unparsed x.yaml: b"]);
    assert_eq!(marks(&manifests.remove("x.yaml")), ["unparsed x.yaml: "]);
    assert!(marks(&manifests.update("new.yaml", b"kind: [")).is_empty(), "nothing is known of it");
}

#[test]
fn a_file_that_cannot_be_parsed_at_the_start_declares_what_an_earlier_process_knew() {
    let version = |name: &str, file: &str| LastGoodVersion {
        object: ObjectRef::new(Kind::Service, "default", name),
        uid: None,
        file: Some(file.into()),
        document: "{}".into(),
    };
    let mut manifests = Manifests::new();
    manifests.restore(&vec![version("a", "x.yaml"), version("b", "x.yaml"), version("c", "gone.yaml")]);
    let change = manifests.update("x.yaml", b"kind: [");
    assert_eq!(change.changes.iter().map(show).collect::<Vec<_>>(), ["unparsed x.yaml: a b"]);
    assert!(texts(&manifests)[0].contains("the file's last version keeps serving"), "{:?}", texts(&manifests));
    let healed = manifests.update("x.yaml", service("a", "1").as_bytes());
    assert_eq!(healed.changes.iter().map(show).collect::<Vec<_>>(), ["unparsed x.yaml: ", "apply a 1", "delete b"]);
    assert_eq!(manifests.names().count(), 1);
}
