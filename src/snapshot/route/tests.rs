use http::{HeaderName, Method, StatusCode};
use proptest::prelude::*;

use super::*;
use crate::base::{Kind, ObjectName};
use crate::snapshot::{Extent, HeaderMatch, Pattern, QueryMatch, ValueMatch};

fn rule(index: u16) -> Arc<Rule> {
    Arc::new(Rule {
        route: Arc::new(RouteName { kind: Kind::HttpRoute, name: ObjectName::new("ns", "route") }),
        index,
        action: Action::Respond(FixedReply { status: StatusCode::OK, reason: "test".into() }),
        filters: None,
        policy: Arc::default(),
    })
}

fn path(text: &str) -> PathMatch {
    match text.split_at(1) {
        ("=", exact) => PathMatch::Exact(exact.into()),
        ("~", pattern) => PathMatch::Regex(Arc::new(Pattern::compile(pattern, Extent::Whole).unwrap())),
        (_, prefix) => PathMatch::prefix(prefix),
    }
}

fn matcher(method: bool, headers: usize, query: usize) -> Matcher {
    let value = ValueMatch::Exact("v".into());
    Matcher {
        method: method.then_some(Method::GET),
        headers: (0..headers).map(|_| HeaderMatch { name: HeaderName::from_static("x-a"), value: value.clone() }).collect(),
        query: (0..query).map(|n| QueryMatch { name: n.to_string().into(), value: value.clone() }).collect(),
    }
}

/// `=` exact, `~` pattern, `^` prefix.
fn routes(paths: &[&str]) -> HostRoutes {
    let entry = |(n, text): (usize, &&str)| RouteEntry {
        path: path(text),
        matcher: Matcher::default(),
        rule: rule(u16::try_from(n).unwrap()),
        match_index: 0,
    };
    HostRoutes::build(Hostname::Any, paths.iter().enumerate().map(entry).collect())
}

#[test]
fn the_best_path_wins() {
    let routes = routes(&["^/", "^/a", "^/a/b/", "=/a/b", "~/a/.*x", "~/.*x", "=/a/", "^/long/er/than/most"]);
    for (path, expected) in [
        ("/", Some((0, 0))),
        ("/other", Some((0, 0))),
        ("/a", Some((1, 2))),
        ("/ab", Some((0, 0))),
        ("/a/", Some((6, 3))),
        ("/a/c", Some((1, 2))),
        ("/a/b", Some((3, 4))),
        ("/a/b/", Some((2, 4))),
        ("/a/b/c", Some((2, 4))),
        ("/a/bc", Some((1, 2))),
        ("/a//b", Some((1, 2))),
        ("/a/yx", Some((4, 5))),
        ("/bx", Some((5, 3))),
        ("/A", Some((0, 0))),
        ("//", Some((0, 0))),
        ("*", None),
    ] {
        let found = routes.find(path, |_| true).map(|m| (m.entry.rule.index, m.matched_len));
        assert_eq!(found, expected, "{path}");
    }
}

#[test]
fn a_worse_path_is_taken_where_the_better_ones_conditions_do_not_hold() {
    let mut entries: Vec<RouteEntry> = Vec::new();
    for (n, text) in ["=/a", "~/.", "^/a", "^/"].into_iter().enumerate() {
        let matcher = if n < 3 { matcher(true, 0, 0) } else { Matcher::default() };
        entries.push(RouteEntry { path: path(text), matcher, rule: rule(u16::try_from(n).unwrap()), match_index: 0 });
    }
    let routes = HostRoutes::build(Hostname::Any, entries);
    assert_eq!(routes.find("/a", |m| m.method.is_none()).map(|m| m.entry.rule.index), Some(3));
    assert_eq!(routes.find("/a", |_| true).map(|m| m.entry.rule.index), Some(0));
}

#[test]
fn method_then_headers_then_query_then_the_order_given_decide_between_equal_paths() {
    let conditions = [(false, 0, 0), (false, 0, 2), (false, 0, 2), (false, 1, 0), (false, 1, 9), (true, 0, 0), (true, 0, 1)];
    let entries = conditions.iter().enumerate().map(|(n, &(method, headers, query))| RouteEntry {
        path: path("^/a"),
        matcher: matcher(method, headers, query),
        rule: rule(u16::try_from(n).unwrap()),
        match_index: 0,
    });
    let routes = HostRoutes::build(Hostname::Any, entries.collect());
    let order: Vec<u16> = routes.entries().iter().map(|entry| entry.rule.index).collect();
    assert_eq!(order, [6, 5, 4, 3, 1, 2, 0]);
}

#[test]
fn regular_expressions_are_ordered_by_length_or_are_equals() {
    // The shorter ones have more conditions; the last is as good as the one before it.
    let written = [
        ("~/.*x", (false, 0, 0)),
        ("~/a.*", (true, 0, 0)),
        ("~/a.+", (false, 1, 1)),
        ("~/ab?.+x", (false, 0, 1)),
        ("~/[a].+x", (false, 0, 1)),
    ];
    for (order, expected) in [(RegexOrder::LongestFirst, [3, 4, 1, 2, 0]), (RegexOrder::Equals, [1, 2, 3, 4, 0])] {
        // Few entries are tried one after another, many are found by an index.
        for extra in [0, 12] {
            let entry = |(n, (text, (method, headers, query))): (usize, (&str, (bool, usize, usize)))| RouteEntry {
                path: path(text),
                matcher: matcher(method, headers, query),
                rule: rule(u16::try_from(n).unwrap()),
                match_index: 0,
            };
            let others = (0..extra).map(|n| entry((100 + n, (&*format!("^/other/{n}"), (true, 9, 9)))));
            let entries: Vec<RouteEntry> = others.chain(written.into_iter().enumerate().map(entry)).collect();
            let routes = HostRoutes::build_tiers(Hostname::Any, order, [entries]);
            let found: Vec<u16> = routes.entries().iter().map(|entry| entry.rule.index).filter(|index| *index < 100).collect();
            assert_eq!(found, expected, "{order:?}");
            assert_eq!(routes.find("/abbx", |_| true).map(|found| found.entry.rule.index), Some(expected[0]), "{order:?}");
            let without_method = routes.find("/abbx", |matcher| matcher.method.is_none());
            let expected = if order == RegexOrder::Equals { 2 } else { 3 };
            assert_eq!(without_method.map(|found| found.entry.rule.index), Some(expected), "{order:?}");
        }
    }
}

#[test]
fn a_path_of_many_elements_costs_no_more_than_the_longest_prefix() {
    let routes = routes(&["^/a/a", "^/"]);
    let path = "/a".repeat(16_000);
    assert_eq!(routes.find(&path, |_| false).map(|m| m.matched_len), None);
    assert_eq!(routes.find(&path, |_| true).map(|m| m.matched_len), Some(4));
}

const PATTERNS: [&str; 4] = ["~/a.*", "~/.*", "~/[ab]", "~/b/.+"];

fn path_text() -> impl Strategy<Value = String> {
    prop_oneof!["=/[ab/]{0,5}", "\\^/[ab/]{0,5}", prop::sample::select(PATTERNS.to_vec()).prop_map(str::to_owned),]
}

/// Matching as the Gateway API words it, one entry at a time.
fn naive<'a>(entries: &'a [RouteEntry], path: &str, accept: impl Fn(&Matcher) -> bool) -> Option<&'a RouteEntry> {
    let length = |entry: &RouteEntry| match &entry.path {
        PathMatch::Exact(text) => text.len(),
        PathMatch::Prefix(text) => text.len(),
        PathMatch::Regex(regex) => regex.source().len(),
    };
    let matches = |entry: &RouteEntry| match &entry.path {
        PathMatch::Exact(text) => **text == *path,
        PathMatch::Regex(regex) => regex.is_match(path),
        PathMatch::Prefix(text) => format!("{path}/").starts_with(&format!("{text}/")),
    };
    let rank = |entry: &RouteEntry| {
        let m = &entry.matcher;
        (path_rank(&entry.path), usize::MAX - length(entry), m.method.is_none(), usize::MAX - m.headers.len(), usize::MAX - m.query.len())
    };
    // `min_by_key` returns the first of equals.
    entries.iter().filter(|entry| matches(entry) && accept(&entry.matcher)).min_by_key(|entry| rank(entry))
}

static COMPILED: std::sync::OnceLock<[PathMatch; 4]> = std::sync::OnceLock::new();

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]
    #[test]
    fn find_equals_a_linear_search(
        entries in prop::collection::vec((path_text(), any::<bool>(), 0..2usize, 0..2usize), 0..24),
        requests in prop::collection::vec(("/[ab/]{0,8}", any::<bool>()), 1..8),
    ) {
        // Compiling is dear.
        let patterns = COMPILED.get_or_init(|| PATTERNS.map(path));
        let compiled = |text: &String| PATTERNS.iter().position(|pattern| pattern == text).map_or_else(|| path(text), |n| patterns[n].clone());
        let entries: Vec<RouteEntry> = entries.iter().enumerate().map(|(n, (text, method, headers, query))| RouteEntry {
            path: compiled(text),
            matcher: matcher(*method, *headers, *query),
            rule: rule(u16::try_from(n).unwrap()),
            match_index: 0,
        }).collect();
        let routes = HostRoutes::build(Hostname::Any, entries.clone());
        for (path, with_method) in &requests {
            let accept = |m: &Matcher| *with_method || m.method.is_none();
            let expected = naive(&entries, path, accept).map(|entry| entry.rule.index);
            prop_assert_eq!(routes.find(path, accept).map(|m| m.entry.rule.index), expected, "{}", path);
        }
    }
}

#[test]
fn a_more_specific_hostname_comes_before_any_match() {
    let entry = |path: &str, number| RouteEntry { path: self::path(path), matcher: Matcher::default(), rule: rule(number), match_index: 0 };
    let many = |first: u16| (0..12).map(move |number| entry(&format!("={first}/{number}"), first + number));
    // Few entries are tried one after another, many are found by an index.
    for extra in [0, 12] {
        let specific: Vec<RouteEntry> = std::iter::once(entry("^/a", 1)).chain(many(100).take(extra)).collect();
        let wider: Vec<RouteEntry> = [entry("=/a/b", 2), entry("^/b", 3)].into_iter().chain(many(200).take(extra)).collect();
        let routes = HostRoutes::build_tiers(Hostname::Any, RegexOrder::default(), [specific, wider]);
        for (path, expected) in [("/a/b", Some(1)), ("/b/c", Some(3)), ("/c", None)] {
            assert_eq!(routes.find(path, |_| true).map(|found| found.entry.rule.index), expected, "{path}");
        }
        assert_eq!(routes.entries().len(), 3 + 2 * extra);
    }
}
