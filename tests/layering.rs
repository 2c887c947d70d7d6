//! Holds the layers of ARCHITECTURE.md against the code: which layer may import which, that files of a layer import each other one
//! way, who reads the environment, and how long a file may be.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "a test may fail by panicking")]

#[path = "layering/circles.rs"]
mod circles;
#[path = "layering/seams.rs"]
mod seams;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use regex::Regex;

/// A layer may import everything.
const ALL: &[&str] = &["*"];

/// Each top-level module and what it may import, as in ARCHITECTURE.md.
const LAYERS: &[(&str, &[&str])] = &[
    ("main", &["app", "cli"]),
    ("app", ALL),
    ("cli", &["settings"]),
    ("settings", &["base"]),
    ("base", &[]),
    ("telemetry", &["base"]),
    ("lb", &[]),
    ("api", &["base"]),
    ("snapshot", &["base", "lb"]),
    ("plan", &["base", "lb", "snapshot"]),
    ("translate", &["base", "lb", "api", "snapshot"]),
    ("migrate", &["base", "api", "snapshot", "translate"]),
    ("doctor", &["base", "api", "translate"]),
    ("proxy", &["base", "telemetry", "lb", "snapshot", "plan"]),
    ("controller", &["base", "telemetry", "api", "snapshot", "translate", "doctor"]),
    ("admin", &["base", "telemetry", "lb", "snapshot", "plan", "translate"]),
];

/// Crates and parts of the standard library that these layers must not see: the pure ones do no I/O, the data plane
/// knows no Kubernetes, and `api` takes only the derived resource types from `kube`.
const UNSEEN: &[(&[&str], &[&str])] = &[
    (
        &["lb", "api", "snapshot", "plan", "translate", "migrate", "doctor"],
        &["tokio", "hyper", "socket2", "notify", "std::fs", "std::thread", "std::process"],
    ),
    (&["base", "telemetry", "lb", "snapshot", "plan", "proxy", "settings", "cli"], &["k8s_openapi", "gateway_api", "serde_saphyr"]),
    (
        &[
            "main",
            "app",
            "cli",
            "settings",
            "base",
            "telemetry",
            "lb",
            "snapshot",
            "plan",
            "translate",
            "migrate",
            "doctor",
            "proxy",
            "admin",
        ],
        &["kube"],
    ),
];

/// Lines of a source file without its tests. The aim is 400; past this a file has two subjects.
const LONGEST: usize = 500;

static CRATE_PATH: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\b(?:crate|clingfish)\s*::\s*(\{|[a-z_0-9]+)").unwrap());
static SUPER_PATH: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\b((?:super\s*::\s*)+)([a-z_0-9]+)").unwrap());
static TEST_MODULE: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"#\[cfg\(test\)\]\s*(?:pub(?:\([a-z]+\))?\s+)?mod\s+([a-z_0-9]+)\s*;").unwrap());

/// Blank, since they hold words that are no code.
static LITERAL: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r##"(?s)//[^\n]*|/\*.*?\*/|\bb?r#+".*?"#+|\bb?r"[^"]*"|"(?:\\.|[^"\\])*"|'(?:\\u\{[^}]*\}|\\x..|\\.|[^\\'\n])'"##).unwrap()
});

/// All of `src`, read once for all tests.
static SOURCES: LazyLock<Vec<Source>> = LazyLock::new(sources);

/// A source file without what only tests see.
struct Source {
    path: PathBuf,
    layer: String,
    /// Modules between the crate's root and this file's items.
    depth: usize,
    /// Comments, literals and test items are blank; lines are kept.
    code: String,
    lines: usize,
}

#[test]
fn imports_go_one_way() {
    let allowed: BTreeMap<&str, &[&str]> = LAYERS.iter().copied().collect();
    let mut wrong = Vec::new();
    for source in &*SOURCES {
        let Some(may) = allowed.get(source.layer.as_str()) else {
            wrong.push(format!("{}: `{}` is no layer; list it in ARCHITECTURE.md and here", source.path.display(), source.layer));
            continue;
        };
        for import in imports(&source.code, source.depth) {
            if import != source.layer && *may != ALL && !may.contains(&import.as_str()) && allowed.contains_key(import.as_str()) {
                wrong.push(format!("{}: `{}` must not import `{import}`", source.path.display(), source.layer));
            }
        }
        for (_, names) in UNSEEN.iter().filter(|(layers, _)| layers.contains(&source.layer.as_str())) {
            wrong.extend(
                names
                    .iter()
                    .filter(|name| mentions(&source.code, name))
                    .map(|name| format!("{}: `{}` must not use `{name}`", source.path.display(), source.layer)),
            );
        }
    }
    assert!(wrong.is_empty(), "the layers of ARCHITECTURE.md:\n{}", wrong.join("\n"));
}

#[test]
fn every_listed_layer_exists() {
    let found: BTreeSet<String> = SOURCES.iter().map(|source| source.layer.clone()).collect();
    let listed: BTreeSet<String> = LAYERS.iter().map(|(layer, _)| (*layer).to_owned()).collect();
    assert_eq!(found, listed, "left: in src, right: listed");
}

#[test]
fn the_table_has_no_cycle() {
    // `app` and `main` are the roof.
    let below: BTreeMap<&str, &[&str]> = LAYERS.iter().copied().filter(|(_, may)| *may != ALL).collect();
    fn reaches(below: &BTreeMap<&str, &[&str]>, from: &str, to: &str) -> bool {
        below.get(from).is_some_and(|next| next.iter().any(|layer| *layer == to || reaches(below, layer, to)))
    }
    for layer in below.keys() {
        assert!(!reaches(&below, layer, layer), "{layer} reaches itself");
    }
}

#[test]
fn architecture_has_the_same_table() {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md");
    let row = Regex::new(r"(?m)^\| `([a-z]+)` \|.*\| ([^|]*) \|$").unwrap();
    let documented: BTreeMap<String, String> = row.captures_iter(&text).map(|row| (row[1].to_owned(), row[2].to_owned())).collect();
    let expected = LAYERS.iter().map(|(layer, may)| {
        let cell = match *may {
            may if may == ALL => "all".to_owned(),
            [] => "nothing".to_owned(),
            may => may.iter().map(|layer| format!("`{layer}`")).collect::<Vec<_>>().join(", "),
        };
        ((*layer).to_owned(), cell)
    });
    assert_eq!(documented, expected.collect(), "left: ARCHITECTURE.md, right: this test");
}

#[test]
fn only_settings_reads_the_environment() {
    let readers: Vec<_> = SOURCES
        .iter()
        .filter(|source| source.layer != "settings" && (mentions(&source.code, "env::var") || mentions(&source.code, "env::vars")))
        .map(|source| source.path.display().to_string())
        .collect();
    assert!(readers.is_empty(), "`settings` is the only reader of the environment, but: {}", readers.join(", "));
}

#[test]
fn files_have_one_subject() {
    let long: Vec<_> = SOURCES
        .iter()
        .filter(|source| source.lines > LONGEST)
        .map(|source| format!("{}: {} lines without tests", source.path.display(), source.lines))
        .collect();
    assert!(long.is_empty(), "at most {LONGEST}:\n{}", long.join("\n"));
}

#[test]
fn the_scanner_finds_what_it_should() {
    let table: &[(&str, usize, &[&str])] = &[
        ("use crate::lb::Ring;", 2, &["lb"]),
        ("use crate::{api::{Object, gloo}, base};", 2, &["api", "base"]),
        ("let x = crate::proxy::start();", 1, &["proxy"]),
        ("use clingfish::app;", 1, &["app"]),
        ("// use crate::lb;\n/* crate::api */", 1, &[]),
        ("let text = \"crate::lb\"; let raw = r#\"crate::api \"quoted\" \"#;", 1, &[]),
        ("let c = '\"'; use crate::lb; let d = '\"';", 1, &["lb"]),
        ("fn f<'a>(x: &'a str) { crate::base::f(x) }", 1, &["base"]),
        ("use super::lb::Ring;", 1, &["lb"]),
        ("use super::host::Host;", 2, &[]),
        ("use super::super::lb::Ring;", 2, &["lb"]),
        ("#[cfg(test)]\nmod tests { use crate::proxy; fn f() { {} } }\nuse crate::base;", 1, &["base"]),
        ("#[cfg(test)]\nuse crate::proxy;\nuse crate::base;", 1, &["base"]),
    ];
    for (text, depth, expected) in table {
        let found = imports(&without_tests(&without_comments(text)), *depth);
        assert_eq!(found.iter().map(String::as_str).collect::<Vec<_>>(), *expected, "{text}");
    }
    assert!(mentions("use tokio::net;", "tokio"));
    assert!(mentions("use std::{fs, io};", "std::fs"));
    assert!(!mentions("use my_tokio::net; use std::fmt;", "tokio"));
    assert!(!mentions("use std::fmt;", "std::fs"));
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources() -> Vec<Source> {
    let src = root().join("src");
    let mut files = Vec::new();
    collect(&src, &mut files);
    let texts: Vec<(PathBuf, String)> = files.into_iter().map(|file| (file.clone(), fs::read_to_string(file).unwrap())).collect();
    let test_only: BTreeSet<PathBuf> = texts.iter().flat_map(|(file, text)| test_modules(file, text)).collect();
    let sources: Vec<_> = texts
        .into_iter()
        .filter(|(file, _)| {
            *file != src.join("lib.rs") && !test_only.iter().any(|module| file.starts_with(module) || *file == module.with_extension("rs"))
        })
        .map(|(file, text)| source(file.strip_prefix(&src).unwrap(), &text))
        .collect();
    assert!(sources.len() > 10, "src/ was not found");
    sources
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
}

/// Paths, without extension, of the modules that a file declares for tests only.
fn test_modules(file: &Path, text: &str) -> Vec<PathBuf> {
    let stem = file.file_stem().unwrap();
    let directory =
        if stem == "mod" || stem == "lib" || stem == "main" { file.parent().unwrap().to_owned() } else { file.with_extension("") };
    TEST_MODULE.captures_iter(text).map(|module| directory.join(&module[1])).collect()
}

fn source(path: &Path, text: &str) -> Source {
    let parts: Vec<_> = path.with_extension("").iter().map(|part| part.to_str().unwrap().to_owned()).collect();
    let depth = if parts.last().is_some_and(|last| last == "mod") { parts.len() - 1 } else { parts.len() };
    let code = without_tests(&without_comments(text));
    // Blank lines count: they are there to be read. Those of blanked tests do not.
    let lines = text.lines().count() - test_lines(text);
    Source { path: Path::new("src").join(path), layer: parts[0].clone(), depth, code, lines }
}

fn test_lines(text: &str) -> usize {
    let code = without_comments(text);
    let kept = without_tests(&code);
    code.lines().zip(kept.lines()).filter(|(before, after)| before != after).count()
}

/// The top-level modules that a text names.
fn imports(code: &str, depth: usize) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for path in CRATE_PATH.captures_iter(code) {
        match &path[1] {
            "{" => found.extend(first_words(&code[path.get(1).unwrap().end()..])),
            name => drop(found.insert(name.to_owned())),
        }
    }
    for path in SUPER_PATH.captures_iter(code) {
        if path[1].matches("super").count() >= depth {
            found.insert(path[2].to_owned());
        }
    }
    found
}

/// The first word of each item of a group, up to the group's end.
fn first_words(group: &str) -> Vec<String> {
    let (mut depth, mut words, mut word) = (0, Vec::new(), Some(String::new()));
    for letter in group.chars() {
        if letter.is_alphanumeric() || letter == '_' {
            if let Some(word) = &mut word {
                word.push(letter);
            }
            continue;
        }
        words.extend(word.take_if(|word| !word.is_empty()));
        match letter {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => word = Some(String::new()),
            _ => {}
        }
    }
    words.extend(word.filter(|word| !word.is_empty()));
    words
}

/// Whether a text uses this crate or path, written out or in a group.
fn mentions(code: &str, name: &str) -> bool {
    let start = |at: usize| !code[..at].ends_with(|letter: char| letter.is_alphanumeric() || letter == '_');
    match name.split_once("::") {
        None => code.match_indices(&format!("{name}::")).any(|(at, _)| start(at)),
        // Regular expressions are slow to build, and most files have neither word.
        Some((_, child)) if !code.contains(child) => false,
        Some((parent, child)) => {
            let whole = Regex::new(&format!(r"\b{parent}::{child}\b")).unwrap();
            let group = Regex::new(&format!(r"\b{parent}::\{{")).unwrap();
            whole.is_match(code) || group.find_iter(code).any(|group| first_words(&code[group.end()..]).iter().any(|word| word == child))
        }
    }
}

/// Blanks comments, strings and characters, and keeps the lines.
fn without_comments(text: &str) -> String {
    LITERAL.replace_all(text, |found: &regex::Captures<'_>| blank(&found[0])).into_owned()
}

/// Blanks each item under `#[cfg(test)]`.
fn without_tests(code: &str) -> String {
    const MARK: &str = "#[cfg(test)]";
    let mut kept = String::with_capacity(code.len());
    let mut rest = code;
    while let Some(at) = rest.find(MARK) {
        kept.push_str(&rest[..at]);
        let end = at + item_end(&rest[at..]);
        kept.push_str(&blank(&rest[at..end]));
        rest = &rest[end..];
    }
    kept + rest
}

/// Where the item at the start of a text ends: at its semicolon or its closing brace.
fn item_end(item: &str) -> usize {
    let mut depth = 0;
    for (at, letter) in item.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' if depth == 1 => return at + 1,
            '}' => depth -= 1,
            ';' if depth == 0 => return at + 1,
            _ => {}
        }
    }
    item.len()
}

fn blank(text: &str) -> String {
    text.chars().map(|letter| if letter == '\n' { '\n' } else { ' ' }).collect()
}
