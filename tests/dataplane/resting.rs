//! Clients' connections that wait for their next request: they give their buffers back, and nobody can tell.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use clingfish::proxy::{Limits, ProxyConfig};

use crate::support::{Client, Upstream, World, eventually};

const RESTING: &str = "clingfish_downstream_connections_resting";

/// Connections rest as soon as the tick has seen them idle twice.
pub(crate) fn soon() -> ProxyConfig {
    let limits = Limits { rest_after: Duration::from_millis(1), ..Limits::default() };
    ProxyConfig { limits, idle_tick: Duration::from_millis(5), ..ProxyConfig::default() }
}

#[test]
fn a_connection_that_rests_serves_on() {
    let upstream = Upstream::echo("ok");
    let proxy = World::to(&[upstream.address]).start_with(soon());
    let mut client = proxy.client();
    for _ in 0..3 {
        let response = client.get("/");
        assert_eq!((response.status, response.header("connection")), (200, None));
        eventually("the connection to rest", || proxy.metric(RESTING) == 1.0);
    }
    assert_eq!(proxy.metric("clingfish_downstream_connections_total"), 1.0);
    drop(client);
    eventually("the end of the connection to be seen", || proxy.metric("clingfish_downstream_connections_open") == 0.0);
    assert_eq!(proxy.metric(RESTING), 0.0);
}

#[test]
fn the_head_that_began_before_the_rest_is_not_lost() {
    let upstream = Upstream::echo("ok");
    let proxy = World::to(&[upstream.address]).start_with(soon());
    let mut client = proxy.client();
    client.send("GET /first HTTP/1.1\r\nhost: a\r\n\r\nGET /second HT");
    assert_eq!(client.response().status, 200);
    eventually("the connection to rest", || proxy.metric(RESTING) == 1.0);
    client.send("TP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!(client.response().status, 200);
    assert!(upstream.last().starts_with("GET /second HTTP/1.1\r\n"), "{}", upstream.last());
}

/// Some of these answers end in the kernel's buffers, some wait for the client to read, and a few are in between: handed over, with the
/// last bytes in our buffer.
#[test]
fn an_answer_that_the_client_does_not_read_yet_is_not_lost() {
    let upstream = Upstream::start(|conversation| {
        while let Some(request) = conversation.request() {
            let length: usize = request.split(['/', ' ']).nth(2).unwrap().parse().unwrap();
            conversation.reply(&"x".repeat(length));
        }
    });
    let proxy = World::to(&[upstream.address]).start_with(soon());
    let sizes: Vec<usize> = (0..100).map(|step| step * 50_000).collect();
    let mut clients: Vec<Client> = sizes.iter().map(|_| proxy.client()).collect();
    for (client, size) in clients.iter_mut().zip(&sizes) {
        client.send(format!("GET /{size} HTTP/1.1\r\nhost: a\r\n\r\n"));
    }
    eventually("every request to arrive", || upstream.requests().len() == sizes.len());
    eventually("some answers to be handed over", || proxy.metric(RESTING) > 0.0);
    // A connection that came later rests: whatever may rest by now does.
    let mut witness = proxy.client();
    let handed_over = || proxy.metric("clingfish_downstream_connections_open") - proxy.metric("clingfish_requests_in_flight");
    let before = handed_over();
    assert_eq!(witness.get("/1").status, 200);
    let resting = proxy.metric(RESTING);
    eventually("the witness to rest", || proxy.metric(RESTING) > resting || handed_over() != before);
    for (client, size) in clients.iter_mut().zip(&sizes) {
        assert_eq!(client.response().body.len(), *size);
    }
}

#[test]
fn a_drain_ends_connections_that_rest() {
    let upstream = Upstream::echo("ok");
    let proxy = World::to(&[upstream.address]).start_with(soon());
    let mut client = proxy.client();
    assert_eq!(client.get("/").status, 200);
    eventually("the connection to rest", || proxy.metric(RESTING) == 1.0);
    assert!(proxy.drain(Duration::ZERO, Duration::from_secs(20)));
    assert!(client.is_closed());
}

#[test]
fn the_keep_alive_limit_holds_for_connections_that_rest() {
    let upstream = Upstream::echo("ok");
    let ProxyConfig { limits, .. } = soon();
    let config = ProxyConfig { limits: Limits { keep_alive: Duration::from_millis(200), ..limits }, ..soon() };
    let proxy = World::to(&[upstream.address]).start_with(config);
    let mut client = proxy.client();
    assert_eq!(client.get("/").status, 200);
    assert!(client.is_closed());
    eventually("the connection to be gone", || proxy.metric("clingfish_downstream_connections_open") == 0.0);
}

/// What is left of an upload whose answer came early must never be read as a request.
#[test]
fn a_connection_with_an_unfinished_upload_does_not_rest() {
    for closes in [false, true] {
        let heads = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&heads);
        let upstream = Upstream::start(move |conversation| {
            while let Some(head) = conversation.request_head() {
                let uploads = head.starts_with("POST");
                seen.lock().unwrap().push(head);
                conversation.reply("early");
                if uploads && closes {
                    return;
                }
                if uploads {
                    conversation.until_closed();
                }
            }
        });
        let proxy = World::to(&[upstream.address]).start_with(soon());
        let hidden = "GET /hidden HTTP/1.1\r\nhost: a\r\n\r\n";
        let mut client = proxy.client();
        client.send(format!("POST /upload HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n0123456789", 10 + hidden.len()));
        assert_eq!(client.response().status, 200);
        let mut witness = proxy.client();
        assert_eq!(witness.get("/witness").status, 200);
        eventually("the witness to rest", || proxy.metric(RESTING) >= 1.0);
        assert_eq!(proxy.metric(RESTING), 1.0, "the upload's connection rests too");
        // The connection may be closed by now, or take what is left and one more request.
        if client.try_send(hidden) && client.try_send("GET /after HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n") {
            client.until_closed();
        }
        let heads = heads.lock().unwrap();
        assert!(!heads.iter().any(|head| head.starts_with("GET /hidden")), "{heads:?}");
    }
}
