//! WebSocket: bytes both ways, but not one before both sides have switched.

use std::{io::Write as _, time::Duration};

use clingfish::{
    proxy::{Limits, ProxyConfig},
    snapshot::Timeouts,
};

use crate::support::{Conversation, Upstream, World, eventually};

const ASK: &str = "GET /ws HTTP/1.1\r\nhost: a\r\nconnection: keep-alive, Upgrade\r\nupgrade: websocket\r\nsec-websocket-key: k\r\n\r\n";
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: a\r\n\r\n";

fn echo_tunnel(conversation: &mut Conversation) {
    conversation.request();
    conversation.send(SWITCH);
    while let Some(bytes) = conversation.at_least(1) {
        conversation.send(bytes);
    }
}

#[test]
fn a_websocket_is_a_tunnel_after_101() {
    let upstream = Upstream::start(echo_tunnel);
    let proxy = World::to(&[upstream.address]).start();
    let mut client = proxy.client();
    client.send(ASK);
    let response = client.head_response();
    assert_eq!(response.status, 101);
    assert_eq!((response.header("upgrade"), response.header("connection")), (Some("websocket"), Some("Upgrade")));
    assert_eq!(response.header("sec-websocket-accept"), Some("a"));
    let seen = upstream.last();
    assert!(seen.contains("upgrade: websocket\r\n") && seen.contains("connection: Upgrade\r\n"), "{seen}");
    assert!(seen.contains("sec-websocket-key: k\r\n"), "{seen}");
    for message in [b"hello".to_vec(), vec![7; 300_000]] {
        client.send(&message);
        assert_eq!(client.exactly(message.len()), message);
    }
    drop(client);
    eventually("the upstream's side to close", || upstream.open() == 0);
    eventually("the flight to end", || proxy.metric("clingfish_requests_in_flight") == 0.0);
}

#[test]
fn bytes_sent_with_the_handshake_wait_for_the_switch() {
    let upstream = Upstream::start(|conversation| {
        conversation.request_head();
        conversation.stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let early = conversation.at_least(1);
        assert_eq!(early, None, "nothing may pass before the switch");
        conversation.stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        conversation.send(SWITCH);
        let bytes = conversation.at_least(5).unwrap();
        conversation.send(bytes);
    });
    let proxy = World::to(&[upstream.address]).start();
    let mut client = proxy.client();
    client.send(format!("{ASK}early"));
    assert_eq!(client.head_response().status, 101);
    assert_eq!(client.exactly(5), b"early");
}

#[test]
fn an_ordinary_answer_to_an_upgrade_is_one() {
    let upstream = Upstream::answering("HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno");
    let proxy = World::to(&[upstream.address]).start();
    let mut client = proxy.client();
    client.send(ASK);
    let response = client.response();
    assert_eq!((response.status, response.text()), (403, "no"));
    assert_eq!(client.get("/").status, 403, "what follows are requests");
    assert_eq!(upstream.connections(), 1);
}

#[test]
fn a_switch_that_nobody_asked_for_is_a_502() {
    let upstream = Upstream::answering(SWITCH);
    let proxy = World::to(&[upstream.address]).start();
    assert_eq!(proxy.client().get("/").status, 502);
    eventually("the upstream connection to be given up", || upstream.open() == 0);
}

#[test]
fn a_switch_to_another_protocol_is_a_502() {
    let upstream = Upstream::answering("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n");
    let proxy = World::to(&[upstream.address]).start();
    let mut client = proxy.client();
    client.send(ASK);
    assert_eq!(client.response().status, 502);
    eventually("the upstream connection to be given up", || upstream.open() == 0);
}

#[test]
fn other_upgrades_are_not_passed_on() {
    let upstream = Upstream::echo("ok");
    let proxy = World::to(&[upstream.address]).start();
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nhost: a\r\nconnection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMA\r\n\r\n");
    assert_eq!(client.response().status, 200);
    let seen = upstream.last();
    assert!(!seen.contains("upgrade") && !seen.contains("http2-settings"), "{seen}");
}

#[test]
fn a_tunnel_outlives_the_request_timeout_and_ends_when_idle() {
    let upstream = Upstream::start(echo_tunnel);
    let timeouts = Timeouts { request: Some(Duration::from_millis(50)), idle: Some(Duration::from_secs(2)), ..Timeouts::default() };
    let config = ProxyConfig { tick: Duration::from_millis(10), ..ProxyConfig::default() };
    let proxy = World::to(&[upstream.address]).with(|served| served.policy.timeouts = timeouts).start_with(config);
    let mut client = proxy.client();
    client.send(ASK);
    assert_eq!(client.head_response().status, 101);
    for _ in 0..3 {
        std::thread::sleep(Duration::from_millis(60));
        client.send("ping");
        assert_eq!(client.exactly(4), b"ping");
    }
    assert!(client.is_closed());
    eventually("the upstream's side to close", || upstream.open() == 0);
}

#[test]
fn a_drain_waits_for_tunnels_until_its_limit() {
    let upstream = Upstream::start(echo_tunnel);
    let proxy = World::to(&[upstream.address]).start();
    let mut client = proxy.client();
    client.send(ASK);
    assert_eq!(client.head_response().status, 101);
    let draining = std::thread::spawn(move || proxy.drain(Duration::ZERO, Duration::from_secs(20)));
    client.send("still");
    assert_eq!(client.exactly(5), b"still");
    drop(client);
    assert!(draining.join().unwrap());
}

#[test]
fn a_websocket_counts_as_an_open_connection_and_half_a_tunnel_does_not_last() {
    let upstream = Upstream::start(|conversation| {
        conversation.request();
        conversation.send(SWITCH);
        while let Some(bytes) = conversation.at_least(1) {
            conversation.send(bytes);
        }
        // It has seen the client's end, and does not close.
        eventually("the gateway to end the tunnel", || conversation.stream.write_all(b"more").is_err());
    });
    let limits = Limits { half_closed_tunnel: Duration::from_millis(100), ..Limits::default() };
    let proxy = World::to(&[upstream.address]).start_with(ProxyConfig { limits, ..ProxyConfig::default() });
    let mut client = proxy.client();
    client.send(ASK);
    assert_eq!(client.head_response().status, 101);
    assert_eq!(proxy.metric("clingfish_downstream_connections_open"), 1.0);
    client.finish();
    eventually("the upstream's side to close", || upstream.open() == 0);
    eventually("the connection to end", || proxy.metric("clingfish_downstream_connections_open") == 0.0);
}

#[test]
fn half_a_tunnel_does_not_hold_up_a_drain() {
    let upstream = Upstream::start(|conversation| {
        conversation.request();
        conversation.send(SWITCH);
        conversation.until_closed();
        eventually("the gateway to end the tunnel", || conversation.stream.write_all(b"more").is_err());
    });
    let limits = Limits { half_closed_tunnel: Duration::from_secs(3_600), ..Limits::default() };
    let proxy = World::to(&[upstream.address]).start_with(ProxyConfig { limits, ..ProxyConfig::default() });
    let mut client = proxy.client();
    client.send(ASK);
    assert_eq!(client.head_response().status, 101);
    client.finish();
    assert!(proxy.drain(Duration::ZERO, Duration::from_secs(20)), "everything ended in time");
}
