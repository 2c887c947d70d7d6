//! No circle of files within a layer: a file imports downward within its folder too.
//!
//! `use` declarations and written paths are arrows from file to file. A name that a `mod.rs` only hands on leads to the file that
//! defines it. `mod x;` is no arrow, and neither is `pub use` of a child's name that the parent does not use itself.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::LazyLock;

use regex::Regex;

use super::{SOURCES, Source, source};

static USE: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"(?m)^\s*(pub(?:\([^)]*\))?\s+)?use\s+([^;]+);").unwrap());
static CHILD: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"(?m)^(?:pub(?:\([^)]*\))?\s+)?mod\s+([a-z_0-9]+)\s*;").unwrap());
static DEFINED: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(concat!(
        r"(?m)^(?:pub(?:\([^)]*\))?\s+)?(?:(?:async|const)\s+)*(?:fn|struct|enum|trait|type|const|static|mod)\s+([A-Za-z_0-9]+)",
        r"|^macro_rules!\s*([a-z_0-9]+)",
    ))
    .unwrap()
});
static PATH: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\b[A-Za-z_][A-Za-z_0-9]*(?:\s*::\s*[A-Za-z_][A-Za-z_0-9]*)+").unwrap());
static TOKEN: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"[A-Za-z_0-9]+|[{},*]").unwrap());
static WORD: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\b[A-Za-z_][A-Za-z_0-9]*").unwrap());

/// The names of a path from left to right.
type Names = Vec<String>;

/// One file as the compiler sees it: a module.
struct Module {
    file: String,
    layer: String,
    children: BTreeSet<String>,
    defined: BTreeSet<String>,
    imported: Vec<Import>,
    /// Paths written out where they are used.
    written: Vec<Names>,
    /// Every word outside of `use` declarations.
    words: BTreeSet<String>,
}

/// One name of a `use` declaration.
struct Import {
    /// What the file calls it; `*` for everything.
    name: String,
    path: Names,
    handed_on: bool,
}

/// What a path leads to.
#[derive(Clone, PartialEq, Eq)]
enum Place {
    Module(Names),
    /// An item of the module of this path.
    Item(Names),
}

/// All modules by their paths.
pub(crate) struct Tree(BTreeMap<Names, Module>);

/// From file to file, with the names that the first takes.
pub(crate) type Arrows = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

#[test]
fn files_of_a_layer_form_no_circle() {
    let arrows = Tree::new(&SOURCES).arrows();
    let found: Vec<_> = circles(&arrows).iter().map(|circle| shown(circle, &arrows)).collect();
    assert!(found.is_empty(), "files that import each other:\n{}", found.join("\n"));
}

/// What is shown, files with their text, and the arrows between them.
type GraphCase = (&'static str, &'static [(&'static str, &'static str)], &'static [&'static str]);

/// Arrows, and the circles that they make.
type CircleCase = (&'static [(&'static str, &'static str)], &'static [&'static [&'static str]]);

#[test]
fn the_graph_finds_what_it_should() {
    let table: &[GraphCase] = &[
        (
            "a circle of siblings",
            &[
                ("x/mod.rs", "mod a;\nmod b;"),
                ("x/a.rs", "use super::b::B;\npub struct A;"),
                ("x/b.rs", "fn f(a: super::a::A) {}\npub struct B;"),
            ],
            &["a -> b", "b -> a"],
        ),
        (
            "a parent that hands on is no arrow, and a name leads through it",
            &[
                ("x/mod.rs", "mod a;\nmod b;\npub use a::{A, Other as Name};"),
                ("x/a.rs", "pub struct A;\npub struct Other;"),
                ("x/b.rs", "use crate::x::Name;"),
            ],
            &["b -> a"],
        ),
        (
            "a parent that uses what it hands on is one",
            &[("x/mod.rs", "mod a;\npub use a::A;\nfn f() -> A { A }"), ("x/a.rs", "use super::f;\npub struct A;")],
            &["a -> mod", "mod -> a"],
        ),
        (
            "a module that is imported counts where it is used",
            &[
                ("x/mod.rs", "mod a;\nmod y;"),
                ("x/a.rs", "use super::y::{self, deep as d};\nfn f() { y::run(d::low()); }"),
                ("x/y/mod.rs", "pub mod deep;\npub fn run() {}"),
                ("x/y/deep.rs", "pub const fn low() {}"),
            ],
            &["a -> y/deep", "a -> y/mod"],
        ),
        (
            "tests, comments and other layers are none",
            &[
                ("x/mod.rs", "mod a;\nmod b;"),
                ("x/a.rs", "// use super::b::B;\nuse crate::y::Y;\n#[cfg(test)]\nmod tests { use super::super::b::B; }"),
                ("x/b.rs", "pub struct B;"),
                ("y/mod.rs", "pub struct Y;"),
            ],
            &[],
        ),
        (
            "everything of a module, handed on",
            &[("x/mod.rs", "mod a;\nmod b;\npub use a::*;"), ("x/a.rs", "pub enum A { One }"), ("x/b.rs", "use super::A::One;")],
            &["b -> a"],
        ),
    ];
    let short = |file: &str| file.trim_start_matches("src/x/").trim_end_matches(".rs").to_owned();
    for (case, files, expected) in table {
        let sources: Vec<_> = files.iter().map(|(path, text)| source(Path::new(path), text)).collect();
        let arrows = Tree::new(&sources).arrows();
        let found: Vec<_> =
            arrows.iter().flat_map(|(from, to)| to.keys().map(move |to| format!("{} -> {}", short(from), short(to)))).collect();
        assert_eq!(found, *expected, "{case}");
    }
}

#[test]
fn a_circle_is_found_once_and_whole() {
    let arrows = |pairs: &[(&str, &str)]| {
        let mut arrows = Arrows::new();
        for (from, to) in pairs {
            arrows.entry((*from).to_owned()).or_default().insert((*to).to_owned(), BTreeSet::new());
        }
        arrows
    };
    let table: &[CircleCase] = &[
        (&[("a", "b"), ("b", "c"), ("a", "c")], &[]),
        (&[("a", "b"), ("b", "c"), ("c", "a"), ("c", "d")], &[&["a", "b", "c"]]),
        (&[("a", "b"), ("b", "a"), ("b", "c"), ("c", "d"), ("d", "c")], &[&["a", "b"], &["c", "d"]]),
    ];
    for (pairs, expected) in table {
        let found: Vec<Vec<String>> = circles(&arrows(pairs)).into_iter().map(|circle| circle.into_iter().collect()).collect();
        assert_eq!(found, *expected, "{pairs:?}");
    }
}

impl Tree {
    pub(crate) fn new(sources: &[Source]) -> Self {
        Self(sources.iter().map(module).collect())
    }

    /// The arrows within layers.
    pub(crate) fn arrows(&self) -> Arrows {
        let mut arrows = Arrows::new();
        for (at, module) in &self.0 {
            let imported = module.imported.iter().filter(|import| module.takes(import)).map(|import| &import.path);
            // What a name brings that was imported is counted where it was.
            let written = module.written.iter().filter(|path| !matches!(self.resolve(at, &path[..1], 0), Some(Place::Item(_))));
            for path in imported.chain(written) {
                let Some(Place::Item(target)) = self.resolve(at, path, 0) else { continue };
                let target = &self.0[&target];
                if target.layer == module.layer && target.file != module.file {
                    let names = arrows.entry(module.file.clone()).or_default().entry(target.file.clone()).or_default();
                    names.insert(path.last().unwrap().clone());
                }
            }
        }
        arrows
    }

    /// The file that defines what a path in a source names, if it is one of ours.
    pub(crate) fn file_of(&self, source: &Source, path: &str) -> Option<String> {
        let (at, _) = module(source);
        let path: Names = path.split("::").map(|name| name.trim().to_owned()).collect();
        match self.resolve(&at, &path, 0)? {
            Place::Item(target) | Place::Module(target) => Some(self.0.get(&target)?.file.clone()),
        }
    }

    /// Where a path leads that the module `at` writes.
    fn resolve(&self, at: &[String], path: &[String], depth: usize) -> Option<Place> {
        let mut names = path.iter().map(String::as_str);
        let mut place = match names.next()? {
            "crate" | "clingfish" => Place::Module(Vec::new()),
            "self" => Place::Module(at.to_vec()),
            "super" => Place::Module(parent(at)),
            name => self.named(at, name, depth)?,
        };
        for name in names {
            place = match place {
                // What follows an item is a variant or an associated function.
                Place::Item(_) => return Some(place),
                Place::Module(at) if name == "super" => Place::Module(parent(&at)),
                // An item that the patterns above do not know, as one that a macro makes.
                Place::Module(at) => self.named(&at, name, depth).or_else(|| self.0.contains_key(&at).then_some(Place::Item(at)))?,
            };
        }
        Some(place)
    }

    /// What a module calls `name`: a child, an item of its own, or something imported.
    fn named(&self, at: &[String], name: &str, depth: usize) -> Option<Place> {
        let child = [at, &[name.to_owned()]].concat();
        if at.is_empty() {
            return Some(Place::Module(child));
        }
        let module = self.0.get(at)?;
        if module.children.contains(name) {
            return self.0.contains_key(&child).then_some(Place::Module(child));
        }
        if module.defined.contains(name) {
            return Some(Place::Item(at.to_vec()));
        }
        // Deeper than any chain of re-exports, so it is a name that leads to itself: a crate's, or a `use` within a function.
        if depth > 8 {
            return None;
        }
        let mut named = module.imported.iter().filter(|import| import.name == name && import.path != [name]);
        let mut whole = module.imported.iter().filter(|import| import.name == "*");
        named.find_map(|import| self.resolve(at, &import.path, depth + 1)).or_else(|| {
            whole.find_map(|import| match self.resolve(at, &import.path, depth + 1) {
                Some(Place::Module(from)) => self.named(&from, name, depth + 1),
                _ => None,
            })
        })
    }
}

impl Module {
    /// Whether a `use` declaration takes something, and does not just hand a child's name on.
    fn takes(&self, import: &Import) -> bool {
        let of_child = import.path.iter().find(|name| *name != "self").is_some_and(|first| self.children.contains(first));
        !(import.handed_on && of_child) || self.words.contains(&import.name)
    }
}

fn parent(at: &[String]) -> Names {
    at[..at.len().saturating_sub(1)].to_vec()
}

fn module(source: &Source) -> (Names, Module) {
    let mut at: Names = source.path.with_extension("").iter().skip(1).map(|part| part.to_str().unwrap().to_owned()).collect();
    at.pop_if(|last| last == "mod");
    let code = &source.code;
    let mut imported = Vec::new();
    for found in USE.captures_iter(code) {
        for (name, path) in leaves(&found[2]) {
            imported.push(Import { name, path, handed_on: found.get(1).is_some() });
        }
    }
    let body = USE.replace_all(code, "");
    let written = PATH.find_iter(&body).map(|path| path.as_str().split("::").map(|name| name.trim().to_owned()).collect()).collect();
    let module = Module {
        file: source.path.to_str().unwrap().to_owned(),
        layer: source.layer.clone(),
        children: CHILD.captures_iter(code).map(|child| child[1].to_owned()).collect(),
        defined: DEFINED.captures_iter(code).map(|item| item.get(1).or_else(|| item.get(2)).unwrap().as_str().to_owned()).collect(),
        imported,
        written,
        words: WORD.find_iter(&body).map(|word| word.as_str().to_owned()).collect(),
    };
    (at, module)
}

/// The names that a `use` tree brings, each with its whole path.
fn leaves(tree: &str) -> Vec<(String, Names)> {
    let (mut found, mut groups, mut path) = (Vec::new(), Vec::new(), Names::new());
    let mut alias: Option<String> = None;
    let close = |path: &mut Names, alias: &mut Option<String>, found: &mut Vec<(String, Names)>, base: usize| {
        if path.len() > base {
            path.pop_if(|last| last == "self");
            found.push((alias.take().unwrap_or_else(|| path.last().unwrap().clone()), path.clone()));
        }
        path.truncate(base);
    };
    let mut renamed = false;
    for token in TOKEN.find_iter(tree).map(|token| token.as_str()) {
        let base = groups.last().copied().unwrap_or(0);
        match token {
            "{" => groups.push(path.len()),
            "}" => {
                close(&mut path, &mut alias, &mut found, base);
                groups.pop();
                // The group's own path has brought its names.
                path.truncate(groups.last().copied().unwrap_or(0));
            }
            "," => close(&mut path, &mut alias, &mut found, base),
            "as" => renamed = true,
            name if renamed => {
                alias = Some(name.to_owned());
                renamed = false;
            }
            name => path.push(name.to_owned()),
        }
    }
    close(&mut path, &mut alias, &mut found, 0);
    // `use x::*` brings what is in `x`.
    for (name, path) in &mut found {
        if name == "*" {
            path.pop();
        }
    }
    found
}

/// The sets of files that reach each other.
fn circles(arrows: &Arrows) -> BTreeSet<BTreeSet<String>> {
    let reached: BTreeMap<&String, BTreeSet<&String>> = arrows.keys().map(|from| (from, reached(arrows, from))).collect();
    let both = |from: &String, to: &String| reached.get(to).is_some_and(|back| back.contains(from));
    reached
        .iter()
        .filter(|(from, all)| all.contains(*from))
        .map(|(from, all)| all.iter().filter(|to| both(from, to)).map(|to| (*to).clone()).collect())
        .collect()
}

fn reached<'a>(arrows: &'a Arrows, from: &String) -> BTreeSet<&'a String> {
    let (mut all, mut next) = (BTreeSet::new(), vec![from]);
    while let Some(file) = next.pop() {
        for to in arrows.get(file).into_iter().flat_map(BTreeMap::keys) {
            if all.insert(to) {
                next.push(to);
            }
        }
    }
    all
}

/// A circle with its arrows, and the names that each takes.
fn shown(circle: &BTreeSet<String>, arrows: &Arrows) -> String {
    let mut lines = vec![format!("{} files: {}", circle.len(), circle.iter().cloned().collect::<Vec<_>>().join(", "))];
    for from in circle {
        for (to, names) in arrows.get(from).into_iter().flatten().filter(|(to, _)| circle.contains(*to)) {
            lines.push(format!("  {from} -> {to}: {}", names.iter().cloned().collect::<Vec<_>>().join(", ")));
        }
    }
    lines.join("\n")
}
