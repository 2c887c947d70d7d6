//! Trailers: what a field section after the body may carry, both ways.

use std::convert::Infallible;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Request};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;

use crate::{
    http2::{connect, empty, tokio_stream},
    support::{Upstream, World},
};

#[tokio::test]
async fn trailers_that_an_http2_client_would_not_take_are_dropped_and_the_rest_arrives_unannounced() {
    let upstream = Upstream::answering(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nconnection: close\r\nkeep-alive: 5\r\n\
         content-length: 7\r\nset-cookie: a=b\r\nx-sum: 7\r\ngrpc-status: 0\r\n\r\n",
    );
    let proxy = World::to(&[upstream.address]).start();
    let (mut sender, _connection) = connect(proxy.address()).await;
    for _ in 0..2 {
        let response = sender.send_request(Request::get("http://a/").body(empty()).unwrap()).await.unwrap();
        let collected = response.into_body().collect().await.unwrap();
        let mut names: Vec<_> = collected.trailers().unwrap().keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["grpc-status", "x-sum"]);
        assert_eq!(collected.to_bytes(), "ok");
    }
    assert_eq!(upstream.connections(), 1);
}

#[tokio::test]
async fn an_answer_whose_trailers_are_all_dropped_ends_without_any() {
    let upstream = Upstream::answering("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nconnection: close\r\n\r\n");
    let proxy = World::to(&[upstream.address]).start();
    let (mut sender, _connection) = connect(proxy.address()).await;
    let response = sender.send_request(Request::get("http://a/").body(empty()).unwrap()).await.unwrap();
    let collected = response.into_body().collect().await.unwrap();
    assert!(collected.trailers().is_none(), "{:?}", collected.trailers());
    assert_eq!(collected.to_bytes(), "ok");
}

#[test]
fn trailers_cannot_put_past_the_edge_what_the_edge_decides() {
    let upstream = Upstream::echo("ok");
    let proxy = World::to(&[upstream.address]).start();
    let mut client = proxy.client();
    client.send(
        "POST / HTTP/1.1\r\nhost: a\r\ntrailer: x-forwarded-for, x-sum\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\
         X-Forwarded-For: 6.6.6.6\r\nX_Forwarded_For: 6.6.6.6\r\nHost: evil\r\nContent-Length: 5\r\nCookie: a=b\r\nX-Sum: 1\r\n\
         x-real-ip: 6.6.6.6\r\nauthorization: x\r\ntransfer-encoding: chunked\r\n\r\n",
    );
    assert_eq!(client.response().status, 200);
    let seen = upstream.last();
    assert!(seen.ends_with("\r\n0\r\nx-sum: 1\r\n\r\n"), "{seen}");
}

#[tokio::test]
async fn trailers_of_an_http2_request_are_sieved_too() {
    let upstream = Upstream::echo("ok");
    let proxy = World::to(&[upstream.address]).start();
    let (mut sender, _connection) = connect(proxy.address()).await;
    let mut trailers = HeaderMap::new();
    for name in ["x-forwarded-for", "x-envoy-internal", "x-sum"] {
        trailers.insert(name, "1".parse().unwrap());
    }
    let frames = [Ok::<_, Infallible>(Frame::data(Bytes::from("abc"))), Ok(Frame::trailers(trailers))];
    let request = Request::post("http://a/").body(StreamBody::new(tokio_stream(frames)).boxed()).unwrap();
    assert_eq!(sender.send_request(request).await.unwrap().status(), 200);
    let seen = upstream.last();
    assert!(seen.ends_with("\r\n0\r\nx-sum: 1\r\n\r\n"), "{seen}");
}
