//! Bodies of every shape, both ways.

use http_body_util::BodyExt as _;

use crate::{
    http2::connect,
    support::{Upstream, World, eventually},
};

#[test]
fn a_small_get_goes_through_with_the_gateway_headers() {
    let upstream = Upstream::echo("hello");
    let proxy = World::to(&[upstream.address]).start();
    let mut client = proxy.client();
    let response = client.get("/a?b=c");
    assert_eq!((response.status, response.text()), (200, "hello"));
    assert_eq!(response.header("server"), Some("clingfish"));
    assert!(response.header("x-envoy-upstream-service-time").is_some(), "{}", response.head);
    assert!(upstream.last().starts_with("GET /a?b=c HTTP/1.1\r\n"), "{}", upstream.last());
    assert!(upstream.last().contains("host: example.com\r\n"));
    eventually("the request to be counted", || proxy.metric("clingfish_requests_total{code=\"2xx\",flag=\"-\"}") == 1.0);
    eventually("the request to end", || proxy.metric("clingfish_requests_in_flight") == 0.0);
}

#[test]
fn request_bodies_keep_their_framing() {
    let upstream = Upstream::echo("ok");
    let proxy = World::to(&[upstream.address]).start();
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello");
    assert_eq!(client.response().status, 200);
    assert!(upstream.last().contains("content-length: 5\r\n") && upstream.last().ends_with("\r\n\r\nhello"), "{}", upstream.last());
    client.send("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n");
    assert_eq!(client.response().status, 200);
    let last = upstream.last();
    assert!(last.contains("transfer-encoding: chunked\r\n") && !last.contains("content-length"), "{last}");
    client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n");
    assert_eq!(client.response().status, 200);
    assert!(upstream.last().contains("content-length: 0\r\n"), "{}", upstream.last());
    assert_eq!(upstream.connections(), 1);
}

#[test]
fn a_method_with_content_and_no_body_says_so() {
    let upstream = Upstream::echo("ok");
    let proxy = World::to(&[upstream.address]).start();
    let mut client = proxy.client();
    for (method, announced) in [
        ("POST", true),
        ("PUT", true),
        ("PATCH", true),
        ("OPTIONS", true),
        ("PROPFIND", true),
        ("GET", false),
        ("DELETE", false),
        ("TRACE", false),
    ] {
        client.send(format!("{method} / HTTP/1.1\r\nhost: a\r\n\r\n"));
        assert_eq!(client.response().status, 200, "{method}");
        assert_eq!(upstream.last().contains("\r\ncontent-length: 0\r\n"), announced, "{}", upstream.last());
    }
    client.send("HEAD / HTTP/1.1\r\nhost: a\r\n\r\n");
    client.head_response();
    assert!(!upstream.last().contains("content-length"), "{}", upstream.last());
}

/// A body that is over before it begins and does not give its length: hyper's client ends the stream with the head, and adds no field.
struct Over;

impl hyper::body::Body for Over {
    type Data = bytes::Bytes;
    type Error = std::convert::Infallible;
    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<bytes::Bytes>, Self::Error>>> {
        std::task::Poll::Ready(None)
    }
    fn is_end_stream(&self) -> bool {
        true
    }
    fn size_hint(&self) -> hyper::body::SizeHint {
        hyper::body::SizeHint::default()
    }
}

#[tokio::test]
async fn an_http2_request_that_ends_with_its_head_says_so_too() {
    let upstream = Upstream::echo("ok");
    let proxy = World::to(&[upstream.address]).start();
    let (mut sender, _connection) = connect(proxy.address()).await;
    for (method, announced) in [("POST", true), ("PUT", true), ("GET", false), ("DELETE", false)] {
        let request = http::Request::builder().method(method).uri("http://a/").body(Over.boxed()).unwrap();
        assert_eq!(sender.send_request(request).await.unwrap().status(), 200);
        assert_eq!(upstream.last().contains("\r\ncontent-length: 0\r\n"), announced, "{}", upstream.last());
    }
}

#[test]
fn request_trailers_are_forwarded() {
    let upstream = Upstream::echo("ok");
    let proxy = World::to(&[upstream.address]).start();
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nhost: a\r\ntrailer: x-sum\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx-sum: 1\r\n\r\n");
    assert_eq!(client.response().status, 200);
    assert!(upstream.last().ends_with("0\r\nx-sum: 1\r\n\r\n"), "{}", upstream.last());
}

#[test]
fn response_bodies_of_every_framing_arrive() {
    let upstream = Upstream::start(|conversation| {
        while let Some(request) = conversation.request() {
            match request.split(' ').nth(1).unwrap() {
                "/length" => conversation.send("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc"),
                "/chunked" => conversation.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"),
                "/empty" => conversation.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"),
                _ => return conversation.send("HTTP/1.0 200 OK\r\n\r\nabc"),
            }
        }
    });
    let proxy = World::to(&[upstream.address]).start();
    let mut client = proxy.client();
    let response = client.get("/length");
    assert_eq!((response.header("content-length"), response.text()), (Some("3"), "abc"));
    let response = client.get("/chunked");
    assert_eq!((response.header("transfer-encoding"), response.text()), (Some("chunked"), "abc"));
    assert_eq!(client.get("/empty").header("content-length"), Some("0"));
    assert_eq!(upstream.connections(), 1, "all of these leave the connection fit for the next");
    let response = client.get("/close-delimited");
    assert_eq!((response.header("transfer-encoding"), response.text()), (Some("chunked"), "abc"));
    assert_eq!(client.get("/length").text(), "abc", "the client's connection outlives the upstream's");
    assert_eq!(upstream.connections(), 2);
}

#[test]
fn a_close_delimited_body_stays_so_for_http_1_0_clients() {
    let upstream = Upstream::start(|conversation| {
        conversation.request();
        conversation.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n");
    });
    let proxy = World::to(&[upstream.address]).start();
    let mut client = proxy.client();
    client.send("GET / HTTP/1.0\r\nhost: a\r\n\r\n");
    let response = client.response();
    assert!(response.head.starts_with("HTTP/1.0 200"), "{}", response.head);
    assert_eq!((response.header("transfer-encoding"), response.text()), (None, "abc"));
}

#[test]
fn response_trailers_are_forwarded_to_clients_that_take_them() {
    let upstream =
        Upstream::answering("HTTP/1.1 200 OK\r\ntrailer: x-sum\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx-sum: 7\r\n\r\n");
    let proxy = World::to(&[upstream.address]).start();
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nhost: a\r\nte: trailers\r\nconnection: te\r\n\r\n");
    let response = client.response();
    assert_eq!((response.text(), response.trailers.as_str()), ("abc", "x-sum: 7\r\n"));
    assert!(upstream.last().contains("te: trailers\r\n"), "{}", upstream.last());
    assert_eq!(client.get("/").trailers, "", "this request did not ask for them");
    assert_eq!(upstream.connections(), 1);
}

#[test]
fn head_204_and_304_have_no_body_and_keep_the_connection() {
    let upstream = Upstream::start(|conversation| {
        while let Some(request) = conversation.request() {
            let answer = match request.split(' ').nth(1).unwrap() {
                "/204" => "HTTP/1.1 204 No Content\r\n\r\n",
                "/304" => "HTTP/1.1 304 Not Modified\r\netag: \"x\"\r\n\r\n",
                "/chunked" => "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
                _ => "HTTP/1.1 200 OK\r\ncontent-length: 1234\r\n\r\n",
            };
            conversation.send(answer);
        }
    });
    let proxy = World::to(&[upstream.address]).start();
    let mut client = proxy.client();
    client.send("HEAD / HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!(client.head_response().header("content-length"), Some("1234"));
    client.send("HEAD /chunked HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!(client.head_response().header("content-length"), None);
    let response = client.get("/204");
    assert_eq!((response.status, response.header("content-length"), response.header("transfer-encoding")), (204, None, None));
    let response = client.get("/304");
    assert_eq!((response.status, response.header("etag"), response.header("transfer-encoding")), (304, Some("\"x\""), None));
    client.send("HEAD / HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!(client.head_response().status, 200);
    assert_eq!(upstream.connections(), 1);
}

#[test]
fn expect_100_continue_is_answered_here_and_once_the_upstream_is_there() {
    let upstream = Upstream::echo("ok");
    let proxy = World::to(&[upstream.address]).start();
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n");
    assert_eq!(client.head(), "HTTP/1.1 100 Continue\r\n\r\n");
    client.send("hello");
    assert_eq!(client.response().status, 200);
    assert!(!upstream.last().contains("\r\nexpect:"), "{}", upstream.last());
}

#[test]
fn a_body_is_not_asked_for_when_there_is_nobody_to_send_it_to() {
    let closed = std::net::TcpListener::bind("127.0.0.7:0").unwrap().local_addr().unwrap();
    let proxy = World::to(&[closed]).start();
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n");
    assert_eq!(client.response().status, 503);
}

#[test]
fn an_early_answer_reaches_the_client_and_the_upload_does_not_poison_the_pool() {
    let upstream = Upstream::start(|conversation| {
        while conversation.request_head().is_some() {
            conversation.send("HTTP/1.1 413 Content Too Large\r\ncontent-length: 3\r\n\r\nbig");
            if conversation.number == 0 {
                conversation.until_closed();
            }
        }
    });
    let proxy = World::to(&[upstream.address]).start();
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 100000\r\n\r\nbegin");
    let response = client.response();
    assert_eq!((response.status, response.text()), (413, "big"));
    let mut other = proxy.client();
    assert_eq!(other.get("/").status, 413);
    assert_eq!(upstream.connections(), 2, "the half-used connection is not given to anybody else");
}

#[test]
fn a_slow_reader_holds_the_upstream_back() {
    const TOTAL: usize = 40 * 1024 * 1024;
    let sent = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counter = std::sync::Arc::clone(&sent);
    let upstream = Upstream::start(move |conversation| {
        use std::io::Write;
        conversation.request();
        conversation.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {TOTAL}\r\n\r\n"));
        let chunk = vec![b'x'; 64 * 1024];
        while counter.load(std::sync::atomic::Ordering::SeqCst) < TOTAL && conversation.stream.write_all(&chunk).is_ok() {
            counter.fetch_add(chunk.len(), std::sync::atomic::Ordering::SeqCst);
        }
    });
    let proxy = World::to(&[upstream.address]).start();
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    client.head();
    // Wait until the upstream has been blocked for a while: only sockets' buffers and ours are between it and the client.
    let mut last = 0;
    let mut still = 0;
    eventually("the upstream to block", || {
        std::thread::sleep(std::time::Duration::from_millis(20));
        let now = sent.load(std::sync::atomic::Ordering::SeqCst);
        still = if now == last { still + 1 } else { 0 };
        last = now;
        still > 15
    });
    assert!(last < 24 * 1024 * 1024, "{last} bytes were taken from the upstream though nobody reads them");
    let body = client.exactly(TOTAL);
    assert_eq!(body.len(), TOTAL);
}

#[test]
fn a_response_that_breaks_off_breaks_off_for_the_client_too() {
    let upstream = Upstream::start(|conversation| {
        conversation.request();
        conversation.send("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc");
    });
    let proxy = World::to(&[upstream.address]).start();
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    client.head();
    assert_eq!(client.until_closed(), b"abc");
    eventually("the flag", || proxy.metric("clingfish_requests_total{code=\"2xx\",flag=\"UPE\"}") == 1.0);
}
