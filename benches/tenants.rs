//! What objects that want much cost the others: long queries against many matches, regular expressions, rings, notices. Prints, asserts nothing.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a bench prints, and may fail by panicking"
)]

use std::{fmt::Write as _, hint::black_box, sync::Arc, time::Duration};

use clingfish::{
    api::{self, Document},
    controller::Manifests,
    lb::{LbHost, Ring, RingConfig},
    snapshot::{Extent, Matcher, Observed, Pattern, Query, QueryMatch, ValueMatch, query_value},
    translate::{Change, Options, Resources, translate},
};
use serde_json::{Value, json};
use tokio::time::Instant;

/// Median of several runs.
fn median(rounds: usize, mut run: impl FnMut() -> Duration) -> Duration {
    let mut times: Vec<_> = (0..rounds).map(|_| run()).collect();
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn timed<T>(run: impl FnOnce() -> T) -> Duration {
    let start = Instant::now();
    black_box(run());
    start.elapsed()
}

/// 512 matches on query parameters, none of which holds, against a query of 58 KB.
fn queries() {
    let query: String = (0..8_000).map(|number| format!("p{number}=x&")).collect();
    let matchers: Vec<Matcher> = (0..512)
        .map(|number| Matcher {
            query: [QueryMatch { name: format!("none{number}").into(), value: ValueMatch::Exact("1".into()) }].into(),
            ..Matcher::default()
        })
        .collect();
    let parts = http::Request::builder().body(()).unwrap().into_parts().0.into();
    let names = || matchers.iter().flat_map(|matcher| &matcher.query);
    let walked = median(11, || timed(|| names().filter(|name| query_value(&query, &name.name).is_some()).count()));
    let indexed = median(11, || {
        timed(|| {
            let query = Query::new(&query);
            matchers.iter().filter(|matcher| matcher.matches(&parts, &query)).count()
        })
    });
    println!("512 query matches, a query of {} bytes: walked for each {walked:?}, taken apart once {indexed:?}", query.len());
}

/// What the dearest patterns that are tried cost.
fn patterns() {
    for source in ["/v[0-9]+/.*", "/[a-z]{1000}", "/[a-z]{4000}", "[^/]{400}/.*", "\\p{L}{200}", "([a-z]{60}){60}"] {
        let price = Pattern::price(source).unwrap();
        let mut outcome = String::new();
        let time =
            median(5, || timed(|| outcome = Pattern::compile(source, Extent::Whole).map_or_else(|error| error, |_| "compiled".to_owned())));
        println!("pattern {source}: price {price}, {time:?}, {outcome}");
    }
}

/// How long rings take to build.
fn rings() {
    let hosts: Vec<LbHost> = (0..100).map(|number| LbHost::new(format!("10.0.0.{number}:8080"))).collect();
    for points in [1_024, 65_536, 1 << 20, 8 << 20] {
        let config = RingConfig { minimum_ring_size: points, ..RingConfig::default() };
        println!("ring of {points} points: {:?}", median(3, || timed(|| Ring::build(&hosts, &config).unwrap())));
    }
}

fn route(name: &str, matches: &[Value]) -> Value {
    let rules: Vec<Value> =
        matches.chunks(64).map(|matches| json!({"matches": matches, "backendRefs": [{"name": "web", "port": 80}]})).collect();
    json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": name, "namespace": "infra"},
        "spec": {"parentRefs": [{"name": "gw"}], "hostnames": [format!("{name}.example.com")], "rules": rules}})
}

fn apply(resources: &mut Resources, document: Value) {
    match api::decode(document).unwrap() {
        Document::Object(object) => resources.apply(Change::apply(object)),
        other => panic!("{other:?}"),
    }
}

/// A route with as many different regular expressions as it may have, as a change.
fn hostile_route() {
    let mut resources = Resources::default();
    apply(
        &mut resources,
        json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": "gw", "namespace": "infra"},
            "spec": {"gatewayClassName": "clingfish", "listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}]}}),
    );
    let options = Options::validate();
    let mut translation = Some(translate(&resources, &Observed::default(), &options, None));
    resources.clear_changes();
    for (what, repeat) in [("small", 20), ("large", 900)] {
        let mut round = 0;
        let time = median(5, || {
            round += 1;
            let matches: Vec<Value> = (0..1024)
                .map(|number| json!({"path": {"type": "RegularExpression", "value": format!("/{round}/{number}/[a-z]{{{repeat}}}")}}))
                .collect();
            apply(&mut resources, route("hostile", &matches));
            timed(|| {
                translation = Some(translate(&resources, &Observed::default(), &options, translation.take()));
                resources.clear_changes();
            })
        });
        println!("a route with 1024 {what} regular expressions: {time:?}");
    }
}

/// A change beside 100,000 documents of other kinds, each of which is a notice.
fn notices() {
    let mut manifests = Manifests::new();
    let mut text = String::new();
    for number in 0..100_000 {
        write!(text, "---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: d{number}}}\n").unwrap();
    }
    manifests.update("others.yaml", text.as_bytes());
    let service = |round: u32| format!("apiVersion: v1\nkind: Service\nmetadata: {{name: s, annotations: {{round: \"{round}\"}}}}\n");
    let mut before = manifests.notices();
    let mut round = 0;
    let time = median(51, || {
        round += 1;
        timed(|| {
            manifests.update("service.yaml", service(round).as_bytes());
            let now = manifests.notices();
            let same = before.iter().zip(&now).all(|(before, now)| Arc::ptr_eq(before, now));
            assert!(same, "unchanged files keep their notices");
            before = now;
        })
    });
    println!("a change beside 100,000 notices: {time:?}");
}

fn main() {
    queries();
    patterns();
    rings();
    hostile_route();
    notices();
}
