//! HTTP/2 to hosts: what they get, what comes back, and how their connections are shared.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use clingfish::{
    base::AccessLogFormat,
    proxy::{BackendLimits, ProxyConfig},
    snapshot::{CircuitBreakers, ConnectionOptions, RoutePolicy, Timeouts, UpstreamProtocol},
};
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;

use crate::access_log::Lines;
use crate::http2::{connect, empty, tokio_stream};
use crate::support::{
    Client, Frames, Http2Upstream, PATIENCE, Served, Upstream, World, eventually,
    frames::{self, DATA, END_STREAM, RST_STREAM, WINDOW_UPDATE},
};

const CANCEL: u32 = 8;
const REFUSED_STREAM: u32 = 7;

/// Everything goes to these hosts, in HTTP/2.
pub(crate) fn world(hosts: &[std::net::SocketAddr]) -> World {
    World::to(hosts).with(http2)
}

pub(crate) fn http2(served: &mut Served) {
    served.options =
        ConnectionOptions { protocol: UpstreamProtocol::H2c, idle_timeout: Duration::from_secs(3600), ..served.options.clone() };
}

fn quick() -> ProxyConfig {
    let tick = Duration::from_millis(5);
    ProxyConfig { tick, idle_tick: Duration::from_millis(20), ..ProxyConfig::default() }
}

fn request_timeout(request: Duration) -> RoutePolicy {
    RoutePolicy { timeouts: Timeouts { request: Some(request), ..Timeouts::default() }, ..RoutePolicy::default() }
}

#[test]
fn a_request_of_http_1_1_becomes_one_of_http_2() {
    let upstream = Http2Upstream::start(|mut seen| async move {
        let (body, _) = seen.read().await;
        assert_eq!(body, b"abc");
        let response = Response::builder().status(201).header("x-answer", "1").header("content-length", "2").body(()).unwrap();
        seen.respond_with(response, "ok");
    });
    let proxy = world(&[upstream.address]).start();
    let mut client = proxy.client();
    client.send(
        "POST /a/b?c=d HTTP/1.1\r\nhost: www.example:8080\r\ncontent-length: 3\r\ncookie: a=1; b=2\r\nconnection: keep-alive, x-hop\r\n\
         x-hop: 1\r\nkeep-alive: 5\r\nte: gzip, trailers\r\nx-end: 1\r\n\r\nabc",
    );
    let response = client.response();
    assert_eq!((response.status, response.text(), response.header("x-answer")), (201, "ok", Some("1")));
    assert_eq!(response.header("content-length"), Some("2"));
    let seen = upstream.last();
    assert_eq!((seen.method.as_str(), seen.uri.to_string().as_str()), ("POST", "http://www.example:8080/a/b?c=d"));
    let field = |name: &str| seen.headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect::<Vec<_>>();
    assert_eq!(
        (field("content-length"), field("cookie"), field("te"), field("x-end")),
        (vec!["3"], vec!["a=1; b=2"], vec!["trailers"], vec!["1"])
    );
    for absent in ["host", "connection", "keep-alive", "x-hop", "transfer-encoding"] {
        assert!(field(absent).is_empty(), "{absent}");
    }
}

#[test]
fn a_request_without_a_body_ends_with_its_head_and_says_its_length_as_envoy_does() {
    let upstream = Http2Upstream::start(|mut seen| async move {
        let length = seen.parts.headers.get("content-length").map_or_else(|| "-".to_owned(), |length| length.to_str().unwrap().to_owned());
        let response = Response::builder().header("x-ends", seen.body.is_end_stream().to_string()).header("x-length", length);
        seen.respond_with(response.body(()).unwrap(), "");
    });
    let proxy = world(&[upstream.address]).start();
    let mut client = proxy.client();
    for (method, length) in [("GET", "-"), ("DELETE", "-"), ("POST", "0"), ("PUT", "0"), ("OPTIONS", "0")] {
        client.send(format!("{method} / HTTP/1.1\r\nhost: a\r\n\r\n"));
        let response = client.response();
        assert_eq!((response.header("x-ends"), response.header("x-length")), (Some("true"), Some(length)), "{method}");
    }
    assert_eq!(upstream.connections(), 1);
}

#[tokio::test]
async fn trailers_pass_both_ways_without_what_may_not_trail() {
    let upstream = Http2Upstream::start(|mut seen| async move {
        let (body, trailers) = seen.read().await;
        let trailers = trailers.unwrap();
        assert_eq!((body, trailers.len(), &trailers["x-sum"]), (b"abc".to_vec(), 1, &"1".parse().unwrap()));
        let mut stream = seen.respond.send_response(Response::new(()), false).unwrap();
        stream.send_data("ok".into(), false).unwrap();
        let fields = [("grpc-status", "0"), ("x-forwarded-for", "1.2.3.4"), ("content-length", "2")];
        stream.send_trailers(fields.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()).unwrap();
    });
    let proxy = world(&[upstream.address]).start();
    let (mut sender, _connection) = connect(proxy.address()).await;
    let fields: HeaderMap =
        [("x-sum", "1"), ("cookie", "a=b")].iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
    let body = StreamBody::new(tokio_stream([Ok(Frame::data(Bytes::from("abc"))), Ok(Frame::trailers(fields))])).boxed();
    let response = sender.send_request(Request::post("http://a/").header("te", "trailers").body(body).unwrap()).await.unwrap();
    let collected = response.into_body().collect().await.unwrap();
    let trailers = collected.trailers().unwrap().clone();
    assert_eq!((trailers.len(), &trailers["grpc-status"]), (1, &"0".parse().unwrap()));
    assert_eq!(collected.to_bytes(), "ok");
}

#[test]
fn an_answer_of_trailers_alone_and_one_without_a_body_pass() {
    let upstream = Http2Upstream::start(|mut seen| async move {
        let status: u16 = seen.parts.uri.path()[1..].parse().unwrap();
        seen.respond_with(Response::builder().status(status).header("content-length", "0").body(()).unwrap(), "");
    });
    let proxy = world(&[upstream.address]).start();
    let mut client = proxy.client();
    for status in [200, 204, 304, 404] {
        let response = client.get(&format!("/{status}"));
        assert_eq!((response.status, response.text()), (status, ""));
        assert_eq!(response.header("content-length").is_some(), status != 204, "{status}");
    }
    client.send("HEAD /200 HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!(client.head_response().status, 200);
    assert_eq!(client.get("/404").status, 404);
}

#[test]
fn interim_heads_pass_and_continue_is_the_gateways_own() {
    let upstream = Http2Upstream::start(|mut seen| async move {
        for status in [100, 103] {
            let interim = Response::builder().status(status).header("link", "a").body(()).unwrap();
            seen.respond.send_informational(interim).unwrap();
        }
        seen.reply("ok").await;
    });
    let proxy = world(&[upstream.address]).start();
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\nexpect: 100-continue\r\n\r\n");
    let heads = [client.head(), client.head()];
    client.send("abc");
    assert!(heads.iter().any(|head| head.starts_with("HTTP/1.1 100")), "{heads:?}");
    assert!(heads.iter().any(|head| head.starts_with("HTTP/1.1 103") && head.contains("link: a")), "{heads:?}");
    assert_eq!(client.response().text(), "ok");
    assert!(!upstream.last().headers.contains_key("expect"));
}

#[test]
fn many_requests_share_a_connection() {
    let upstream = Http2Upstream::start(|seen| async move {
        tokio::time::sleep(Duration::from_millis(50)).await;
        seen.reply("ok").await;
    });
    let proxy = world(&[upstream.address]).start();
    let mut clients: Vec<Client> = (0..50).map(|_| proxy.client()).collect();
    clients.iter_mut().for_each(|client| client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n"));
    assert!(clients.iter_mut().all(|client| client.response().text() == "ok"));
    assert_eq!((upstream.connections(), upstream.requests()), (1, 50));
    assert!(upstream.most_streams() > 10, "{}", upstream.most_streams());
}

/// A host that takes so many streams, and holds answers back until it is told.
fn held_back(streams: u32) -> (Http2Upstream, tokio::sync::watch::Sender<bool>) {
    let (release, released) = tokio::sync::watch::channel(false);
    let mut builder = h2::server::Builder::new();
    builder.max_concurrent_streams(streams);
    let upstream = Http2Upstream::with(builder, move |seen| {
        let mut released = released.clone();
        async move {
            let _ = released.wait_for(|released| *released).await;
            seen.reply("ok").await;
        }
    });
    (upstream, release)
}

#[test]
fn beyond_the_hosts_limit_of_streams_there_is_another_connection_and_beyond_the_ceiling_requests_wait() {
    let (upstream, release) = held_back(3);
    let world = world(&[upstream.address]).with(|served| {
        served.breakers = CircuitBreakers { max_connections: Some(2), ..CircuitBreakers::default() };
    });
    let live = Arc::clone(&world.clusters[0].live);
    let proxy = world.start_with(quick());
    let mut clients: Vec<Client> = (0..10).map(|_| proxy.client()).collect();
    clients.iter_mut().for_each(|client| client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n"));
    let relaxed = std::sync::atomic::Ordering::Relaxed;
    eventually("six streams, and four that wait", || upstream.streams() == 6 && live.pending.load(relaxed) == 4);
    assert_eq!((upstream.connections(), live.connections.load(relaxed), live.requests.load(relaxed)), (2, 2, 10));
    release.send_replace(true);
    assert!(clients.iter_mut().all(|client| client.response().text() == "ok"));
    assert_eq!((upstream.connections(), upstream.most_streams()), (2, 6));
    eventually("nobody to wait", || live.pending.load(relaxed) == 0);
    assert!(proxy.metric("clingfish_upstream_overflow_total{kind=\"connections\"}") >= 4.0);
}

#[test]
fn a_host_that_takes_no_streams_gets_one_connection_and_its_requests_time_out() {
    let (upstream, _release) = held_back(0);
    let world = world(&[upstream.address]).with(|served| served.policy = request_timeout(Duration::from_millis(300)));
    let proxy = world.start_with(quick());
    let mut clients: Vec<Client> = (0..5).map(|_| proxy.client()).collect();
    clients.iter_mut().for_each(|client| client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n"));
    assert!(clients.iter_mut().all(|client| client.response().status == 504));
    assert_eq!(upstream.connections(), 1);
}

#[test]
fn a_limit_that_is_raised_lets_those_in_who_wait() {
    let upstream = Upstream::start(|conversation| {
        let mut frames = Frames(conversation);
        frames.greet(&[(3, 1)]);
        let first = frames.request().unwrap();
        frames.send(frames::settings(&[(3, 5)]));
        for _ in 0..4 {
            let stream = frames.request().unwrap();
            frames.send(frames::answer(stream, "ok"));
        }
        frames.send(frames::answer(first, "ok"));
        frames.request();
    });
    let world = world(&[upstream.address]).with(|served| {
        served.breakers = CircuitBreakers { max_connections: Some(1), ..CircuitBreakers::default() };
    });
    let proxy = world.start_with(quick());
    let mut clients: Vec<Client> = (0..5).map(|_| proxy.client()).collect();
    clients.iter_mut().for_each(|client| client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n"));
    assert!(clients.iter_mut().all(|client| client.response().text() == "ok"));
    assert_eq!(upstream.connections(), 1);
}

#[test]
fn a_deadline_cancels_its_stream_and_the_neighbours_go_on() {
    let (cancelled, cancellations) = std::sync::mpsc::channel();
    let upstream = Upstream::start(move |conversation| {
        let mut frames = Frames(conversation);
        frames.greet(&[]);
        let (hanging, other) = (frames.request().unwrap(), frames.request().unwrap());
        let reset = frames.until(|frame| frame.kind == RST_STREAM).unwrap();
        cancelled.send((reset.stream == hanging, u32::from_be_bytes(reset.payload.try_into().unwrap()))).unwrap();
        frames.send(frames::answer(other, "ok"));
        frames.request();
    });
    let world = world(&[upstream.address]).with(|served| served.policy = request_timeout(Duration::from_millis(500)));
    let proxy = world.start_with(quick());
    let mut hanging = proxy.client();
    hanging.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    eventually("the first request", || upstream.requests().len() == 1);
    std::thread::sleep(Duration::from_millis(250));
    let mut other = proxy.client();
    other.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!(hanging.response().status, 504);
    assert_eq!(cancellations.recv_timeout(PATIENCE).unwrap(), (true, CANCEL));
    assert_eq!(other.response().text(), "ok");
    assert_eq!(upstream.connections(), 1);
}

#[test]
fn a_client_that_leaves_cancels_its_stream() {
    let (upstream, _release) = held_back(100);
    let proxy = world(&[upstream.address]).start_with(quick());
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    eventually("the request", || upstream.requests() == 1);
    drop(client);
    eventually("the request to end", || proxy.metric("clingfish_requests_in_flight") == 0.0);
    eventually("the connection to be idle", || proxy.metric("clingfish_upstream_connections{state=\"idle\"}") == 1.0);
    assert_eq!(proxy.metric("clingfish_upstream_connections{state=\"active\"}"), 0.0);
}

#[test]
fn streams_above_a_goaway_are_tried_again_and_those_below_end() {
    let upstream = Upstream::start(|conversation| {
        let number = conversation.number;
        let mut frames = Frames(conversation);
        frames.greet(&[]);
        if number > 0 {
            while let Some(stream) = frames.request() {
                frames.send(frames::answer(stream, "second"));
            }
            return;
        }
        let (below, above) = (frames.request().unwrap(), frames.request().unwrap());
        assert!(above > below);
        frames.send(frames::goaway(below, 0));
        // Nothing more comes here, and what is here may take its time.
        std::thread::sleep(Duration::from_millis(100));
        frames.send(frames::answer(below, "first"));
        assert_eq!(frames.request(), None, "no new stream");
    });
    let proxy = world(&[upstream.address]).start();
    let mut clients: Vec<Client> = (0..2).map(|_| proxy.client()).collect();
    for client in &mut clients {
        let before = upstream.requests().len();
        client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc");
        eventually("it to arrive", || upstream.requests().len() > before);
    }
    let answers: Vec<_> = clients.iter_mut().map(|client| client.response().text().to_owned()).collect();
    assert_eq!(answers, ["first", "second"]);
    assert_eq!(proxy.client().get("/").text(), "second");
    assert_eq!(upstream.connections(), 2);
}

#[test]
fn a_refused_stream_is_tried_elsewhere_whatever_its_method() {
    let refusing = Upstream::start(|conversation| {
        let mut frames = Frames(conversation);
        frames.greet(&[]);
        while let Some(stream) = frames.request() {
            frames.send(frames::reset(stream, REFUSED_STREAM));
        }
    });
    let other = Http2Upstream::start(|mut seen| async move {
        assert_eq!(seen.read().await.0, b"abc");
        seen.respond_with(Response::new(()), "ok");
    });
    let proxy = world(&[refusing.address, other.address]).start();
    let mut client = proxy.client();
    for _ in 0..4 {
        client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc");
        assert_eq!(client.response().text(), "ok");
    }
    assert!(!refusing.requests().is_empty());
}

#[test]
fn an_only_host_that_refuses_a_stream_is_asked_once_more() {
    let upstream = Upstream::start(|conversation| {
        let mut frames = Frames(conversation);
        frames.greet(&[]);
        let refused = frames.request().unwrap();
        frames.send(frames::reset(refused, REFUSED_STREAM));
        let stream = frames.request().unwrap();
        frames.until(|frame| frame.kind == DATA && frame.flags & END_STREAM != 0).unwrap();
        frames.send(frames::answer(stream, "ok"));
        frames.request();
    });
    let proxy = world(&[upstream.address]).start();
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc");
    assert_eq!(client.response().text(), "ok");
    assert_eq!(proxy.metric("clingfish_upstream_retries_total{reason=\"not_processed\"}"), 1.0);
}

#[test]
fn a_body_that_is_larger_than_what_is_kept_is_not_sent_again() {
    let upstream = Upstream::start(|conversation| {
        let mut frames = Frames(conversation);
        frames.greet(&[]);
        let stream = frames.request().unwrap();
        frames.until(|frame| frame.kind == DATA && frame.flags & END_STREAM != 0).unwrap();
        frames.send(frames::reset(stream, REFUSED_STREAM));
        assert_eq!(frames.request(), None);
    });
    let backends = BackendLimits { retry_body_bytes: 2, ..BackendLimits::default() };
    let proxy = world(&[upstream.address]).start_with(ProxyConfig { backends, ..quick() });
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n");
    assert_eq!(client.response().status, 503);
    assert_eq!(upstream.requests().len(), 1);
}

#[test]
fn the_access_log_says_what_is_spoken_to_the_host_and_the_metrics_how_connections_end() {
    let upstream = Http2Upstream::echo("ok");
    let (lines, log) = Lines::start(AccessLogFormat::Json);
    let proxy = world(&[upstream.address]).with(|served| served.options.max_requests_per_connection = Some(1)).start_logged(&log);
    assert_eq!(proxy.client().get("/").text(), "ok");
    let line = lines.json(1).remove(0);
    assert_eq!((&line["protocol"], &line["upstream_protocol"]), (&"HTTP/1.1".into(), &"HTTP/2".into()));
    let ended = "clingfish_upstream_http2_connections_ended_total{reason=\"left\"}";
    eventually("the end of a used connection", || proxy.metric(ended) == 1.0);
}

#[test]
fn odd_targets_and_hosts_pass() {
    let upstream = Http2Upstream::start(|mut seen| async move {
        let authority = seen.parts.uri.authority().map_or_else(|| "-".to_owned(), ToString::to_string);
        let path = seen.parts.uri.path_and_query().map_or_else(|| "-".to_owned(), ToString::to_string);
        seen.respond_with(Response::builder().header("x-authority", authority).header("x-path", path).body(()).unwrap(), "");
    });
    let proxy = world(&[upstream.address]).start();
    for (request, authority, path) in [
        ("GET /a?b=c&d HTTP/1.1\r\nhost: [::1]:80\r\n\r\n", "[::1]:80", "/a?b=c&d"),
        ("GET http://b:8080/x HTTP/1.1\r\nhost: a\r\n\r\n", "b:8080", "/x"),
    ] {
        let mut client = proxy.client();
        client.send(request);
        let response = client.response();
        assert_eq!((response.header("x-authority"), response.header("x-path")), (Some(authority), Some(path)), "{request}");
    }
}

#[test]
fn a_reset_without_an_answer_is_503() {
    let upstream = Upstream::start(|conversation| {
        let mut frames = Frames(conversation);
        frames.greet(&[]);
        while let Some(stream) = frames.request() {
            frames.send(frames::reset(stream, 2));
        }
    });
    let proxy = world(&[upstream.address]).start();
    assert_eq!(proxy.client().get("/").status, 503);
    eventually("the flag", || proxy.metric("clingfish_requests_total{code=\"5xx\",flag=\"UR\"}") == 1.0);
    assert_eq!(upstream.connections(), 1, "the connection is as good as before");
}

#[test]
fn an_early_answer_passes_and_the_rest_of_the_upload_is_dropped() {
    let upstream = Upstream::start(|conversation| {
        let mut frames = Frames(conversation);
        frames.greet(&[]);
        let stream = frames.request().unwrap();
        frames.send([frames::answer(stream, "no"), frames::reset(stream, 0)].concat());
        let stream = frames.request().unwrap();
        frames.send(frames::answer(stream, "ok"));
        frames.request();
    });
    let proxy = world(&[upstream.address]).start();
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 100000\r\n\r\nabc");
    assert_eq!(client.response().text(), "no");
    assert_eq!(proxy.client().get("/").text(), "ok");
    assert_eq!(upstream.connections(), 1);
}

#[test]
fn a_host_that_leaves_finishes_its_streams_and_gets_no_more() {
    let (leaving, release) = held_back(100);
    let staying = Http2Upstream::echo("stays");
    let proxy = world(&[leaving.address]).start_with(quick());
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    eventually("the request", || leaving.requests() == 1);
    proxy.apply(&world(&[staying.address]));
    assert_eq!(proxy.client().get("/").text(), "stays");
    assert_eq!((leaving.open(), leaving.requests()), (1, 1));
    release.send_replace(true);
    assert_eq!(client.response().text(), "ok");
    eventually("the connection to end", || leaving.open() == 0);
}

#[test]
fn connections_end_when_the_set_of_hosts_changes_where_that_is_asked_for() {
    let (one, other) = (Http2Upstream::echo("one"), Http2Upstream::echo("one"));
    let close = |hosts: &[std::net::SocketAddr]| world(hosts).with(|served| served.close_on_change = true);
    let proxy = close(&[one.address]).start_with(quick());
    assert_eq!(proxy.client().get("/").text(), "one");
    proxy.apply(&close(&[one.address, other.address]));
    eventually("the idle connection to end", || one.open() == 0);
}

#[test]
fn an_idle_connection_ends_in_time_and_one_that_is_in_use_does_not() {
    let (upstream, release) = held_back(100);
    let proxy = world(&[upstream.address]).with(|served| served.options.idle_timeout = Duration::from_millis(100)).start_with(quick());
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    eventually("the request", || upstream.requests() == 1);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(upstream.open(), 1);
    release.send_replace(true);
    assert_eq!(client.response().text(), "ok");
    eventually("the connection to end", || upstream.open() == 0);
}

#[test]
fn a_connection_is_given_no_more_requests_than_it_may_have() {
    let upstream = Http2Upstream::echo("ok");
    let proxy = world(&[upstream.address]).with(|served| served.options.max_requests_per_connection = Some(3)).start_with(quick());
    let mut client = proxy.client();
    for _ in 0..7 {
        assert_eq!(client.get("/").text(), "ok");
    }
    assert_eq!(upstream.connections(), 3);
    eventually("the used ones to end", || upstream.open() == 1);
}

#[test]
fn large_bodies_pass_both_ways_at_once() {
    let upstream = Http2Upstream::start(|mut seen| async move {
        let mut stream = seen.respond.send_response(Response::new(()), false).unwrap();
        while let Some(Ok(data)) = seen.body.data().await {
            let _ = seen.body.flow_control().release_capacity(data.len());
            let mut rest = data;
            while !rest.is_empty() {
                stream.reserve_capacity(rest.len());
                let room = match stream.capacity() {
                    0 => std::future::poll_fn(|cx| stream.poll_capacity(cx)).await.unwrap().unwrap(),
                    room => room,
                };
                let _ = stream.send_data(rest.split_to(room.min(rest.len())), false);
            }
        }
        let _ = stream.send_data(Bytes::new(), true);
    });
    let proxy = world(&[upstream.address]).start();
    let body: Vec<u8> = (0..3_000_000_u32).map(|byte| byte as u8).collect();
    let mut client = proxy.client();
    let mut other_half = client.try_clone();
    let sent = body.clone();
    let sending = std::thread::spawn(move || {
        other_half.send(format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n", sent.len()));
        other_half.send(sent);
    });
    let response = client.response();
    sending.join().unwrap();
    assert!(response.body == body, "{} bytes", response.body.len());
}

#[test]
fn a_client_that_does_not_read_holds_up_nobody_else() {
    let upstream = Http2Upstream::start(|mut seen| async move {
        let large = seen.parts.uri.path() == "/large";
        let mut stream = seen.respond.send_response(Response::new(()), false).unwrap();
        let mut left = if large { 50_000_000 } else { 200_000 };
        while left > 0 {
            stream.reserve_capacity(left.min(16_384));
            let room = match stream.capacity() {
                0 => match std::future::poll_fn(|cx| stream.poll_capacity(cx)).await {
                    Some(Ok(room)) => room,
                    _ => return,
                },
                room => room,
            };
            let piece = room.min(left).min(16_384);
            let _ = stream.send_data(vec![7; piece].into(), false);
            left -= piece;
        }
        let _ = stream.send_data(Bytes::new(), true);
    });
    let proxy = world(&[upstream.address]).start();
    let mut slow: Vec<Client> = (0..40).map(|_| proxy.client()).collect();
    for client in &mut slow {
        client.send("GET /large HTTP/1.1\r\nhost: a\r\n\r\n");
        client.head();
    }
    for _ in 0..10 {
        assert_eq!(proxy.client().get("/small").body.len(), 200_000);
    }
    assert_eq!(upstream.connections(), 1);
}

#[tokio::test]
async fn a_client_may_go_on_sending_before_it_reads() {
    // The host answers with as much as comes, and reads on while its answer waits.
    let upstream = Http2Upstream::start(|mut seen| async move {
        let mut stream = seen.respond.send_response(Response::new(()), false).unwrap();
        stream.send_data(vec![1; 2_000_000].into(), false).unwrap();
        let (body, _) = seen.read().await;
        let _ = stream.send_data(body.len().to_string().into(), true);
    });
    let proxy = world(&[upstream.address]).start();
    let (mut sender, _connection) = connect(proxy.address()).await;
    let (feed, body) = futures_channel();
    let response = sender.send_request(Request::post("http://a/").body(StreamBody::new(body).boxed()).unwrap()).await.unwrap();
    // Larger than all windows on the way, and nothing is read meanwhile.
    for _ in 0..40 {
        tokio::time::timeout(PATIENCE, feed.send(Bytes::from(vec![2; 50_000]))).await.expect("the host reads").unwrap();
    }
    drop(feed);
    let answer = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!((&answer[2_000_000..], answer.len()), (&b"2000000"[..], 2_000_007));
}

/// A body that is fed piece by piece, each after the one before has been taken.
struct Feed(tokio::sync::mpsc::Sender<Bytes>);

impl Feed {
    async fn send(&self, piece: Bytes) -> Result<(), ()> {
        self.0.send(piece).await.map_err(|_| ())
    }
}

fn futures_channel() -> (Feed, impl futures_util::Stream<Item = Result<Frame<Bytes>, std::convert::Infallible>>) {
    let (send, mut receive) = tokio::sync::mpsc::channel(1);
    let stream = futures_util::stream::poll_fn(move |cx| receive.poll_recv(cx).map(|piece: Option<Bytes>| Some(Ok(Frame::data(piece?)))));
    (Feed(send), stream)
}

#[tokio::test]
async fn grpc_passes_from_end_to_end() {
    let upstream = Http2Upstream::start(|mut seen| async move {
        assert_eq!(
            (&seen.parts.headers["grpc-timeout"], &seen.parts.headers["te"]),
            (&"5S".parse().unwrap(), &"trailers".parse().unwrap())
        );
        if seen.parts.uri.path() == "/pkg.Service/Missing" {
            let head = Response::builder().header("content-type", "application/grpc").header("grpc-status", "12").body(()).unwrap();
            seen.respond.send_response(head, true).unwrap();
            return;
        }
        let head = Response::builder().header("content-type", "application/grpc").body(()).unwrap();
        let mut stream = seen.respond.send_response(head, false).unwrap();
        // Each message is answered before the next one comes.
        while let Some(Ok(message)) = seen.body.data().await {
            let _ = seen.body.flow_control().release_capacity(message.len());
            stream.send_data(message, false).unwrap();
        }
        stream.send_trailers([("grpc-status".parse().unwrap(), "0".parse().unwrap())].into_iter().collect()).unwrap();
    });
    let proxy = world(&[upstream.address]).start();
    let (mut sender, _connection) = connect(proxy.address()).await;
    let request = |path: &str| {
        Request::post(format!("http://a{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("grpc-timeout", "5S")
    };
    let (feed, body) = futures_channel();
    feed.send("hello".into()).await.unwrap();
    let response = sender.send_request(request("/pkg.Service/Echo").body(StreamBody::new(body).boxed()).unwrap()).await.unwrap();
    assert_eq!(response.headers()["content-type"], "application/grpc");
    let mut answer = response.into_body();
    for message in ["hello", "again", "and again"] {
        if message != "hello" {
            feed.send(message.into()).await.unwrap();
        }
        assert_eq!(answer.frame().await.unwrap().unwrap().into_data().unwrap(), message);
    }
    drop(feed);
    assert_eq!(answer.frame().await.unwrap().unwrap().into_trailers().unwrap()["grpc-status"], "0");
    let missing = sender.send_request(request("/pkg.Service/Missing").body(Full::new(Bytes::from("x")).boxed()).unwrap()).await.unwrap();
    assert_eq!((missing.status().as_u16(), &missing.headers()["grpc-status"]), (200, &"12".parse().unwrap()));
    assert!(missing.into_body().collect().await.unwrap().trailers().is_none());
    let unary = sender.send_request(request("/pkg.Service/Missing").body(empty()).unwrap()).await.unwrap();
    assert_eq!(unary.headers()["grpc-status"], "12");
}

const ASK: &str = "GET /ws?a HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                   sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

#[test]
fn a_websocket_becomes_an_extended_connect_where_the_host_takes_it() {
    let mut builder = h2::server::Builder::new();
    builder.enable_connect_protocol();
    let upstream = Http2Upstream::with(builder, |mut seen| async move {
        if seen.parts.method == "GET" {
            return seen.reply("ok").await;
        }
        assert_eq!(seen.parts.extensions.get::<h2::ext::Protocol>().map(h2::ext::Protocol::as_str), Some("websocket"));
        let mut stream = seen.respond.send_response(Response::new(()), false).unwrap();
        while let Some(Ok(data)) = seen.body.data().await {
            let _ = seen.body.flow_control().release_capacity(data.len());
            stream.send_data(data, false).unwrap();
        }
        stream.send_data(Bytes::new(), true).unwrap();
    });
    let proxy = world(&[upstream.address]).start();
    let mut client = proxy.client();
    client.send(ASK);
    let response = client.head_response();
    assert_eq!((response.status, response.header("upgrade")), (101, Some("websocket")));
    assert_eq!(response.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    let seen = upstream.last();
    assert_eq!(
        (seen.method.as_str(), seen.uri.scheme_str(), seen.uri.authority().map(http::uri::Authority::as_str)),
        ("CONNECT", Some("http"), Some("a"))
    );
    assert_eq!((seen.method.as_str(), seen.uri.path_and_query().unwrap().as_str()), ("CONNECT", "/ws?a"));
    assert_eq!(seen.headers["sec-websocket-version"], "13");
    for message in [b"hello".to_vec(), vec![7; 300_000]] {
        client.send(&message);
        assert_eq!(client.exactly(message.len()), message);
    }
    assert_eq!(proxy.client().get("/").status, 200, "the connection serves others meanwhile");
    client.finish();
    assert!(client.is_closed());
    eventually("the flight to end", || proxy.metric("clingfish_requests_in_flight") == 0.0);
    assert_eq!(upstream.connections(), 1);
}

#[test]
fn a_websocket_to_a_host_that_does_not_take_it_is_502() {
    let upstream = Http2Upstream::echo("ok");
    let proxy = world(&[upstream.address]).start();
    let mut client = proxy.client();
    client.send(ASK);
    assert_eq!(client.response().status, 502);
    eventually("the flag", || proxy.metric("clingfish_requests_total{code=\"5xx\",flag=\"UPE\"}") == 1.0);
    assert_eq!(upstream.requests(), 0);
}

#[test]
fn a_failed_connect_goes_on_to_the_next_host_for_all_who_wait() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = free.local_addr().unwrap();
    drop(free);
    let upstream = Http2Upstream::echo("ok");
    let proxy = world(&[nobody, upstream.address]).start();
    let mut clients: Vec<Client> = (0..20).map(|_| proxy.client()).collect();
    clients.iter_mut().for_each(|client| client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc"));
    assert!(clients.iter_mut().all(|client| client.response().text() == "ok"));
    let alone = world(&[nobody]).start();
    assert_eq!(alone.client().get("/").status, 503);
    eventually("the flag", || alone.metric("clingfish_requests_total{code=\"5xx\",flag=\"UF\"}") == 1.0);
}

#[test]
fn windows_are_granted_as_the_client_reads() {
    let (granted, grants) = std::sync::mpsc::channel();
    let upstream = Upstream::start(move |conversation| {
        let mut frames = Frames(conversation);
        frames.greet(&[]);
        let stream = frames.request().unwrap();
        frames.send(frames::head(stream, &[(":status", "200")], false));
        // All of the window, and then nothing until there is more.
        for _ in 0..4 {
            frames.send(frames::frame(DATA, 0, stream, &[7; 16_384][..]));
        }
        let update = frames.until(|frame| frame.kind == WINDOW_UPDATE && frame.stream == stream).unwrap();
        granted.send(u32::from_be_bytes(update.payload.try_into().unwrap())).unwrap();
        frames.send(frames::frame(DATA, END_STREAM, stream, b""));
        frames.request();
    });
    let proxy = world(&[upstream.address]).start();
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!(client.response().body.len(), 65_536);
    assert!(grants.recv_timeout(PATIENCE).unwrap() >= 32_768);
}
