//! Connections to clients and to hosts: reuse, staleness, cancellation, drain.

use std::{sync::mpsc, time::Duration};

use clingfish::proxy::ProxyConfig;

use crate::support::{Upstream, World, eventually};

#[test]
fn connections_are_kept_alive_on_both_sides() {
    let upstream = Upstream::echo("ok");
    let proxy = World::to(&[upstream.address]).start();
    let mut client = proxy.client();
    for _ in 0..10 {
        assert_eq!(client.get("/").status, 200);
    }
    let mut other = proxy.client();
    assert_eq!(other.get("/").status, 200);
    assert_eq!(upstream.connections(), 1);
    eventually("the pool to be counted", || proxy.metric("clingfish_upstream_connections{state=\"idle\"}") == 1.0);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let upstream = Upstream::start(|conversation| {
        while let Some(request) = conversation.request() {
            let path = request.split(' ').nth(1).unwrap().to_owned();
            conversation.reply(&path);
        }
    });
    let proxy = World::to(&[upstream.address]).start();
    let mut client = proxy.client();
    client.send("GET /1 HTTP/1.1\r\nhost: a\r\n\r\nGET /2 HTTP/1.1\r\nhost: a\r\n\r\nGET /3 HTTP/1.1\r\nhost: a\r\n\r\n");
    for path in ["/1", "/2", "/3"] {
        assert_eq!(client.response().text(), path);
    }
}

#[test]
fn a_stale_connection_costs_no_request() {
    let upstream = Upstream::start(|conversation| {
        if conversation.request().is_some() {
            conversation.reply("ok");
        }
    });
    let proxy = World::to(&[upstream.address]).start();
    let mut client = proxy.client();
    for _ in 0..50 {
        assert_eq!(client.get("/").status, 200, "the upstream closes after each answer without saying so");
    }
}

#[test]
fn a_request_that_a_stale_connection_swallowed_is_repeated_only_if_that_is_safe() {
    // The second request on a connection is read, and then the connection is closed without an answer.
    let upstream = Upstream::start(|conversation| {
        if conversation.request().is_some() {
            conversation.reply("ok");
            conversation.request();
        }
    });
    let proxy = World::to(&[upstream.address]).start();
    let mut client = proxy.client();
    assert_eq!(client.get("/").status, 200);
    assert_eq!(client.get("/").status, 200, "a GET goes again");
    assert_eq!(upstream.requests().len(), 3);
    client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nhi");
    assert_eq!(client.response().status, 503, "a POST may have been processed");
    assert_eq!(upstream.requests().iter().filter(|request| request.starts_with("POST")).count(), 1);
}

#[test]
fn idle_connections_are_closed_before_their_servers_do() {
    let upstream = Upstream::echo("ok");
    let world = World::to(&[upstream.address]).with(|served| served.options.idle_timeout = Duration::from_millis(50));
    let proxy = world.start_with(ProxyConfig { idle_tick: Duration::from_millis(20), ..ProxyConfig::default() });
    assert_eq!(proxy.client().get("/").status, 200);
    eventually("the idle connection to be closed", || upstream.open() == 0);
}

#[test]
fn a_connection_is_used_for_as_many_requests_as_allowed() {
    let upstream = Upstream::echo("ok");
    let proxy = World::to(&[upstream.address]).with(|served| served.options.max_requests_per_connection = Some(3)).start();
    let mut client = proxy.client();
    for _ in 0..9 {
        assert_eq!(client.get("/").status, 200);
    }
    assert_eq!(upstream.connections(), 3);
}

#[test]
fn connections_to_hosts_that_are_gone_are_closed_though_nothing_is_asked() {
    let [first, second] = [Upstream::echo("1"), Upstream::echo("2")];
    let proxy = World::to(&[first.address]).start();
    assert_eq!(proxy.client().get("/").text(), "1");
    assert_eq!(first.open(), 1);
    proxy.publish(&World::to(&[second.address]));
    eventually("the old host's connection to be closed", || first.open() == 0);
    assert_eq!(proxy.client().get("/").text(), "2");
}

#[test]
fn close_connections_on_host_set_change_closes_all() {
    let [first, second] = [Upstream::echo("1"), Upstream::echo("2")];
    let keeping = |hosts: &[_]| World::to(hosts);
    let closing = |hosts: &[_]| World::to(hosts).with(|served| served.close_on_change = true);
    let proxy = keeping(&[first.address]).start();
    assert_eq!(proxy.client().get("/").text(), "1");
    proxy.apply(&keeping(&[first.address, second.address]));
    assert_eq!(first.open(), 1, "another host is no reason to close this one's connections");
    proxy.apply(&closing(&[first.address]));
    eventually("all connections to be closed", || first.open() == 0);
}

#[test]
fn a_client_that_goes_away_cancels_its_request() {
    let upstream = Upstream::start(|conversation| {
        conversation.request();
        conversation.until_closed();
    });
    let proxy = World::to(&[upstream.address]).start();
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    eventually("the request to arrive", || upstream.requests().len() == 1);
    drop(client);
    eventually("the upstream connection to be closed", || upstream.open() == 0);
    eventually("the flag", || proxy.metric("clingfish_requests_total{code=\"other\",flag=\"DC\"}") == 1.0);
}

#[test]
fn no_request_fails_while_snapshots_are_swapped_under_load() {
    let [first, second] = [Upstream::echo("1"), Upstream::echo("2")];
    let worlds = [World::to(&[first.address]), World::to(&[second.address]), World::to(&[first.address, second.address])];
    let proxy = worlds[0].start_with(ProxyConfig { workers: 2, ..ProxyConfig::default() });
    let stop = std::sync::atomic::AtomicBool::new(false);
    let address = proxy.address();
    std::thread::scope(|scope| {
        let load: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut client = crate::support::Client::connect(address);
                    let mut served = 0;
                    while !stop.load(std::sync::atomic::Ordering::SeqCst) {
                        assert_eq!(client.get("/").status, 200);
                        served += 1;
                    }
                    served
                })
            })
            .collect();
        for round in 0..300 {
            proxy.apply(&worlds[round % worlds.len()]);
        }
        stop.store(true, std::sync::atomic::Ordering::SeqCst);
        let served: usize = load.into_iter().map(|thread| thread.join().unwrap()).sum();
        assert!(served > 0);
    });
}

#[test]
fn a_drain_finishes_what_is_in_flight_and_says_goodbye() {
    let (release, released) = mpsc::channel::<()>();
    let released = std::sync::Mutex::new(released);
    let upstream = Upstream::start(move |conversation| {
        while let Some(request) = conversation.request() {
            if request.starts_with("GET /slow") {
                released.lock().unwrap().recv().unwrap();
            }
            conversation.reply("ok");
        }
    });
    let proxy = World::to(&[upstream.address]).start();
    let address = proxy.address();
    let mut idle = proxy.client();
    assert_eq!(idle.get("/").status, 200);
    let mut slow = proxy.client();
    slow.send("GET /slow HTTP/1.1\r\nhost: a\r\n\r\n");
    eventually("the slow request to arrive", || upstream.requests().len() == 2);
    let draining = std::thread::spawn(move || proxy.drain(Duration::from_millis(300), Duration::from_secs(20)));
    // While the drain is announced, idle and new connections are served once more.
    eventually("the announcement", || {
        let mut client = crate::support::Client::connect(address);
        client.get("/").header("connection") == Some("close")
    });
    let last = idle.get("/");
    assert_eq!((last.status, last.header("connection")), (200, Some("close")));
    assert!(idle.is_closed());
    eventually("the listener to close", || std::net::TcpStream::connect(address).is_err());
    release.send(()).unwrap();
    assert_eq!(slow.response().status, 200);
    assert!(draining.join().unwrap(), "everything was finished in time");
}

#[test]
fn a_drain_of_an_idle_proxy_ends_at_once() {
    let upstream = Upstream::echo("ok");
    let proxy = World::to(&[upstream.address]).start_with(ProxyConfig { workers: 3, ..ProxyConfig::default() });
    let mut idle = proxy.client();
    assert_eq!(idle.get("/").status, 200);
    assert!(proxy.drain(Duration::ZERO, Duration::from_secs(20)));
    assert!(idle.is_closed());
}

#[test]
fn a_drain_gives_up_at_its_limit() {
    let upstream = Upstream::start(|conversation| {
        conversation.request();
        conversation.until_closed();
    });
    let proxy = World::to(&[upstream.address]).start();
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    eventually("the request to arrive", || upstream.requests().len() == 1);
    assert!(!proxy.drain(Duration::ZERO, Duration::from_millis(100)));
    assert!(client.is_closed());
}

#[test]
fn workers_give_signs_of_life() {
    let upstream = Upstream::echo("ok");
    let proxy = World::to(&[upstream.address]).start_with(ProxyConfig { idle_tick: Duration::from_millis(10), ..ProxyConfig::default() });
    let heartbeat = &proxy.metrics.workers()[0].heartbeat;
    for _ in 0..3 {
        eventually("the heart to pause", || heartbeat.age() > Duration::from_millis(3));
        eventually("the heart to beat", || heartbeat.age() < Duration::from_millis(3));
    }
}
