use std::{
    io,
    net::SocketAddr,
    sync::{Mutex, mpsc::channel},
    time::{Duration, SystemTime},
};

use super::*;
use crate::{
    base::{ObjectName, trace::TraceParent},
    telemetry::ResponseFlag,
};

/// A record with every field but the captured ones.
pub(super) fn record(path: &str) -> AccessRecord {
    AccessRecord {
        time: SystemTime::UNIX_EPOCH + Duration::from_millis(1_500),
        client: Some("203.0.113.7".parse().unwrap()),
        protocol: Some("HTTP/1.1"),
        gateway: Some(Arc::new(ObjectName::new("gloo-system", "http"))),
        listener: Some("http".into()),
        route: Some(Arc::new("HTTPRoute gloo-system/httpbin")),
        rule: Some(0),
        method: Some(method_name(&http::Method::GET)),
        authority: Some(Excerpt::of("httpbin.example")),
        path: Some(Excerpt::of(path)),
        request_id: Some(Excerpt::short("7c9f")),
        trace_id: TraceParent::parse(b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01").map(|parent| parent.trace),
        user_agent: Some(Excerpt::short("curl/8")),
        status: 200,
        upstream_cluster: Some(Arc::new("Upstream gloo-system/httpbin")),
        upstream_host: Some("10.0.0.1:8080".into()),
        upstream_protocol: Some("HTTP/2"),
        hash: Some(0xab),
        key_source: "cookie",
        attempts: 1,
        duration: Duration::from_micros(1_250),
        bytes_sent: 12,
        ..AccessRecord::new(downstream())
    }
}

pub(super) fn downstream() -> Downstream {
    Downstream {
        peer: SocketAddr::from(([10, 1, 1, 1], 50_412)),
        local: SocketAddr::from(([10, 1, 1, 2], 8_443)),
        tls: Some(DownstreamTls { server_name: Some("httpbin.example".into()), version: "TLSv1.3" }),
    }
}

#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A log that nobody reads until it is told to.
struct Hanging(Receiver<()>);

impl Write for Hanging {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = self.0.recv();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What the log writes of a record.
fn written(format: AccessLogFormat, record: AccessRecord) -> String {
    let sink = Sink::default();
    let (log, writer) = start(format, &AccessLogConditions::default(), Box::new(sink.clone()), Arc::default()).unwrap();
    log.submit(Box::new(record));
    drop(log);
    writer.finish();
    String::from_utf8(sink.0.lock().unwrap().clone()).unwrap()
}

#[test]
fn both_formats_have_every_field() {
    assert_eq!(
        written(AccessLogFormat::Text, record("/a")),
        "1970-01-01T00:00:01.500Z status=200 flag=- reason=- method=GET authority=\"httpbin.example\" path=\"/a\" protocol=HTTP/1.1 \
         client=203.0.113.7 peer=10.1.1.1:50412 request_id=\"7c9f\" trace_id=0af7651916cd43dd8448eb211c80319c user_agent=\"curl/8\" tls_server_name=\"httpbin.example\" \
         tls_version=TLSv1.3 gateway=gloo-system/http listener=http route=\"HTTPRoute gloo-system/httpbin\" rule=0 \
         upstream_cluster=\"Upstream gloo-system/httpbin\" upstream_host=10.0.0.1:8080 upstream_protocol=HTTP/2 hash=00000000000000ab key_source=cookie attempts=1 \
         duration_ms=1.250 upstream_duration_ms=- bytes_received=0 bytes_sent=12\n"
    );
    assert_eq!(
        written(AccessLogFormat::Json, record("/a")),
        "{\"time\":\"1970-01-01T00:00:01.500Z\",\"gateway\":\"gloo-system/http\",\"listener\":\"http\",\
         \"route\":\"HTTPRoute gloo-system/httpbin\",\"rule\":0,\"method\":\"GET\",\"authority\":\"httpbin.example\",\"path\":\"/a\",\
         \"protocol\":\"HTTP/1.1\",\"status\":200,\"flag\":\"-\",\"reason\":null,\"client\":\"203.0.113.7\",\"peer\":\"10.1.1.1:50412\",\
         \"request_id\":\"7c9f\",\"trace_id\":\"0af7651916cd43dd8448eb211c80319c\",\"user_agent\":\"curl/8\",\"tls_server_name\":\"httpbin.example\",\"tls_version\":\"TLSv1.3\",\
         \"upstream_cluster\":\"Upstream gloo-system/httpbin\",\"upstream_host\":\"10.0.0.1:8080\",\"upstream_protocol\":\"HTTP/2\",\"hash\":\"00000000000000ab\",\
         \"key_source\":\"cookie\",\"attempts\":1,\"duration_ms\":1.25,\"upstream_duration_ms\":null,\"bytes_received\":0,\
         \"bytes_sent\":12}\n"
    );
}

#[test]
fn what_was_refused_before_it_was_a_request_has_a_line_of_its_own() {
    let plain = Downstream { tls: None, ..downstream() };
    let refused = AccessRecord::refused(plain, 431, ResponseFlag::DownstreamProtocolError, "request head too large");
    let refused = AccessRecord { time: SystemTime::UNIX_EPOCH, ..refused };
    assert_eq!(
        written(AccessLogFormat::Text, refused.clone()),
        "1970-01-01T00:00:00.000Z status=431 flag=DPE reason=\"request head too large\" method=- authority=- path=- protocol=- client=- \
         peer=10.1.1.1:50412 request_id=- trace_id=- user_agent=- tls_server_name=- tls_version=- gateway=- listener=- route=- rule=- \
         upstream_cluster=- upstream_host=- upstream_protocol=- hash=- key_source=- attempts=0 duration_ms=0.000 upstream_duration_ms=- bytes_received=0 \
         bytes_sent=0\n"
    );
    let json: serde_json::Value = serde_json::from_str(&written(AccessLogFormat::Json, refused)).unwrap();
    assert_eq!(
        (&json["method"], &json["path"], &json["reason"]),
        (&serde_json::Value::Null, &serde_json::Value::Null, &"request head too large".into())
    );
}

#[test]
fn a_line_stays_one_line_and_fields_are_capped() {
    let hostile = format!("/\r\nFAKE status=500 \u{1b}[31m\u{2028}\" \\{}", "x".repeat(5_000));
    let record = AccessRecord {
        authority: Some(Excerpt::of(&hostile)),
        request_id: Some(Excerpt::short(&hostile)),
        user_agent: Some(Excerpt::short(&hostile)),
        ..record(&hostile)
    };
    let template = LogTemplate::parse("%PROTOCOL% %REQUESTED_SERVER_NAME%").unwrap();
    for format in [AccessLogFormat::Text, AccessLogFormat::Json, AccessLogFormat::Template(Arc::new(template))] {
        let mut out = String::new();
        append(&record, &format, &mut out);
        assert_eq!(out.lines().count(), 1, "{out}");
        assert!(!out.trim_end().contains(['\r', '\n', '\u{1b}']), "{out:?}");
        assert!(out.len() < 4_000, "{}", out.len());
    }
}

#[test]
fn a_writer_that_hangs_costs_lines_and_no_time() {
    let (release, wait) = channel();
    let dropped = Arc::new(AtomicU64::new(0));
    let (log, writer) =
        start(AccessLogFormat::Text, &AccessLogConditions::default(), Box::new(Hanging(wait)), Arc::clone(&dropped)).unwrap();
    for _ in 0..2 * QUEUE + WRITE_AT {
        log.submit(Box::new(record("/")));
    }
    assert!(dropped.load(Relaxed) > 0);
    drop((release, log));
    writer.finish();
}

#[test]
fn what_waits_is_bounded_by_bytes_and_the_rest_is_counted() {
    let (release, wait) = channel();
    let dropped = Arc::new(AtomicU64::new(0));
    let (log, writer) =
        start(AccessLogFormat::Text, &AccessLogConditions::default(), Box::new(Hanging(wait)), Arc::clone(&dropped)).unwrap();
    let path = "x".repeat(60 * 1_024);
    let long = AccessRecord { authority: Some(Excerpt::of(&path)), user_agent: Some(Excerpt::of(&path)), ..record(&path) };
    assert!(long.bytes() < 4_096, "{}", long.bytes());
    for _ in 0..2 * QUEUE {
        log.submit(Box::new(long.clone()));
        assert!(log.queued_bytes.load(Relaxed) <= QUEUE_BYTES);
    }
    let kept = 2 * QUEUE as u64 - dropped.load(Relaxed);
    let most = (QUEUE_BYTES / long.bytes()) as u64;
    // What the writer holds in its hands is not in the queue any more.
    let in_hand = (2 * WRITE_AT / 1_024) as u64;
    assert!((most..=most + in_hand).contains(&kept), "{kept} of {most}: bytes and not lines are the bound here");
    let queued = Arc::clone(&log.queued_bytes);
    drop((release, log));
    writer.finish();
    assert_eq!(queued.load(Relaxed), 0, "what is written waits no longer");
}

fn filter(conditions: AccessLogConditions) -> AccessLogFilter {
    AccessLogFilter::new(&conditions).unwrap().unwrap()
}

#[test]
fn a_request_that_meets_a_condition_has_a_line_and_of_the_others_a_share() {
    let conditions = AccessLogConditions {
        statuses: vec![500..=599, 0..=0],
        min_duration: Some(Duration::from_secs(1)),
        flags: vec!["UH".into(), "DC".into()],
        share: None,
    };
    let strict = filter(conditions.clone());
    for (record, expected) in [
        (record("/"), false),
        (AccessRecord { status: 503, ..record("/") }, true),
        (AccessRecord { status: 0, ..record("/") }, true),
        (AccessRecord { status: 404, ..record("/") }, false),
        (AccessRecord { duration: Duration::from_secs(1), ..record("/") }, true),
        (AccessRecord { flag: ResponseFlag::NoHealthyUpstream, ..record("/") }, true),
        (AccessRecord { flag: ResponseFlag::NoRoute, ..record("/") }, false),
    ] {
        assert_eq!(strict.takes(&record), expected, "{} {:?} {:?}", record.status, record.flag, record.duration);
    }
    let sampled = filter(AccessLogConditions { share: Some(100_000), ..conditions });
    let taken = |id: u32| sampled.takes(&AccessRecord { request_id: Some(Excerpt::short(&format!("request-{id}"))), ..record("/") });
    let share = (0..20_000).filter(|id| taken(*id)).count();
    assert!((1_800..2_200).contains(&share), "{share} of 20,000");
    assert!((0..1_000).all(|id| taken(id) == taken(id)), "replicas agree");
    let without_id = (0..20_000).filter(|_| sampled.takes(&AccessRecord { request_id: None, ..record("/") })).count();
    assert!((1_700..2_300).contains(&without_id), "{without_id} of 20,000");
}

#[test]
fn without_conditions_nothing_is_looked_at_and_flags_are_envoys() {
    assert_eq!(AccessLogFilter::new(&AccessLogConditions::default()), Ok(None));
    let flags = |flag: &str| AccessLogFilter::new(&AccessLogConditions { flags: vec![flag.into()], ..AccessLogConditions::default() });
    let any = flags("any").unwrap().unwrap();
    assert!(!any.takes(&record("/")) && any.takes(&AccessRecord { flag: ResponseFlag::Overload, ..record("/") }));
    assert!(flags("XX").unwrap_err().to_string().starts_with("--access-log-flags: \"XX\" is unknown; expected any, or some of NR, NC, UH"));
    assert!(flags("-").is_err(), "a request without a flag meets no condition");
}
