//! Answers that are given before the request has arrived whole: the connection is kept if what is left is little, and closed in a way that
//! the client still reads the answer if it is much.

use std::time::Duration;

use crate::support::{Proxy, Upstream, World, eventually};

/// Everything is a 404.
fn nothing() -> Proxy {
    let mut world = World::to(&[]);
    world.clusters[0].prefix = "/elsewhere";
    world.start()
}

/// What is sent of a body some time after its head.
fn later() {
    // Long enough for the answer to be on its way: the gateway must not have read the body with the head.
    std::thread::sleep(Duration::from_millis(20));
}

#[test]
fn a_small_rest_is_read_and_the_connection_serves_on() {
    let proxy = nothing();
    let mut client = proxy.client();
    for (head, body) in [
        ("POST /missing HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\n", "body"),
        ("POST /missing HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n", "4\r\nbody\r\n0\r\nx-sum: 1\r\n\r\n"),
        ("POST /missing HTTP/1.0\r\nhost: a\r\nconnection: keep-alive\r\ncontent-length: 4\r\n\r\n", "body"),
    ] {
        client.send(head);
        let response = client.response();
        assert_eq!((response.status, response.header("connection").unwrap_or("keep-alive")), (404, "keep-alive"), "{head}");
        later();
        client.send(body);
        assert_eq!(client.get("/missing").status, 404, "{head}");
    }
    assert_eq!(proxy.metric("clingfish_downstream_connections_total"), 1.0);
}

#[test]
fn what_is_pipelined_behind_a_body_that_nobody_reads_is_served() {
    let proxy = nothing();
    let mut client = proxy.client();
    client.send("POST /missing HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nbodyGET /missing HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!(client.response().status, 404);
    assert_eq!(client.response().status, 404);
}

#[test]
fn a_large_upload_reads_its_answer_before_the_connection_ends() {
    let no_hosts = World::to(&[]).start();
    let cases = [
        (no_hosts, 503, "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4000000\r\n\r\n", 4_000_000),
        (nothing(), 404, "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4000000\r\n\r\n", 4_000_000),
        (nothing(), 404, "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3d0900\r\n", 4_000_000),
    ];
    for (proxy, status, head, length) in cases {
        let mut client = proxy.client();
        client.send(head);
        // The whole upload is sent first, as many clients do: it must neither block nor be reset.
        client.send(vec![b'x'; length]);
        let response = client.response();
        assert_eq!(response.status, status, "{head}");
        assert!(client.is_closed());
    }
}

/// Sends an upload of 1 MB behind the answer to its head, and then a request on the same connection, if that was to stay open.
fn upload_and_go_on(proxy: &Proxy, framing: &str, body: &[u8]) -> (u16, Option<u16>) {
    let mut client = proxy.client();
    client.send(format!("POST /e HTTP/1.1\r\nhost: a\r\n{framing}\r\n\r\n"));
    let response = client.response();
    client.send(body);
    let next = (response.header("connection") != Some("close")).then(|| client.get("/e").status);
    (response.status, next)
}

#[test]
fn a_connection_that_was_not_said_to_end_serves_on_whatever_is_left_of_an_upload() {
    let early = |answer: &'static str, reads_on: bool| {
        let upstream = Upstream::start(move |conversation| {
            let head = conversation.request_head().unwrap_or_default();
            if head.starts_with("GET") {
                return conversation.reply("ok");
            }
            conversation.send(answer);
            if reads_on {
                conversation.until_closed();
            }
        });
        World::to(&[upstream.address]).start()
    };
    let plain = vec![b'x'; 1_000_000];
    let chunked = [b"f4240\r\n", plain.as_slice(), b"\r\n0\r\n\r\n"].concat();
    for (name, proxy, status) in [
        ("our own", nothing(), 404),
        ("no hosts", World::to(&[]).start(), 503),
        ("a host that reads on", early("HTTP/1.1 503 Busy\r\ncontent-length: 4\r\n\r\nbusy", true), 503),
        ("a host that closes", early("HTTP/1.1 503 Busy\r\ncontent-length: 4\r\n\r\nbusy", false), 503),
        ("in chunks", early("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", false), 200),
    ] {
        let (known, next) = upload_and_go_on(&proxy, "content-length: 1000000", &plain);
        assert_eq!((known, next), (status, None), "{name}: what is known to be much ends the connection");
        let (unknown, next) = upload_and_go_on(&proxy, "transfer-encoding: chunked", &chunked);
        assert_eq!(unknown, status, "{name}");
        assert!(next.is_some(), "{name}: it was not said to end");
    }
}

#[test]
fn the_rest_of_an_upload_may_come_slowly() {
    let proxy = nothing();
    let mut client = proxy.client();
    client.send("POST /missing HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nb");
    assert_eq!(client.response().status, 404);
    for byte in ["o", "d", "y"] {
        std::thread::sleep(Duration::from_millis(900));
        client.send(byte);
    }
    assert_eq!(client.get("/missing").status, 404);
}

#[test]
fn an_answer_that_has_not_left_yet_survives_what_comes_behind_its_request() {
    let upstream = Upstream::start(|conversation| {
        conversation.request_head();
        conversation.send(format!("HTTP/1.1 200 OK\r\ncontent-length: 4000000\r\n\r\n{}", "x".repeat(4_000_000)));
    });
    let proxy = World::to(&[upstream.address]).start();
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    // The client is slow: much of the answer waits for it when the gateway has written all.
    std::thread::sleep(Duration::from_millis(100));
    assert!(client.head().starts_with("HTTP/1.1 200 "));
    client.send("GET /too-much HTTP/1.1\r\nhost: a\r\n\r\n");
    std::thread::sleep(Duration::from_millis(100));
    client.send("\r\n");
    assert_eq!(client.exactly(4_000_000).len(), 4_000_000);
}

#[test]
fn a_client_that_sends_no_more_and_has_its_short_answer_is_not_waited_for() {
    let upstream = Upstream::echo("ok");
    let proxy = World::to(&[upstream.address]).start();
    for request in ["GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n", "GET / HTTP/1.0\r\nhost: a\r\n\r\n"] {
        let mut client = proxy.client();
        client.send(request);
        assert_eq!(client.response().text(), "ok");
        assert!(client.is_closed());
        // A gateway that still read would take whatever comes.
        eventually("the connection to be gone", || !client.try_send("x"));
    }
}

#[test]
fn an_answer_whose_end_is_that_of_the_connection_is_seen_to_break_off() {
    let upstream = Upstream::start(|conversation| {
        conversation.request();
        conversation.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n");
    });
    let proxy = World::to(&[upstream.address]).start();
    let mut client = proxy.client();
    client.send("GET / HTTP/1.0\r\nhost: a\r\n\r\n");
    assert!(client.is_reset(), "a graceful end would make it whole");
}

#[test]
fn a_known_large_upload_is_told_that_the_connection_ends() {
    let proxy = nothing();
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4000000\r\n\r\n");
    let response = client.response();
    assert_eq!((response.status, response.header("connection")), (404, Some("close")));
}

#[test]
fn a_final_answer_instead_of_100_ends_the_connection() {
    let proxy = nothing();
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n");
    let response = client.response();
    assert_eq!((response.status, response.header("connection")), (404, Some("close")));
    assert!(client.is_closed());
}

#[test]
fn leave_to_send_a_body_is_given_when_the_body_is_wanted() {
    let upstream = Upstream::echo("ok");
    let proxy = World::to(&[upstream.address]).start();
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n");
    assert_eq!(client.response().status, 100);
    client.send("body");
    assert_eq!(client.response().status, 200);
    // A body that is sent without waiting needs no leave.
    client.send("POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\nbody");
    assert_eq!(client.response().status, 200);
    assert!(upstream.requests().iter().all(|request| request.ends_with("\r\n\r\nbody") && !request.contains("\r\nexpect:")));
}

#[test]
fn a_host_that_answers_early_does_not_cost_the_connection_a_small_upload() {
    let upstream = Upstream::start(|conversation| {
        conversation.request_head();
        conversation.send("HTTP/1.1 413 Content Too Large\r\ncontent-length: 2\r\n\r\nno");
        conversation.until_closed();
    });
    let proxy = World::to(&[upstream.address]).start();
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\n");
    assert_eq!(client.response().status, 413);
    later();
    client.send("body");
    client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nbody");
    assert_eq!(client.response().status, 413);
}

#[test]
fn a_refused_request_is_answered_before_the_connection_ends() {
    let proxy = nothing();
    let mut client = proxy.client();
    client.send(format!("GET / HTTP/9.9\r\nhost: a\r\n\r\n{}", "x".repeat(1_000_000)));
    let response = client.response();
    assert_eq!((response.status, response.header("server"), response.header("connection")), (400, Some("clingfish"), Some("close")));
    assert!(response.header("date").is_some_and(|date| date.ends_with(" GMT")));
    assert!(client.is_closed());
}

#[test]
fn an_http_1_0_client_gets_a_body_of_unknown_length_until_the_connection_ends() {
    let upstream = Upstream::answering("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n");
    let proxy = World::to(&[upstream.address]).start();
    let mut client = proxy.client();
    client.send("GET / HTTP/1.0\r\nhost: a\r\nconnection: keep-alive\r\n\r\n");
    let response = client.response();
    assert_eq!((response.header("transfer-encoding"), response.header("connection")), (None, Some("close")));
    assert_eq!(response.text(), "hello");
}
