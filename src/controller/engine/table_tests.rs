//! Large tables delay nobody. No clock decides here: who builds a table waits until the test lets him.

use std::sync::Condvar;

use serde_json::json;

use crate::base::Kind;
use crate::snapshot::{Action, BackendName, Cluster, TableState, dump};
use crate::translate::{BuiltTable, Limits, TableRequest, translate};

use super::tests::{PATIENCE, engine_with, object};
use super::*;

/// Lets so many tables be built.
struct Gate {
    passing: std::sync::Mutex<Passing>,
    changed: Condvar,
}

struct Passing {
    permits: usize,
    /// Tables whose building has begun.
    begun: usize,
}

impl Gate {
    const fn closed() -> Self {
        Self { passing: std::sync::Mutex::new(Passing { permits: 0, begun: 0 }), changed: Condvar::new() }
    }

    fn open(&self, permits: usize) {
        self.passing.lock().unwrap().permits += permits;
        self.changed.notify_all();
    }

    /// Waits until so many tables have been begun.
    fn begun(&self, count: usize) {
        let passing = self.changed.wait_timeout_while(self.passing.lock().unwrap(), PATIENCE, |passing| passing.begun < count);
        assert!(!passing.unwrap().1.timed_out(), "nobody builds");
    }

    fn build(&self, request: TableRequest) -> BuiltTable {
        self.passing.lock().unwrap().begun += 1;
        self.changed.notify_all();
        let mut passing = self.changed.wait_while(self.passing.lock().unwrap(), |passing| passing.permits == 0).unwrap();
        passing.permits -= 1;
        drop(passing);
        request.build()
    }
}

/// Rings of more than 1,500 points are large.
fn options() -> Options {
    Options { limits: Limits { table_entries_at_once: 1500, ..Limits::default() }, ..Options::default() }
}

fn changes(changes: Vec<Change>) -> Input {
    Input::Changes { changes, notices: Vec::new() }
}

fn slice(service: &str, addresses: &[&str]) -> Change {
    let endpoints: Vec<_> = addresses.iter().map(|address| json!({"addresses": [address]})).collect();
    object(json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": format!("{service}-1"), "namespace": "n", "labels": {"kubernetes.io/service-name": service}},
        "ports": [{"name": "http", "port": 80}], "endpoints": endpoints}))
}

fn service(name: &str) -> Change {
    object(json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "n"},
        "spec": {"ports": [{"name": "http", "port": 80}]}}))
}

fn upstream(name: &str, service: &str, points: u64) -> Change {
    object(json!({"apiVersion": "gloo.solo.io/v1", "kind": "Upstream", "metadata": {"name": name, "namespace": "n"},
        "spec": {"kube": {"serviceName": service, "serviceNamespace": "n", "servicePort": 80},
            "loadBalancerConfig": {"ringHash": {"ringHashConfig": {"minimumRingSize": points}}}}}))
}

fn route(name: &str, upstream: &str) -> Change {
    object(json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": name, "namespace": "n"},
        "spec": {"parentRefs": [{"name": "g"}], "hostnames": [format!("{name}.example")],
            "rules": [{"backendRefs": [{"name": upstream, "group": "gloo.solo.io", "kind": "Upstream"}]}]}}))
}

/// A small Upstream, and so many large ones that share a Service.
fn served(large: usize) -> Vec<Change> {
    let gateway =
        object(json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": "g", "namespace": "n"},
        "spec": {"gatewayClassName": "clingfish", "listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}]}}));
    let mut served =
        vec![gateway, service("small"), service("big"), slice("small", &["10.0.0.1"]), slice("big", &["10.1.0.1", "10.1.0.2"])];
    served.extend([upstream("small", "small", 1024), route("small", "small")]);
    for number in 0..large {
        let name = format!("large{number}");
        served.extend([upstream(&name, "big", 4096), route(&name, &name)]);
    }
    served
}

fn cluster<'a>(snapshot: &'a Snapshot, name: &str) -> Option<&'a Arc<Cluster>> {
    snapshot.clusters.iter().flatten().find(|cluster| &*cluster.name.name.name == name)
}

fn hosts(snapshot: &Snapshot, name: &str) -> Vec<String> {
    cluster(snapshot, name).map(|cluster| cluster.hosts.iter().map(|host| host.address.ip().to_string()).collect()).unwrap_or_default()
}

/// The hosts that requests go to.
fn chosen(snapshot: &Snapshot, name: &str) -> BTreeSet<String> {
    let cluster = cluster(snapshot, name).unwrap();
    let hashes = (0..64_u64).map(|number| number << 58 | number);
    hashes
        .filter_map(|hash| Some(cluster.hosts[cluster.balancer.choose_by_hash(hash, 0)?.host as usize].address.ip().to_string()))
        .collect()
}

/// The backend of a route, as it is published.
fn backend(snapshot: &Snapshot, route: &str) -> Option<String> {
    let bind = snapshot.binds.values().next()?;
    let (_, listener) = bind.listeners.iter().next()?;
    let host = listener.hosts.get(&format!("{route}.example"))?;
    match &host.entries().first()?.rule.action {
        Action::Forward(forward) => Some(forward.backends.first()?.name.name.name.to_string()),
        Action::Redirect(_) | Action::Respond(_) => None,
    }
}

/// Waits for a snapshot.
async fn until(published: &Published<Snapshot>, what: &str, holds: impl Fn(&Snapshot) -> bool) -> Arc<Snapshot> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let snapshot = Arc::clone(&published.load().value);
        if holds(&snapshot) {
            return snapshot;
        }
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn a_pod_does_not_wait_for_the_tables_of_others() {
    static GATE: Gate = Gate::closed();
    let (mut engine, handle, metrics) = engine_with(options(), translate);
    engine.build = |request| GATE.build(request);
    let published = Arc::clone(&engine.config.published);
    engine.start(served(8), Vec::new()).unwrap();
    let first = Arc::clone(&published.load().value);
    assert!(first.clusters.iter().flatten().all(|cluster| cluster.table_state == TableState::Built), "a start waits for all tables");
    let before = chosen(&first, "large7");
    assert_eq!(before.len(), 2);

    handle.send(changes(vec![slice("big", &["10.1.0.2", "10.1.0.3"])]));
    let snapshot = until(&published, "a pod that is gone", |snapshot| hosts(snapshot, "large7") == ["10.1.0.2", "10.1.0.3"]).await;
    for number in 0..8 {
        let name = format!("large{number}");
        assert_eq!(cluster(&snapshot, &name).unwrap().table_state, TableState::CarriedOver);
        assert_eq!(chosen(&snapshot, &name), ["10.1.0.2".to_owned()].into(), "nobody goes to the pod that is gone");
    }
    for address in ["10.0.0.2", "10.0.0.3", "10.0.0.4"] {
        handle.send(changes(vec![slice("small", &[address])]));
        let snapshot = until(&published, "the small one waits for the large ones", |snapshot| hosts(snapshot, "small") == [address]).await;
        assert_eq!(cluster(&snapshot, "small").unwrap().table_state, TableState::Built);
        assert_eq!(cluster(&snapshot, "large7").unwrap().table_state, TableState::CarriedOver);
    }
    assert!(handle.report(Duration::from_millis(20)).await.is_none(), "a report waits for the tables");
    let state = handle.state(PATIENCE).await.unwrap();
    assert!(dump(&state.snapshot).to_string().contains("table_is_being_built"), "and the state at hand says what is missing");
    assert_eq!(metrics.control().tables_being_built(), 8);

    GATE.open(8);
    let report = handle.report(PATIENCE).await.unwrap();
    assert_eq!(metrics.control().tables_being_built(), 0);
    let mut resources = Resources::default();
    let now = [slice("big", &["10.1.0.2", "10.1.0.3"]), slice("small", &["10.0.0.4"])];
    served(8).into_iter().chain(now).for_each(|change| resources.apply(change));
    let scratch = translate(&resources, &Observed::default(), &options(), None);
    assert_eq!(dump(&report.snapshot), dump(&scratch.snapshot), "as if nothing had been put off");
}

#[tokio::test]
async fn a_backend_that_changes_all_the_time_gets_its_tables_and_delays_no_other_one() {
    static GATE: Gate = Gate::closed();
    let (mut engine, handle, _metrics) = engine_with(options(), translate);
    engine.build = |request| GATE.build(request);
    let published = Arc::clone(&engine.config.published);
    let other = [service("other"), slice("other", &["10.2.0.1"]), upstream("other", "other", 4096), route("other", "other")];
    engine.start(served(1).into_iter().chain(other).collect(), Vec::new()).unwrap();
    let of_two = |last: &str| changes(vec![slice("big", &["10.1.0.2", last])]);
    handle.send(of_two("10.1.0.3"));
    until(&published, "the first change", |snapshot| hosts(snapshot, "large0") == ["10.1.0.2", "10.1.0.3"]).await;
    GATE.begun(1);
    handle.send(changes(vec![slice("other", &["10.2.0.1", "10.2.0.2"])]));
    handle.send(of_two("10.1.0.4"));
    until(&published, "the second change", |snapshot| hosts(snapshot, "large0") == ["10.1.0.2", "10.1.0.4"]).await;
    handle.send(changes(vec![slice("big", &["10.1.0.2", "10.1.0.3", "10.1.0.4"])]));
    until(&published, "the third change", |snapshot| hosts(snapshot, "large0").len() == 3).await;
    // Its answer comes after the builder was told.
    handle.state(PATIENCE).await.unwrap();
    // The table of the first change serves those who are still there, though it is out of date.
    GATE.open(1);
    let both: BTreeSet<String> = ["10.1.0.2".to_owned(), "10.1.0.3".to_owned()].into();
    let snapshot = until(&published, "a table that is out of date", |snapshot| chosen(snapshot, "large0") == both).await;
    assert_eq!(cluster(&snapshot, "large0").unwrap().table_state, TableState::CarriedOver);
    // Two more are enough for the newest table and for the other one's.
    GATE.open(2);
    let all_built = |snapshot: &Snapshot| snapshot.clusters.iter().flatten().all(|cluster| cluster.table_state == TableState::Built);
    let snapshot = until(&published, "all tables", all_built).await;
    assert_eq!((chosen(&snapshot, "large0").len(), chosen(&snapshot, "other").len()), (3, 2));
}

#[tokio::test]
async fn a_route_moves_to_a_new_backend_once_its_table_is_there_and_endpoints_do_not_wait() {
    static GATE: Gate = Gate::closed();
    let (mut engine, handle, _metrics) = engine_with(options(), translate);
    engine.build = |request| GATE.build(request);
    let told = Arc::new(std::sync::Mutex::new(Vec::new()));
    let observed = Arc::clone(&told);
    engine.config.observer = Some(Box::new(move |translation, _| observed.lock().unwrap().extend(translation.changed_statuses.clone())));
    let published = Arc::clone(&engine.config.published);
    engine.start(served(0), Vec::new()).unwrap();
    told.lock().unwrap().clear();
    assert_eq!(backend(&published.load().value, "small").unwrap(), "small");
    let new = ObjectRef::new(Kind::Upstream, "n", "new");
    handle.send(changes(vec![upstream("new", "big", 4096), route("small", "new")]));
    handle.send(changes(vec![slice("small", &["10.0.0.2"])]));
    let snapshot = until(&published, "the pods of the old backend", |snapshot| hosts(snapshot, "small") == ["10.0.0.2"]).await;
    assert_eq!(backend(&snapshot, "small").unwrap(), "small", "requests are not refused for want of a table");
    assert!(told.lock().unwrap().is_empty(), "what is not served is not said to be");
    GATE.open(1);
    let report = handle.report(PATIENCE).await.unwrap();
    assert_eq!(backend(&report.snapshot, "small").unwrap(), "new");
    assert_eq!(cluster(&report.snapshot, "new").unwrap().table_state, TableState::Built);
    assert_eq!(chosen(&report.snapshot, "new").len(), 2);
    assert!(told.lock().unwrap().contains(&new));
}

#[tokio::test]
async fn the_first_pods_come_with_their_table_and_new_ones_in_the_place_of_all_at_once() {
    static GATE: Gate = Gate::closed();
    let (mut engine, handle, _metrics) = engine_with(options(), translate);
    engine.build = |request| GATE.build(request);
    let published = Arc::clone(&engine.config.published);
    engine.start(served(1), Vec::new()).unwrap();
    // Every session has lost its pod: it is served by a small table rather than refused.
    handle.send(changes(vec![slice("big", &["10.1.0.7", "10.1.0.8"])]));
    let snapshot = until(&published, "the other colour", |snapshot| hosts(snapshot, "large0") == ["10.1.0.7", "10.1.0.8"]).await;
    assert_eq!((cluster(&snapshot, "large0").unwrap().table_state, chosen(&snapshot, "large0").len()), (TableState::Provisional, 2));
    // None, and then some: their sessions begin where they stay.
    handle.send(changes(vec![slice("big", &[])]));
    let snapshot = until(&published, "no pods", |snapshot| hosts(snapshot, "large0").is_empty()).await;
    assert_eq!(cluster(&snapshot, "large0").unwrap().table_state, TableState::Built);
    handle.send(changes(vec![slice("big", &["10.1.0.7"])]));
    let state = handle.state(PATIENCE).await.unwrap();
    let awaited = cluster(&state.snapshot, "large0").unwrap();
    assert_eq!((awaited.table_state, awaited.hosts.len()), (TableState::Awaited, 0));
    assert!(awaited.no_hosts.as_ref().unwrap().contains("is being built"));
    GATE.open(2);
    let report = handle.report(PATIENCE).await.unwrap();
    assert_eq!(hosts(&report.snapshot, "large0"), ["10.1.0.7"]);
}

#[tokio::test]
async fn a_cluster_that_no_route_uses_is_built_by_who_asks_for_it() {
    static GATE: Gate = Gate::closed();
    let (mut engine, handle, _metrics) = engine_with(options(), translate);
    engine.build = |request| GATE.build(request);
    engine.start(served(0).into_iter().chain([upstream("idle", "big", 4096)]).collect(), Vec::new()).unwrap();
    let name = BackendName { kind: Kind::Upstream, name: ObjectName::new("n", "idle"), port: None, policy: None, is_persistent: false };
    let cluster = handle.cluster(name, PATIENCE).await.unwrap().unwrap();
    assert_eq!((cluster.balancer.table().unwrap().size, cluster.hosts.len()), (4096, 2));
}

#[tokio::test]
async fn a_table_whose_builder_panics_is_built_where_a_panic_is_counted() {
    let (mut engine, handle, metrics) = engine_with(options(), translate);
    engine.build = |_| panic!("as the test wants it");
    engine.start(served(1), Vec::new()).unwrap();
    handle.send(changes(vec![slice("big", &["10.1.0.2", "10.1.0.3"])]));
    let report = handle.report(PATIENCE).await.unwrap();
    let large = cluster(&report.snapshot, "large0").unwrap();
    assert_eq!((large.table_state, chosen(&report.snapshot, "large0").len()), (TableState::Built, 2));
    assert_eq!(metrics.control().engine_panics(), 0);
}
