//! Hosts that fail, and what is tried instead.

use std::{
    net::{SocketAddr, TcpListener},
    time::Duration,
};

use clingfish::{
    lb::{Balancer, BalancerConfig, LbHost, MaglevConfig, Policy, header_values_hash},
    snapshot::{HashPolicy, HashSource, RetryOn, RetryPolicy, RoutePolicy},
};
use http::StatusCode;

use crate::support::{Upstream, World, eventually};

/// An address where nobody listens.
fn closed() -> SocketAddr {
    TcpListener::bind("127.0.0.5:0").unwrap().local_addr().unwrap()
}

fn policy(on: RetryOn, attempts: u32) -> RetryPolicy {
    RetryPolicy {
        on,
        attempts,
        status_codes: Box::new([StatusCode::NOT_FOUND]),
        backoff_base: Duration::from_millis(1),
        backoff_max: Duration::from_millis(2),
    }
}

#[test]
fn a_refused_connect_goes_on_to_the_next_host_whatever_the_method() {
    let upstream = Upstream::echo("ok");
    let proxy = World::to(&[closed(), closed(), upstream.address]).start();
    let mut client = proxy.client();
    for _ in 0..6 {
        assert_eq!(client.get("/").status, 200);
        client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nhi");
        assert_eq!(client.response().status, 200);
    }
    assert_eq!(upstream.requests().len(), 12);
    assert!(proxy.metric("clingfish_upstream_retries_total{reason=\"connect_failure\"}") > 0.0);
}

/// The session of a pod that has just ended must not move again when the gateway is told.
#[test]
fn under_maglev_a_refused_session_goes_where_the_table_without_its_host_puts_it() {
    let upstreams: Vec<Upstream> = (0..4).map(|_| Upstream::echo("ok")).collect();
    let living: Vec<SocketAddr> = upstreams.iter().map(|upstream| upstream.address).collect();
    let dead = closed();
    let config = BalancerConfig { policy: Policy::Maglev(MaglevConfig::default()), ..BalancerConfig::default() };
    let table = |hosts: &[SocketAddr]| {
        let hosts: Vec<LbHost> = hosts.iter().map(|address| LbHost::new(address.to_string())).collect();
        Balancer::build(&hosts, &config).unwrap()
    };
    let all: Vec<SocketAddr> = [dead].into_iter().chain(living.iter().copied()).collect();
    let (before, after) = (table(&all), table(&living));
    let policy = HashPolicy { source: HashSource::Header(http::HeaderName::from_static("x-user")), terminal: false };
    let world = World::to(&all).with(|served| {
        served.lb = config.policy.clone();
        served.policy = RoutePolicy { hash: Box::new([policy]), ..RoutePolicy::default() };
    });
    let proxy = world.start();
    let mut client = proxy.client();
    let hash = |key: &str| header_values_hash(&mut smallvec::smallvec![key.as_bytes()]).unwrap();
    let keys: Vec<String> = (0..200).map(|number| format!("user-{number}")).collect();
    let orphans: Vec<&String> = keys.iter().filter(|key| before.choose_by_hash(hash(key), 0).unwrap().host == 0).collect();
    assert!(orphans.len() > 10, "some belong to the dead host");
    for key in &orphans {
        client.send(format!("GET /{key} HTTP/1.1\r\nhost: a\r\nx-user: {key}\r\n\r\n"));
        assert_eq!(client.response().status, 200);
        let expected = after.choose_by_hash(hash(key), 0).unwrap().host as usize;
        assert!(upstreams[expected].last().starts_with(&format!("GET /{key} ")), "{key} is not on the host of the next table");
    }
    let sequence = |key: &str| before.sequence(hash(key), 2)[1] as usize - 1;
    assert!(
        orphans.iter().any(|key| sequence(key) != after.choose_by_hash(hash(key), 0).unwrap().host as usize),
        "the test tells them apart"
    );
}

#[test]
fn when_all_hosts_refuse_the_answer_is_a_503() {
    let proxy = World::to(&[closed(), closed()]).start();
    let mut client = proxy.client();
    assert_eq!(client.get("/").status, 503);
    eventually("the answer to be counted", || proxy.metric("clingfish_requests_total{code=\"5xx\",flag=\"UF\"}") == 1.0);
    assert_eq!(client.get("/").status, 503, "the client's connection is still good");
}

#[test]
fn a_cluster_without_hosts_is_a_503() {
    let proxy = World::to(&[]).start();
    let response = proxy.client().get("/");
    assert_eq!((response.status, response.text()), (503, "no healthy upstream"));
    eventually("the flag", || proxy.metric("clingfish_requests_total{code=\"5xx\",flag=\"UH\"}") == 1.0);
}

#[test]
fn a_host_that_closes_a_fresh_connection_without_an_answer_is_a_503_and_asked_once() {
    let upstream = Upstream::start(|conversation| {
        conversation.request();
    });
    let proxy = World::to(&[upstream.address]).start();
    assert_eq!(proxy.client().get("/").status, 503);
    assert_eq!(upstream.requests().len(), 1);
    eventually("the flag", || proxy.metric("clingfish_requests_total{code=\"5xx\",flag=\"UC\"}") == 1.0);
}

#[test]
fn a_close_without_a_byte_of_an_answer_goes_on_to_the_next_host_and_one_within_the_head_does_not() {
    for (first_words, refused) in [("", 0), ("HTTP/1.1 200 OK\r\ncontent-le", 3)] {
        let closing = Upstream::start(move |conversation| {
            conversation.request();
            conversation.send(first_words);
        });
        let good = Upstream::echo("ok");
        let proxy = World::to(&[closing.address, good.address]).start();
        let mut client = proxy.client();
        let statuses: Vec<u16> = (0..6).map(|_| client.get("/").status).collect();
        assert_eq!(statuses.iter().filter(|status| **status == 503).count(), refused, "{first_words:?}: {statuses:?}");
        assert_eq!(closing.requests().len(), 3, "{first_words:?}: turns go round");
        let mut posted: Vec<u16> = (0..2)
            .map(|_| {
                client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nhi");
                client.response().status
            })
            .collect();
        posted.sort_unstable();
        assert_eq!(posted, [200, 503], "{first_words:?}: nobody knows what became of one");
    }
}

#[test]
fn statuses_are_retried_on_the_next_host_by_policy_only_and_never_a_post() {
    let bad = Upstream::answering("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n");
    let good = Upstream::echo("ok");
    let world = World::to(&[bad.address, good.address]).with(|served| {
        served.policy.retry = Some(policy(RetryOn { gateway_error: true, ..RetryOn::default() }, 2));
    });
    let proxy = world.start();
    let mut client = proxy.client();
    for _ in 0..6 {
        assert_eq!(client.get("/").status, 200);
    }
    assert!(!bad.requests().is_empty());
    let mut statuses = Vec::new();
    for _ in 0..6 {
        client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nhi");
        statuses.push(client.response().status);
    }
    assert!(statuses.contains(&503), "{statuses:?}");
    let posts = |upstream: &Upstream| upstream.requests().iter().filter(|request| request.starts_with("POST")).count();
    assert_eq!(posts(&bad) + posts(&good), 6);
}

#[test]
fn retries_end_and_the_last_answer_is_passed_on() {
    let upstream = Upstream::answering("HTTP/1.1 500 Oh\r\ncontent-length: 4\r\n\r\nbody");
    let world = World::to(&[upstream.address]).with(|served| {
        served.policy.retry = Some(policy(RetryOn { server_error: true, ..RetryOn::default() }, 3));
    });
    let proxy = world.start();
    let response = proxy.client().get("/");
    assert_eq!((response.status, response.text()), (500, "body"));
    assert_eq!(upstream.requests().len(), 4);
    assert_eq!(proxy.metric("clingfish_upstream_retries_total{reason=\"status\"}"), 3.0);
}

#[test]
fn an_answer_that_the_policy_does_not_name_is_passed_on() {
    let upstream = Upstream::answering("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n");
    let world = World::to(&[upstream.address]).with(|served| {
        served.policy.retry = Some(policy(RetryOn { gateway_error: true, ..RetryOn::default() }, 3));
    });
    assert_eq!(world.start().client().get("/").status, 404);
    assert_eq!(upstream.requests().len(), 1);
}

#[test]
fn a_host_that_does_not_answer_a_connect_costs_one_connect_timeout() {
    // A listener whose queue is full neither accepts nor refuses.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&"127.0.0.6:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    socket.listen(0).unwrap();
    let full = socket.local_addr().unwrap().as_socket().unwrap();
    let fillers: Vec<_> = (0..4)
        .map(|_| {
            let filler = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
            filler.set_nonblocking(true).unwrap();
            let _ = filler.connect(&full.into());
            filler
        })
        .collect();
    let upstream = Upstream::echo("ok");
    let world = World::to(&[full, upstream.address]).with(|served| served.options.connect_timeout = Duration::from_millis(100));
    let proxy = world.start();
    let mut client = proxy.client();
    for _ in 0..4 {
        assert_eq!(client.get("/").status, 200);
    }
    assert!(proxy.metric("clingfish_upstream_connects_total{result=\"timed_out\"}") >= 1.0);
    drop(fillers);
}

#[test]
fn an_attempt_that_times_out_goes_to_the_next_host_by_policy() {
    let slow = Upstream::start(|conversation| {
        conversation.request();
        conversation.until_closed();
    });
    let good = Upstream::echo("ok");
    let world = World::to(&[slow.address, good.address]).with(|served| {
        served.policy.retry = Some(policy(RetryOn { reset: true, ..RetryOn::default() }, 1));
        served.policy.timeouts.backend_request = Some(Duration::from_millis(700));
    });
    let proxy = world.start_with(clingfish::proxy::ProxyConfig { tick: Duration::from_millis(10), ..Default::default() });
    let mut client = proxy.client();
    for _ in 0..4 {
        assert_eq!(client.get("/").status, 200);
    }
    assert!(!slow.requests().is_empty());
}
