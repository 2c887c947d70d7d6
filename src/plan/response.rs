//! What the gateway changes in an answer's head.

use std::time::Duration;

use http::{
    HeaderValue,
    header::{DATE, SERVER, SET_COOKIE},
};

use crate::base::head::{Name, response};
use crate::snapshot::{ClientProfile, Filters};

use super::{
    decision::{Outcome, Plan},
    filter::apply_to_headers,
};

const X_ENVOY_UPSTREAM_SERVICE_TIME: Name = Name::new("x-envoy-upstream-service-time");

/// The answer of a host.
#[derive(Clone, Copy, Debug)]
pub struct Answered {
    /// Index of the host within the plan's cluster, where it is known.
    pub host: Option<u32>,
    /// Time from the end of the request to the head of the answer.
    pub time: Duration,
}

/// Finishes the head of an answer: `server`, service time and cookies, then the response filters of backend and rule, in Envoy's order. The
/// filters see every answer to a request that a rule has matched, as in Envoy also those of the gateway's own. Other than in Envoy they come
/// after `server`, so that they may change it. What a CORS filter says has the last word.
///
/// `by_host` is `None` for an answer of the gateway's own, which gets neither service time nor cookie.
pub fn finish_response(parts: &mut response::Parts, plan: &Plan, profile: &ClientProfile, by_host: Option<Answered>) {
    parts.headers.insert(SERVER, &profile.server_header);
    if let (Outcome::Forward(forward), Some(Answered { host, time })) = (&plan.outcome, by_host) {
        let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        parts.headers.insert(X_ENVOY_UPSTREAM_SERVICE_TIME, service_time(millis));
        for cookie in &forward.set_cookie {
            parts.headers.append(SET_COOKIE, cookie);
        }
        if let (Some(session), Some(entry)) = (&forward.session, &plan.matched) {
            session.keep(&forward.cluster, entry, host, &mut parts.headers);
        }
    }
    let of_backend = plan.backend().and_then(|backend| backend.filters.as_deref());
    let of_rule = plan.rule().and_then(|rule| rule.filters.as_deref());
    let mut date_removed = false;
    for filters in [of_backend, of_rule].into_iter().flatten() {
        date_removed |= apply(parts, filters);
    }
    if let Some(cors) = &plan.cors {
        cors.apply(&mut parts.headers);
    }
    if date_removed && !parts.headers.contains_key(DATE) {
        parts.date_removed = true;
    }
}

/// Most answers come within a few milliseconds: those need no allocation.
fn service_time(millis: u64) -> HeaderValue {
    match millis {
        0 => HeaderValue::from_static("0"),
        1 => HeaderValue::from_static("1"),
        2 => HeaderValue::from_static("2"),
        3 => HeaderValue::from_static("3"),
        _ => HeaderValue::from(millis),
    }
}

/// Applies the response filters; whether one of them removes `date`.
fn apply(parts: &mut response::Parts, filters: &Filters) -> bool {
    let mut removes_date = false;
    for ops in &filters.response_headers {
        apply_to_headers(&mut parts.headers, ops);
        removes_date |= ops.remove.contains(&DATE);
    }
    removes_date
}
