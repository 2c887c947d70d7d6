//! The Kubernetes side against an API server of a few answers.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::atomic::{AtomicUsize, Ordering},
};

use http::{Request, Response, StatusCode};
use kube::client::Body;
use serde_json::{Value, json};

use super::*;
use crate::translate::Change;

/// Answers by path; a watch is answered once for each entry of its list, then stays silent.
#[derive(Default)]
struct Server {
    lists: Mutex<BTreeMap<&'static str, Value>>,
    watches: Mutex<BTreeMap<&'static str, Vec<Value>>>,
    /// Requests for Gateways that are still to panic.
    panics: AtomicUsize,
    /// Questions for the groups that are still answered as by a server that has none yet.
    without_groups: AtomicUsize,
    patches: Mutex<Vec<(String, Value)>>,
}

impl Server {
    /// The watch of Gateways ends because there are none, which is what so many questions for the groups say too.
    fn vanishes(&self, questions: usize) {
        let gone = json!({"type": "ERROR", "object": {"kind": "Status", "status": "Failure", "message": "none", "reason": "NotFound", "code": 404}});
        self.watches.lock().unwrap().insert("/gateways", vec![gone]);
        self.without_groups.store(questions, Ordering::Relaxed);
    }

    fn client(self: &Arc<Self>) -> Client {
        let server = Arc::clone(self);
        let service = tower::service_fn(move |request: Request<Body>| {
            let server = Arc::clone(&server);
            async move { Ok::<_, Infallible>(server.answer(request).await) }
        });
        Client::new(service, "default")
    }

    async fn answer(&self, request: Request<Body>) -> Response<Body> {
        let path = request.uri().path().to_owned();
        let watches = request.uri().query().is_some_and(|query| query.contains("watch=true"));
        if path.ends_with("/gateways") && self.panics.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
        {
            panic!("as the test wants it");
        }
        if request.method() != http::Method::GET {
            let body: Value = serde_json::from_slice(&request.into_body().collect_bytes().await.unwrap()).unwrap();
            self.patches.lock().unwrap().push((path, body.clone()));
            return reply(StatusCode::OK, &body.to_string());
        }
        if watches {
            let next = self
                .watches
                .lock()
                .unwrap()
                .iter_mut()
                .find(|(suffix, _)| path.ends_with(**suffix))
                .and_then(|(_, events)| (!events.is_empty()).then(|| events.remove(0)));
            return match next {
                Some(event) => reply(StatusCode::OK, &format!("{event}\n")),
                None => std::future::pending().await,
            };
        }
        if path == "/apis" && self.without_groups.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
            return reply(StatusCode::OK, r#"{"kind": "APIGroupList", "groups": []}"#);
        }
        let known = self.lists.lock().unwrap().iter().find(|(suffix, _)| path.ends_with(**suffix)).map(|(_, list)| list.clone());
        match known {
            Some(list) => reply(StatusCode::OK, &list.to_string()),
            None if path.contains("/api") && !path.contains("/leases") && !path.contains("/deployments") => {
                reply(StatusCode::OK, &list(&[]).to_string())
            }
            None => {
                let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "none", "reason": "NotFound", "code": 404});
                reply(StatusCode::NOT_FOUND, &status.to_string())
            }
        }
    }
}

fn reply(status: StatusCode, text: &str) -> Response<Body> {
    Response::builder().status(status).body(Body::from(text.as_bytes().to_vec())).unwrap()
}

fn list(items: &[Value]) -> Value {
    json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": "10"}, "items": items})
}

fn gateway(name: &str) -> Value {
    json!({
        "metadata": {"name": name, "namespace": "n", "resourceVersion": "5", "uid": name, "generation": 1},
        "spec": {"gatewayClassName": "c", "listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}]},
    })
}

/// Discovery of a cluster that has Gateways and nothing else of ours.
fn discovery() -> Arc<Server> {
    let server = Arc::new(Server::default());
    let version = json!({"groupVersion": "gateway.networking.k8s.io/v1", "version": "v1"});
    let groups = json!({"kind": "APIGroupList", "groups": [{"name": "gateway.networking.k8s.io", "versions": [version], "preferredVersion": version}]});
    let resource = |name: &str| json!({"name": name, "singularName": "", "namespaced": true, "kind": "Gateway", "verbs": ["list"]});
    let resources = json!({
        "kind": "APIResourceList", "groupVersion": "gateway.networking.k8s.io/v1", "resources": [resource("gateways"), resource("gateways/status")],
    });
    let mut lists = server.lists.lock().unwrap();
    lists.insert("/apis", groups);
    lists.insert("/gateway.networking.k8s.io/v1", resources);
    lists.insert("/gateways", list(&[gateway("a")]));
    let crd = json!({
        "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata",
        "metadata": {"name": "gatewayclasses.gateway.networking.k8s.io", "annotations": {"gateway.networking.k8s.io/bundle-version": "v1.6.3"}},
    });
    lists.insert("/customresourcedefinitions/gatewayclasses.gateway.networking.k8s.io", crd);
    drop(lists);
    server
}

struct Started {
    passed: tokio::sync::mpsc::UnboundedReceiver<String>,
    listed: channel::Receiver<bool>,
    metrics: Arc<Metrics>,
    pace: Arc<Pace>,
}

fn start(server: &Arc<Server>) -> Started {
    let settings = ClusterSettings {
        controller_name: "clingfish.dev/gateway-controller".into(),
        status_keys: vec!["clingfish".into()],
        identity: "me".into(),
        infrastructure: Arc::default(),
        secret_namespaces: Vec::new(),
        node_addresses: false,
        replicas: Replicas { name: "localhost".into(), port: 0, own: [None; 2] },
        digests: Arc::new(Published::new(Arc::default())),
    };
    let (sender, passed) = tokio::sync::mpsc::unbounded_channel();
    let sink = Box::new(move |event: ClusterEvent| {
        let changes = match event {
            ClusterEvent::Changes(changes) => changes,
            ClusterEvent::LastGood(versions) => {
                versions.iter().for_each(|version| drop(sender.send(format!("kept {}", version.object))));
                return;
            }
            ClusterEvent::AffinityKeys(_)
            | ClusterEvent::Ports(_)
            | ClusterEvent::Services(_)
            | ClusterEvent::RefusedServices(_)
            | ClusterEvent::RefusedSlots(_)
            | ClusterEvent::Agreement(_)
            | ClusterEvent::NodeAddresses(_)
            | ClusterEvent::GatewayApiVersion(_) => return,
        };
        for change in changes {
            let _ = sender.send(match change {
                Change::Apply(object) => format!("apply {}", object.object_ref()),
                Change::Route(route) => format!("apply {}", route.object()),
                Change::Delete(object) => format!("delete {object}"),
                Change::Undecodable(error) => format!("undecodable {error}"),
                Change::Unparsed(_) => "a cluster has no files".to_owned(),
            });
        }
    });
    let intakes = intakes();
    let gate = Arc::new(Gate::new(
        sink,
        intakes.iter().map(|(kind, _)| First::Kind(*kind)).chain([First::Ports, First::GatewayApiVersion, First::LastGood]),
    ));
    let metrics = Metrics::new(1);
    let pace = Arc::default();
    let cluster = Cluster {
        outage: Arc::default(),
        pulse: Arc::default(),
        client: server.client(),
        settings,
        metrics: Arc::clone(&metrics),
        outbox: Outbox::default(),
        intakes,
        referred: Arc::new(Referred::new(Arc::clone(&gate))),
        leader: channel::Sender::new(false),
        released: channel::Sender::new(false),
        gate: Arc::clone(&gate),
        pace: Arc::clone(&pace),
    };
    let (stop, stopping) = channel::channel(false);
    tokio::spawn(async move {
        cluster.run(stopping).await;
        drop(stop);
    });
    Started { passed, listed: gate.is_open(), metrics, pace }
}

async fn next(started: &mut Started) -> String {
    tokio::time::timeout(Duration::from_secs(600), started.passed.recv()).await.expect("in time").expect("passed on")
}

#[tokio::test(start_paused = true)]
async fn missing_kinds_keep_nothing_waiting_and_watches_pass_on_what_changes() {
    let server = discovery();
    let deleted = json!({"type": "DELETED", "object": {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": "a", "namespace": "n", "resourceVersion": "12"}}});
    let broken = json!({"type": "ADDED", "object": {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": "b", "namespace": "n", "resourceVersion": "11"}, "spec": 5}});
    server.watches.lock().unwrap().insert("/gateways", vec![broken, deleted]);
    let mut started = start(&server);
    assert_eq!(next(&mut started).await, "apply Gateway n/a");
    assert!(*started.listed.borrow_and_update());
    assert!(started.pace.is_taken(), "changes are told to the pace");
    assert!(next(&mut started).await.starts_with("undecodable Gateway n/b: field spec"));
    assert_eq!(next(&mut started).await, "delete Gateway n/a");
}

#[tokio::test(start_paused = true)]
async fn a_kind_that_appears_is_watched_and_one_that_vanishes_takes_its_objects_along() {
    let server = discovery();
    let resources = server.lists.lock().unwrap().remove("/gateway.networking.k8s.io/v1").unwrap();
    let none = json!({"kind": "APIResourceList", "groupVersion": "gateway.networking.k8s.io/v1", "resources": []});
    server.lists.lock().unwrap().insert("/gateway.networking.k8s.io/v1", none);
    let mut started = start(&server);
    started.listed.wait_for(|listed| *listed).await.unwrap();
    server.lists.lock().unwrap().insert("/gateway.networking.k8s.io/v1", resources);
    assert_eq!(next(&mut started).await, "apply Gateway n/a");
    server.vanishes(usize::MAX);
    assert_eq!(next(&mut started).await, "delete Gateway n/a");
}

#[tokio::test(start_paused = true)]
async fn a_starting_api_server_that_does_not_know_its_crds_yet_takes_nothing_away() {
    let server = discovery();
    let mut started = start(&server);
    assert_eq!(next(&mut started).await, "apply Gateway n/a");
    // Other kinds, which are missing, ask too.
    server.vanishes(3);
    while server.without_groups.load(Ordering::Relaxed) > 0 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    server.lists.lock().unwrap().insert("/gateways", list(&[gateway("a"), gateway("b")]));
    assert_eq!(next(&mut started).await, "apply Gateway n/b");
}

#[tokio::test(start_paused = true)]
async fn what_panics_is_started_again_and_nothing_is_lost() {
    let server = discovery();
    server.panics.store(2, Ordering::Relaxed);
    let mut started = start(&server);
    assert_eq!(next(&mut started).await, "apply Gateway n/a");
    assert!(started.metrics.render().contains("clingfish_controller_restarts_total 2"));
}

fn kept_option() -> Value {
    json!({"apiVersion": "gateway.solo.io/v1", "kind": "RouteOption", "metadata": {"name": "o", "namespace": "n", "uid": "u"}, "spec": {}})
}

#[tokio::test(start_paused = true)]
async fn last_good_versions_are_read_before_the_first_objects_are_passed_on() {
    let server = discovery();
    let map = json!({"metadata": {"name": "clingfish-last-good", "namespace": "n", "resourceVersion": "5"},
        "data": {"RouteOption-0.json": kept_option().to_string(), "odd": "{"}});
    server.lists.lock().unwrap().insert("/configmaps", list(&[map]));
    let mut started = start(&server);
    assert_eq!(next(&mut started).await, "kept RouteOption n/o");
    assert_eq!(next(&mut started).await, "apply Gateway n/a");
}

#[tokio::test(start_paused = true)]
async fn last_good_versions_are_written_by_the_leader_once_everything_is_known() {
    let server = discovery();
    let keep = Arc::new(LastGoodState::default());
    let leader = channel::Sender::new(false);
    let writing = write_last_good(server.client(), Arc::clone(&keep), leader.subscribe(), Arc::default(), None);
    let writing = tokio::spawn(writing);
    let version = crate::translate::LastGoodVersion::parse(&kept_option().to_string(), None).unwrap();
    keep.see(None);
    keep.desire(&Arc::new(vec![version]));
    leader.send_replace(true);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(server.patches.lock().unwrap().is_empty(), "not everything is known");
    leader.send_replace(false);
    keep.arm();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(server.patches.lock().unwrap().is_empty(), "another one leads");
    leader.send_replace(true);
    tokio::time::sleep(Duration::from_secs(1)).await;
    keep.desire(&Arc::default());
    tokio::time::sleep(Duration::from_secs(1)).await;
    writing.abort();
    let writes = server.patches.lock().unwrap().clone();
    // The server of the test answers with the patch itself, as no API server does: so it is sent more than once.
    let value = |index: usize| writes[index].1["data"].as_object().unwrap().values().next().unwrap();
    assert!(writes[0].0.ends_with("/configmaps") && writes[1].0.ends_with("-last-good"), "{writes:?}");
    assert_eq!((value(0).as_str().unwrap().contains("RouteOption"), value(1)), (true, &Value::Null));
}

#[tokio::test(start_paused = true)]
async fn keys_of_affinity_tags_are_told_and_a_secret_without_them_keeps_nobody_waiting_for_long() {
    for (data, told) in
        [(json!({"keys": "NWE1YTVhNWE1YTVhNWE1YTVhNWE1YTVhNWE1YTVhNWE1YTVhNWE1YTVhNWE1YTVhNWE1YTVhNWE1YTVhNWE1YQ=="}), 1), (json!({}), 0)]
    {
        let server = discovery();
        let secret =
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x-affinity-keys", "resourceVersion": "5"}, "data": data});
        server.lists.lock().unwrap().insert("/secrets/x-affinity-keys", secret);
        let passed = Arc::new(AtomicUsize::new(0));
        let sink = {
            let passed = Arc::clone(&passed);
            Box::new(move |event: ClusterEvent| {
                if matches!(event, ClusterEvent::AffinityKeys(_)) {
                    passed.fetch_add(1, Ordering::Relaxed);
                }
            })
        };
        let gate = Arc::new(Gate::new(sink, [First::AffinityKeys]));
        let mut open = gate.is_open();
        let following = tokio::spawn(follow_keys(server.client(), gate, ObjectName::new("n", "x-affinity-keys")));
        tokio::time::timeout(Duration::from_secs(60), open.wait_for(|open| *open)).await.expect("in time").unwrap();
        assert_eq!(passed.load(Ordering::Relaxed), told);
        following.abort();
    }
}
