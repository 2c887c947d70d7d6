//! One line a request, through a bounded queue: a slow reader of the log never slows a request down, lines are dropped and counted.

use std::{
    fmt::{self, Display, Write as _},
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc::{Receiver, SyncSender, TryRecvError, sync_channel},
    },
    thread,
    time::{Duration, SystemTime},
};

use serde::Serialize;

use crate::base::{LineFormat, ObjectName};

use super::ResponseFlag;

/// Lines that wait for the writer.
const QUEUE: usize = 8_192;
/// Most bytes of a field that a client or a backend chooses.
const FIELD_LIMIT: usize = 1_024;
/// Bytes after which collected lines are written.
const WRITE_AT: usize = 64 * 1_024;

/// A worker's handle to the log.
#[derive(Clone, Debug)]
pub struct AccessLog {
    queue: SyncSender<Box<AccessRecord>>,
    dropped: Arc<AtomicU64>,
}

/// The writer's thread. It ends once every `AccessLog` is gone and all lines are written.
#[derive(Debug)]
pub struct AccessLogWriter {
    thread: thread::JoinHandle<()>,
}

/// What is logged about a request. Neither a cookie's value nor Authorization is part of it.
pub struct AccessRecord {
    /// When the request's head arrived.
    pub time: SystemTime,
    /// The Gateway.
    pub gateway: Option<Arc<ObjectName>>,
    /// Name of the listener.
    pub listener: Option<Arc<str>>,
    /// The route that matched, shown as `HTTPRoute ns/name`.
    pub route: Option<Arc<dyn Display + Send + Sync>>,
    /// The rule's index within the route.
    pub rule: Option<u16>,
    /// Method.
    pub method: http::Method,
    /// Host of the request.
    pub authority: Box<str>,
    /// Path and query as forwarded.
    pub path: Box<str>,
    /// Status of the response; 0 where none was begun.
    pub status: u16,
    /// Response flag.
    pub flag: ResponseFlag,
    /// Address of the host that answered, or was tried last.
    pub upstream_host: Option<Arc<str>>,
    /// The request hash.
    pub hash: Option<u64>,
    /// Which kind of hash policy gave the key.
    pub key_source: &'static str,
    /// Attempts made; 0 for an answer of the gateway's own.
    pub attempts: u32,
    /// From the request's head to the end of the response.
    pub duration: Duration,
    /// From the request's head to the head of the host's response.
    pub upstream_duration: Option<Duration>,
    /// Bytes of the request's body.
    pub bytes_received: u64,
    /// Bytes of the response's body.
    pub bytes_sent: u64,
}

/// A record as JSON.
#[derive(Serialize)]
struct Line<'a> {
    time: String,
    gateway: Option<String>,
    listener: Option<&'a str>,
    route: Option<String>,
    rule: Option<u16>,
    method: &'a str,
    authority: &'a str,
    path: &'a str,
    status: u16,
    flag: &'static str,
    upstream_host: Option<&'a str>,
    hash: Option<String>,
    key_source: &'static str,
    attempts: u32,
    duration_ms: f64,
    upstream_duration_ms: Option<f64>,
    bytes_received: u64,
    bytes_sent: u64,
}

/// Starts the writer.
pub(super) fn start(format: LineFormat, out: Box<dyn Write + Send>) -> io::Result<(AccessLog, AccessLogWriter)> {
    let (queue, lines) = sync_channel(QUEUE);
    let thread = thread::Builder::new().name("access-log".into()).spawn(move || write_lines(&lines, format, out))?;
    Ok((AccessLog { queue, dropped: Arc::default() }, AccessLogWriter { thread }))
}

// === impl AccessLog ===

impl AccessLog {
    /// The same log, counting there what it drops.
    pub(super) fn counting(self, dropped: Arc<AtomicU64>) -> Self {
        Self { dropped, ..self }
    }

    /// Hands a record to the writer, or drops it where the writer lags. Never waits.
    pub fn submit(&self, record: AccessRecord) {
        if self.queue.try_send(Box::new(record)).is_err() {
            self.dropped.fetch_add(1, Relaxed);
        }
    }
}

// === impl AccessLogWriter ===

impl AccessLogWriter {
    /// Waits until all lines are written; every `AccessLog` must be gone.
    pub fn finish(self) {
        let _ = self.thread.join();
    }
}

// === impl AccessRecord ===

impl fmt::Debug for AccessRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = String::new();
        write_text(self, &mut line)?;
        f.write_str(line.trim_end())
    }
}

fn write_lines(lines: &Receiver<Box<AccessRecord>>, format: LineFormat, mut out: Box<dyn Write + Send>) {
    let mut buffer = String::with_capacity(WRITE_AT * 2);
    while let Ok(first) = lines.recv() {
        append(&first, format, &mut buffer);
        loop {
            match lines.try_recv() {
                Ok(record) => append(&record, format, &mut buffer),
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
            }
            if buffer.len() >= WRITE_AT {
                break;
            }
        }
        // A closed log must not end the gateway; there is nowhere to report it to.
        let _ = out.write_all(buffer.as_bytes()).and_then(|()| out.flush());
        buffer.clear();
    }
}

fn append(record: &AccessRecord, format: LineFormat, buffer: &mut String) {
    match format {
        LineFormat::Text => {
            let _ = write_text(record, buffer);
        }
        LineFormat::Json => {
            if let Ok(line) = serde_json::to_string(&line(record)) {
                buffer.push_str(&line);
                buffer.push('\n');
            }
        }
    }
}

fn line(record: &AccessRecord) -> Line<'_> {
    Line {
        time: time(record.time),
        gateway: record.gateway.as_ref().map(ToString::to_string),
        listener: record.listener.as_deref(),
        route: record.route.as_ref().map(ToString::to_string),
        rule: record.rule,
        method: capped(record.method.as_str()),
        authority: capped(&record.authority),
        path: capped(&record.path),
        status: record.status,
        flag: record.flag.as_str(),
        upstream_host: record.upstream_host.as_deref(),
        hash: record.hash.map(|hash| format!("{hash:016x}")),
        key_source: record.key_source,
        attempts: record.attempts,
        duration_ms: milliseconds(record.duration),
        upstream_duration_ms: record.upstream_duration.map(milliseconds),
        bytes_received: record.bytes_received,
        bytes_sent: record.bytes_sent,
    }
}

/// `key=value` pairs; what a client chooses is quoted and escaped.
fn write_text(record: &AccessRecord, out: &mut String) -> fmt::Result {
    write!(out, "{} status={} flag={}", time(record.time), record.status, record.flag.as_str())?;
    write!(out, " method={} authority={:?}", capped(record.method.as_str()), capped(&record.authority))?;
    write!(out, " path={:?}", capped(&record.path))?;
    optional(out, "gateway", record.gateway.as_deref())?;
    optional(out, "listener", record.listener.as_deref())?;
    match &record.route {
        Some(route) => write!(out, " route=\"{route}\"")?,
        None => out.write_str(" route=-")?,
    }
    optional(out, "rule", record.rule)?;
    optional(out, "upstream_host", record.upstream_host.as_deref())?;
    optional(out, "hash", record.hash.map(|hash| format!("{hash:016x}")))?;
    write!(out, " key_source={} attempts={}", record.key_source, record.attempts)?;
    write!(out, " duration_ms={:.3}", milliseconds(record.duration))?;
    optional(out, "upstream_duration_ms", record.upstream_duration.map(milliseconds))?;
    writeln!(out, " bytes_received={} bytes_sent={}", record.bytes_received, record.bytes_sent)
}

fn optional(out: &mut String, name: &str, value: Option<impl Display>) -> fmt::Result {
    match value {
        Some(value) => write!(out, " {name}={value}"),
        None => write!(out, " {name}=-"),
    }
}

fn time(time: SystemTime) -> String {
    jiff::Timestamp::try_from(time).map(|time| format!("{time:.3}")).unwrap_or_default()
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1e3
}

fn capped(field: &str) -> &str {
    field.get(..field.floor_char_boundary(FIELD_LIMIT)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, mpsc::channel};

    use super::*;

    fn record(path: &str) -> AccessRecord {
        AccessRecord {
            time: SystemTime::UNIX_EPOCH + Duration::from_millis(1_500),
            gateway: Some(Arc::new(ObjectName::new("gloo-system", "http"))),
            listener: Some("http".into()),
            route: Some(Arc::new("HTTPRoute gloo-system/httpbin")),
            rule: Some(0),
            method: http::Method::GET,
            authority: "httpbin.example".into(),
            path: path.into(),
            status: 200,
            flag: ResponseFlag::None,
            upstream_host: Some("10.0.0.1:8080".into()),
            hash: Some(0xab),
            key_source: "cookie",
            attempts: 1,
            duration: Duration::from_micros(1_250),
            upstream_duration: None,
            bytes_received: 0,
            bytes_sent: 12,
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

    #[test]
    fn both_formats_have_every_field() {
        for (format, expected) in [
            (
                LineFormat::Text,
                "1970-01-01T00:00:01.500Z status=200 flag=- method=GET authority=\"httpbin.example\" path=\"/a\" gateway=gloo-system/http \
                 listener=http route=\"HTTPRoute gloo-system/httpbin\" rule=0 upstream_host=10.0.0.1:8080 hash=00000000000000ab \
                 key_source=cookie attempts=1 duration_ms=1.250 upstream_duration_ms=- bytes_received=0 bytes_sent=12\n",
            ),
            (
                LineFormat::Json,
                "{\"time\":\"1970-01-01T00:00:01.500Z\",\"gateway\":\"gloo-system/http\",\"listener\":\"http\",\
                 \"route\":\"HTTPRoute gloo-system/httpbin\",\"rule\":0,\"method\":\"GET\",\"authority\":\"httpbin.example\",\"path\":\"/a\",\
                 \"status\":200,\"flag\":\"-\",\"upstream_host\":\"10.0.0.1:8080\",\"hash\":\"00000000000000ab\",\"key_source\":\"cookie\",\
                 \"attempts\":1,\"duration_ms\":1.25,\"upstream_duration_ms\":null,\"bytes_received\":0,\"bytes_sent\":12}\n",
            ),
        ] {
            let sink = Sink::default();
            let (log, writer) = start(format, Box::new(sink.clone())).unwrap();
            log.submit(record("/a"));
            drop(log);
            writer.finish();
            assert_eq!(String::from_utf8(sink.0.lock().unwrap().clone()).unwrap(), expected);
        }
    }

    #[test]
    fn a_line_stays_one_line_and_fields_are_capped() {
        let path = format!("/\r\nFAKE status=500 \u{1b}[31m\u{2028}{}", "x".repeat(5_000));
        for format in [LineFormat::Text, LineFormat::Json] {
            let mut out = String::new();
            append(&record(&path), format, &mut out);
            assert_eq!(out.lines().count(), 1, "{out}");
            assert!(!out.trim_end().contains(['\r', '\n', '\u{1b}']), "{out:?}");
            assert!(out.len() < 2_000, "{}", out.len());
        }
    }

    #[test]
    fn a_writer_that_hangs_costs_lines_and_no_time() {
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
        let (release, wait) = channel();
        let dropped = Arc::new(AtomicU64::new(0));
        let (log, writer) = start(LineFormat::Text, Box::new(Hanging(wait))).unwrap();
        let log = log.counting(Arc::clone(&dropped));
        for _ in 0..2 * QUEUE + WRITE_AT {
            log.submit(record("/"));
        }
        assert!(dropped.load(Relaxed) > 0);
        drop((release, log));
        writer.finish();
    }
}
