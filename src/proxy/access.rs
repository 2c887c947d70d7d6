//! What the access log learns of a request.

use std::{
    fmt::Display,
    sync::Arc,
    time::{Duration, SystemTime},
};

use crate::{plan::KeySource, snapshot::RouteName, telemetry::AccessRecord};

use super::flight::{Details, FlightOutcome};

/// The record of a request that has ended after `duration`.
pub(super) fn record(details: Details, outcome: &FlightOutcome, duration: Duration) -> AccessRecord {
    let Details { method, path, authority, plan } = details;
    let now = SystemTime::now();
    AccessRecord {
        time: now.checked_sub(duration).unwrap_or(now),
        gateway: plan.gateway,
        listener: plan.listener,
        route: plan.route.map(|route| Arc::new(Shown(route)) as Arc<dyn Display + Send + Sync>),
        rule: plan.rule,
        method,
        authority,
        path: path.map(|path| path.as_str().into()).unwrap_or_default(),
        status: outcome.status.get(),
        flag: outcome.flag.get(),
        upstream_host: plan.host,
        hash: plan.hash,
        key_source: plan.key_source.map_or("-", key_source),
        attempts: outcome.attempts.get(),
        duration,
        upstream_duration: outcome.upstream.get(),
        bytes_received: outcome.received.get(),
        bytes_sent: outcome.sent.get(),
    }
}

/// Shows a route as `HTTPRoute ns/name`.
struct Shown(Arc<RouteName>);

impl Display for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.0.kind, self.0.name)
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
        KeySource::Combined => "combined",
    }
}
