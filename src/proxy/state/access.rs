//! What access log and traces learn of a request while it is under way. Nothing is kept where both are off.

use std::{
    cell::{Cell, RefCell},
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::{
    HeaderName, Version,
    header::{HOST, USER_AGENT},
};

use tokio::time::Instant;

use crate::{
    base::head::{request, response},
    base::{
        ObjectName,
        trace::{SpanContext, TraceParent},
    },
    plan::{KeySource, Outcome, Plan, StreamPlan},
    snapshot::{Host, UpstreamProtocol},
    telemetry::{
        AccessLog, AccessRecord, AttemptEnd, Downstream, DownstreamTls, Excerpt, RequestTrace, ResponseFlag, Shown, SpanChange, method_name,
    },
};

use super::peer::Peer;

static X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The record of a request under way; empty where it is neither logged nor recorded.
#[derive(Debug, Default)]
pub(in crate::proxy) struct Pending(RefCell<Option<Box<AccessRecord>>>);

/// What is known of a request when it ends.
#[derive(Debug, Default)]
pub(in crate::proxy) struct FlightOutcome {
    pub(in crate::proxy) status: Cell<u16>,
    pub(in crate::proxy) flag: Cell<ResponseFlag>,
    pub(in crate::proxy) attempts: Cell<u32>,
    /// The host that was asked last, as an index into its cluster's.
    pub(in crate::proxy) host: Cell<Option<u32>>,
    pub(in crate::proxy) upstream: Cell<Option<Duration>>,
    pub(in crate::proxy) received: Cell<u64>,
    pub(in crate::proxy) sent: Cell<u64>,
    /// What only the access log needs.
    pub(in crate::proxy) record: Pending,
}

// === impl Pending ===

impl Pending {
    /// Begins a record with what the client sent.
    pub(in crate::proxy) fn begin(&self, peer: &Peer, parts: &request::Parts) {
        let host = || parts.headers.get(HOST).map(Excerpt::short_value);
        let authority = parts.uri.authority().map(|authority| Excerpt::short(authority.as_str()));
        let record = AccessRecord {
            protocol: protocol(parts.version),
            method: Some(method_name(&parts.method)),
            authority: authority.or_else(host),
            path: parts.uri.path_and_query().map(|path| Excerpt::of(path.as_str())),
            user_agent: parts.headers.get(USER_AGENT).map(Excerpt::short_value),
            ..AccessRecord::new(downstream(peer))
        };
        *self.0.borrow_mut() = Some(Box::new(record));
    }

    /// Adds a trace to the record.
    pub(in crate::proxy) fn begin_trace(&self, context: SpanContext, scheme: &'static str) {
        self.note(|record| record.trace = Some(Box::new(RequestTrace::new(context, scheme))));
    }

    /// Begins a record of what was no request. `version`: where the protocol is known.
    pub(in crate::proxy) fn begin_refused(&self, peer: &Peer, version: Option<Version>) {
        let record = AccessRecord { protocol: version.and_then(protocol), ..AccessRecord::new(downstream(peer)) };
        *self.0.borrow_mut() = Some(Box::new(record));
    }

    /// Begins the record of a connection that is not looked at. `server_name`: what its ClientHello asks for.
    pub(in crate::proxy) fn begin_stream(&self, peer: &Peer, server_name: Option<&str>) {
        let record = AccessRecord { authority: server_name.map(Excerpt::short), ..AccessRecord::new(downstream(peer)) };
        *self.0.borrow_mut() = Some(Box::new(record));
    }

    /// Begins the record of a flow of datagrams.
    pub(in crate::proxy) fn begin_flow(&self, downstream: Downstream) {
        *self.0.borrow_mut() = Some(Box::new(AccessRecord::new(downstream)));
    }

    /// Takes over what was decided on a connection that is not looked at, or on a flow.
    pub(in crate::proxy) fn note_stream(&self, plan: &StreamPlan, gateway: &Arc<ObjectName>) {
        self.note(|record| {
            record.gateway = Some(Arc::clone(gateway));
            record.listener = Some(Arc::clone(&plan.listener.name));
            record.route = Some(Arc::clone(&plan.rule.route) as _);
            record.rule = Some(plan.rule.index);
            record.upstream_cluster = Some(Arc::clone(&plan.backend) as _);
            record.hash = plan.forward.hash;
            record.key_source = key_source(plan.forward.key_source);
        });
    }

    /// Takes over what became of the head: what a host is sent, or what was refused.
    pub(in crate::proxy) fn note_head(&self, log: Option<&AccessLog>, parts: &request::Parts) {
        self.note(|record| {
            record.request_id = parts.headers.get(&X_REQUEST_ID).map(Excerpt::short_value);
            let recorded = record.trace.as_ref().map(|trace| trace.context.sent.trace);
            record.trace_id = recorded.or_else(|| TraceParent::of(&parts.headers).map(|parent| parent.trace));
            if let Some(log) = log {
                log.take_request(record, parts);
            }
        });
    }

    /// Takes over what was decided.
    pub(in crate::proxy) fn note_plan(&self, plan: &Plan, gateway: &Arc<ObjectName>, generation: u64) {
        self.note(|record| {
            if let Some(trace) = &mut record.trace {
                trace.generation = generation;
                trace.route = plan.matched.as_ref().map(|entry| entry.path.text().into());
            }
            record.gateway = Some(Arc::clone(gateway));
            record.listener = plan.listener.as_ref().map(|listener| Arc::clone(&listener.name));
            record.route = plan.rule().map(|rule| -> Shown { Arc::clone(&rule.route) as _ });
            record.rule = plan.rule().map(|rule| rule.index);
            record.client = Some(plan.client);
            record.upstream_cluster = plan.backend().map(|backend| -> Shown { Arc::clone(&backend.name) as _ });
            if let Outcome::Forward(forward) = &plan.outcome {
                record.hash = forward.hash;
                record.key_source = key_source(forward.key_source);
            }
        });
    }

    /// The host that is asked now.
    pub(in crate::proxy) fn note_host(&self, host: &Host, protocol: UpstreamProtocol, started: Instant) {
        self.note(|record| {
            record.upstream_host = Some(Arc::clone(&host.text));
            record.upstream_protocol = Some(match protocol {
                UpstreamProtocol::Http1 => "HTTP/1.1",
                UpstreamProtocol::H2c => "HTTP/2",
            });
            if let Some(trace) = &mut record.trace {
                let pod = host.pod.as_ref().map(|pod| -> Shown { Arc::clone(pod) as _ });
                trace.attempt_on(&host.text, pod, started.elapsed());
            }
        });
    }

    /// The host that a connection that is not looked at, or a flow, goes to now.
    pub(in crate::proxy) fn note_stream_host(&self, host: &Host) {
        self.note(|record| record.upstream_host = Some(Arc::clone(&host.text)));
    }

    /// How an attempt ended after which the request goes on, or is answered by the gateway itself.
    pub(in crate::proxy) fn note_attempt_end(&self, end: AttemptEnd) {
        self.note(|record| {
            if let Some(trace) = &mut record.trace {
                trace.attempt_ended(end);
            }
        });
    }

    /// A span of its own for the next attempt.
    pub(in crate::proxy) fn next_span(&self, random: &mut fastrand::Rng) -> Option<SpanChange> {
        let mut record = self.0.borrow_mut();
        Some(record.as_mut()?.trace.as_mut()?.next_attempt(random))
    }

    /// Why the gateway answers by itself.
    pub(in crate::proxy) fn note_reason(&self, reason: &'static str) {
        self.note(|record| record.reason = Some(reason));
    }

    /// Takes over the answer's head as the client gets it. `response_duration`: a host has answered, so long after the request's head came.
    pub(in crate::proxy) fn note_answer(&self, log: &AccessLog, parts: &response::Parts, response_duration: Option<Duration>) {
        self.note(|record| {
            record.response_duration = response_duration;
            log.take_response(record, parts);
        });
    }

    /// The record, of a request that has ended after `duration`.
    pub(in crate::proxy) fn end(&self, duration: Duration) -> Option<Box<AccessRecord>> {
        let mut record = self.0.borrow_mut().take()?;
        let now = SystemTime::now();
        record.time = now.checked_sub(duration).unwrap_or(now);
        record.duration = duration;
        Some(record)
    }

    fn note(&self, change: impl FnOnce(&mut AccessRecord)) {
        if let Some(record) = &mut *self.0.borrow_mut() {
            change(record);
        }
    }
}

// === impl FlightOutcome ===

impl FlightOutcome {
    /// Writes the outcome into the log's record.
    pub(in crate::proxy) fn tell(&self, record: &mut AccessRecord) {
        record.status = self.status.get();
        record.flag = self.flag.get();
        record.attempts = self.attempts.get();
        record.upstream_duration = self.upstream.get();
        record.bytes_received = self.received.get();
        record.bytes_sent = self.sent.get();
    }
}

/// A connection as the log shows it.
pub(in crate::proxy) fn downstream(peer: &Peer) -> Downstream {
    let tls = peer.tls.as_ref().map(|tls| DownstreamTls { server_name: tls.server_name.clone(), version: tls.version });
    Downstream { peer: peer.remote, local: peer.local, tls }
}

fn protocol(version: Version) -> Option<&'static str> {
    match version {
        Version::HTTP_10 => Some("HTTP/1.0"),
        Version::HTTP_11 => Some("HTTP/1.1"),
        Version::HTTP_2 => Some("HTTP/2"),
        Version::HTTP_3 => Some("HTTP/3"),
        _ => None,
    }
}

fn key_source(source: KeySource) -> &'static str {
    match source {
        KeySource::NotHashed => "-",
        KeySource::Missing => "missing",
        KeySource::Header => "header",
        KeySource::Cookie => "cookie",
        KeySource::GeneratedCookie => "generated-cookie",
        KeySource::SourceIp => "source-ip",
        KeySource::QueryParameter => "query-parameter",
        KeySource::PathSegment => "path-segment",
        KeySource::JwtClaim => "jwt-claim",
        KeySource::Connection => "connection",
        KeySource::Combined => "combined",
        KeySource::Bound => "bound",
    }
}
