use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use serde_json::json;

use super::*;
use crate::api::{self, Document};
use crate::base::Kind;
use crate::controller::manifests::Notice;
use crate::translate::Notices;

fn namespace(name: &str) -> Change {
    let document = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    match api::decode(document).unwrap() {
        Document::Object(object) => Change::Apply(object),
        other => panic!("{other:?}"),
    }
}

fn engine(translate: Translate) -> (Engine, EngineHandle, Arc<Metrics>) {
    engine_with(Options::default(), translate)
}

pub(super) fn engine_with(options: Options, translate: Translate) -> (Engine, EngineHandle, Arc<Metrics>) {
    let metrics = Metrics::new(1);
    let config = EngineConfig {
        options,
        published: Arc::new(Published::new(Arc::default())),
        metrics: Arc::clone(&metrics),
        observed: Observed::default(),
        clock: Clock::default(),
        slots: None,
        observer: None,
        digests: Arc::new(Published::new(Arc::default())),
        moved: None,
    };
    let (mut engine, handle) = Engine::new(config);
    engine.translate = translate;
    (engine, handle, metrics)
}

fn changes(names: &[&str]) -> Input {
    Input::Changes { changes: names.iter().map(|name| namespace(name)).collect(), notices: Vec::new() }
}

/// Says how many namespaces there are; panics while one is called `bad`.
fn fragile(resources: &Resources, _: &Observed, _: &Options, previous: Option<Translation>) -> Translation {
    let has = |name: &str| resources.contains(&ObjectRef::new(Kind::Namespace, "", name));
    assert!(!has("bad"), "as the test wants it");
    let count = ["a", "b", "c"].iter().filter(|name| has(name)).count();
    let from_scratch = previous.is_none();
    let mut translation = Translation::default();
    translation.notices = Notices::of(format!("{count} namespaces, from scratch: {from_scratch}"));
    translation
}

pub(super) const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_flood_of_changes_is_taken_in_by_the_handful() {
    static TURNS: AtomicU32 = AtomicU32::new(0);
    fn counted(resources: &Resources, observed: &Observed, options: &Options, previous: Option<Translation>) -> Translation {
        TURNS.fetch_add(1, Ordering::Relaxed);
        translate(resources, observed, options, previous)
    }
    let (engine, handle, _) = engine(counted);
    let begin = Instant::now();
    engine.start(vec![namespace("first")], Vec::new()).unwrap();
    for number in 0..100 {
        handle.send(changes(&[&format!("n{number}")]));
        handle.report(PATIENCE).await.unwrap();
    }
    // As many as the clock allows, however fast this machine is; without a pace there would be 101 at once.
    let allowed = f64::from(1 + TURNS_AT_ONCE) + f64::from(TURNS_PER_SECOND) * begin.elapsed().as_secs_f64();
    let turns = TURNS.load(Ordering::Relaxed);
    assert!(f64::from(turns) <= allowed, "{turns} turns, {allowed} allowed");
}

#[tokio::test]
async fn a_panic_costs_one_translation_and_no_change() {
    let (engine, handle, metrics) = engine(fragile);
    engine.start(vec![namespace("a")], Vec::new()).unwrap();
    assert_eq!(handle.report(PATIENCE).await.unwrap().notices, ["1 namespaces, from scratch: true"]);
    handle.send(changes(&["b", "bad", "c"]));
    let report = handle.report(PATIENCE).await.unwrap();
    assert!(report.notices.is_empty(), "nothing is known after a panic, but somebody answers");
    assert_eq!(metrics.control().engine_panics(), 2, "the changed state, and from scratch");
    let delete = Change::Delete(ObjectRef::new(Kind::Namespace, "", "bad"));
    handle.send(Input::Changes { changes: vec![delete], notices: Vec::new() });
    assert_eq!(handle.report(PATIENCE).await.unwrap().notices, ["3 namespaces, from scratch: true"]);
    assert_eq!(metrics.control().engine_busy(), Duration::ZERO);
}

#[tokio::test]
async fn a_hanging_engine_is_seen_and_does_not_block_who_asks() {
    static RELEASED: AtomicU32 = AtomicU32::new(0);
    let hang: Translate = |resources, _, _, _| {
        while resources.contains(&ObjectRef::new(Kind::Namespace, "", "bad")) && RELEASED.load(Ordering::Relaxed) == 0 {
            thread::yield_now();
        }
        Translation::default()
    };
    let (engine, handle, metrics) = engine(hang);
    engine.start(Vec::new(), Vec::new()).unwrap();
    handle.send(changes(&["bad"]));
    assert!(handle.report(Duration::from_millis(20)).await.is_none());
    assert!(metrics.control().engine_busy() > Duration::ZERO);
    RELEASED.store(1, Ordering::Relaxed);
    assert!(handle.report(PATIENCE).await.is_some());
}

#[tokio::test]
async fn the_observer_is_told_after_publication() {
    let (mut engine, handle, _metrics) = engine(translate);
    let (sender, told) = mpsc::channel();
    let published = Arc::clone(&engine.config.published);
    let observer: Observer = Box::new(move |_, generation| {
        let _ = sender.send((generation, published.load().generation));
    });
    engine.config.observer = Some(observer);
    engine.start(vec![namespace("a")], vec![[Notice { refused: false, text: "said by the source".into() }].into()]).unwrap();
    let (generation, current) = told.recv_timeout(PATIENCE).unwrap();
    assert_eq!(generation, current);
    assert_eq!(handle.report(PATIENCE).await.unwrap().notices, ["said by the source"]);
}

pub(super) fn object(document: serde_json::Value) -> Change {
    match api::decode(document).unwrap() {
        Document::Object(object) => Change::apply(object),
        other => panic!("{other:?}"),
    }
}

fn slice(address: &str) -> Change {
    object(json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "s-1", "namespace": "n", "labels": {"kubernetes.io/service-name": "s"}},
        "ports": [{"name": "http", "port": 80}], "endpoints": [{"addresses": [address]}]}))
}

/// A Gateway, a Service with a pod, and a route to it.
fn served() -> Vec<Change> {
    vec![
        object(json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": "g", "namespace": "n"},
            "spec": {"gatewayClassName": "clingfish", "listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}]}})),
        object(
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s", "namespace": "n"}, "spec": {"ports": [{"name": "http", "port": 80}]}}),
        ),
        object(json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": "plain", "namespace": "n"},
            "spec": {"parentRefs": [{"name": "g"}], "rules": [{"backendRefs": [{"name": "s", "port": 80}]}]}})),
        slice("10.0.0.1"),
    ]
}

/// Routes with regular expressions of their own, as expensive as they may be.
fn heavy_routes(count: usize) -> Vec<Change> {
    let route = |number: usize| {
        let pattern = format!("/{number}/([a-z]{{40}}|[0-9]{{40}}|[a-f]{{40}})");
        object(
            json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": format!("heavy{number}"), "namespace": "n"},
            "spec": {"parentRefs": [{"name": "g"}], "hostnames": [format!("h{number}.example")],
                "rules": [{"matches": [{"path": {"type": "RegularExpression", "value": pattern}}], "backendRefs": [{"name": "s", "port": 80}]}]}}),
        )
    };
    (0..count).map(route).collect()
}

/// What a published snapshot has: the first pod's address, and the number of hostnames.
fn seen(snapshot: &Snapshot) -> (String, usize) {
    let host = snapshot.clusters.iter().flatten().find_map(|cluster| Some(cluster.hosts.first()?.text.to_string()));
    let hosts = snapshot.binds.values().flat_map(|bind| bind.listeners.iter()).map(|(_, listener)| listener.hosts.iter().count()).sum();
    (host.unwrap_or_default(), hosts)
}

#[tokio::test]
async fn a_pod_does_not_wait_for_the_regular_expressions_of_others() {
    let (engine, handle, _metrics) = engine(translate);
    let published = Arc::clone(&engine.config.published);
    engine.start(served(), Vec::new()).unwrap();
    assert_eq!(seen(&published.load().value), ("10.0.0.1:80".to_owned(), 1));
    let mut generations = published.watch();
    generations.mark_unchanged();
    let changes = |changes| Input::Changes { changes, notices: Vec::new() };
    handle.send(changes(heavy_routes(600)));
    for address in ["10.0.0.2", "10.0.0.3", "10.0.0.4"] {
        handle.send(changes(vec![slice(address)]));
        generations.changed().await.unwrap();
        generations.mark_unchanged();
        assert_eq!(seen(&published.load().value), (format!("{address}:80"), 1), "the pod goes past, the routes are still being compiled");
    }
    let report = handle.report(PATIENCE).await.unwrap();
    assert_eq!(seen(&report.snapshot), ("10.0.0.4:80".to_owned(), 601), "who asks sees everything that came before");
}

#[tokio::test]
async fn what_is_held_is_taken_in_as_it_came_and_nothing_old_comes_back() {
    let (engine, handle, _metrics) = engine(translate);
    let published = Arc::clone(&engine.config.published);
    engine.start(served(), Vec::new()).unwrap();
    let changes = |changes| Input::Changes { changes, notices: Vec::new() };
    // An EndpointSlice that comes with others waits with them, unless a newer version goes past.
    handle.send(changes(heavy_routes(300).into_iter().chain([slice("10.0.0.2")]).collect()));
    handle.send(changes(vec![Change::Delete(ObjectRef::new(Kind::HttpRoute, "n", "heavy7"))]));
    handle.send(changes(vec![slice("10.0.0.3")]));
    let report = handle.report(PATIENCE).await.unwrap();
    assert_eq!(seen(&report.snapshot), ("10.0.0.3:80".to_owned(), 300));
    handle.send(changes(heavy_routes(8)));
    let report = handle.report(PATIENCE).await.unwrap();
    assert_eq!(seen(&report.snapshot), ("10.0.0.3:80".to_owned(), 301));
    assert!(Arc::ptr_eq(&report.snapshot, &published.load().value));
}

#[tokio::test]
async fn preparing_goes_on_whatever_comes_meanwhile() {
    let (engine, handle, _metrics) = engine(translate);
    let published = Arc::clone(&engine.config.published);
    engine.start(served(), Vec::new()).unwrap();
    handle.send(Input::Changes { changes: heavy_routes(100), notices: Vec::new() });
    let deadline = Instant::now() + PATIENCE;
    let mut number = 0_u32;
    while seen(&published.load().value).1 < 101 {
        assert!(Instant::now() < deadline, "starved");
        number += 1;
        handle.send(Input::Changes { changes: vec![slice(&format!("10.1.{}.{}", number / 200 % 200, number % 200))], notices: Vec::new() });
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn time_that_goes_by_is_seen_without_a_change() {
    static HOUR: AtomicU64 = AtomicU64::new(7);
    let (mut engine, handle, _) = engine(translate);
    let hours = Arc::new(std::sync::Mutex::new(Vec::new()));
    engine.config.clock = Clock {
        now: || std::time::UNIX_EPOCH + Duration::from_secs(3_600 * HOUR.load(Ordering::Relaxed) + 1),
        interval: Duration::from_millis(1),
    };
    engine.translate = |resources, observed, options, previous| {
        let mut translation = translate(resources, observed, options, previous);
        translation.hostname_conflicts = usize::try_from(observed.hour.unwrap()).unwrap();
        translation
    };
    let seen = Arc::clone(&hours);
    engine.config.observer = Some(Box::new(move |translation, _| seen.lock().unwrap().push(translation.hostname_conflicts)));
    engine.start(vec![namespace("a")], Vec::new()).unwrap();
    HOUR.store(9, Ordering::Relaxed);
    let deadline = Instant::now() + PATIENCE;
    while hours.lock().unwrap().last() != Some(&9) {
        assert!(Instant::now() < deadline, "{:?}", hours.lock().unwrap());
        thread::yield_now();
    }
    // A clock that stands still costs no translation.
    assert_eq!(*hours.lock().unwrap(), [7, 9]);
    drop(handle);
}
