//! Response filters: what they change in answers of hosts and in the gateway's own.

use std::{net::TcpListener, time::Duration};

use clingfish::{
    proxy::ProxyConfig,
    snapshot::{Action, Cors, CorsList, Filters, FixedReply, HeaderOps, OriginPattern, Redirect, Timeouts},
};
use http::{HeaderName, HeaderValue, StatusCode};

use crate::support::{Served, Upstream, World};

const HSTS: &str = "max-age=31536000";

fn set(name: &'static str, value: &'static str) -> HeaderOps {
    HeaderOps { set: [(HeaderName::from_static(name), HeaderValue::from_static(value))].into(), ..HeaderOps::default() }
}

fn remove(name: &'static str) -> HeaderOps {
    HeaderOps { remove: [HeaderName::from_static(name)].into(), ..HeaderOps::default() }
}

fn on_responses(ops: impl Into<Box<[HeaderOps]>>) -> Filters {
    Filters { response_headers: ops.into(), ..Filters::default() }
}

#[test]
fn every_answer_of_a_rule_has_the_headers_that_its_filters_set() {
    let upstream = Upstream::echo("ok");
    let silent = Upstream::start(|conversation| {
        conversation.request();
        conversation.until_closed();
    });
    let garbage = Upstream::answering("garbage\r\n\r\n");
    let closed = TcpListener::bind("127.0.0.5:0").unwrap().local_addr().unwrap();
    let redirect = Redirect { scheme: None, hostname: None, port: None, path: None, status: StatusCode::FOUND };
    let fixed = FixedReply { status: StatusCode::INTERNAL_SERVER_ERROR, reason: "no backendRefs".into() };
    let mut world = World::to(&[upstream.address]);
    world.clusters[0].prefix = "/ok";
    world.clusters.extend([
        Served::new("/closed", &[closed]),
        Served::new("/silent", &[silent.address]),
        Served::new("/garbage", &[garbage.address]),
    ]);
    world.clusters.extend([Served::new("/empty", &[]), Served::new("/redirect", &[]), Served::new("/fixed", &[])]);
    world.clusters[2].policy.timeouts = Timeouts { request: Some(Duration::from_millis(100)), ..Timeouts::default() };
    world.clusters[5].instead = Some(Action::Redirect(Box::new(redirect)));
    world.clusters[6].instead = Some(Action::Respond(fixed));
    for cluster in &mut world.clusters {
        cluster.filters = Some(on_responses([set("strict-transport-security", HSTS)]));
        cluster.backend_filters = Some(on_responses([set("x-backend", "1")]));
    }
    let tick = Duration::from_millis(10);
    let proxy = world.start_with(ProxyConfig { tick, idle_tick: tick, ..ProxyConfig::default() });
    let mut client = proxy.client();
    for (path, status, backend) in [
        ("/ok", 200, true),
        ("/closed", 503, true),
        ("/silent", 504, true),
        ("/garbage", 502, true),
        ("/empty", 503, true),
        ("/redirect", 302, false),
        ("/fixed", 500, false),
    ] {
        let answer = client.get(path);
        assert_eq!(answer.status, status, "{path}");
        assert_eq!(answer.header("strict-transport-security"), Some(HSTS), "{path}");
        assert_eq!(answer.header("x-backend").is_some(), backend, "{path}");
    }
    let unmatched = client.get("/elsewhere");
    assert_eq!((unmatched.status, unmatched.header("strict-transport-security")), (404, None));
}

#[test]
fn server_and_date_are_written_once_and_obey_filters() {
    let upstream = Upstream::echo("ok");
    let dated = Upstream::answering("HTTP/1.1 200 OK\r\ndate: then\r\nserver: app\r\ncontent-length: 0\r\n\r\n");
    let mut world = World::to(&[upstream.address]);
    world.clusters[0].prefix = "/plain";
    world.clusters.extend([
        Served::new("/dated", &[dated.address]),
        Served::new("/removed", &[dated.address]),
        Served::new("/undated", &[upstream.address]),
    ]);
    world.clusters.extend([Served::new("/set", &[dated.address]), Served::new("/empty", &[])]);
    for index in [2, 3, 5] {
        world.clusters[index].filters = Some(on_responses([remove("server"), remove("date")]));
    }
    world.clusters[4].backend_filters = Some(on_responses([set("server", "mine"), set("date", "now")]));
    let proxy = world.start();
    let mut client = proxy.client();
    let lines = |head: &str, name: &str| head.to_ascii_lowercase().matches(&format!("\r\n{name}: ")).count();
    for (path, status, server, date) in [
        ("/plain", 200, Some("clingfish"), Some(" GMT")),
        ("/dated", 200, Some("clingfish"), Some("then")),
        ("/removed", 200, None, None),
        ("/undated", 200, None, None),
        ("/set", 200, Some("mine"), Some("now")),
        ("/empty", 503, None, None),
        ("/elsewhere", 404, Some("clingfish"), Some(" GMT")),
    ] {
        let answer = client.get(path);
        assert_eq!((answer.status, answer.header("server")), (status, server), "{path}");
        assert_eq!(lines(&answer.head, "date"), usize::from(date.is_some()), "{path}: {}", answer.head);
        let seen = answer.header("date").unwrap_or_default();
        assert!(seen.ends_with(date.unwrap_or_default()), "{path}: {}", answer.head);
    }
    client.send("GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n");
    let refused = client.response();
    assert_eq!((refused.status, lines(&refused.head, "date")), (400, 1), "{}", refused.head);
}

#[test]
fn a_browser_is_told_what_the_cors_filter_says_whoever_answers() {
    let upstream = Upstream::answering("HTTP/1.1 200 OK\r\naccess-control-allow-origin: https://other\r\ncontent-length: 0\r\n\r\n");
    let cors = Cors {
        origins: [OriginPattern::parse("https://*.a.example").unwrap()].into(),
        methods: CorsList::Named(HeaderValue::from_static("PUT")),
        headers: CorsList::Any,
        exposed: CorsList::Named(HeaderValue::from_static("x-e")),
        credentials: true,
        max_age: 60.into(),
    };
    let closed = TcpListener::bind("127.0.0.5:0").unwrap().local_addr().unwrap();
    let mut world = World::to(&[upstream.address]);
    world.clusters[0].prefix = "/ok";
    world.clusters.push(Served::new("/closed", &[closed]));
    for cluster in &mut world.clusters {
        cluster.filters = Some(Filters { cors: Some(Box::new(cors.clone())), ..Filters::default() });
    }
    let proxy = world.start();
    let mut client = proxy.client();
    let mut ask = |method: &str, path: &str, headers: &str| {
        client.send(format!("{method} {path} HTTP/1.1\r\nhost: a\r\n{headers}\r\n"));
        let answer = client.response();
        let header = |name| answer.header(name).unwrap_or("-").to_owned();
        (answer.status, header("access-control-allow-origin"), header("access-control-allow-methods"), header("vary"))
    };
    let told = |status, origin: &str, methods: &str| (status, origin.to_owned(), methods.to_owned(), "origin".to_owned());
    let own = "origin: https://b.a.example\r\n";
    let asks = "access-control-request-method: PUT\r\n";
    assert_eq!(ask("OPTIONS", "/ok", &format!("{own}{asks}")), told(200, "https://b.a.example", "PUT"));
    assert_eq!(ask("OPTIONS", "/ok", &format!("origin: https://c.example\r\n{asks}")), told(403, "-", "-"));
    assert_eq!(upstream.requests().len(), 0, "the backend is not asked");
    assert_eq!(ask("PUT", "/ok", own), told(200, "https://b.a.example", "-"));
    assert_eq!(ask("OPTIONS", "/ok", own), told(200, "https://b.a.example", "-"), "without a method it is a request as any other");
    assert_eq!(ask("PUT", "/closed", own), told(503, "https://b.a.example", "-"));
    assert_eq!(upstream.requests().len(), 2);
}
