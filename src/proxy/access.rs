//! What the access log learns of a request.

use std::{
    fmt::Display,
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::{Method, uri::PathAndQuery};

use crate::{
    base::ObjectName,
    plan::{KeySource, Outcome, Plan},
    snapshot::RouteName,
    telemetry::AccessRecord,
};

use super::flight::FlightOutcome;

/// What only the access log wants to know.
#[derive(Debug)]
pub(super) struct Details {
    pub(super) method: Method,
    pub(super) path: Option<PathAndQuery>,
    pub(super) authority: Box<str>,
    pub(super) plan: PlanDetails,
}

/// The part of a plan that is logged.
#[derive(Debug, Default)]
pub(super) struct PlanDetails {
    pub(super) gateway: Option<Arc<ObjectName>>,
    pub(super) listener: Option<Arc<str>>,
    pub(super) route: Option<Arc<RouteName>>,
    pub(super) rule: Option<u16>,
    pub(super) hash: Option<u64>,
    pub(super) key_source: Option<KeySource>,
    pub(super) host: Option<Arc<str>>,
}

/// Shows a route as `HTTPRoute ns/name`.
struct Shown(Arc<RouteName>);

// === impl Details ===

impl Details {
    /// The record of a request that has ended after `duration`.
    pub(super) fn record(self, outcome: &FlightOutcome, duration: Duration) -> AccessRecord {
        let Details { method, path, authority, plan } = self;
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
}

// === impl PlanDetails ===

impl PlanDetails {
    pub(super) fn of(plan: &Plan, gateway: &Arc<ObjectName>) -> Self {
        let forward = match &plan.outcome {
            Outcome::Forward(forward) => Some(forward),
            Outcome::Reply(_) => None,
        };
        Self {
            gateway: Some(Arc::clone(gateway)),
            listener: plan.listener.as_ref().map(|listener| Arc::clone(&listener.name)),
            route: plan.rule.as_ref().map(|rule| Arc::clone(&rule.route)),
            rule: plan.rule.as_ref().map(|rule| rule.index),
            hash: forward.and_then(|forward| forward.hash),
            key_source: forward.map(|forward| forward.key_source),
            host: None,
        }
    }
}

// === impl Shown ===

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
