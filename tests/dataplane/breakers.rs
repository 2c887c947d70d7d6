//! Circuit breakers: what a cluster may have at once.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use clingfish::{
    lb::{Policy, RingConfig},
    proxy::ProxyConfig,
    snapshot::{CircuitBreakers, HashPolicy, HashSource, RoutePolicy, Timeouts},
};

use crate::support::{Client, Served, Upstream, World, eventually};

const REQUEST: &str = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
const OVERFLOW: &str = "upstream connect error or disconnect/reset before headers. reset reason: overflow";

/// An upstream that answers once it is told to go on, and from then on at once.
fn held_back() -> (Upstream, Arc<AtomicBool>) {
    let released = Arc::new(AtomicBool::new(false));
    let go_on = Arc::clone(&released);
    let upstream = Upstream::start(move |conversation| {
        while conversation.request().is_some() {
            eventually("the test to go on", || go_on.load(SeqCst));
            conversation.reply("ok");
        }
    });
    (upstream, released)
}

fn quick() -> ProxyConfig {
    ProxyConfig { tick: Duration::from_millis(10), idle_tick: Duration::from_millis(10), ..ProxyConfig::default() }
}

fn overflows(proxy: &crate::support::Proxy, kind: &str) -> f64 {
    proxy.metric(&format!("clingfish_upstream_overflow_total{{kind=\"{kind}\"}}"))
}

#[test]
fn requests_beyond_the_limit_are_503_at_once_and_the_others_are_served() {
    let (upstream, released) = held_back();
    let breakers = CircuitBreakers { max_requests: Some(2), ..CircuitBreakers::default() };
    let world = World::to(&[upstream.address]).with(|served| served.breakers = breakers);
    // The workers count together.
    let proxy = world.start_with(ProxyConfig { workers: 2, ..quick() });
    let mut served: Vec<Client> = (0..2).map(|_| proxy.client()).collect();
    served.iter_mut().for_each(|client| client.send(REQUEST));
    eventually("both to be with the host", || upstream.requests().len() == 2);
    let mut refused = proxy.client();
    let response = refused.get("/");
    assert_eq!((response.status, response.text(), response.header("x-envoy-overloaded")), (503, OVERFLOW, Some("true")));
    assert_eq!(overflows(&proxy, "requests"), 1.0);
    eventually("the flag", || proxy.metric("clingfish_requests_total{code=\"5xx\",flag=\"UO\"}") == 1.0);
    released.store(true, SeqCst);
    assert!(served.iter_mut().all(|client| client.response().status == 200));
    eventually("a place", || refused.get("/").status == 200);
}

#[test]
fn a_request_counts_until_its_response_has_ended() {
    let upstream = Upstream::start(|conversation| {
        while conversation.request().is_some() {
            conversation.send("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nab");
            conversation.until_closed();
        }
    });
    let breakers = CircuitBreakers { max_requests: Some(1), ..CircuitBreakers::default() };
    let proxy = World::to(&[upstream.address]).with(|served| served.breakers = breakers).start_with(quick());
    let mut half = proxy.client();
    half.send(REQUEST);
    half.head();
    assert_eq!(proxy.client().get("/").status, 503);
    drop(half);
    let mut next = proxy.client();
    eventually("the client that left to be counted no more", || {
        next.send(REQUEST);
        next.head().starts_with("HTTP/1.1 200") || {
            next = proxy.client();
            false
        }
    });
}

#[test]
fn at_the_limit_of_connections_a_request_waits_for_one_to_come_back() {
    let (upstream, released) = held_back();
    let breakers = CircuitBreakers { max_connections: Some(1), ..CircuitBreakers::default() };
    let world = World::to(&[upstream.address]).with(|served| served.breakers = breakers);
    let live = Arc::clone(&world.clusters[0].live);
    let proxy = world.start_with(quick());
    let mut clients: Vec<Client> = (0..4).map(|_| proxy.client()).collect();
    clients.iter_mut().for_each(|client| client.send(REQUEST));
    // Who is connecting counts as pending too, so the host must have one before three can wait.
    eventually("three to wait", || upstream.requests().len() == 1 && live.pending.load(SeqCst) == 3);
    assert_eq!(upstream.connections(), 1);
    released.store(true, SeqCst);
    assert!(clients.iter_mut().all(|client| client.response().status == 200));
    assert_eq!((upstream.connections(), upstream.requests().len()), (1, 4), "all on the one connection");
    assert_eq!(overflows(&proxy, "connections"), 3.0);
    eventually("nobody to wait", || live.pending.load(SeqCst) == 0);
}

#[test]
fn a_connection_that_closes_makes_room_for_the_next_who_waits() {
    let upstream = Upstream::start(|conversation| {
        conversation.request();
        conversation.send("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok");
    });
    let breakers = CircuitBreakers { max_connections: Some(1), ..CircuitBreakers::default() };
    let proxy = World::to(&[upstream.address]).with(|served| served.breakers = breakers).start_with(quick());
    let mut clients: Vec<Client> = (0..5).map(|_| proxy.client()).collect();
    clients.iter_mut().for_each(|client| client.send(REQUEST));
    assert!(clients.iter_mut().all(|client| client.response().status == 200));
    assert_eq!(upstream.connections(), 5);
}

#[test]
fn the_limit_of_connections_is_that_of_all_hosts_together_but_each_may_have_one() {
    let (one, released) = held_back();
    let (other, released_too) = held_back();
    let breakers = CircuitBreakers { max_connections: Some(1), ..CircuitBreakers::default() };
    let world = World::to(&[one.address, other.address]).with(|served| served.breakers = breakers);
    let live = Arc::clone(&world.clusters[0].live);
    let proxy = world.start_with(quick());
    let mut clients: Vec<Client> = (0..6).map(|_| proxy.client()).collect();
    clients.iter_mut().for_each(|client| client.send(REQUEST));
    let asked = || one.requests().len() + other.requests().len();
    eventually("four to wait", || asked() == 2 && live.pending.load(SeqCst) == 4);
    assert_eq!((one.connections(), other.connections(), live.connections.load(SeqCst)), (1, 1, 2));
    released.store(true, SeqCst);
    released_too.store(true, SeqCst);
    assert!(clients.iter_mut().all(|client| client.response().status == 200));
    assert_eq!((one.connections(), other.connections()), (1, 1));
    drop(proxy);
    eventually("the worker's connections to be gone", || live.connections.load(SeqCst) == 0);
}

#[test]
fn an_idle_connection_to_another_host_makes_room() {
    let (one, released) = held_back();
    let other = Upstream::echo("ok");
    let breakers = CircuitBreakers { max_connections: Some(2), ..CircuitBreakers::default() };
    let world = World { clusters: vec![Served::new("/a", &[one.address, other.address])], ..World::to(&[]) };
    let world = world.with(|served| {
        served.breakers = breakers;
        served.options.idle_timeout = Duration::from_secs(3600);
        let key = HashPolicy { source: HashSource::Header(http::HeaderName::from_static("x-user")), terminal: false };
        served.lb = Policy::RingHash(RingConfig::default());
        served.policy = RoutePolicy { hash: Box::new([key]), ..RoutePolicy::default() };
    });
    let live = Arc::clone(&world.clusters[0].live);
    let proxy = world.start_with(quick());
    released.store(true, SeqCst);
    let ask = |user: usize| format!("GET /a HTTP/1.1\r\nhost: a\r\nx-user: {user}\r\n\r\n");
    // A key for each host, and a connection that is idle.
    let key_of = |upstream: &Upstream| {
        (0..).find(|user| {
            let before = upstream.requests().len();
            let mut client = proxy.client();
            client.send(ask(*user));
            assert_eq!(client.response().status, 200);
            upstream.requests().len() > before
        })
    };
    let (to_one, _to_other) = (key_of(&one).unwrap(), key_of(&other).unwrap());
    assert_eq!((live.connections.load(SeqCst), other.open()), (2, 1));
    released.store(false, SeqCst);
    let mut clients: Vec<Client> = (0..2).map(|_| proxy.client()).collect();
    clients.iter_mut().for_each(|client| client.send(ask(to_one)));
    eventually("a second connection to the one", || one.open() == 2 && other.open() == 0);
    assert_eq!((live.connections.load(SeqCst), overflows(&proxy, "connections")), (2, 0.0));
    released.store(true, SeqCst);
    assert!(clients.iter_mut().all(|client| client.response().status == 200));
}

#[test]
fn more_than_may_wait_is_503() {
    let (upstream, released) = held_back();
    let breakers = CircuitBreakers { max_connections: Some(1), max_pending_requests: Some(2), ..CircuitBreakers::default() };
    let world = World::to(&[upstream.address]).with(|served| served.breakers = breakers);
    let live = Arc::clone(&world.clusters[0].live);
    let proxy = world.start_with(quick());
    let mut clients: Vec<Client> = (0..3).map(|_| proxy.client()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.send(REQUEST);
        eventually("one after the other", || upstream.requests().len() == 1 && live.pending.load(SeqCst) as usize == number);
    }
    let response = proxy.client().get("/");
    assert_eq!((response.status, response.text(), response.header("x-envoy-overloaded")), (503, OVERFLOW, Some("true")));
    assert_eq!((overflows(&proxy, "connections"), overflows(&proxy, "pending")), (2.0, 1.0));
    released.store(true, SeqCst);
    assert!(clients.iter_mut().all(|client| client.response().status == 200));
}

#[test]
fn who_waits_for_a_connection_is_bound_by_the_request_timeout_and_may_leave() {
    let (upstream, released) = held_back();
    let breakers = CircuitBreakers { max_connections: Some(1), ..CircuitBreakers::default() };
    let world = World::to(&[upstream.address]).with(|served| {
        served.breakers = breakers;
        served.policy.timeouts = Timeouts { request: Some(Duration::from_millis(300)), ..Timeouts::default() };
    });
    let live = Arc::clone(&world.clusters[0].live);
    let proxy = world.start_with(quick());
    let mut clients: Vec<Client> = (0..3).map(|_| proxy.client()).collect();
    clients.iter_mut().for_each(|client| client.send(REQUEST));
    clients.pop();
    assert!(clients.iter_mut().all(|client| client.response().status == 504));
    eventually("nobody to be counted", || live.pending.load(SeqCst) == 0 && live.requests.load(SeqCst) == 0);
    released.store(true, SeqCst);
    assert_eq!(clients[0].get("/").status, 200);
}

#[test]
fn a_tunnel_counts_as_a_request_and_a_connection_to_its_end() {
    let upstream = Upstream::start(|conversation| {
        conversation.request_head();
        conversation.send("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n");
        conversation.until_closed();
    });
    let world = World::to(&[upstream.address]);
    let live = Arc::clone(&world.clusters[0].live);
    let proxy = world.start_with(quick());
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n");
    assert!(client.head().starts_with("HTTP/1.1 101"));
    let counts = || [&live.requests, &live.connections].map(|count| count.load(SeqCst));
    // The head has left, so whatever ends with the exchange has ended.
    for _ in 0..20 {
        assert_eq!(counts(), [1, 1]);
        std::thread::yield_now();
    }
    drop(client);
    eventually("the end of the tunnel", || counts() == [0, 0]);
}
