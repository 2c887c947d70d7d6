//! Calls of gRPC: what a GRPCRoute sends, and what the gateway answers by itself.

use std::{
    sync::atomic::{AtomicBool, Ordering::SeqCst},
    time::Duration,
};

use bytes::Bytes;
use clingfish::{
    base::Kind,
    snapshot::{Action, FixedReply, GrpcStatuses, Jitter, RetryOn, RetryPolicy, RoutePolicy, Timeouts},
};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;

use crate::http2::connect;
use crate::support::{Http2Upstream, Proxy, Served, World};

/// A rule of a GRPCRoute as translation makes it: without a request timeout.
fn call(served: &mut Served) {
    served.kind = Kind::GrpcRoute;
    served.policy.timeouts = Timeouts { request: None, ..Timeouts::default() };
}

async fn send(proxy: &Proxy, request: Request<Full<Bytes>>) -> Response<Incoming> {
    let (mut sender, _) = connect(proxy.address()).await;
    sender.send_request(request.map(BodyExt::boxed)).await.unwrap()
}

fn request(headers: &[(&str, &str)]) -> Request<Full<Bytes>> {
    let builder = Request::post("http://grpc.example/a.B/C").header("content-type", "application/grpc").header("te", "trailers");
    let builder = headers.iter().fold(builder, |builder, (name, value)| builder.header(*name, *value));
    builder.body(Full::new(Bytes::from_static(b"\0\0\0\0\0"))).unwrap()
}

/// Status of HTTP, and `grpc-status` and `grpc-message` of the head.
fn told<B>(response: &Response<B>) -> (u16, Option<&str>, Option<&str>) {
    let header = |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap());
    (response.status().as_u16(), header("grpc-status"), header("grpc-message"))
}

#[tokio::test]
async fn a_call_goes_to_its_host_in_http_2_whatever_the_cluster_speaks() {
    let upstream = Http2Upstream::start(|mut seen| async move {
        seen.read().await;
        let head = Response::builder().header("content-type", "application/grpc").body(()).unwrap();
        let mut stream = seen.respond.send_response(head, false).unwrap();
        stream.send_data(Bytes::from_static(b"\0\0\0\0\0"), false).unwrap();
        stream.send_trailers([("grpc-status".parse().unwrap(), "0".parse().unwrap())].into_iter().collect()).unwrap();
    });
    let proxy = World::to(&[upstream.address]).with(call).start();
    let response = send(&proxy, request(&[])).await;
    assert_eq!(told(&response), (200, None, None));
    let body = response.into_body().collect().await.unwrap();
    assert_eq!(body.trailers().unwrap()["grpc-status"], "0");
}

#[tokio::test]
async fn what_goes_wrong_is_a_status_of_grpc() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let refused = World::to(&[nobody]).with(call);
    let empty = World::to(&[]).with(call);
    let wrong = World::to(&[nobody]).with(|served| {
        call(served);
        served.instead = Some(Action::Respond(FixedReply { status: StatusCode::INTERNAL_SERVER_ERROR, reason: "wrong".into() }));
    });
    for (world, expected) in [
        (refused, (200, Some("14"), Some("upstream connect error"))),
        (empty, (200, Some("14"), Some("no healthy upstream"))),
        (wrong, (200, Some("2"), None)),
    ] {
        let proxy = world.start();
        let response = send(&proxy, request(&[])).await;
        assert_eq!(told(&response), expected);
        assert_eq!(response.headers()["content-type"], "application/grpc");
        assert!(response.into_body().collect().await.unwrap().to_bytes().is_empty());
    }
    let missing = World::to(&[nobody]).with(|served| served.prefix = "/elsewhere").start();
    let response = send(&missing, request(&[])).await;
    assert_eq!(told(&response), (200, Some("12"), None));
    // Whoever does not speak gRPC gets what HTTP says.
    let plain = Request::post("http://grpc.example/a.B/C").header("content-type", "application/grpc-web").body(Full::default()).unwrap();
    let response = send(&missing, plain).await;
    assert_eq!(told(&response), (404, None, None));
}

#[tokio::test]
async fn the_time_that_a_client_gives_its_call_is_kept() {
    let upstream = Http2Upstream::start(|mut seen| async move {
        seen.read().await;
        std::future::pending::<()>().await;
    });
    let proxy = World::to(&[upstream.address]).with(call).start();
    let response = send(&proxy, request(&[("grpc-timeout", "150m")])).await;
    assert_eq!(told(&response), (200, Some("4"), Some("upstream request timeout")));
    assert_eq!(upstream.last().headers["grpc-timeout"], "150m");
}

#[tokio::test]
async fn a_status_of_grpc_is_retried_where_the_policy_names_it() {
    let mut grpc = GrpcStatuses::default();
    grpc.insert(14);
    let policy = RetryPolicy {
        on: RetryOn { grpc, ..RetryOn::default() },
        attempts: 3,
        status_codes: Box::default(),
        backoff_base: Duration::from_millis(1),
        backoff_max: Duration::from_millis(1),
        jitter: Jitter::Full,
    };
    for (first, attempts, answer) in [("14", 2, "0"), ("13", 1, "13")] {
        let asked = AtomicBool::new(false);
        let upstream = Http2Upstream::start(move |mut seen| {
            let status = if asked.swap(true, SeqCst) { "0" } else { first };
            async move {
                seen.read().await;
                let head = Response::builder().header("content-type", "application/grpc").header("grpc-status", status).body(()).unwrap();
                seen.respond.send_response(head, true).unwrap();
            }
        });
        let retry = policy.clone();
        let proxy = World::to(&[upstream.address])
            .with(|served| {
                call(served);
                served.policy = RoutePolicy { retry: Some(retry), ..served.policy.clone() };
            })
            .start();
        let response = send(&proxy, request(&[])).await;
        assert_eq!((told(&response).1, upstream.requests()), (Some(answer), attempts));
    }
}
