//! HTTP/2 with prior knowledge in front, HTTP/1.1 behind.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use clingfish::{
    base::{AccessLogFormat, Overload, OverloadLevel},
    proxy::{Limits, ProxyConfig},
};
use http::{HeaderName, Request, Response};
use http_body_util::{BodyExt, Empty, Full, StreamBody, combinators::BoxBody};
use hyper::{
    body::{Frame, Incoming},
    client::conn::http2::SendRequest,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use crate::access_log::Lines;
use crate::support::{Upstream, World};

pub(super) type Body = BoxBody<Bytes, Infallible>;

pub(super) fn empty() -> Body {
    Empty::new().boxed()
}

pub(super) async fn connect(address: SocketAddr) -> (SendRequest<Body>, tokio::task::JoinHandle<hyper::Result<()>>) {
    let stream = TcpStream::connect(address).await.unwrap();
    let (sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    (sender, tokio::spawn(connection))
}

async fn text(response: Response<Incoming>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

#[tokio::test]
async fn requests_become_http_1_1_with_one_host_and_one_cookie_line() {
    let upstream = Upstream::echo("ok");
    let proxy = World::to(&[upstream.address]).start();
    let (mut sender, _connection) = connect(proxy.address()).await;
    let request = Request::get("http://real.example/a?b")
        .header("host", "evil.example")
        .header("cookie", "a=1")
        .header("cookie", "b=2")
        .header("x-end", "1")
        .body(empty())
        .unwrap();
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(text(response).await, "ok");
    let seen = upstream.last();
    assert!(seen.starts_with("GET /a?b HTTP/1.1\r\n"), "{seen}");
    assert!(seen.contains("host: real.example\r\n") && !seen.contains("evil"), "{seen}");
    assert!(seen.contains("cookie: a=1; b=2\r\n") && seen.matches("cookie").count() == 1, "{seen}");
}

#[tokio::test]
async fn the_access_log_has_protocol_and_authority() {
    let upstream = Upstream::echo("ok");
    let (lines, log) = Lines::start(AccessLogFormat::Json);
    let proxy = World::to(&[upstream.address]).start_logged(&log);
    let (mut sender, _connection) = connect(proxy.address()).await;
    let response = sender.send_request(Request::get("http://real.example/a?b").body(empty()).unwrap()).await.unwrap();
    assert_eq!(text(response).await, "ok");
    let line = lines.json(1).remove(0);
    assert_eq!((&line["protocol"], &line["authority"], &line["path"]), (&"HTTP/2".into(), &"real.example".into(), &"/a?b".into()));
}

#[tokio::test]
async fn streams_run_side_by_side() {
    let upstream = Upstream::echo("ok");
    let proxy = World::to(&[upstream.address]).start();
    let (sender, _connection) = connect(proxy.address()).await;
    let requests = (0..50).map(|index| {
        let mut sender = sender.clone();
        tokio::spawn(async move {
            let request = Request::post(format!("http://a/{index}")).body(Full::new(Bytes::from("body")).boxed()).unwrap();
            let response = sender.send_request(request).await.unwrap();
            (response.status().as_u16(), text(response).await)
        })
    });
    for request in requests.collect::<Vec<_>>() {
        assert_eq!(request.await.unwrap(), (200, "ok".to_owned()));
    }
    assert_eq!(upstream.requests().len(), 50);
    assert!(upstream.requests().iter().all(|request| request.ends_with("\r\n\r\nbody")));
}

#[tokio::test]
async fn trailers_pass_both_ways() {
    let upstream = Upstream::answering("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\ngrpc-status: 0\r\n\r\n");
    let proxy = World::to(&[upstream.address]).start();
    let (mut sender, _connection) = connect(proxy.address()).await;
    let mut sum = http::HeaderMap::new();
    sum.insert("x-sum", "1".parse().unwrap());
    let frames = [Ok::<_, Infallible>(Frame::data(Bytes::from("abc"))), Ok(Frame::trailers(sum))];
    let body = StreamBody::new(tokio_stream(frames)).boxed();
    let request = Request::post("http://a/").header("trailer", "x-sum").header("te", "trailers").body(body).unwrap();
    let response = sender.send_request(request).await.unwrap();
    let collected = response.into_body().collect().await.unwrap();
    assert_eq!(collected.trailers().unwrap().get("grpc-status").unwrap(), "0");
    let seen = upstream.last();
    assert!(seen.ends_with("0\r\nx-sum: 1\r\n\r\n") && seen.contains("te: trailers\r\n"), "{seen}");
}

pub(super) fn tokio_stream<T, const N: usize>(items: [T; N]) -> impl futures_util::Stream<Item = T> {
    let mut items = items.into_iter();
    futures_util::stream::poll_fn(move |_| std::task::Poll::Ready(items.next()))
}

#[tokio::test]
async fn a_piece_of_a_body_is_one_data_frame() {
    let upstream = Upstream::echo("a body of one piece");
    let proxy = World::to(&[upstream.address]).start();
    let (mut sender, _connection) = connect(proxy.address()).await;
    let mut body = sender.send_request(Request::get("http://a/").body(empty()).unwrap()).await.unwrap().into_body();
    let mut sizes = Vec::new();
    while let Some(frame) = body.frame().await {
        sizes.extend(frame.unwrap().data_ref().map(Bytes::len));
    }
    assert_eq!(sizes, ["a body of one piece".len()]);
}

#[tokio::test]
async fn connect_is_refused() {
    let upstream = Upstream::echo("ok");
    let proxy = World::to(&[upstream.address]).start();
    let (mut sender, _connection) = connect(proxy.address()).await;
    let response = sender.send_request(Request::connect("a:80").body(empty()).unwrap()).await.unwrap();
    assert_eq!(response.status(), 405);
    assert_eq!(upstream.connections(), 0);
}

#[tokio::test]
async fn a_reset_stream_cancels_its_request_only() {
    let upstream = Upstream::start(|conversation| {
        while let Some(request) = conversation.request() {
            if request.starts_with("GET /hang") {
                conversation.until_closed();
                return;
            }
            conversation.reply("ok");
        }
    });
    let proxy = World::to(&[upstream.address]).start();
    let (mut sender, _connection) = connect(proxy.address()).await;
    let hanging = tokio::spawn(sender.send_request(Request::get("http://a/hang").body(empty()).unwrap()));
    while upstream.requests().is_empty() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    hanging.abort();
    let _ = hanging.await;
    let response = sender.send_request(Request::get("http://a/").body(empty()).unwrap()).await.unwrap();
    assert_eq!(response.status(), 200);
    while upstream.open() > 1 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn a_drain_says_goaway_and_finishes_the_streams() {
    let (release, released) = std::sync::mpsc::channel::<()>();
    let released = std::sync::Mutex::new(released);
    let upstream = Upstream::start(move |conversation| {
        while conversation.request().is_some() {
            released.lock().unwrap().recv().unwrap();
            conversation.reply("ok");
        }
    });
    let proxy = World::to(&[upstream.address]).start();
    let address = proxy.address();
    let (mut sender, connection) = connect(address).await;
    let pending = tokio::spawn(sender.send_request(Request::get("http://a/").body(empty()).unwrap()));
    while upstream.requests().is_empty() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let draining = std::thread::spawn(move || proxy.drain(Duration::from_millis(50), Duration::from_secs(20)));
    while TcpStream::connect(address).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    release.send(()).unwrap();
    let response = pending.await.unwrap().unwrap();
    assert_eq!(text(response).await, "ok");
    connection.await.unwrap().unwrap();
    assert!(draining.join().unwrap());
}

#[tokio::test]
async fn near_the_memory_limit_a_response_says_goaway_and_streams_are_finished() {
    let (release, released) = std::sync::mpsc::channel::<()>();
    let released = std::sync::Mutex::new(released);
    let upstream = Upstream::start(move |conversation| {
        while let Some(request) = conversation.request() {
            if request.starts_with("GET /slow ") {
                released.lock().unwrap().recv().unwrap();
            }
            conversation.reply("ok");
        }
    });
    let overload = Arc::new(Overload::default());
    let config = ProxyConfig { overload: Arc::clone(&overload), ..ProxyConfig::default() };
    let proxy = World::to(&[upstream.address]).start_with(config);
    let (mut sender, connection) = connect(proxy.address()).await;
    let slow = tokio::spawn(sender.send_request(Request::get("http://a/slow").body(empty()).unwrap()));
    while upstream.requests().is_empty() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    overload.publish(OverloadLevel::DisableKeepAlive);
    let response = sender.send_request(Request::get("http://a/").body(empty()).unwrap()).await.unwrap();
    assert_eq!((response.status().as_u16(), text(response).await.as_str()), (200, "ok"));
    release.send(()).unwrap();
    assert_eq!(text(slow.await.unwrap().unwrap()).await, "ok");
    connection.await.unwrap().unwrap();
    drop(sender);
    overload.publish(OverloadLevel::StopAcceptingRequests);
    let (mut sender, _connection) = connect(proxy.address()).await;
    let response = sender.send_request(Request::get("http://a/").body(empty()).unwrap()).await.unwrap();
    assert_eq!((response.status().as_u16(), text(response).await.as_str()), (503, "overload"));
}

#[tokio::test]
async fn a_connection_without_streams_ends() {
    let upstream = Upstream::echo("ok");
    let limits = Limits { http2_idle: Duration::from_secs(1), ..Limits::default() };
    let config = ProxyConfig { limits, idle_tick: Duration::from_millis(10), ..ProxyConfig::default() };
    let proxy = World::to(&[upstream.address]).start_with(config);
    let (mut sender, connection) = connect(proxy.address()).await;
    assert_eq!(sender.send_request(Request::get("http://a/").body(empty()).unwrap()).await.unwrap().status(), 200);
    connection.await.unwrap().unwrap();
}

#[tokio::test]
async fn heads_that_are_too_large_are_refused() {
    let upstream = Upstream::echo("ok");
    let proxy = World::to(&[upstream.address]).start();
    let (mut sender, _connection) = connect(proxy.address()).await;
    for length in [61 * 1024, 100 * 1024] {
        let request = Request::get("http://a/").header("x", "x".repeat(length)).body(empty()).unwrap();
        let response = sender.send_request(request).await.unwrap();
        assert_eq!(response.status(), 431);
        assert_eq!(response.headers()["server"], "clingfish");
    }
    assert_eq!(proxy.metric("clingfish_requests_total{code=\"4xx\",flag=\"DPE\"}"), 2.0);
    // What the library answers by itself is counted too.
    let many = (0..20).fold(Request::get("http://a/"), |request, index| request.header(format!("x-{index}"), "x".repeat(8 * 1024)));
    match sender.send_request(many.body(empty()).unwrap()).await {
        Ok(response) => assert_eq!(response.status(), 431),
        Err(error) => assert!(error.to_string().contains("http2"), "{error}"),
    }
    assert_eq!(upstream.connections(), 0);
}

/// The `http` crate takes a double quote for a part of a name in HTTP/2 frames; no HTTP/1.1 upstream does.
#[tokio::test]
async fn a_name_that_is_no_token_is_refused_and_its_neighbours_go_on() {
    let upstream = Upstream::echo("ok");
    let proxy = World::to(&[upstream.address]).start();
    let (mut sender, _connection) = connect(proxy.address()).await;
    let request = Request::get("http://a/").header(HeaderName::from_lowercase(b"keep-ali\"e").unwrap(), "1").body(empty()).unwrap();
    assert_eq!(sender.send_request(request).await.unwrap().status(), 400);
    let trailers = [(HeaderName::from_lowercase(b"x\"y").unwrap(), "1".parse().unwrap())].into_iter().collect();
    let frames = [Ok::<_, Infallible>(Frame::data(Bytes::from("abc"))), Ok(Frame::trailers(trailers))];
    let request = Request::post("http://a/").body(StreamBody::new(tokio_stream(frames)).boxed()).unwrap();
    assert_eq!(sender.send_request(request).await.unwrap().status(), 400);
    let response = sender.send_request(Request::get("http://a/good").body(empty()).unwrap()).await.unwrap();
    assert_eq!(text(response).await, "ok");
    assert!(!upstream.requests().iter().any(|seen| seen.contains('"')), "{:?}", upstream.requests());
}
