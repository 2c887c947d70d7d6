//! Timeouts and limits. Deadlines are looked at by a tick, so tests shorten limits and ticks instead of stopping the clock.

use std::time::Duration;

use clingfish::{
    proxy::{Limits, ProxyConfig},
    snapshot::Timeouts,
};

use crate::support::{Upstream, World, eventually};

const SHORT: Duration = Duration::from_millis(150);

/// Ticks that suit short limits.
fn quick(limits: Limits) -> ProxyConfig {
    ProxyConfig { limits, tick: Duration::from_millis(10), idle_tick: Duration::from_millis(10), ..ProxyConfig::default() }
}

fn silent() -> Upstream {
    Upstream::start(|conversation| {
        conversation.request();
        conversation.until_closed();
    })
}

#[test]
fn a_connection_without_a_first_byte_is_closed() {
    let upstream = Upstream::echo("ok");
    let proxy = World::to(&[upstream.address]).start_with(quick(Limits { first_byte: SHORT, ..Limits::default() }));
    assert!(proxy.client().is_closed());
}

#[test]
fn half_a_preface_is_no_way_around_the_first_byte_limit() {
    let upstream = Upstream::echo("ok");
    let proxy = World::to(&[upstream.address]).start_with(quick(Limits { first_byte: SHORT, ..Limits::default() }));
    let mut client = proxy.client();
    client.send("PRI * HT");
    assert!(client.is_closed());
}

#[test]
fn a_head_that_does_not_end_is_answered_408() {
    let upstream = Upstream::echo("ok");
    let proxy = World::to(&[upstream.address]).start_with(quick(Limits { request_head: SHORT, ..Limits::default() }));
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nhost: a\r\n");
    assert_eq!(client.response().status, 408);
    assert!(client.is_closed());
}

#[test]
fn keep_alive_outlives_the_head_limit_and_ends_at_its_own() {
    let upstream = Upstream::echo("ok");
    let limits = Limits { request_head: Duration::from_millis(50), keep_alive: Duration::from_secs(3), ..Limits::default() };
    let proxy = World::to(&[upstream.address]).start_with(quick(limits));
    let mut client = proxy.client();
    assert_eq!(client.get("/").status, 200);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(client.get("/").status, 200, "six times the head limit has passed, but no head had begun");
    assert!(client.is_closed());
}

#[test]
fn the_request_timeout_is_a_504_and_cancels_the_upstream() {
    let upstream = silent();
    let timeouts = Timeouts { request: Some(SHORT), ..Timeouts::default() };
    let proxy = World::to(&[upstream.address]).with(|served| served.policy.timeouts = timeouts).start_with(quick(Limits::default()));
    let mut client = proxy.client();
    let response = client.get("/");
    assert_eq!((response.status, response.text()), (504, "upstream request timeout"));
    eventually("the upstream connection to be closed", || upstream.open() == 0);
    eventually("the answer to be counted", || proxy.metric("clingfish_requests_total{code=\"5xx\",flag=\"UT\"}") == 1.0);
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!(client.response().status, 504, "the client's connection is still good");
}

#[test]
fn an_upload_that_stalls_is_a_504_and_one_that_goes_on_is_not() {
    let upstream = Upstream::start(|conversation| {
        while conversation.request().is_some() {
            conversation.reply("whole");
        }
    });
    let start = |upload_stall| {
        let timeouts = Timeouts { request: Some(SHORT), upload_stall: Some(upload_stall), ..Timeouts::default() };
        World::to(&[upstream.address]).with(|served| served.policy.timeouts = timeouts).start_with(quick(Limits::default()))
    };
    let proxy = start(SHORT);
    for head in ["content-length: 6\r\n\r\n", "content-length: 6\r\n\r\nabc", "transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n"] {
        let mut client = proxy.client();
        client.send(format!("POST / HTTP/1.1\r\nhost: a\r\n{head}"));
        let response = client.response();
        assert_eq!((response.status, response.text()), (504, "upstream request timeout"), "{head}");
        assert!(client.is_closed(), "{head}");
    }
    eventually("the answers to be counted", || proxy.metric("clingfish_requests_total{code=\"5xx\",flag=\"UT\"}") == 3.0);
    let proxy = start(20 * SHORT);
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 6\r\n\r\n");
    for piece in ["ab", "cd", "ef"] {
        std::thread::sleep(SHORT / 2);
        client.send(piece);
    }
    assert_eq!(client.response().text(), "whole");
}

#[test]
fn the_request_timeout_covers_the_body_too() {
    let upstream = Upstream::start(|conversation| {
        conversation.request();
        conversation.send("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc");
        conversation.until_closed();
    });
    let timeouts = Timeouts { request: Some(SHORT), ..Timeouts::default() };
    let proxy = World::to(&[upstream.address]).with(|served| served.policy.timeouts = timeouts).start_with(quick(Limits::default()));
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    client.head();
    assert_eq!(client.until_closed(), b"abc");
    eventually("the upstream connection to be closed", || upstream.open() == 0);
}

#[test]
fn a_client_that_stops_reading_does_not_outlive_the_request_timeout() {
    let upstream = Upstream::start(|conversation| {
        use std::io::Write;
        conversation.request();
        conversation.send("HTTP/1.1 200 OK\r\ncontent-length: 100000000\r\n\r\n");
        while conversation.stream.write_all(&[b'x'; 65536]).is_ok() {}
    });
    let timeouts = Timeouts { request: Some(SHORT), ..Timeouts::default() };
    let proxy = World::to(&[upstream.address]).with(|served| served.policy.timeouts = timeouts).start_with(quick(Limits::default()));
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    client.head();
    eventually("the upstream connection to be closed", || upstream.open() == 0);
    eventually("the client's connection to be closed", || proxy.metric("clingfish_downstream_connections_open") == 0.0);
}

#[test]
fn the_attempt_timeout_is_a_504() {
    let upstream = silent();
    let timeouts = Timeouts { backend_request: Some(SHORT), ..Timeouts::default() };
    let proxy = World::to(&[upstream.address]).with(|served| served.policy.timeouts = timeouts).start_with(quick(Limits::default()));
    assert_eq!(proxy.client().get("/").status, 504);
    eventually("the upstream connection to be closed", || upstream.open() == 0);
}

#[test]
fn an_upload_that_stalls_is_a_408() {
    let upstream = silent();
    let timeouts = Timeouts { idle: Some(SHORT), ..Timeouts::default() };
    let proxy = World::to(&[upstream.address]).with(|served| served.policy.timeouts = timeouts).start_with(quick(Limits::default()));
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nabc");
    assert_eq!(client.response().status, 408);
    eventually("the upstream connection to be closed", || upstream.open() == 0);
}

#[test]
fn a_long_upload_is_not_cut_by_the_request_timeout() {
    let upstream = Upstream::echo("ok");
    let timeouts = Timeouts { request: Some(Duration::from_secs(1)), ..Timeouts::default() };
    let proxy = World::to(&[upstream.address]).with(|served| served.policy.timeouts = timeouts).start_with(quick(Limits::default()));
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\n");
    for byte in ["h", "e", "l", "l", "o"] {
        std::thread::sleep(Duration::from_millis(300));
        client.send(byte);
    }
    assert_eq!(client.response().status, 200, "the timeout begins when the request has ended");
}

#[test]
fn heads_that_are_too_large_are_431() {
    let upstream = Upstream::echo("ok");
    let proxy = World::to(&[upstream.address]).start();
    let mut client = proxy.client();
    client.send(format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "x".repeat(50 * 1024)));
    assert_eq!(client.response().status, 200);
    let mut client = proxy.client();
    client.try_send(format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "x".repeat(61 * 1024)));
    assert_eq!(client.response().status, 431);
    let mut client = proxy.client();
    let many: String = (0..101).map(|index| format!("x-{index}: 1\r\n")).collect();
    client.send(format!("GET / HTTP/1.1\r\nhost: a\r\n{many}\r\n"));
    assert_eq!(client.response().status, 431);
    assert_eq!(upstream.requests().len(), 1);
}

#[test]
fn targets_that_are_too_long_are_414() {
    let upstream = Upstream::echo("ok");
    let config = ProxyConfig { limits: Limits { head_bytes: 100 * 1024, ..Limits::default() }, ..ProxyConfig::default() };
    let proxy = World::to(&[upstream.address]).start_with(config);
    let mut client = proxy.client();
    client.try_send(format!("GET /{} HTTP/1.1\r\nhost: a\r\n\r\n", "x".repeat(66 * 1024)));
    assert_eq!(client.response().status, 414);
}

#[test]
fn an_answer_head_that_is_too_large_is_a_502() {
    let upstream = Upstream::start(|conversation| {
        conversation.request();
        conversation.send(format!("HTTP/1.1 200 OK\r\nx: {}\r\ncontent-length: 0\r\n\r\n", "x".repeat(200 * 1024)));
    });
    let proxy = World::to(&[upstream.address]).start();
    assert_eq!(proxy.client().get("/").status, 502);
}
