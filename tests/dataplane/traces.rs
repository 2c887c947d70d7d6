//! Traces: what hosts and the collector see of a request.

use std::{
    net::{SocketAddr, TcpListener},
    time::Duration,
};

use clingfish::{
    base::{
        AccessLogFormat,
        trace::{CollectorEndpoint, CollectorProtocol, CollectorRoots, Sampler, SamplerKind, TracingConfig},
    },
    proxy::ProxyConfig,
    snapshot::{HashPolicy, HashSource, Jitter, RetryOn, RetryPolicy, RoutePolicy},
    telemetry::{Metrics, SpanResult, start_tracing},
};
use opentelemetry_proto::tonic::trace::v1::Span;
use tokio::time::Instant;

use crate::{
    access_log::Lines,
    support::{
        Proxy, Served, Upstream, World,
        collector::{Answer, Collector, Tracing, attribute, attributes, split},
        eventually,
    },
};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn line<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

/// An address where nobody listens.
fn closed() -> SocketAddr {
    TcpListener::bind("127.0.0.5:0").unwrap().local_addr().unwrap()
}

fn get(proxy: &Proxy, path: &str, headers: &str) -> u16 {
    let mut client = proxy.client();
    client.send(format!("GET {path} HTTP/1.1\r\nhost: a.example\r\n{headers}\r\n"));
    client.response().status
}

fn sampled() -> String {
    format!("traceparent: 00-{TRACE}-{PARENT}-01\r\ntracestate: congo=t61rcWkgMzE,rojo=1\r\n")
}

/// Attributes of a span under these names.
fn named<const N: usize>(span: &Span, names: [&str; N]) -> [Option<String>; N] {
    names.map(|name| attribute(span, name))
}

#[test]
fn while_tracing_is_off_trace_headers_pass_byte_for_byte() {
    let upstream = Upstream::echo("ok");
    let proxy = World::to(&[upstream.address]).start();
    for lines in [
        format!("traceparent: 00-{TRACE}-{PARENT}-01\r\ntracestate: congo=t61rcWkgMzE, rojo=00f067aa0ba902b7 ,,x=\t1\r\n"),
        format!("traceparent: 00-{TRACE}-{PARENT}-00\r\n"),
        "traceparent: ff-not-A-Trace\r\ntraceparent: another\r\ntracestate: =\r\ntracestate: a=\u{e9}\r\n".to_owned(),
        "b3: 80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1\r\nx-b3-traceid: 80f198ee56343ba864fe8b2a57d3eff7\r\nbaggage: userId=alice ,k=v%20\r\nx-datadog-trace-id: 1\r\n".to_owned(),
        String::new(),
    ] {
        assert_eq!(get(&proxy, "/", &lines), 200);
        let seen = upstream.last();
        let trace = |line: &&str| ["trace", "b3:", "x-b3", "baggage", "x-datadog"].iter().any(|name| line.starts_with(name));
        let passed: String = seen.lines().filter(trace).map(|line| format!("{line}\r\n")).collect();
        assert_eq!(passed, lines);
    }
}

#[test]
fn a_request_with_a_parent_continues_its_trace() {
    let (upstream, collector) = (Upstream::echo("ok"), Collector::http());
    let tracing = collector.tracing(0.0);
    let policy = HashPolicy { source: HashSource::Header(http::HeaderName::from_static("x-user")), terminal: false };
    let world = World::to(&[upstream.address]).with(|served| {
        served.prefix = "/a";
        served.lb = clingfish::lb::Policy::Maglev(Default::default());
        served.policy = RoutePolicy { hash: Box::new([policy]), ..RoutePolicy::default() };
    });
    let proxy = world.start_with(tracing.config());
    assert_eq!(get(&proxy, "/a/x?b=1&sig=secret", &format!("{}user-agent: test\r\nx-user: ann\r\ncookie: secret=1\r\n", sampled())), 200);
    let (server, clients) = split(collector.wait_for(2));
    let seen = upstream.last();
    assert_eq!(line(&seen, "tracestate"), Some("congo=t61rcWkgMzE,rojo=1"));
    assert_eq!(line(&seen, "traceparent"), Some(&*format!("00-{TRACE}-{}-01", hex(&clients[0].span_id))));
    assert_eq!((hex(&server.trace_id), hex(&server.parent_span_id)), (TRACE.into(), PARENT.into()));
    assert_eq!((&clients[0].trace_id, &clients[0].parent_span_id), (&server.trace_id, &server.span_id));
    assert_eq!((server.trace_state.as_str(), server.flags & 0x1ff), ("congo=t61rcWkgMzE,rojo=1", 0x101));
    assert_eq!((server.name.as_str(), clients[0].name.as_str(), &server.status), ("GET /a", "GET", &None));
    let (start, end) = (server.start_time_unix_nano, server.end_time_unix_nano);
    assert!(start <= clients[0].start_time_unix_nano && clients[0].end_time_unix_nano <= end && end - start < 20_000_000_000);
    let host = upstream.address;
    let id = line(&seen, "x-request-id").unwrap();
    let mut expected = vec![
        ("http.request.method", "GET".into()),
        ("url.scheme", "http".into()),
        ("url.path", "/a/x".into()),
        ("url.query", "b=1&sig=REDACTED".into()),
        ("server.address", "a.example".into()),
        ("server.port", "80".into()),
        ("user_agent.original", "test".into()),
        ("http.request.header.x-request-id", format!("[StringValue({id:?})]")),
        ("http.request.body.size", "0".into()),
        ("http.response.body.size", "2".into()),
        ("client.address", "127.0.0.1".into()),
        ("network.peer.address", "127.0.0.1".into()),
        ("network.peer.port", attribute(&server, "network.peer.port").unwrap()),
        ("network.protocol.version", "1.1".into()),
        ("clingfish.gateway", "test/http".into()),
        ("clingfish.listener", "http".into()),
        ("clingfish.route", "HTTPRoute test/route".into()),
        ("http.route", "/a".into()),
        ("clingfish.rule", "0".into()),
        ("clingfish.backend", "Upstream test/upstream-0".into()),
        ("clingfish.upstream_host", host.to_string()),
        ("clingfish.attempts", "1".into()),
        ("clingfish.key_source", "header".into()),
        ("clingfish.hash", attribute(&server, "clingfish.hash").unwrap()),
        ("clingfish.generation", "1".into()),
        ("http.response.status_code", "200".into()),
    ];
    assert_eq!(attributes(&server.attributes), expected);
    expected = vec![
        ("http.request.method", "GET".into()),
        ("server.address", "127.0.0.1".into()),
        ("server.port", host.port().to_string()),
        ("network.peer.address", "127.0.0.1".into()),
        ("network.peer.port", host.port().to_string()),
        ("url.full", format!("http://{host}/a/x?b=1&sig=REDACTED")),
        ("http.response.status_code", "200".into()),
    ];
    assert_eq!(attributes(&clients[0].attributes), expected);
    assert_eq!(attributes(&collector.resource()), [("service.name", "edge".to_owned())]);
    let head = collector.heads().remove(0);
    assert_eq!((head.method.as_str(), head.uri.path()), ("POST", "/v1/traces"));
    assert_eq!(
        (&head.headers["content-type"], &head.headers["x-token"]),
        (&"application/x-protobuf".parse().unwrap(), &"secret".parse().unwrap())
    );
    eventually("the count", || tracing.count(SpanResult::Exported) == 2);
}

#[test]
fn a_request_without_a_readable_parent_begins_a_trace() {
    let (upstream, collector) = (Upstream::echo("ok"), Collector::http());
    let tracing = collector.tracing(100.0);
    let proxy = World::to(&[upstream.address]).start_with(tracing.config());
    for (count, lines) in [
        String::new(),
        format!("traceparent: 00-{TRACE}-{PARENT}-01\r\n{}", sampled()),
        format!("traceparent: 00-{}-{PARENT}-01\r\ntracestate: a=1\r\n", TRACE.to_uppercase()),
        // Who names it in Connection means us alone.
        format!("connection: traceparent\r\n{}", sampled()),
    ]
    .iter()
    .enumerate()
    {
        assert_eq!(get(&proxy, "/", lines), 200);
        let spans = collector.wait_for(2 * (count + 1)).split_off(2 * count);
        let (server, clients) = split(spans);
        let seen = upstream.last();
        assert!(server.parent_span_id.is_empty() && hex(&server.trace_id) != TRACE, "{lines}");
        assert_eq!(line(&seen, "traceparent"), Some(&*format!("00-{}-{}-01", hex(&server.trace_id), hex(&clients[0].span_id))));
        assert_eq!((seen.matches("traceparent").count(), line(&seen, "tracestate")), (1, None), "{seen}");
    }
}

#[test]
fn what_is_not_recorded_is_passed_on_and_not_told() {
    let (upstream, collector) = (Upstream::echo("ok"), Collector::http());
    let tracing = collector.tracing(0.0);
    let proxy = World::to(&[upstream.address]).start_with(tracing.config());
    let parent = format!("00-{TRACE}-{PARENT}-00");
    assert_eq!(get(&proxy, "/", &format!("traceparent: {parent}\r\ntracestate: a=1 , b=2\r\n")), 200);
    let seen = upstream.last();
    assert_eq!((line(&seen, "traceparent"), line(&seen, "tracestate")), (Some(&*parent), Some("a=1 , b=2")));
    assert_eq!(get(&proxy, "/", ""), 200);
    let seen = upstream.last();
    assert!(line(&seen, "traceparent").unwrap().ends_with("-00"), "{seen}");
    // A recorded one behind them: the others would have come first.
    assert_eq!(get(&proxy, "/", &sampled()), 200);
    collector.wait_for(2);
}

#[test]
fn each_attempt_has_a_span_that_its_host_sees() {
    let failing = Upstream::answering("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n");
    let collector = Collector::http();
    let tracing = collector.tracing(100.0);
    let retry = RetryPolicy {
        on: RetryOn { retriable_status_codes: true, ..RetryOn::default() },
        attempts: 2,
        status_codes: Box::new([http::StatusCode::SERVICE_UNAVAILABLE]),
        backoff_base: Duration::from_millis(1),
        backoff_max: Duration::from_millis(2),
        jitter: Jitter::Full,
    };
    let world = World::to(&[failing.address]).with(|served| served.policy = RoutePolicy { retry: Some(retry), ..RoutePolicy::default() });
    let proxy = world.start_with(tracing.config());
    assert_eq!(get(&proxy, "/", &sampled()), 503);
    let (server, clients) = split(collector.wait_for(4));
    let sent: Vec<String> = failing.requests().iter().map(|seen| line(seen, "traceparent").unwrap().to_owned()).collect();
    let expected: Vec<String> = clients.iter().map(|client| format!("00-{TRACE}-{}-01", hex(&client.span_id))).collect();
    assert_eq!(sent, expected);
    assert!(clients[0].span_id != clients[1].span_id && clients[1].span_id != clients[2].span_id);
    for (index, client) in clients.iter().enumerate() {
        let resent = (index > 0).then(|| index.to_string());
        let names = ["http.response.status_code", "error.type", "http.request.resend_count"];
        assert_eq!(named(client, names), [Some("503".into()), Some("503".into()), resent]);
        assert_eq!((client.status.as_ref().unwrap().code, &client.parent_span_id), (2, &server.span_id));
        assert!(client.start_time_unix_nano >= clients[index.saturating_sub(1)].end_time_unix_nano || index == 0);
    }
    assert_eq!(
        named(&server, ["clingfish.attempts", "error.type", "clingfish.response_flag"]),
        [Some("3".into()), Some("503".into()), Some("URX".into())]
    );
}

#[test]
fn what_fails_says_why() {
    let collector = Collector::http();
    let tracing = collector.tracing(100.0);
    let garbage = Upstream::answering("garbage\r\n\r\n");
    let (dead, ok) = (closed(), Upstream::echo("ok"));
    let mut world = World::to(&[dead]);
    world.clusters[0].prefix = "/dead";
    world.clusters.extend([Served::new("/garbage", &[garbage.address]), Served::new("/both", &[dead, ok.address])]);
    let proxy = world.start_with(tracing.config());
    let names = ["http.response.status_code", "error.type", "clingfish.reason", "clingfish.response_flag", "clingfish.attempts"];
    let some = |texts: [&str; 5]| texts.map(|text| (!text.is_empty()).then(|| text.to_owned()));

    assert_eq!(get(&proxy, "/dead", ""), 503);
    let (server, clients) = split(collector.wait_for(2));
    assert_eq!(named(&server, names), some(["503", "503", "upstream connect error", "UF", "0"]));
    assert_eq!(named(&clients[0], ["error.type", "http.response.status_code"]), [Some("upstream connect error".into()), None]);

    assert_eq!(get(&proxy, "/garbage", ""), 502);
    let (server, clients) = split(collector.wait_for(4).split_off(2));
    assert_eq!(named(&server, names), some(["502", "502", "upstream protocol error", "UPE", "1"]));
    assert_eq!(attribute(&clients[0], "error.type").as_deref(), Some("upstream protocol error"));

    assert_eq!(get(&proxy, "/nowhere", ""), 404);
    let (server, clients) = split(collector.wait_for(5).split_off(4));
    assert_eq!(named(&server, names), some(["404", "", "route not found", "NR", "0"]));
    assert_eq!((clients.len(), &server.status, named(&server, ["clingfish.route", "http.route"])), (0, &None, [None, None]));
    assert_eq!(server.name, "GET", "no route, so the path is not told: a client could make any number of names");

    // The first host is random: until it was the dead one.
    let mut seen = 5;
    loop {
        assert_eq!(get(&proxy, "/both", ""), 200);
        eventually("its spans", || collector.spans().len() >= seen + 2);
        let (server, clients) = split(collector.spans().split_off(seen));
        seen += 1 + clients.len();
        if clients.len() == 2 {
            assert_eq!(
                named(&clients[0], ["server.address", "error.type"]),
                [Some("127.0.0.5".into()), Some("upstream connect error".into())]
            );
            assert_eq!(
                named(&clients[1], ["http.request.resend_count", "http.response.status_code"]),
                [Some("1".into()), Some("200".into())]
            );
            assert_eq!((named(&server, ["clingfish.upstream_host"]), &server.status), ([Some(ok.address.to_string())], &None));
            assert!(ok.last().contains(&hex(&clients[1].span_id)));
            break;
        }
    }
}

#[test]
fn a_collector_of_grpc_gets_the_same() {
    let upstream = Upstream::echo("ok");
    let collector = Collector::start(CollectorProtocol::Grpc, |number| if number == 0 { Answer::Grpc(14) } else { Answer::Taken });
    let tracing = collector.tracing(0.0);
    let proxy = World::to(&[upstream.address]).start_with(tracing.config());
    assert_eq!(get(&proxy, "/", &sampled()), 200);
    // The first batch is sent again: the code asks for it.
    let spans = collector.wait_for(4);
    assert_eq!(spans[..2], spans[2..]);
    let head = collector.heads().remove(1);
    assert_eq!(head.uri.path(), "/opentelemetry.proto.collector.trace.v1.TraceService/Export");
    assert_eq!((&head.headers["content-type"], &head.headers["te"]), (&"application/grpc".parse().unwrap(), &"trailers".parse().unwrap()));
    eventually("the count", || tracing.count(SpanResult::Exported) == 2);
    assert_eq!(tracing.count(SpanResult::Refused), 0);
}

fn certificates(name: &str) -> CollectorRoots {
    CollectorRoots::File(format!("{}/tests/certificates/{name}.crt", env!("CARGO_MANIFEST_DIR")).into())
}

#[test]
fn a_collector_behind_tls_gets_the_same_over_both_protocols() {
    let upstream = Upstream::echo("ok");
    for protocol in [CollectorProtocol::HttpProtobuf, CollectorProtocol::Grpc] {
        let collector = Collector::start_tls(protocol);
        let tracing = Tracing::to(&format!("https://{}", collector.address), certificates("collector"), protocol, 0.0);
        let proxy = World::to(&[upstream.address]).start_with(tracing.config());
        for count in [2, 4] {
            assert_eq!(get(&proxy, "/", &sampled()), 200);
            collector.wait_for(count);
        }
        eventually("the count", || tracing.count(SpanResult::Exported) == 4);
        let scheme = (protocol == CollectorProtocol::Grpc).then(|| "https".to_owned());
        assert_eq!(collector.heads().remove(0).uri.scheme_str().map(str::to_owned), scheme);
    }
}

#[test]
fn a_collector_that_is_not_trusted_gets_nothing() {
    let upstream = Upstream::echo("ok");
    let collector = Collector::start_tls(CollectorProtocol::HttpProtobuf);
    let port = collector.address.port();
    for (host, roots) in [("127.0.0.1", "ca"), ("localhost", "collector")] {
        let tracing = Tracing::to(&format!("https://{host}:{port}"), certificates(roots), CollectorProtocol::HttpProtobuf, 0.0);
        let proxy = World::to(&[upstream.address]).start_with(tracing.config());
        assert_eq!(get(&proxy, "/", &sampled()), 200);
        // Its record is handed over a moment after its answer.
        assert!(proxy.drain(Duration::ZERO, Duration::from_secs(20)));
        tracing.exporter.finish(Duration::from_secs(5));
        assert_eq!(tracing.metrics.spans().get(SpanResult::Unsent), 2, "{host}");
    }
    assert!(collector.heads().is_empty());
}

/// A file that is replaced, as a mounted Secret is, counts with the next connection.
#[test]
fn the_file_of_roots_is_read_for_each_connection() {
    let upstream = Upstream::echo("ok");
    let collector = Collector::start_tls(CollectorProtocol::HttpProtobuf);
    let file = std::env::temp_dir().join(format!("clingfish-roots-{}.crt", std::process::id()));
    let CollectorRoots::File(wrong) = certificates("ca") else { unreachable!() };
    let CollectorRoots::File(right) = certificates("collector") else { unreachable!() };
    std::fs::copy(wrong, &file).unwrap();
    let url = format!("https://{}", collector.address);
    let tracing = Tracing::to(&url, CollectorRoots::File(file.clone()), CollectorProtocol::HttpProtobuf, 0.0);
    let proxy = World::to(&[upstream.address]).start_with(tracing.config());
    assert_eq!(get(&proxy, "/", &sampled()), 200);
    std::fs::copy(right, &file).unwrap();
    collector.wait_for(2);
    std::fs::remove_file(&file).unwrap();
}

#[test]
fn roots_that_cannot_be_used_are_told_at_once() {
    let refused = |roots| {
        let endpoint = CollectorEndpoint::parse("https://127.0.0.1:1", CollectorProtocol::Grpc).unwrap();
        let sampler = Sampler::new(SamplerKind::ParentBased, 1.0);
        let config = TracingConfig { endpoint, roots, headers: Vec::new(), sampler, resource: Vec::new() };
        start_tracing(config, &Metrics::new(1)).unwrap_err().to_string()
    };
    let missing = refused(certificates("missing"));
    assert!(missing.starts_with("--tracing-ca-file ") && missing.contains("certificates/missing.crt: "), "{missing}");
    let CollectorRoots::File(key) = certificates("collector") else { unreachable!() };
    let no_certificate = refused(CollectorRoots::File(key.with_extension("key")));
    assert!(no_certificate.ends_with(".key: it has no certificate; expected a PEM file of certificates"), "{no_certificate}");
}

#[test]
fn answers_of_the_collector_are_counted_and_obeyed() {
    use CollectorProtocol::{Grpc, HttpProtobuf};
    let upstream = Upstream::echo("ok");
    for (protocol, first, exported, refused, batches) in [
        (HttpProtobuf, Answer::Status(503), 2, 0, 2),
        (HttpProtobuf, Answer::Status(429), 2, 0, 2),
        (HttpProtobuf, Answer::Status(400), 0, 2, 1),
        (HttpProtobuf, Answer::Rejected(1), 1, 1, 1),
        (HttpProtobuf, Answer::Rejected(i64::MAX), 0, 2, 1),
        (HttpProtobuf, Answer::Rejected(-1), 2, 0, 1),
        (Grpc, Answer::Grpc(12), 0, 2, 1),
        (Grpc, Answer::Status(404), 0, 2, 1),
        (Grpc, Answer::Rejected(1), 1, 1, 1),
    ] {
        let collector = Collector::start(protocol, move |number| if number == 0 { first } else { Answer::Taken });
        let tracing = collector.tracing(0.0);
        let proxy = World::to(&[upstream.address]).start_with(tracing.config());
        assert_eq!(get(&proxy, "/", &sampled()), 200);
        eventually("counts", || tracing.count(SpanResult::Exported) + tracing.count(SpanResult::Refused) == 2);
        assert_eq!((tracing.count(SpanResult::Exported), tracing.count(SpanResult::Refused)), (exported, refused), "{first:?}");
        assert_eq!(collector.heads().len(), batches, "{first:?}");
    }
}

/// More than the queue holds, and nobody waits for a collector that takes nothing.
#[test]
fn what_the_queue_does_not_hold_is_dropped_and_counted() {
    let upstream = Upstream::echo("ok");
    let tracing = Tracing::new(closed(), CollectorProtocol::HttpProtobuf, 100.0);
    let proxy = World::to(&[upstream.address]).start_with(tracing.config());
    let mut client = proxy.client();
    let requests = 6_000;
    for _ in 0..requests / 50 {
        client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n".repeat(50));
        for _ in 0..50 {
            assert_eq!(client.response().status, 200);
        }
    }
    // Two spans a request: at most a batch is in the exporter's hands, and 4,096 requests wait. The last request is counted after its answer.
    eventually("what does not fit", || tracing.count(SpanResult::QueueFull) >= 2 * (requests - 4_096 - 512));
    let dropped = tracing.count(SpanResult::QueueFull);
    assert!(dropped <= 2 * (requests - 4_096), "{dropped}");
    let began = Instant::now();
    tracing.exporter.finish(Duration::from_secs(5));
    assert!(began.elapsed() < Duration::from_secs(3), "a collector that is gone is not waited for");
    let counts = || SpanResult::ALL.map(|result| tracing.metrics.spans().get(result));
    eventually("each span's result", || counts().iter().sum::<u64>() >= 2 * requests - 2);
    assert_eq!(tracing.metrics.spans().get(SpanResult::Exported), 0, "{:?}", counts());
}

#[tokio::test]
async fn the_end_of_the_process_sends_what_is_left() {
    let (upstream, collector) = (Upstream::echo("ok"), Collector::http());
    let tracing = collector.tracing(100.0);
    let proxy = World::to(&[upstream.address]).start_with(tracing.config());
    assert_eq!(get(&proxy, "/", ""), 200);
    assert!(proxy.running.drain(Duration::ZERO, Duration::from_secs(5)).await);
    let Tracing { metrics, exporter, .. } = tracing;
    exporter.finish(Duration::from_secs(20));
    assert_eq!((collector.spans().len(), metrics.spans().get(SpanResult::Exported)), (2, 2));

    let silent = Collector::start(CollectorProtocol::HttpProtobuf, |_| Answer::Silence);
    let tracing = silent.tracing(100.0);
    let proxy = World::to(&[upstream.address]).start_with(tracing.config());
    assert_eq!(get(&proxy, "/", ""), 200);
    eventually("the batch", || silent.heads().len() == 1);
    let began = Instant::now();
    tracing.exporter.finish(Duration::from_millis(200));
    assert!(began.elapsed() < Duration::from_secs(5), "no longer than it may take");
    assert_eq!(tracing.metrics.spans().get(SpanResult::Unsent), 2);
}

#[test]
fn log_and_trace_tell_of_the_same_request() {
    let (upstream, collector) = (Upstream::echo("ok"), Collector::http());
    let tracing = collector.tracing(100.0);
    let (lines, log) = Lines::start(AccessLogFormat::Json);
    let proxy = World::to(&[upstream.address]).start_all(ProxyConfig { ..tracing.config() }, Some(&log));
    assert_eq!(get(&proxy, "/x", ""), 200);
    let (server, _) = split(collector.wait_for(2));
    let line = lines.json(1).remove(0);
    let names = ["url.path", "clingfish.upstream_host", "clingfish.route", "clingfish.attempts"];
    let logged = ["path", "upstream_host", "route", "attempts"].map(|name| Some(line[name].to_string().trim_matches('"').to_owned()));
    assert_eq!(named(&server, names), logged);
    assert_eq!(line["trace_id"], hex(&server.trace_id));
}

#[test]
fn a_line_names_the_trace_that_the_host_sees_whoever_records_it() {
    let (upstream, collector) = (Upstream::echo("ok"), Collector::http());
    let tracing = collector.tracing(0.0);
    let world = World::to(&[upstream.address]);
    for config in [ProxyConfig::default(), tracing.config()] {
        let is_on = config.tracer.is_some();
        let (lines, log) = Lines::start(AccessLogFormat::Json);
        let proxy = world.start_all(config, Some(&log));
        for (index, flags) in ["01", "00"].into_iter().enumerate() {
            assert_eq!(get(&proxy, "/", &format!("traceparent: 00-{TRACE}-{PARENT}-{flags}\r\n")), 200);
            assert_eq!(lines.json(index + 1)[index]["trace_id"], TRACE);
        }
        // None of its own, or none that can be read: a new one while tracing is on.
        for (index, parent) in ["", "traceparent: 00-garbage\r\n"].into_iter().enumerate() {
            assert_eq!(get(&proxy, "/", parent), 200);
            let line = lines.json(index + 3).remove(index + 2);
            let seen = upstream.last();
            let expected = if is_on { self::line(&seen, "traceparent").unwrap()[3..35].into() } else { serde_json::Value::Null };
            assert_eq!(line["trace_id"], expected, "{seen}");
        }
    }
}
