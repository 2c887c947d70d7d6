//! Time of a translation from scratch, for one changed EndpointSlice and for one changed HTTPRoute, by number of routes. Prints, asserts nothing.
//!
//! Every route has a hostname, a Service and an EndpointSlice of its own. `cargo bench --bench translate [NUMBER_OF_ROUTES...]`
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a bench prints, and may fail by panicking"
)]

use std::time::Duration;

use clingfish::{
    api::{self, Document},
    snapshot::Observed,
    translate::{Change, Options, Resources, Translation, translate},
};
use serde_json::{Value, json};
use tokio::time::Instant;

/// Changes measured per figure.
const ROUNDS: u32 = 51;

fn apply(resources: &mut Resources, document: Value) {
    match api::decode(document).unwrap() {
        Document::Object(object) => resources.apply(Change::Apply(object)),
        other => panic!("{other:?}"),
    }
}

fn gateway(resources: &mut Resources) {
    apply(
        resources,
        json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass", "metadata": {"name": "clingfish"},
            "spec": {"controllerName": "clingfish.dev/gateway-controller"}}),
    );
    apply(
        resources,
        json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": "gw", "namespace": "infra"},
            "spec": {"gatewayClassName": "clingfish", "listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}]}}),
    );
}

fn route(number: u32, prefix: &str) -> Value {
    json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": format!("route-{number}"), "namespace": "infra"},
        "spec": {"parentRefs": [{"name": "gw"}], "hostnames": [format!("host-{number}.example.com")],
            "rules": [{"matches": [{"path": {"value": prefix}}], "backendRefs": [{"name": format!("web-{number}"), "port": 80}]}]}})
}

fn service(number: u32) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": format!("web-{number}"), "namespace": "infra"}, "spec": {"ports": [{"port": 80}]}})
}

fn slice(number: u32, last: u32) -> Value {
    let third = number % 250;
    json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": format!("web-{number}-a"), "namespace": "infra", "labels": {"kubernetes.io/service-name": format!("web-{number}")}},
        "endpoints": [{"addresses": [format!("10.0.{third}.1")]}, {"addresses": [format!("10.0.{third}.{last}")]}], "ports": [{"port": 8080}]})
}

/// Median time of a translation after each of the changes.
fn median(
    resources: &mut Resources,
    translation: &mut Option<Translation>,
    observed: &Observed,
    options: &Options,
    change: impl Fn(u32) -> Value,
) -> Duration {
    let mut times: Vec<_> = (0..ROUNDS)
        .map(|round| {
            apply(resources, change(round));
            // As in the engine: the data plane still holds the snapshot before.
            let held = translation.as_ref().map(|translation| std::sync::Arc::clone(&translation.snapshot));
            let start = Instant::now();
            let next = translate(resources, observed, options, translation.take());
            let elapsed = start.elapsed();
            assert!(held.is_some_and(|held| !std::sync::Arc::ptr_eq(&held, &next.snapshot)), "nothing changed");
            *translation = Some(next);
            resources.clear_changes();
            elapsed
        })
        .collect();
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn main() {
    let wanted: Vec<u32> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    let numbers = if wanted.is_empty() { vec![100, 1_000, 10_000] } else { wanted };
    let (observed, options) = (Observed::default(), Options::validate());
    println!("{:>8} {:>14} {:>14} {:>14}", "routes", "from scratch", "one slice", "one HTTPRoute");
    for number in numbers {
        let mut resources = Resources::default();
        gateway(&mut resources);
        for index in 0..number {
            apply(&mut resources, route(index, "/"));
            apply(&mut resources, service(index));
            apply(&mut resources, slice(index, 2));
        }
        let start = Instant::now();
        let mut translation = Some(translate(&resources, &observed, &options, None));
        let scratch = start.elapsed();
        resources.clear_changes();
        let middle = number / 2;
        let one_slice = median(&mut resources, &mut translation, &observed, &options, |round| slice(middle, 3 + round % 200));
        let one_route = median(&mut resources, &mut translation, &observed, &options, |round| route(middle, &format!("/{round}")));
        println!("{number:>8} {:>14} {:>14} {:>14}", micros(scratch), micros(one_slice), micros(one_route));
    }
}

fn micros(time: Duration) -> String {
    format!("{:.0} us", time.as_secs_f64() * 1e6)
}
