//! Time that goes by, and an engine that keeps maps of slots itself.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};

use super::tests::{PATIENCE, engine_with};
use super::*;
use crate::api::{self, Document};

fn change(document: Value) -> Change {
    match api::decode(document).unwrap() {
        Document::Object(object) => Change::apply(object),
        other => panic!("{other:?}"),
    }
}

fn pods(names: &[&str]) -> Change {
    let endpoint = |(number, name): (usize, &&str)| json!({"addresses": [format!("10.0.0.{}", number + 1)], "targetRef": {"kind": "Pod", "name": name, "uid": name}});
    change(json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4", "ports": [{"port": 8080}],
        "metadata": {"name": "web-1", "namespace": "ns", "labels": {"kubernetes.io/service-name": "web"}},
        "endpoints": names.iter().enumerate().map(endpoint).collect::<Vec<_>>()}))
}

fn objects(policy: &Value) -> Vec<Change> {
    let mut spec = json!({"targetRefs": [{"group": "", "kind": "Service", "name": "web"}], "keys": [{"header": {"name": "x"}}]});
    spec.as_object_mut().unwrap().extend(policy.as_object().unwrap().clone());
    [
        json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": "gw", "namespace": "ns"},
            "spec": {"gatewayClassName": "clingfish", "listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}]}}),
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "ns"}, "spec": {"ports": [{"port": 80}]}}),
        json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": "web", "namespace": "ns"},
            "spec": {"parentRefs": [{"name": "gw"}], "rules": [{"backendRefs": [{"name": "web", "port": 80}]}]}}),
        json!({"apiVersion": "clingfish.dev/v1alpha1", "kind": "AffinityPolicy", "metadata": {"name": "web", "namespace": "ns"}, "spec": spec}),
    ]
    .map(change)
    .into()
}

/// Slots and shares of the hosts, as the engine serves them.
async fn places(handle: &EngineHandle, changes: Vec<Change>) -> Vec<(Option<u32>, String)> {
    handle.send(Input::Changes { changes, notices: Vec::new() });
    let report = handle.report(PATIENCE).await.unwrap();
    let cluster = report.snapshot.clusters.iter().flatten().next().cloned().unwrap();
    cluster.hosts.iter().map(|host| (host.slot, format!("{:?} {:.2}", host.admits, host.admits.share()))).collect()
}

#[tokio::test]
async fn pods_warm_up_and_wait_by_the_engines_clock() {
    static NOW: AtomicU64 = AtomicU64::new(1_000);
    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(NOW.load(Ordering::Relaxed))
    }
    let kept: Arc<Mutex<Vec<SlotWrite>>> = Arc::default();
    let start = || {
        let (mut engine, handle, _) = engine_with(Options::default(), translate);
        engine.config.clock = Clock { now, ..Clock::default() };
        let keeper = Arc::clone(&kept);
        engine.config.slots = Some(Box::new(move |write: &SlotWrite| keeper.lock().unwrap().push(write.clone())));
        (engine, handle)
    };
    let all = || "All 1.00".to_owned();
    let changes = || objects(&json!({"identity": "Slot", "warmUp": {"duration": "100s"}}));
    let (engine, handle) = start();
    engine.start(changes(), Vec::new()).unwrap();
    assert_eq!(places(&handle, vec![pods(&["a"])]).await, [(Some(0), all())]);
    NOW.store(2_000, Ordering::Relaxed);
    let waits = (None, "Keyless 0.00".to_owned());
    assert_eq!(places(&handle, vec![pods(&["a", "b"])]).await, [(Some(0), all()), waits.clone()]);
    NOW.store(2_029, Ordering::Relaxed);
    assert_eq!(places(&handle, Vec::new()).await, [(Some(0), all()), waits]);
    NOW.store(2_030, Ordering::Relaxed);
    let begins = places(&handle, Vec::new()).await;
    assert_eq!((begins[1].0, begins[1].1.ends_with("0.10")), (Some(1), true), "{begins:?}");
    NOW.store(2_085, Ordering::Relaxed);
    assert!(places(&handle, Vec::new()).await[1].1.ends_with("0.55"));
    NOW.store(2_130, Ordering::Relaxed);
    assert_eq!(places(&handle, Vec::new()).await, [(Some(0), all()), (Some(1), all())]);
    // The next process finds the map as it was left.
    let last = kept.lock().unwrap().last().unwrap().object();
    let (mut engine, handle) = start();
    engine.restore_slots([last]);
    engine.start(changes(), Vec::new()).unwrap();
    assert_eq!(places(&handle, vec![pods(&["b"])]).await, [(Some(1), all())]);
}
