//! What moved and why is told of each change that is published, and of nothing else.

use serde_json::{Value, json};

use crate::base::{Kind, MoveCause};
use crate::controller::moves::Moved;
use crate::snapshot::Move;
use crate::translate::{Limits, translate};

use super::tests::{PATIENCE, engine_with, object};
use super::*;

/// A pod of an EndpointSlice: its name, and whether it is ready.
type Pod = (&'static str, bool);

fn slice(pods: &[Pod]) -> Change {
    let endpoint = |(name, ready): &Pod| -> Value {
        let number: u32 = name.bytes().map(u32::from).sum();
        json!({"addresses": [format!("10.0.{}.{}", number / 256, number % 256)], "conditions": {"ready": ready},
            "targetRef": {"kind": "Pod", "namespace": "n", "name": name, "uid": format!("uid of {name}")}})
    };
    object(json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "s-1", "namespace": "n", "labels": {"kubernetes.io/service-name": "s"}},
        "ports": [{"name": "http", "port": 80}], "endpoints": pods.iter().map(endpoint).collect::<Vec<_>>()}))
}

fn upstream(points: u64) -> Change {
    object(json!({"apiVersion": "gloo.solo.io/v1", "kind": "Upstream", "metadata": {"name": "u", "namespace": "n", "uid": "the upstream"},
        "spec": {"kube": {"serviceName": "s", "serviceNamespace": "n", "servicePort": 80},
            "loadBalancerConfig": {"ringHash": {"ringHashConfig": {"minimumRingSize": points}}}}}))
}

fn served(points: u64, pods: &[Pod]) -> Vec<Change> {
    let gateway = json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": "g", "namespace": "n"},
        "spec": {"gatewayClassName": "clingfish", "listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}]}});
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s", "namespace": "n"},
        "spec": {"ports": [{"name": "http", "port": 80}]}});
    let route = json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": "r", "namespace": "n"},
        "spec": {"parentRefs": [{"name": "g"}], "rules": [{"backendRefs": [{"name": "u", "group": "gloo.solo.io", "kind": "Upstream"}]}]}});
    vec![object(gateway), object(service), object(route), upstream(points), slice(pods)]
}

/// An engine that serves these pods and says what moves.
fn start(options: Options, points: u64, pods: &[Pod]) -> (EngineHandle, mpsc::Receiver<Moved>, Arc<Metrics>) {
    let (mut engine, handle, metrics) = engine_with(options, translate);
    let (sender, moved) = mpsc::channel();
    engine.config.moved = Some(Box::new(move |moved| drop(sender.send(moved))));
    engine.start(served(points, pods), Vec::new()).unwrap();
    (handle, moved, metrics)
}

fn send(handle: &EngineHandle, change: Change) {
    handle.send(Input::Changes { changes: vec![change], notices: Vec::new() });
}

fn next(moved: &mpsc::Receiver<Moved>) -> Move {
    let moved = moved.recv_timeout(PATIENCE).unwrap();
    assert_eq!(moved.object, ObjectRef::new(Kind::Upstream, "n", "u"));
    assert_eq!(moved.uid.as_deref(), Some("the upstream"));
    moved.moved
}

const ALL: [Pod; 3] = [("s-1x-a", true), ("s-1x-b", true), ("s-1x-c", true)];

#[test]
fn each_change_is_told_once_with_its_cause() {
    let (handle, moved, metrics) = start(Options::default(), 4096, &ALL[..2]);
    let changed = |change: Change, cause, hosts| {
        send(&handle, change);
        let told = next(&moved);
        assert_eq!((told.cause, told.hosts), (cause, hosts));
        told.remapped
    };
    let remapped = changed(slice(&ALL), MoveCause::Scale, (2, 3));
    assert!((0.3..0.6).contains(&remapped.moved), "{remapped:?}");
    let failed = [ALL[0], ALL[1], ("s-1x-c", false)];
    let back = changed(slice(&failed), MoveCause::PodFailed, (3, 2));
    assert!((back.moved - remapped.moved).abs() < 1e-9, "the same sessions go back");
    changed(slice(&ALL), MoveCause::PodRecovered, (2, 3));
    changed(slice(&[ALL[0], ALL[1], ALL[2], ("s-2y-d", true)]), MoveCause::Rollout, (3, 4));
    changed(slice(&[ALL[0], ALL[1], ("s-2y-d", true)]), MoveCause::Rollout, (4, 3));
    changed(upstream(1024), MoveCause::Configuration, (3, 3));
    // Nothing that concerns the table.
    send(&handle, object(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "other"}})));
    changed(slice(&ALL[..2]), MoveCause::Rollout, (3, 2));
    let text = metrics.render();
    for line in ["clingfish_affinity_changes_total{cause=\"rollout\"} 3", "clingfish_affinity_changes_total{cause=\"pod_failed\"} 1"] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    assert!(text.contains("clingfish_affinity_planned_share_ratio{extreme=\"most\"} 1."), "{text}");
}

#[test]
fn what_serves_until_a_table_is_built_is_no_change_of_its_own() {
    let options = Options { limits: Limits { table_entries_at_once: 1500, ..Limits::default() }, ..Options::default() };
    let (handle, moved, metrics) = start(options, 4096, &ALL);
    send(&handle, slice(&ALL[..2]));
    let told = next(&moved);
    assert_eq!((told.cause, told.hosts), (MoveCause::Scale, (3, 2)));
    assert!(told.remapped.moved > 0.3 && told.remapped.moved < 0.6, "{told:?}");
    drop(handle);
    assert!(moved.recv_timeout(PATIENCE).is_err(), "no other one");
    assert!(metrics.render().contains("clingfish_affinity_changes_total{cause=\"scale\"} 1\n"));
}

/// The digests of a replica that has seen these sets of pods, one after the other.
fn digests_after(points: u64, histories: &[&[Pod]]) -> TableDigests {
    let (mut engine, handle, _) = engine_with(Options::default(), translate);
    let digests = Arc::clone(&engine.config.digests);
    let (sender, moved) = mpsc::channel();
    engine.config.moved = Some(Box::new(move |moved| drop(sender.send(moved))));
    let (first, later) = histories.split_first().unwrap();
    engine.start(served(points, first), Vec::new()).unwrap();
    for pods in later {
        send(&handle, slice(pods));
        next(&moved);
    }
    let deadline = Instant::now() + PATIENCE;
    while digests.load().value.tables.is_empty() {
        assert!(Instant::now() < deadline, "no digest");
        thread::yield_now();
    }
    TableDigests::clone(&digests.load().value)
}

#[test]
fn replicas_agree_by_what_they_know_and_not_by_how_they_came_to_it() {
    let straight = digests_after(1024, &[&ALL]);
    assert_eq!(straight.tables.len(), 1);
    let roundabout = digests_after(1024, &[&ALL[1..], &ALL[..1], &ALL]);
    assert_eq!((roundabout.combined, &roundabout.tables), (straight.combined, &straight.tables));
    assert!(roundabout.agrees(straight.combined, Duration::ZERO, Instant::now()));
    for other in [digests_after(1024, &[&ALL[..2]]), digests_after(2048, &[&ALL])] {
        assert_ne!(other.combined, straight.combined);
        assert!(!other.agrees(straight.combined, Duration::from_secs(1), Instant::now()));
    }
}

#[test]
fn a_flood_costs_no_more_tables_than_there_are_backends() {
    let mailbox = Arc::<moves::Mailbox>::default();
    let sender = moves::Sender::of(&mailbox);
    let snapshot = {
        let mut resources = Resources::default();
        served(1024, &ALL).into_iter().for_each(|change| resources.apply(change));
        translate(&resources, &Observed::default(), &Options::default(), None).snapshot
    };
    let cluster = snapshot.clusters.iter().flatten().next().unwrap();
    for _ in 0..1_000 {
        let change = moves::TableChange {
            old: Some(Arc::clone(cluster)),
            new: Arc::clone(cluster),
            remapped: None,
            unready: BTreeSet::new(),
            uid: None,
        };
        sender.send(Publication { changes: vec![change], generation: 1, clusters: Arc::clone(&snapshot.clusters) });
    }
    drop(sender);
    let waiting: Vec<_> = std::iter::from_fn(|| mailbox.next()).collect();
    assert_eq!(waiting.len(), 64);
    assert!(waiting.iter().all(|publication| publication.changes.len() == 1));
}
