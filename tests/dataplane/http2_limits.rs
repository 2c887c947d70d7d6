//! Limits hold for one HTTP/2 stream while its neighbours on the connection go on.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use clingfish::{
    proxy::{Limits, ProxyConfig},
    snapshot::Timeouts,
};
use h2::client::SendRequest;
use http::Request;
use tokio::time::Instant;

use crate::support::{Client, PATIENCE, Upstream, World, eventually};

const SHORT: Duration = Duration::from_millis(300);

fn quick(limits: Limits) -> ProxyConfig {
    ProxyConfig { limits, tick: Duration::from_millis(10), idle_tick: Duration::from_millis(10), ..ProxyConfig::default() }
}

/// Answers `/big` with 1 MiB and everything else with `ok`.
fn big() -> Upstream {
    Upstream::start(|conversation| {
        while let Some(request) = conversation.request() {
            if request.starts_with("GET /big") {
                conversation.reply(&"x".repeat(1024 * 1024));
            } else {
                conversation.reply("ok");
            }
        }
    })
}

/// A client whose streams have this window and whose connection's is never the limit. It grants nothing unless told to.
async fn connect(address: SocketAddr, stream_window: u32) -> SendRequest<Bytes> {
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(stream_window).initial_connection_window_size(64 * 1024 * 1024).max_concurrent_reset_streams(1000);
    let (sender, connection) = builder.handshake(stream).await.unwrap();
    tokio::spawn(connection);
    sender
}

async fn get(sender: &SendRequest<Bytes>, path: &str) -> h2::client::ResponseFuture {
    let mut ready = sender.clone().ready().await.unwrap();
    let request = Request::get(format!("http://a{path}")).body(()).unwrap();
    ready.send_request(request, true).unwrap().0
}

/// Reads a body; data is granted again only if `grants`.
async fn read(mut body: h2::RecvStream, grants: bool) -> Result<usize, h2::Error> {
    let mut length = 0;
    while let Some(data) = body.data().await {
        let data = data?;
        length += data.len();
        if grants {
            body.flow_control().release_capacity(data.len())?;
        }
    }
    Ok(length)
}

#[tokio::test]
async fn a_stream_that_grants_no_window_is_reset_at_its_deadline_and_its_neighbours_go_on() {
    let upstream = big();
    let proxy = World::to(&[upstream.address])
        .with(|served| served.policy.timeouts = Timeouts { request: Some(SHORT), backend_request: None, idle: None, upload_stall: None })
        .start_with(quick(Limits::default()));
    for window in [0, 1, 20_000] {
        let sender = connect(proxy.address(), window).await;
        let mut stalled = Vec::new();
        for _ in 0..20 {
            stalled.push(get(&sender, "/big").await);
        }
        for response in stalled {
            let response = response.await.unwrap();
            assert_eq!(response.status(), 200);
            let error = tokio::time::timeout(PATIENCE, read(response.into_body(), false)).await.unwrap().unwrap_err();
            assert_eq!(error.reason(), Some(h2::Reason::CANCEL), "window {window}: {error}");
        }
        eventually("the stalled answers' connections to be closed", || upstream.open() == 0);
        let response = get(&sender, "/").await.await.unwrap();
        assert_eq!(response.status(), 200);
        if window > 1 {
            assert_eq!(read(response.into_body(), true).await.unwrap(), 2);
        }
    }
    eventually("every request to end", || proxy.metric("clingfish_requests_in_flight") == 0.0);
    eventually("the timeouts to be counted", || proxy.metric("clingfish_requests_total{code=\"2xx\",flag=\"UT\"}") >= 60.0);
}

#[tokio::test]
async fn a_stream_that_does_not_move_ends_at_the_idle_timeout_and_one_that_moves_does_not() {
    let upstream = big();
    let proxy = World::to(&[upstream.address])
        .with(|served| served.policy.timeouts = Timeouts { request: None, backend_request: None, idle: Some(SHORT), upload_stall: None })
        .start_with(quick(Limits::default()));
    let sender = connect(proxy.address(), 20_000).await;
    let stalled = get(&sender, "/big").await.await.unwrap();
    let mut slow = get(&sender, "/big").await.await.unwrap().into_body();
    let slow = tokio::spawn(async move {
        let (mut length, began) = (0, Instant::now());
        while let Some(data) = slow.data().await {
            let data = data?;
            length += data.len();
            // Slow, but never as slow as the timeout; for longer than it.
            if began.elapsed() < 3 * SHORT {
                tokio::time::sleep(SHORT / 10).await;
            }
            slow.flow_control().release_capacity(data.len())?;
        }
        Ok::<_, h2::Error>(length)
    });
    let error = tokio::time::timeout(PATIENCE, read(stalled.into_body(), false)).await.unwrap().unwrap_err();
    assert_eq!(error.reason(), Some(h2::Reason::CANCEL));
    assert_eq!(slow.await.unwrap().unwrap(), 1024 * 1024);
    eventually("the timeout to be counted", || proxy.metric("clingfish_requests_total{code=\"2xx\",flag=\"SI\"}") == 1.0);
}

#[tokio::test]
async fn the_request_timeout_begins_with_the_last_byte_and_not_with_the_frame_that_ends_the_stream() {
    let upstream = Upstream::start(|conversation| {
        conversation.until_closed();
    });
    let proxy = World::to(&[upstream.address])
        .with(|served| served.policy.timeouts = Timeouts { request: Some(SHORT), backend_request: None, idle: None, upload_stall: None })
        .start_with(quick(Limits::default()));
    let sender = connect(proxy.address(), 65_535).await;
    for ends in [true, false] {
        let request = Request::post("http://a/").header("content-length", "4").body(()).unwrap();
        let (response, mut stream) = sender.clone().ready().await.unwrap().send_request(request, false).unwrap();
        stream.send_data(Bytes::from_static(b"body"), false).unwrap();
        if ends {
            while upstream.open() == 0 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            stream.send_data(Bytes::new(), true).unwrap();
        }
        let response = tokio::time::timeout(PATIENCE, response).await.unwrap().unwrap();
        assert_eq!(response.status(), 504, "an empty frame ends it: {ends}");
    }
}

#[tokio::test]
async fn an_answer_of_our_own_does_not_wait_for_window_for_ever() {
    let proxy = World::to(&[]).start_with(quick(Limits::default()));
    let sender = connect(proxy.address(), 0).await;
    let response = get(&sender, "/").await.await.unwrap();
    assert_eq!(response.status(), 503);
    let error = tokio::time::timeout(PATIENCE, read(response.into_body(), false)).await.unwrap().unwrap_err();
    assert_eq!(error.reason(), Some(h2::Reason::CANCEL));
}

#[tokio::test]
async fn a_drain_waits_for_a_stalled_stream_only_until_its_deadline() {
    let upstream = big();
    let proxy = World::to(&[upstream.address])
        .with(|served| served.policy.timeouts = Timeouts { request: Some(SHORT), backend_request: None, idle: None, upload_stall: None })
        .start_with(quick(Limits::default()));
    let sender = connect(proxy.address(), 0).await;
    let response = get(&sender, "/big").await.await.unwrap();
    let drained = tokio::task::spawn_blocking(move || proxy.drain(Duration::ZERO, PATIENCE)).await.unwrap();
    assert!(drained, "everything ended in time");
    drop(response);
}

/// Preface, SETTINGS with the largest stream window, the largest window for the connection, and a GET of `/big`.
fn raw_request() -> Vec<u8> {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend([0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4, 0x7f, 0xff, 0xff, 0xff]);
    bytes.extend([0, 0, 4, 8, 0, 0, 0, 0, 0, 0x7f, 0, 0, 0]);
    let block = [&[0x82, 0x86, 0x44, 4][..], b"/big", &[0x41, 1], b"a"].concat();
    bytes.extend([0, 0, u8::try_from(block.len()).unwrap(), 1, 5, 0, 0, 0, 1]);
    bytes.extend(block);
    bytes
}

#[test]
fn a_client_that_reads_nothing_is_left_whichever_protocol_it_speaks() {
    let upstream = Upstream::start(|conversation| {
        while conversation.request().is_some() {
            conversation.reply(&"x".repeat(64 * 1024 * 1024));
        }
    });
    let limits = Limits { write_stall: SHORT, ..Limits::default() };
    let proxy = World::to(&[upstream.address])
        .with(|served| served.policy.timeouts = Timeouts { request: None, backend_request: None, idle: None, upload_stall: None })
        .start_with(quick(limits));
    for request in [b"GET /big HTTP/1.1\r\nhost: a\r\n\r\n".to_vec(), raw_request()] {
        let mut client = proxy.client();
        client.send(&request);
        eventually("the answer to begin", || upstream.open() == 1);
        eventually("the upstream's side to be closed", || upstream.open() == 0);
        eventually("the request to end", || proxy.metric("clingfish_requests_in_flight") == 0.0);
        eventually("the connection to end", || proxy.metric("clingfish_downstream_connections_open") == 0.0);
    }
}

#[test]
fn a_client_that_does_not_answer_a_farewell_holds_up_neither_a_drain_nor_the_idle_limit() {
    let upstream = big();
    let limits = Limits { farewell: SHORT, http2_idle: SHORT, ..Limits::default() };
    let proxy = World::to(&[upstream.address]).start_with(quick(limits));
    let mut client = proxy.client();
    client.send(raw_request());
    eventually("the request to end", || proxy.metric("clingfish_requests_total{code=\"2xx\",flag=\"-\"}") == 1.0);
    eventually("the idle connection to end", || proxy.metric("clingfish_downstream_connections_open") == 0.0);
    let mut client = proxy.client();
    client.send(raw_request());
    eventually("the request to arrive", || upstream.requests().len() == 2);
    assert!(proxy.drain(Duration::ZERO, PATIENCE), "everything ended in time");
}

#[tokio::test]
async fn more_than_100_headers_are_a_431_as_in_http_1() {
    let upstream = Upstream::echo("ok");
    let proxy = World::to(&[upstream.address]).start();
    let sender = connect(proxy.address(), 65_535).await;
    for (count, status) in [(99, 200), (101, 431)] {
        let mut request = Request::get("http://a/");
        for index in 0..count {
            request = request.header(format!("x-{index}"), "1");
        }
        let mut ready = sender.clone().ready().await.unwrap();
        let (response, _) = ready.send_request(request.body(()).unwrap(), true).unwrap();
        assert_eq!(response.await.unwrap().status(), status, "{count}");
    }
    assert_eq!(upstream.requests().len(), 1);
}

#[test]
fn a_preface_that_comes_byte_by_byte_is_waited_for() {
    let upstream = big();
    let proxy = World::to(&[upstream.address]).start();
    let mut client = Client::connect(proxy.address());
    for byte in raw_request() {
        client.send([byte]);
    }
    eventually("the request to arrive", || upstream.requests().len() == 1);
    // The same up to the last byte of the preface, which is wrong: HTTP/1 answers.
    let mut client = Client::connect(proxy.address());
    for byte in b"PRI * HTTP/2.0\r\n\r\nSM\r\n\rx" {
        client.try_send([*byte]);
    }
    assert!(client.until_closed().starts_with(b"HTTP/1.1 400 "));
}
