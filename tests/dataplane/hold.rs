//! Sessions that stay on their pod while it serves: pods come, drain and go under load.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{SocketAddr, TcpListener},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    thread,
};

use clingfish::{
    api::{self, Document},
    base::AffinityKeys,
    snapshot::{Bind, Observed, Snapshot},
    translate::{Change, Options, Resources, Translation, translate},
};
use serde_json::{Value, json};

use crate::support::{Client, Proxy, Upstream, World, any_port, eventually};

/// Sessions under load, and the threads that share them.
const SESSIONS: usize = 200;
const THREADS: usize = 4;

/// What a pod's endpoint says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Endpoint {
    Serving,
    Draining,
}

/// A Service with pods, behind a route.
struct Cart {
    resources: Resources,
    translation: Option<Translation>,
    addresses: Vec<SocketAddr>,
}

impl Cart {
    fn new(addresses: Vec<SocketAddr>, policy: Value) -> Self {
        let mut cart = Self { resources: Resources::default(), translation: None, addresses };
        for object in [
            json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass", "metadata": {"name": "c"},
                "spec": {"controllerName": "clingfish.dev/gateway-controller"}}),
            json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": "gw"},
                "spec": {"gatewayClassName": "c", "listeners": [{"name": "http", "port": 8080, "protocol": "HTTP"}]}}),
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "cart"}, "spec": {"ports": [{"port": 80}]}}),
            json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": "route"},
                "spec": {"parentRefs": [{"name": "gw"}], "rules": [{"backendRefs": [{"name": "cart", "port": 80}]}]}}),
            json!({"apiVersion": "clingfish.dev/v1alpha1", "kind": "AffinityPolicy", "metadata": {"name": "p"}, "spec": policy}),
        ] {
            cart.apply(object);
        }
        cart
    }

    fn apply(&mut self, object: Value) {
        let Ok(Document::Object(object)) = api::decode(object.clone()) else { panic!("{object}") };
        self.resources.apply(Change::Apply(object));
    }

    /// The pods as they are now, each in a slice of its own, since each has a port of its own.
    fn snapshot(&mut self, pods: &BTreeMap<usize, Endpoint>) -> Snapshot {
        for (pod, address) in self.addresses.clone().into_iter().enumerate() {
            let endpoints: Vec<Value> = pods
                .get(&pod)
                .map(|state| {
                    let serving = *state == Endpoint::Serving;
                    json!({"addresses": [address.ip()], "targetRef": {"kind": "Pod", "name": format!("pod-{pod}"), "uid": format!("uid-{pod}")},
                        "conditions": {"ready": serving, "serving": true, "terminating": !serving}})
                })
                .into_iter()
                .collect();
            let labels = json!({"kubernetes.io/service-name": "cart"});
            self.apply(json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
                "metadata": {"name": format!("cart-{pod}"), "labels": labels}, "addressType": "IPv4",
                "ports": [{"port": address.port()}], "endpoints": endpoints}));
        }
        let observed = Observed { affinity_keys: Some(Arc::new(keys())), ..Observed::default() };
        let options = Options { bind: any_port().ip(), assume_bound: true, ..Options::default() };
        let translation = translate(&self.resources, &observed, &options, self.translation.take());
        self.resources.clear_changes();
        let binds = translation.snapshot.binds.values().map(|bind| Bind { address: any_port(), ..(**bind).clone() });
        let binds = binds.map(|bind| (bind.bound_to(), Arc::new(bind))).collect();
        let snapshot = Snapshot { binds, clusters: Arc::clone(&translation.snapshot.clusters) };
        self.translation = Some(translation);
        snapshot
    }
}

fn keys() -> AffinityKeys {
    AffinityKeys::parse(&"5a".repeat(32)).unwrap()
}

fn tag(pod: usize) -> String {
    String::from_utf8(keys().tags(format!("uid-{pod}").as_bytes()).0.text().to_vec()).unwrap()
}

fn held_by_cookie() -> Value {
    json!({"targetRefs": [{"group": "", "kind": "Service", "name": "cart"}],
        "keys": [{"cookie": {"name": "sid", "ttl": "0s"}}], "hold": "WhileAlive"})
}

fn pods(count: usize) -> Vec<Upstream> {
    (0..count).map(|pod| Upstream::echo(pod.to_string().leak())).collect()
}

fn all_serving(pods: std::ops::Range<usize>) -> BTreeMap<usize, Endpoint> {
    pods.map(|pod| (pod, Endpoint::Serving)).collect()
}

fn publish(proxy: &Proxy, snapshot: Snapshot) {
    let generation = proxy.published.publish(Arc::new(snapshot));
    let bound = proxy.running.bound();
    eventually("the workers to follow the snapshot", || bound.borrow().generation() >= generation);
}

/// Who answers a request with this cookie, and the cookie that the client has afterwards.
fn ask(client: &mut Client, cookie: Option<&str>) -> Option<(usize, Option<String>)> {
    let cookie = cookie.map(|cookie| format!("cookie: {cookie}\r\n")).unwrap_or_default();
    client.send(format!("GET / HTTP/1.1\r\nhost: example.com\r\n{cookie}\r\n"));
    let response = client.response();
    let made = response.header("set-cookie").map(|set| set.split(';').next().unwrap().to_owned());
    let pod = String::from_utf8(response.body.clone()).ok()?.parse().ok().filter(|_| response.status == 200)?;
    Some((pod, made))
}

/// What the load has seen.
#[derive(Default)]
struct Seen {
    stop: AtomicBool,
    rounds: [AtomicUsize; THREADS],
    failed: AtomicUsize,
    /// Moves from a pod that serves.
    needless: AtomicUsize,
    moved: AtomicUsize,
    /// Pods that are gone, or about to be published as gone.
    gone: Mutex<BTreeSet<usize>>,
    /// Where each session is.
    places: Mutex<BTreeMap<usize, usize>>,
}

impl Seen {
    /// Waits until every session was asked for whole rounds more.
    fn rounds(&self, more: usize) {
        let before: Vec<usize> = self.rounds.iter().map(|rounds| rounds.load(SeqCst)).collect();
        eventually("rounds of all sessions", || self.rounds.iter().zip(&before).all(|(now, before)| now.load(SeqCst) > before + more));
    }

    fn pods(&self) -> BTreeSet<usize> {
        self.places.lock().unwrap().values().copied().collect()
    }
}

fn load(seen: &Seen, address: SocketAddr, number: usize) {
    let mut client = Client::connect(address);
    let mut cookies: BTreeMap<usize, String> = BTreeMap::new();
    while !seen.stop.load(SeqCst) {
        for session in (0..SESSIONS).filter(|session| session % THREADS == number) {
            if !cookies.contains_key(&session) {
                // Its first request on a connection of its own: the key is made of the connection's ends.
                client = Client::connect(address);
            }
            let Some((pod, made)) = ask(&mut client, cookies.get(&session).map(String::as_str)) else {
                seen.failed.fetch_add(1, SeqCst);
                client = Client::connect(address);
                continue;
            };
            cookies.extend(made.map(|made| (session, made)));
            let before = seen.places.lock().unwrap().insert(session, pod);
            if let Some(before) = before.filter(|before| *before != pod) {
                seen.moved.fetch_add(1, SeqCst);
                if !seen.gone.lock().unwrap().contains(&before) {
                    seen.needless.fetch_add(1, SeqCst);
                }
            }
        }
        seen.rounds[number].fetch_add(1, SeqCst);
    }
}

#[test]
fn sessions_stay_while_pods_come_drain_and_go_under_load() {
    let upstreams = pods(10);
    let mut cart = Cart::new(upstreams.iter().map(|upstream| upstream.address).collect(), held_by_cookie());
    let proxy = World::to(&[]).start();
    publish(&proxy, cart.snapshot(&all_serving(0..3)));
    let (seen, address) = (Arc::new(Seen::default()), proxy.address());
    let threads: Vec<_> = (0..THREADS)
        .map(|number| {
            let seen = Arc::clone(&seen);
            thread::spawn(move || load(&seen, address, number))
        })
        .collect();
    seen.rounds(1);
    assert_eq!(seen.pods(), BTreeSet::from([0, 1, 2]));
    publish(&proxy, cart.snapshot(&all_serving(0..10)));
    seen.rounds(2);
    assert_eq!(seen.moved.load(SeqCst), 0, "more pods");
    // The first three end: those that all sessions are on.
    let mut states = all_serving(0..10);
    states.extend([(0, Endpoint::Draining), (1, Endpoint::Draining), (2, Endpoint::Draining)]);
    publish(&proxy, cart.snapshot(&states));
    seen.rounds(2);
    assert_eq!((seen.moved.load(SeqCst), seen.pods()), (0, BTreeSet::from([0, 1, 2])), "pods that end");
    for newcomer in 0..30 {
        assert!(ask(&mut Client::connect(address), None).unwrap().0 > 2, "newcomer {newcomer}");
    }
    seen.gone.lock().unwrap().extend([0, 1, 2]);
    publish(&proxy, cart.snapshot(&all_serving(3..10)));
    seen.rounds(2);
    assert!(seen.pods().iter().all(|pod| *pod > 2));
    seen.stop.store(true, SeqCst);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!((seen.moved.load(SeqCst), seen.needless.load(SeqCst), seen.failed.load(SeqCst)), (SESSIONS, 0, 0));
    assert_eq!(proxy.metric("clingfish_affinity_sessions_total{result=\"lost\"}"), SESSIONS as f64);
    assert_eq!(proxy.metric("clingfish_affinity_sessions_total{result=\"unknown\"}"), 0.0);
}

#[test]
fn a_session_whose_pod_does_not_answer_moves_once_and_gets_another_tag() {
    let upstreams = pods(2);
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut cart = Cart::new([upstreams[0].address, upstreams[1].address, closed].into(), held_by_cookie());
    let proxy = World::to(&[]).start();
    for last in [Endpoint::Serving, Endpoint::Draining] {
        let mut states = all_serving(0..2);
        states.insert(2, last);
        publish(&proxy, cart.snapshot(&states));
        let mut client = proxy.client();
        let (pod, made) = ask(&mut client, Some(&format!("sid=key.{}", tag(2)))).expect("answered by another pod");
        assert_eq!(made, Some(format!("sid=\"key.{}\"", tag(pod))), "{last:?}");
        assert_eq!(ask(&mut client, made.as_deref()), Some((pod, None)));
    }
    assert_eq!(proxy.metric("clingfish_affinity_sessions_total{result=\"failed\"}"), 2.0);
}

#[test]
fn a_request_waits_for_a_pod_of_which_this_replica_has_not_heard() {
    let upstreams = pods(30);
    let mut cart = Cart::new(upstreams.iter().map(|upstream| upstream.address).collect(), held_by_cookie());
    let proxy = World::to(&[]).start();
    publish(&proxy, cart.snapshot(&all_serving(0..1)));
    // On a machine that is busy the pod may come after the request has given up.
    let waited = (1..30).any(|pod| {
        let mut client = proxy.client();
        client.send(format!("GET / HTTP/1.1\r\nhost: example.com\r\ncookie: sid=key.{}\r\n\r\n", tag(pod)));
        eventually("the request to arrive", || proxy.metric("clingfish_requests_in_flight") > 0.0);
        publish(&proxy, cart.snapshot(&all_serving(0..pod + 1)));
        let response = client.response();
        assert_eq!(response.status, 200);
        response.body == pod.to_string().as_bytes() && response.header("set-cookie").is_none()
    });
    assert!(waited && proxy.metric("clingfish_affinity_sessions_total{result=\"waited\"}") > 0.0);
}

#[test]
fn a_made_up_tag_is_as_none_and_a_header_carries_tags_too() {
    let upstreams = pods(3);
    let policy = json!({"targetRefs": [{"group": "", "kind": "Service", "name": "cart"}],
        "keys": [{"header": {"name": "x-user"}}], "hold": "WhileAlive", "holdIn": {"header": {"name": "x-pod"}}});
    let mut cart = Cart::new(upstreams.iter().map(|upstream| upstream.address).collect(), policy);
    let proxy = World::to(&[]).start();
    publish(&proxy, cart.snapshot(&all_serving(0..3)));
    let mut client = proxy.client();
    let mut get = |headers: &str| {
        client.send(format!("GET / HTTP/1.1\r\nhost: example.com\r\nx-user: u\r\n{headers}\r\n"));
        let response = client.response();
        (String::from_utf8(response.body.clone()).unwrap(), response.header("x-pod").map(ToOwned::to_owned))
    };
    let (pod, made) = get("");
    assert_eq!(made, Some(tag(pod.parse().unwrap())));
    let forged = get("x-pod: 0123456789abcdef\r\n");
    assert_eq!(forged, (pod, made));
    for other in 0..3 {
        assert_eq!(get(&format!("x-pod: {}\r\n", tag(other))), (other.to_string(), None));
    }
    assert_eq!(proxy.metric("clingfish_affinity_sessions_total{result=\"unknown\"}"), 1.0);
}
