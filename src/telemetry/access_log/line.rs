//! A record as a line: `key=value` pairs, or JSON.

use std::{
    fmt::{self, Display, Write as _},
    time::Duration,
};

use serde::Serialize;

use crate::base::TimeFormat;

use super::record::{AccessRecord, Excerpt};

/// A record as JSON.
#[derive(Serialize)]
struct Line<'a> {
    time: String,
    gateway: Option<String>,
    listener: Option<&'a str>,
    route: Option<String>,
    rule: Option<u16>,
    method: Option<&'a str>,
    authority: Option<&'a str>,
    path: Option<&'a str>,
    protocol: Option<&'static str>,
    status: u16,
    flag: &'static str,
    reason: Option<&'static str>,
    client: Option<String>,
    peer: String,
    request_id: Option<&'a str>,
    trace_id: Option<String>,
    user_agent: Option<&'a str>,
    tls_server_name: Option<&'a str>,
    tls_version: Option<&'static str>,
    upstream_cluster: Option<String>,
    upstream_host: Option<&'a str>,
    upstream_protocol: Option<&'static str>,
    hash: Option<String>,
    key_source: &'static str,
    attempts: u32,
    duration_ms: f64,
    upstream_duration_ms: Option<f64>,
    bytes_received: u64,
    bytes_sent: u64,
}

/// Writes one JSON object.
pub(super) fn write_json(record: &AccessRecord, out: &mut String) -> fmt::Result {
    let line = serde_json::to_string(&line(record)).map_err(|_unwritable| fmt::Error)?;
    out.push_str(&line);
    out.push('\n');
    Ok(())
}

impl fmt::Debug for AccessRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = String::new();
        write_text(self, &mut line)?;
        f.write_str(line.trim_end())
    }
}

fn line(record: &AccessRecord) -> Line<'_> {
    let tls = record.downstream.tls.as_ref();
    Line {
        time: TimeFormat::Milliseconds.format(record.time),
        gateway: record.gateway.as_ref().map(ToString::to_string),
        listener: record.listener.as_deref(),
        route: record.route.as_ref().map(ToString::to_string),
        rule: record.rule,
        method: record.method.as_deref(),
        authority: record.authority.as_ref().map(Excerpt::as_str),
        path: record.path.as_ref().map(Excerpt::as_str),
        protocol: record.protocol,
        status: record.status,
        flag: record.flag.as_str(),
        reason: record.reason,
        client: record.client.map(|client| client.to_string()),
        peer: record.downstream.peer.to_string(),
        request_id: record.request_id.as_ref().map(Excerpt::as_str),
        trace_id: record.trace_id.map(|trace| trace.to_string()),
        user_agent: record.user_agent.as_ref().map(Excerpt::as_str),
        tls_server_name: tls.and_then(|tls| tls.server_name.as_deref()),
        tls_version: tls.map(|tls| tls.version),
        upstream_cluster: record.upstream_cluster.as_ref().map(ToString::to_string),
        upstream_host: record.upstream_host.as_deref(),
        upstream_protocol: record.upstream_protocol,
        hash: record.hash.map(|hash| format!("{hash:016x}")),
        key_source: record.key_source,
        attempts: record.attempts,
        duration_ms: milliseconds(record.duration),
        upstream_duration_ms: record.upstream_duration.map(milliseconds),
        bytes_received: record.bytes_received,
        bytes_sent: record.bytes_sent,
    }
}

/// Writes `key=value` pairs; what a client chooses, or has a space in it, is quoted and escaped.
pub(super) fn write_text(record: &AccessRecord, out: &mut String) -> fmt::Result {
    let tls = record.downstream.tls.as_ref();
    write!(out, "{} status={} flag={}", TimeFormat::Milliseconds.format(record.time), record.status, record.flag.as_str())?;
    quoted(out, "reason", record.reason)?;
    plain(out, "method", record.method.as_deref())?;
    quoted(out, "authority", record.authority.as_ref().map(Excerpt::as_str))?;
    quoted(out, "path", record.path.as_ref().map(Excerpt::as_str))?;
    plain(out, "protocol", record.protocol)?;
    plain(out, "client", record.client)?;
    plain(out, "peer", Some(record.downstream.peer))?;
    quoted(out, "request_id", record.request_id.as_ref().map(Excerpt::as_str))?;
    plain(out, "trace_id", record.trace_id)?;
    quoted(out, "user_agent", record.user_agent.as_ref().map(Excerpt::as_str))?;
    quoted(out, "tls_server_name", tls.and_then(|tls| tls.server_name.as_deref()))?;
    plain(out, "tls_version", tls.map(|tls| tls.version))?;
    plain(out, "gateway", record.gateway.as_deref())?;
    plain(out, "listener", record.listener.as_deref())?;
    quoted(out, "route", record.route.as_ref().map(ToString::to_string).as_deref())?;
    plain(out, "rule", record.rule)?;
    quoted(out, "upstream_cluster", record.upstream_cluster.as_ref().map(ToString::to_string).as_deref())?;
    plain(out, "upstream_host", record.upstream_host.as_deref())?;
    plain(out, "upstream_protocol", record.upstream_protocol)?;
    plain(out, "hash", record.hash.map(|hash| format!("{hash:016x}")))?;
    write!(out, " key_source={} attempts={}", record.key_source, record.attempts)?;
    write!(out, " duration_ms={:.3}", milliseconds(record.duration))?;
    plain(out, "upstream_duration_ms", record.upstream_duration.map(milliseconds))?;
    writeln!(out, " bytes_received={} bytes_sent={}", record.bytes_received, record.bytes_sent)
}

fn plain(out: &mut String, name: &str, value: Option<impl Display>) -> fmt::Result {
    match value {
        Some(value) => write!(out, " {name}={value}"),
        None => write!(out, " {name}=-"),
    }
}

fn quoted(out: &mut String, name: &str, value: Option<&str>) -> fmt::Result {
    match value {
        Some(value) => write!(out, " {name}={value:?}"),
        None => write!(out, " {name}=-"),
    }
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1e3
}
