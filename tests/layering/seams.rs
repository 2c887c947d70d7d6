//! The seams of the data plane: which room of `proxy` may import which, and that no type of a protocol or of a socket passes between the
//! client's leg, the life of a request and the hosts' leg.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use regex::Regex;

use super::circles::Tree;
use super::{SOURCES, Source, root, source};

/// Each room of `proxy` and what it may import. Files beside the folders are rooms by their own name.
const ROOMS: &[(&str, &[&str])] = &[
    ("mod", &["bound", "running", "state", "wire"]),
    ("running", &["bound", "life", "sockets", "worker", "state"]),
    ("life", &["bound", "listeners", "sockets", "down", "flow", "worker", "state", "wire"]),
    ("listeners", &["bound", "sockets", "down", "worker", "state"]),
    ("bound", &[]),
    ("sockets", &[]),
    ("down", &["flow", "worker", "state", "wire"]),
    ("flow", &["up", "worker", "state", "wire"]),
    ("worker", &["up", "state", "wire"]),
    ("up", &["state", "wire"]),
    ("state", &["wire"]),
    ("wire", &[]),
];

/// Who reads and writes a protocol: what these folders define stays within their leg.
const PROTOCOLS: &[&str] = &["src/proxy/down/http1/", "src/proxy/down/http2/", "src/proxy/up/h1/", "src/proxy/up/http2/"];

/// Crates and types that know how bytes come and go.
static FOREIGN: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"\b(?:(?:hyper|hyper_util|h1|h2|http1|http2|httparse|rustls|tokio_rustls)\s*::|TcpStream\b|TlsStream\b)").unwrap()
});
static HANDED_ON: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\bpub\(super\)\s+use\s+([^;]+);").unwrap());
static SHOWN_FUNCTION: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\bpub\(in crate::proxy\)\s+(?:async\s+|const\s+)*fn\s+\w+[^{;]*").unwrap());
static SHOWN_FIELD: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\bpub\(in crate::proxy\)\s+\w+\s*:[^\n]*|\(pub\(in crate::proxy\)[^\n]*").unwrap());
static SHOWN_ENUM: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"(?s)\bpub\(in crate::proxy\)\s+enum\s+\w+[^{]*\{.*?\n\}").unwrap());
static SHOWN_OTHER: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\bpub\(in crate::proxy\)\s+(?:type|const|static)\s+[^;]*;").unwrap());
static TRAIT: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"(?s)\bpub\(in crate::proxy\)\s+trait\s+\w+[^{]*\{.*?\n\}").unwrap());
static NAME: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\b[A-Za-z_]\w*(?:\s*::\s*[A-Za-z_]\w*)*").unwrap());

#[test]
fn rooms_of_the_data_plane_import_one_way() {
    let wrong = wrong_ways(&SOURCES);
    assert!(wrong.is_empty(), "down -> flow -> up, and what they share beneath:\n{}", wrong.join("\n"));
}

#[test]
fn no_type_of_a_protocol_is_in_the_life_of_a_request_or_shown_to_it() {
    let foreign = foreign_names(&SOURCES);
    assert!(foreign.is_empty(), "these cross a seam of the data plane:\n{}", foreign.join("\n"));
}

#[test]
fn the_rooms_are_those_of_the_folder() {
    let found: BTreeSet<&str> = SOURCES.iter().filter_map(|source| room(source.path.to_str().unwrap())).collect();
    let listed: BTreeSet<&str> = ROOMS.iter().map(|(room, _)| *room).collect();
    assert_eq!(found, listed, "left: in src/proxy, right: listed");
    let below: BTreeMap<&str, &[&str]> = ROOMS.iter().copied().collect();
    fn reaches(below: &BTreeMap<&str, &[&str]>, from: &str, to: &str) -> bool {
        below[from].iter().any(|room| *room == to || reaches(below, room, to))
    }
    for room in below.keys() {
        assert!(!reaches(&below, room, room), "{room} reaches itself");
    }
}

#[test]
fn architecture_has_the_same_rooms() {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md");
    let row = Regex::new(r"(?m)^\| `proxy/([a-z]+)` \|.*\| ([^|]*) \|$").unwrap();
    let documented: BTreeMap<String, String> = row.captures_iter(&text).map(|row| (row[1].to_owned(), row[2].to_owned())).collect();
    // The files beside the folders are one row there.
    let listed = ROOMS.iter().filter(|(room, _)| documented.contains_key(*room) || root().join("src/proxy").join(room).is_dir());
    let expected = listed.map(|(room, may)| {
        let cell = may.iter().map(|room| format!("`{room}`")).collect::<Vec<_>>().join(", ");
        ((*room).to_owned(), if cell.is_empty() { "nothing".to_owned() } else { cell })
    });
    assert_eq!(documented, expected.collect(), "left: ARCHITECTURE.md, right: this test");
}

/// Files, and what is found in them.
type SeamCase = (&'static str, &'static [(&'static str, &'static str)], usize, usize);

/// What declares the files of a case, where it does not do so itself.
const FOLDERS: &[(&str, &str)] = &[
    ("proxy/mod.rs", "mod down;\nmod flow;\nmod up;"),
    ("proxy/down/mod.rs", "pub(super) mod a;\npub(super) mod b;"),
    ("proxy/flow/mod.rs", "pub(super) mod a;\npub(super) mod b;"),
    ("proxy/up/mod.rs", "pub(super) mod b;\nmod h1;\nmod pool;\npub(super) use pool::Active;"),
];

/// A type of a protocol.
const H1: (&str, &str) = ("proxy/up/h1/mod.rs", "pub(in crate::proxy) struct Exchange;");

#[test]
fn the_rules_find_what_they_should() {
    let table: &[SeamCase] = &[
        ("down calls flow", &[("proxy/down/a.rs", "use crate::proxy::flow::b::B;"), ("proxy/flow/b.rs", "pub struct B;")], 0, 0),
        ("flow calls down", &[("proxy/flow/a.rs", "use crate::proxy::down::b::B;"), ("proxy/down/b.rs", "pub struct B;")], 1, 0),
        ("down passes flow by", &[("proxy/down/a.rs", "use crate::proxy::up::b::B;"), ("proxy/up/b.rs", "pub struct B;")], 1, 0),
        ("a socket in flow", &[("proxy/flow/a.rs", "use tokio::net::TcpStream;")], 0, 1),
        ("a crate in flow", &[("proxy/flow/a.rs", "fn a() -> h2::Reason {}")], 0, 1),
        ("words in flow", &[("proxy/flow/a.rs", "// h2::Reason\nconst A: &str = \"TcpStream\";")], 0, 0),
        ("a private field", &[H1, ("proxy/up/pool.rs", "use super::h1::Exchange;\npub(in crate::proxy) struct Active(Exchange);")], 0, 0),
        (
            "a field that is shown",
            &[
                H1,
                (
                    "proxy/up/pool.rs",
                    "use super::h1::Exchange;\npub(in crate::proxy) struct Active {\n    pub(in crate::proxy) a: Exchange,\n}",
                ),
            ],
            0,
            1,
        ),
        ("a variant", &[H1, ("proxy/up/pool.rs", "use super::h1;\npub(in crate::proxy) enum Active {\n    One(h1::Exchange),\n}")], 0, 1),
        (
            "a parameter",
            &[(
                "proxy/up/pool.rs",
                "pub(in crate::proxy) struct Active;\nimpl Active {\n    pub(in crate::proxy) fn f(io: TcpStream) {}\n}",
            )],
            0,
            1,
        ),
        ("a folder of a protocol that is handed on", &[("proxy/up/mod.rs", "mod h1;\npub(super) use h1::Exchange;"), H1], 0, 1),
        ("a child that all of proxy sees", &[("proxy/up/mod.rs", "pub(super) mod h1;"), H1], 0, 1),
    ];
    for (case, files, ways, names) in table {
        let usual = FOLDERS.iter().filter(|(path, _)| !files.iter().any(|(file, _)| file == path));
        let sources: Vec<Source> = usual.chain(*files).map(|(path, text)| source(Path::new(path), text)).collect();
        let (wrong, foreign) = (wrong_ways(&sources), foreign_names(&sources));
        assert_eq!((wrong.len(), foreign.len()), (*ways, *names), "{case}: {wrong:?} {foreign:?}");
    }
}

/// The room that a file is in.
fn room(file: &str) -> Option<&str> {
    let within = file.strip_prefix("src/proxy/")?;
    Some(within.split_once('/').map_or_else(|| within.trim_end_matches(".rs"), |(folder, _)| folder))
}

fn wrong_ways(sources: &[Source]) -> Vec<String> {
    let allowed: BTreeMap<&str, &[&str]> = ROOMS.iter().copied().collect();
    let mut wrong = Vec::new();
    for (from, targets) in Tree::new(sources).arrows() {
        let Some(here) = room(&from) else { continue };
        for (to, names) in targets {
            let Some(there) = room(&to) else { continue };
            if here != there && !allowed.get(here).is_some_and(|may| may.contains(&there)) {
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                wrong.push(format!("{from} must not import {to}: {}", names.join(", ")));
            }
        }
    }
    wrong
}

/// What `flow` writes, and what `up` and `down` show to it, that belongs to a protocol or is a socket.
fn foreign_names(sources: &[Source]) -> Vec<String> {
    let tree = Tree::new(sources);
    let mut found = Vec::new();
    for source in sources {
        let file = source.path.to_str().unwrap();
        match room(file) {
            Some("flow") => found.extend(FOREIGN.find_iter(&source.code).map(|name| format!("{file}: {}", name.as_str()))),
            Some("up" | "down") if file.ends_with("up/mod.rs") || file.ends_with("down/mod.rs") => {
                found.extend(opened(source).into_iter().map(|child| format!("{file}: `{child}` is of a protocol, and is open")));
            }
            Some("up") if !of_protocol(file) => {
                for shown in shown(&source.code) {
                    let names: BTreeSet<&str> = NAME.find_iter(shown).map(|name| name.as_str()).collect();
                    let strange = names
                        .into_iter()
                        .filter(|name| FOREIGN.is_match(name) || tree.file_of(source, name).is_some_and(|at| of_protocol(&at)));
                    found.extend(strange.map(|name| format!("{file}: {name} in `{}`", shown.lines().next().unwrap())));
                }
            }
            _ => {}
        }
    }
    found
}

fn of_protocol(file: &str) -> bool {
    PROTOCOLS.iter().any(|folder| file.starts_with(folder))
}

/// What a leg's `mod.rs` lets others see of the folders of its protocols.
fn opened(source: &Source) -> Vec<String> {
    let folder = source.path.parent().unwrap().to_str().unwrap();
    let children = PROTOCOLS.iter().filter_map(|of| of.strip_prefix(folder)).map(|child| child.trim_matches('/'));
    let handed_on: Vec<&str> = HANDED_ON.captures_iter(&source.code).map(|path| path.get(1).unwrap().as_str()).collect();
    children
        .filter(|child| {
            let open = [format!("pub(super) mod {child};"), format!("pub(in crate::proxy) mod {child};"), format!("pub mod {child};")];
            open.iter().any(|line| source.code.contains(line)) || handed_on.iter().any(|path| path.starts_with(&format!("{child}::")))
        })
        .map(ToOwned::to_owned)
        .collect()
}

/// The declarations of a file that all of `proxy` can see, without bodies.
fn shown(code: &str) -> Vec<&str> {
    [&SHOWN_FUNCTION, &SHOWN_FIELD, &SHOWN_ENUM, &SHOWN_OTHER, &TRAIT]
        .iter()
        .flat_map(|pattern| pattern.find_iter(code).map(|declaration| declaration.as_str()))
        .collect()
}
