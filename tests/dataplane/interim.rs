//! Interim responses (1xx) of a host reach the client.

use std::future::poll_fn;

use http::Request;

use crate::support::{Proxy, Upstream, World};

fn hinting() -> (Upstream, Proxy) {
    let upstream = Upstream::answering(
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n\
         HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\nconnection: x-hop\r\nx-hop: 1\r\ncontent-length: 3\r\n\r\n\
         HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
    );
    let proxy = World::to(&[upstream.address]).start();
    (upstream, proxy)
}

#[test]
fn an_http_1_1_client_gets_them_before_the_answer() {
    let (_upstream, proxy) = hinting();
    let mut client = proxy.client();
    for _ in 0..2 {
        client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
        assert_eq!(client.response().status, 102);
        let hints = client.response();
        assert_eq!((hints.status, hints.header("link")), (103, Some("</a.css>; rel=preload")));
        for gone in ["x-hop", "connection", "content-length", "transfer-encoding", "server"] {
            assert_eq!(hints.header(gone), None, "{}", hints.head);
        }
        let answer = client.response();
        assert_eq!((answer.status, answer.text()), (200, "ok"));
    }
}

#[test]
fn they_do_not_wait_for_the_answer() {
    let (release, released) = std::sync::mpsc::channel::<()>();
    let released = std::sync::Mutex::new(released);
    let upstream = Upstream::start(move |conversation| {
        while conversation.request().is_some() {
            conversation.send("HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n");
            released.lock().unwrap().recv().unwrap();
            conversation.reply("ok");
        }
    });
    let proxy = World::to(&[upstream.address]).start();
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!(client.response().status, 103);
    release.send(()).unwrap();
    assert_eq!(client.response().text(), "ok");
}

#[test]
fn http_1_0_does_not_know_them() {
    let (_upstream, proxy) = hinting();
    let mut client = proxy.client();
    client.send("GET / HTTP/1.0\r\nhost: a\r\n\r\n");
    assert_eq!(client.response().status, 200);
}

#[tokio::test]
async fn an_http_2_client_gets_them_too() {
    let (_upstream, proxy) = hinting();
    let stream = tokio::net::TcpStream::connect(proxy.address()).await.unwrap();
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let request = Request::get("http://a/").body(()).unwrap();
    let (mut response, _) = sender.ready().await.unwrap().send_request(request, true).unwrap();
    let mut seen = Vec::new();
    while let Some(interim) = poll_fn(|cx| response.poll_informational(cx)).await {
        let interim = interim.unwrap();
        assert_eq!(interim.headers().contains_key("link"), interim.status() == 103);
        assert!(!interim.headers().contains_key("x-hop") && !interim.headers().contains_key("content-length"));
        seen.push(interim.status().as_u16());
    }
    assert_eq!(seen, [102, 103]);
    assert_eq!(response.await.unwrap().status(), 200);
}
