//! Hosts that fail, and what is tried instead.

use std::{
    net::{SocketAddr, TcpListener},
    sync::{Arc, Mutex, atomic::Ordering::Relaxed},
    time::Duration,
};

use clingfish::{
    lb::{Balancer, BalancerConfig, LbHost, MaglevConfig, Policy, RingConfig, header_values_hash},
    proxy::{BackendLimits, ProxyConfig},
    snapshot::{HashPolicy, HashSource, Jitter, RetryOn, RetryPolicy, RoutePolicy},
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
        jitter: Jitter::Full,
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
fn a_refused_session_goes_where_the_table_without_its_host_puts_it() {
    for policy in [Policy::Maglev(MaglevConfig::default()), Policy::RingHash(RingConfig::default())] {
        check_refused_sessions(policy);
    }
}

fn check_refused_sessions(policy: Policy) {
    let upstreams: Vec<Upstream> = (0..4).map(|_| Upstream::echo("ok")).collect();
    let living: Vec<SocketAddr> = upstreams.iter().map(|upstream| upstream.address).collect();
    let dead = closed();
    let config = BalancerConfig { policy, ..BalancerConfig::default() };
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
    for (first_words, refused, status) in [("", 0, 503), ("HTTP/1.1 200 OK\r\ncontent-le", 3, 502)] {
        let closing = Upstream::start(move |conversation| {
            conversation.request();
            conversation.send(first_words);
        });
        let good = Upstream::echo("ok");
        let proxy = World::to(&[closing.address, good.address]).start();
        let mut client = proxy.client();
        let statuses: Vec<u16> = (0..6).map(|_| client.get("/").status).collect();
        assert_eq!(statuses.iter().filter(|got| **got == status).count(), refused, "{first_words:?}: {statuses:?}");
        assert_eq!(closing.requests().len(), 3, "{first_words:?}: turns go round");
        let mut posted: Vec<u16> = (0..2)
            .map(|_| {
                client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nhi");
                client.response().status
            })
            .collect();
        posted.sort_unstable();
        assert_eq!(posted, [200, status], "{first_words:?}: nobody knows what became of one");
    }
}

#[test]
fn statuses_are_retried_on_the_next_host_by_policy_only() {
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
    let proxy = World::to(&[bad.address, good.address]).start();
    let mut client = proxy.client();
    let mut statuses = Vec::new();
    for method in ["GET", "POST", "GET", "POST"] {
        client.send(format!("{method} /no-policy HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nhi"));
        statuses.push(client.response().status);
    }
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 503, 503]);
    let without = |upstream: &Upstream| upstream.requests().iter().filter(|request| request.contains("/no-policy")).count();
    assert_eq!(without(&bad) + without(&good), 4);
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
    let proxy = world.start_with(quick());
    let mut client = proxy.client();
    for _ in 0..4 {
        assert_eq!(client.get("/").status, 200);
    }
    assert!(!slow.requests().is_empty());
}

#[expect(clippy::disallowed_types, reason = "these tests look at real time, no clock is paused")]
fn now() -> std::time::Instant {
    std::time::Instant::now()
}

/// Ticks that suit short timeouts.
fn quick() -> ProxyConfig {
    ProxyConfig { tick: Duration::from_millis(10), ..ProxyConfig::default() }
}

#[test]
fn a_request_timeout_within_the_wait_for_a_retry_is_a_504() {
    let upstream = Upstream::answering("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 4\r\n\r\nbody");
    let world = World::to(&[upstream.address]).with(|served| {
        let on = RetryOn { gateway_error: true, ..RetryOn::default() };
        let wait = Duration::from_secs(3600);
        served.policy.retry = Some(RetryPolicy { backoff_base: wait, backoff_max: wait, ..policy(on, 20) });
        served.policy.timeouts.request = Some(Duration::from_millis(150));
    });
    let proxy = world.start_with(quick());
    let mut client = proxy.client();
    for _ in 0..3 {
        let response = client.get("/");
        assert_eq!((response.status, response.text()), (504, "upstream request timeout"));
    }
    assert_eq!(upstream.requests().len(), 3, "each was asked once, and the wait for the second attempt did not end");
    eventually("the discarded answers' connections to be closed", || upstream.open() == 0);
}

#[test]
fn a_policy_that_covers_failed_connects_counts_them() {
    let hosts: Vec<SocketAddr> = (0..6).map(|_| closed()).collect();
    let failed = |on: RetryOn| {
        let proxy = World::to(&hosts).with(|served| served.policy.retry = Some(policy(on, 1))).start();
        assert_eq!(proxy.client().get("/").status, 503);
        proxy.metric("clingfish_upstream_connects_total{result=\"failed\"}")
    };
    assert_eq!(failed(RetryOn { connect_failure: true, ..RetryOn::default() }), 2.0);
    assert_eq!(failed(RetryOn { server_error: true, ..RetryOn::default() }), 2.0);
    assert_eq!(failed(RetryOn { retriable_4xx: true, ..RetryOn::default() }), 6.0, "the gateway's own way to the next host");
}

#[test]
fn a_single_host_that_comes_up_within_the_attempts_answers() {
    let address = closed();
    let world = World::to(&[address]).with(|served| {
        let on = RetryOn { connect_failure: true, ..RetryOn::default() };
        let wait = Duration::from_millis(20);
        served.policy.retry = Some(RetryPolicy { backoff_base: wait, backoff_max: wait, ..policy(on, 1000) });
    });
    let proxy = world.start();
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    eventually("two failed connects", || proxy.metric("clingfish_upstream_connects_total{result=\"failed\"}") >= 2.0);
    let upstream = Upstream::on(TcpListener::bind(address).unwrap(), |conversation| {
        while conversation.request().is_some() {
            conversation.reply("up");
        }
    });
    let response = client.response();
    assert_eq!((response.status, response.text()), (200, "up"));
    assert_eq!(upstream.requests().len(), 1);
}

/// The body of a request, without its chunks' framing; trailers after a comma.
fn unchunked(request: &str) -> String {
    let (head, mut rest) = request.split_once("\r\n\r\n").unwrap();
    if !head.contains("transfer-encoding: chunked") {
        return rest.to_owned();
    }
    let mut body = String::new();
    while let Some((size, more)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            return body + ", " + more.trim();
        }
        body += &more[..size];
        rest = &more[size + 2..];
    }
    panic!("no end: {request:?}")
}

#[test]
fn a_policy_holds_for_every_method_and_sends_the_body_again() {
    let bad = Upstream::answering("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n");
    let good = Upstream::echo("ok");
    let world = World::to(&[bad.address, good.address]).with(|served| {
        served.policy.retry = Some(policy(RetryOn { gateway_error: true, ..RetryOn::default() }, 2));
    });
    let proxy = world.start();
    let mut client = proxy.client();
    let requests = [
        "POST /length HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nhi",
        "PATCH /chunked HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n4\r\n you\r\n0\r\nx-sum: 5\r\n\r\n",
        "POST /empty HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n",
    ];
    for request in requests {
        // Turns go round: one of two begins at the bad host.
        for _ in 0..2 {
            client.send(request);
            assert_eq!(client.response().status, 200, "{request:?}");
        }
    }
    assert_eq!((bad.requests().len(), good.requests().len()), (3, 6));
    let head = |request: &str| request.split_once("\r\n\r\n").unwrap().0.to_owned();
    for (failed, served) in bad.requests().iter().zip(good.requests().chunks(2)) {
        assert!(served.iter().any(|request| head(request) == head(failed)), "the very request, with its x-request-id: {failed:?}");
    }
    let bodies: Vec<String> = good.requests().iter().map(|request| unchunked(request)).collect();
    let patched = "hi you, x-sum: 5";
    assert_eq!(bodies, ["hi", "hi", patched, patched, "", ""]);
}

#[test]
fn a_body_that_is_larger_than_what_is_kept_is_sent_once_and_that_is_counted() {
    let upstream = Upstream::answering("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n");
    let world = World::to(&[upstream.address]).with(|served| {
        served.policy.retry = Some(policy(RetryOn { gateway_error: true, ..RetryOn::default() }, 1));
    });
    let backends = BackendLimits { retry_body_bytes: 8, ..BackendLimits::default() };
    let proxy = world.start_with(ProxyConfig { backends, ..quick() });
    let mut client = proxy.client();
    let chunked = |first: &str, second: &str| {
        let (one, two) = (first.len(), second.len());
        format!("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{one:x}\r\n{first}\r\n{two:x}\r\n{second}\r\n0\r\n\r\n")
    };
    let mut asked = 0;
    for (request, attempts) in [
        (chunked("1234", "5678"), 2),
        (chunked("1234", "56789"), 1),
        ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 8\r\n\r\n12345678".to_owned(), 2),
        ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\n123456789".to_owned(), 1),
    ] {
        client.send(&request);
        assert_eq!(client.response().status, 503, "{request:?}");
        asked += attempts;
        assert_eq!(upstream.requests().len(), asked, "{request:?}");
    }
    assert_eq!(proxy.metric("clingfish_upstream_retries_without_body_total"), 2.0);
}

#[test]
fn an_upload_is_passed_on_while_it_streams_and_a_retry_begins_before_it_ends() {
    let hasty = Upstream::start(|conversation| {
        // It answers when it has seen the first piece.
        conversation.request_head();
        conversation.at_least(4);
        conversation.send("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n");
        conversation.until_closed();
    });
    let world = World::to(&[hasty.address]).with(|served| {
        served.policy.retry = Some(policy(RetryOn { gateway_error: true, ..RetryOn::default() }, 1));
    });
    let proxy = world.start_with(quick());
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 8\r\n\r\n1234");
    assert_eq!(client.response().status, 503, "the second answer, with the kept first piece; the client has not sent the rest");
    assert_eq!(hasty.connections(), 2);
}

#[test]
fn the_backoff_of_an_http_route_is_the_least_wait() {
    let times = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&times);
    let upstream = Upstream::start(move |conversation| {
        while conversation.request().is_some() {
            seen.lock().unwrap().push(now());
            conversation.send("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n");
        }
    });
    let wait = Duration::from_millis(60);
    let world = World::to(&[upstream.address]).with(|served| {
        let on = RetryOn { gateway_error: true, ..RetryOn::default() };
        served.policy.retry = Some(RetryPolicy { backoff_base: wait, backoff_max: 10 * wait, jitter: Jitter::Above, ..policy(on, 3) });
    });
    let proxy = world.start_with(quick());
    assert_eq!(proxy.client().get("/").status, 503);
    let times = times.lock().unwrap();
    let waits: Vec<Duration> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(waits.len(), 3);
    for (waited, least) in waits.iter().zip([wait, 2 * wait, 4 * wait]) {
        assert!(*waited >= least, "{waits:?}");
    }
}

#[test]
fn a_retry_that_is_too_many_leaves_the_last_answer() {
    let upstream = Upstream::answering("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 4\r\n\r\nbody");
    let world = World::to(&[upstream.address]).with(|served| {
        served.policy.retry = Some(policy(RetryOn { gateway_error: true, ..RetryOn::default() }, 2));
        served.breakers.max_retries = Some(0);
    });
    let proxy = world.start();
    let response = proxy.client().get("/");
    assert_eq!((response.status, response.text()), (503, "body"));
    assert_eq!(upstream.requests().len(), 1);
    assert_eq!(proxy.metric("clingfish_upstream_overflow_total{kind=\"retries\"}"), 1.0);
    eventually("the flag", || proxy.metric("clingfish_requests_total{code=\"5xx\",flag=\"UO\"}") == 1.0);
}

#[test]
fn a_retry_is_in_flight_from_its_wait_to_its_answer() {
    let failing = Upstream::start(move |conversation| {
        let mut first = true;
        while conversation.request_head().is_some() {
            if std::mem::take(&mut first) {
                conversation.send("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n");
            }
        }
    });
    let world = World::to(&[failing.address]).with(|served| {
        served.policy.retry = Some(policy(RetryOn { gateway_error: true, ..RetryOn::default() }, 1));
        served.policy.timeouts.request = Some(Duration::from_secs(60));
    });
    let live = Arc::clone(&world.clusters[0].live);
    let proxy = world.start_with(quick());
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    let counts = || [&live.requests, &live.retries, &live.pending].map(|count| count.load(Relaxed));
    eventually("a retry in flight", || counts() == [1, 1, 0]);
    drop(client);
    eventually("the end of both", || counts() == [0, 0, 0]);
}
