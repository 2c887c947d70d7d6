//! The access log: who asked, what became of it, and what is never kept.

use std::{
    io::Write,
    net::TcpListener,
    sync::{Arc, Mutex},
};

use clingfish::{
    base::{AccessLogConditions, AccessLogFormat, LogTemplate},
    snapshot::{Filters, HeaderOps, PathRewrite, UrlRewrite},
    telemetry::{AccessLog, Metrics, start_access_log},
};
use serde_json::Value;

use crate::support::{Served, Upstream, World, eventually};

/// Where a log is written to.
#[derive(Clone, Default)]
pub(crate) struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Lines {
    pub(crate) fn start(format: AccessLogFormat) -> (Self, AccessLog) {
        let lines = Self::default();
        let (log, _) = start_access_log(format, &AccessLogConditions::default(), Box::new(lines.clone()), &Metrics::new(1)).unwrap();
        (lines, log)
    }

    /// All lines, once there are so many.
    pub(crate) fn wait_for(&self, count: usize) -> Vec<String> {
        let all = || String::from_utf8(self.0.lock().unwrap().clone()).unwrap().lines().map(str::to_owned).collect::<Vec<_>>();
        eventually("lines of the log", || all().len() >= count);
        assert_eq!(all().len(), count);
        all()
    }

    pub(crate) fn json(&self, count: usize) -> Vec<Value> {
        self.wait_for(count).iter().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

#[test]
fn a_line_says_who_asked_and_why_the_gateway_answered_itself() {
    let upstream = Upstream::echo("ok");
    let garbage = Upstream::answering("garbage\r\n\r\n");
    let closed = TcpListener::bind("127.0.0.5:0").unwrap().local_addr().unwrap();
    let mut world = World::to(&[upstream.address]);
    world.clusters[0].prefix = "/ok";
    world.clusters.extend([Served::new("/empty", &[]), Served::new("/closed", &[closed]), Served::new("/garbage", &[garbage.address])]);
    let (lines, log) = Lines::start(AccessLogFormat::Json);
    let proxy = world.start_logged(&log);
    let mut client = proxy.client();
    client.send("GET /ok?q=1 HTTP/1.1\r\nhost: a.example:80\r\nuser-agent: curl/8\r\nx-request-id: mine\r\ncookie: secret=1\r\n\r\n");
    assert_eq!(client.response().status, 200);
    let first = lines.json(1).remove(0);
    for (field, expected) in [
        ("method", "GET"),
        ("authority", "a.example:80"),
        ("path", "/ok?q=1"),
        ("protocol", "HTTP/1.1"),
        ("client", "127.0.0.1"),
        ("user_agent", "curl/8"),
        ("gateway", "test/http"),
        ("upstream_cluster", "Upstream test/upstream-0"),
    ] {
        assert_eq!(first[field], expected, "{field} of {first}");
    }
    let seen = upstream.last();
    let id = seen.lines().find_map(|line| line.strip_prefix("x-request-id: ")).unwrap();
    assert_eq!((&first["request_id"], id == "mine"), (&id.into(), false), "the id that the host sees");
    assert_eq!(first["peer"], client.local().to_string());
    assert_eq!((&first["reason"], &first["tls_version"], &first["tls_server_name"]), (&Value::Null, &Value::Null, &Value::Null));
    assert!(!first.to_string().contains("secret"));

    for (index, (request, status, reason, known)) in [
        ("GET /empty HTTP/1.1\r\nhost: a\r\n\r\n", 503, "no healthy upstream", true),
        ("GET /closed HTTP/1.1\r\nhost: a\r\n\r\n", 503, "upstream connect error", true),
        ("GET /garbage HTTP/1.1\r\nhost: a\r\n\r\n", 502, "upstream protocol error", true),
        ("GET /elsewhere HTTP/1.1\r\nhost: a\r\n\r\n", 404, "route not found", false),
        ("GET /ok HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", 400, "several Host headers", false),
    ]
    .into_iter()
    .enumerate()
    {
        let mut client = proxy.client();
        client.send(request);
        assert_eq!(client.response().status, status, "{request}");
        let line = lines.json(index + 2).remove(index + 1);
        assert_eq!((&line["status"], !line["upstream_cluster"].is_null()), (&status.into(), known), "{line}");
        assert_eq!(line["reason"], reason, "{line}");
        let host = [("/closed", closed), ("/garbage", garbage.address)].into_iter().find(|(path, _)| request.contains(path));
        assert_eq!(line["upstream_host"].as_str().map(str::to_owned), host.map(|(_, host)| host.to_string()), "{line}");
    }
}

#[test]
fn of_long_fields_the_beginning_is_kept() {
    let upstream = Upstream::echo("ok");
    let (lines, log) = Lines::start(AccessLogFormat::Json);
    let proxy = World::to(&[upstream.address]).start_logged(&log);
    let mut client = proxy.client();
    let long = "x".repeat(25_000);
    client.send(format!("GET /{long} HTTP/1.1\r\nhost: a\r\nuser-agent: {long}\r\n\r\n"));
    assert_eq!(client.response().status, 200);
    let line = lines.json(1).remove(0);
    assert_eq!((line["path"].as_str().unwrap().len(), line["user_agent"].as_str().unwrap().len()), (1_024, 256));
}

#[test]
fn a_template_reads_heads_as_they_went_out() {
    let upstream = Upstream::answering("HTTP/1.1 200 OK\r\nx-app: 7\r\nset-cookie: secret=1\r\ncontent-length: 2\r\n\r\nok");
    let mut world = World::to(&[upstream.address]);
    world.clusters[0].prefix = "/old";
    world.clusters.push(Served::new("/empty", &[]));
    let value = |text| http::HeaderValue::from_static(text);
    let name = http::HeaderName::from_static;
    let hostname = Some(value("rewritten"));
    world.clusters[0].filters = Some(Filters {
        request_headers: [HeaderOps { set: [(name("x-user"), value("of the filter"))].into(), ..HeaderOps::default() }].into(),
        response_headers: [HeaderOps { set: [(name("server"), value("mine"))].into(), ..HeaderOps::default() }].into(),
        rewrite: Some(UrlRewrite { hostname, path: Some(PathRewrite::Prefix("/new".into())) }),
        ..Filters::default()
    });
    let template = "%REQ(:METHOD)% %REQ(:PATH)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %REQ(:AUTHORITY)% \"%REQ(x-user)%\" %PROTOCOL% \
                    %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %BYTES_RECEIVED% %BYTES_SENT% %RESP(x-app)% %RESP(server)% \
                    \"%RESP(date)%\" %UPSTREAM_CLUSTER% %UPSTREAM_HOST% %UPSTREAM_REQUEST_ATTEMPT_COUNT% %ROUTE_NAME%";
    let (lines, log) = Lines::start(AccessLogFormat::Template(Arc::new(LogTemplate::parse(template).unwrap())));
    let proxy = world.start_logged(&log);
    let mut client = proxy.client();
    client.send("POST /old/a?q=1 HTTP/1.1\r\nhost: a\r\nx-user: of the client\r\ncontent-length: 3\r\n\r\nabc");
    let answer = client.response();
    assert_eq!(answer.status, 200);
    let (date, host) = (answer.header("date").unwrap(), upstream.address);
    let expected = format!(
        "POST /new/a?q=1 /old/a?q=1 rewritten \"of the filter\" HTTP/1.1 200 - via_upstream 3 2 7 mine \"{date}\" Upstream/test/upstream-0 \
         {host} 1 HTTPRoute/test/route"
    );
    assert_eq!(lines.wait_for(1), [expected]);
    client.send("GET /empty HTTP/1.1\r\nhost: a\r\n\r\n");
    let answer = client.response();
    let date = answer.header("date").unwrap();
    let expected = format!(
        "GET /empty /empty a \"-\" HTTP/1.1 503 UH no_healthy_upstream 0 19 - clingfish \"{date}\" Upstream/test/upstream-1 - 0 HTTPRoute/test/route"
    );
    assert_eq!(lines.wait_for(2).pop(), Some(expected));
}
