//! A Gateway with 64 listeners of its own and many ListenerSets of one listener and one HTTPRoute each: time of a translation from scratch, for one
//! changed ListenerSet, HTTPRoute and EndpointSlice, how many statuses each of them changes, and memory. Prints, asserts nothing.
//!
//! `cargo bench --bench listener_sets [NUMBER_OF_SETS...]`
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a bench prints, and may fail by panicking"
)]

use std::{sync::Arc, time::Duration};

use clingfish::{
    api::{self, Document},
    snapshot::Observed,
    translate::{Change, Options, Resources, Translation, translate},
};
use serde_json::{Value, json};
use tokio::time::Instant;

/// Changes measured per figure.
const ROUNDS: u32 = 31;

/// Listeners of the Gateway itself, as many as it may have.
const OWN: u32 = 64;

/// What has been translated so far.
struct World {
    resources: Resources,
    observed: Observed,
    options: Options,
    translation: Option<Translation>,
}

fn metadata(name: &str) -> Value {
    json!({"name": name, "namespace": "infra", "generation": 1})
}

fn gateway() -> Value {
    let listeners: Vec<_> =
        (0..OWN).map(|number| json!({"name": format!("own-{number}"), "port": 80, "protocol": "HTTP", "hostname": format!("own-{number}.example.com")})).collect();
    json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": metadata("gw"),
        "spec": {"gatewayClassName": "clingfish", "allowedListeners": {"namespaces": {"from": "Same"}}, "listeners": listeners}})
}

fn set(number: u32, hostname: &str) -> Value {
    json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "ListenerSet", "metadata": metadata(&format!("set-{number}")),
        "spec": {"parentRef": {"name": "gw"}, "listeners": [{"name": "http", "port": 80, "protocol": "HTTP", "hostname": hostname}]}})
}

fn route(number: u32, prefix: &str) -> Value {
    json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": metadata(&format!("route-{number}")),
        "spec": {"parentRefs": [{"group": "gateway.networking.k8s.io", "kind": "ListenerSet", "name": format!("set-{number}")}],
            "rules": [{"matches": [{"path": {"value": prefix}}], "backendRefs": [{"name": format!("web-{number}"), "port": 80}]}]}})
}

fn service(number: u32) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata(&format!("web-{number}")), "spec": {"ports": [{"port": 80}]}})
}

fn slice(number: u32, last: u32) -> Value {
    json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": format!("web-{number}-a"), "namespace": "infra", "labels": {"kubernetes.io/service-name": format!("web-{number}")}},
        "endpoints": [{"addresses": [format!("10.0.{}.{last}", number % 250)]}], "ports": [{"port": 8080}]})
}

impl World {
    fn new(sets: u32) -> Self {
        let (observed, options) = (Observed::default(), Options::validate());
        let mut world = Self { resources: Resources::default(), observed, options, translation: None };
        world.apply(json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass", "metadata": {"name": "clingfish"},
            "spec": {"controllerName": "clingfish.dev/gateway-controller"}}));
        world.apply(gateway());
        for number in 0..sets {
            for object in [set(number, &format!("set-{number}.example.com")), route(number, "/"), service(number), slice(number, 2)] {
                world.apply(object);
            }
        }
        world
    }

    fn apply(&mut self, document: Value) {
        match api::decode(document).unwrap() {
            Document::Object(object) => self.resources.apply(Change::Apply(object)),
            other => panic!("{other:?}"),
        }
    }

    /// Translates what was applied; how long that takes.
    fn translate(&mut self) -> Duration {
        // As in the engine: the data plane still holds the snapshot before.
        let held = self.translation.as_ref().map(|translation| Arc::clone(&translation.snapshot));
        let start = Instant::now();
        let next = translate(&self.resources, &self.observed, &self.options, self.translation.take());
        let elapsed = start.elapsed();
        assert!(held.is_none_or(|held| !Arc::ptr_eq(&held, &next.snapshot)), "nothing changed");
        self.translation = Some(next);
        self.resources.clear_changes();
        elapsed
    }

    /// The median of several changes, and how many statuses one of them changes.
    fn measure(&mut self, what: &str, change: impl Fn(u32) -> Value) {
        let mut times = Vec::new();
        for round in 0..ROUNDS {
            self.apply(change(round));
            times.push(self.translate());
        }
        times.sort();
        let median = times.get(times.len() / 2).copied().unwrap_or_default();
        let statuses = self.translation.as_ref().map_or(0, |translation| translation.changed_statuses.len());
        println!("  {what:<22} {:>10.0} us, {statuses} statuses", median.as_secs_f64() * 1e6);
    }
}

/// Resident memory of this process, in MiB.
fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes: f64 = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse().ok()).unwrap_or_default();
    kilobytes / 1024.0
}

fn main() {
    let wanted: Vec<u32> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    for sets in if wanted.is_empty() { vec![100, 1_000] } else { wanted } {
        let before = resident();
        let mut world = World::new(sets);
        let scratch = world.translate();
        println!(
            "{OWN} listeners and {sets} ListenerSets, each with an HTTPRoute, a Service and an EndpointSlice: {:.1} MiB more",
            resident() - before
        );
        println!("  {:<22} {:>10.0} us", "from scratch", scratch.as_secs_f64() * 1e6);
        let middle = sets / 2;
        world.measure("one ListenerSet", |round| set(middle, &format!("round-{round}.example.com")));
        world.measure("one HTTPRoute", |round| route(middle, &format!("/{round}")));
        world.measure("one EndpointSlice", |round| slice(middle, 3 + round % 200));
    }
}
