//! What the gateway changes in an answer's head.

use std::time::Duration;

use http::{
    HeaderName, HeaderValue,
    header::{SERVER, SET_COOKIE},
    response,
};

use crate::snapshot::{Action, ClientProfile, Filters};

use super::{Outcome, Plan, ReplyReason, filter::apply_to_headers};

static X_ENVOY_UPSTREAM_SERVICE_TIME: HeaderName = HeaderName::from_static("x-envoy-upstream-service-time");

/// Finishes the head of an answer, in Envoy's order: service time and cookies, the response filters of backend and rule, `server`.
///
/// `upstream_time` is the time from the end of the request to the head of the backend's answer; `None` for an answer of the gateway's own,
/// which gets neither service time nor cookie, and filters only if it is the redirect that the rule wants.
pub fn finish_response(parts: &mut response::Parts, plan: &Plan, profile: &ClientProfile, upstream_time: Option<Duration>) {
    match (&plan.outcome, upstream_time) {
        (Outcome::Forward(forward), Some(time)) => {
            let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
            parts.headers.insert(&X_ENVOY_UPSTREAM_SERVICE_TIME, service_time(millis));
            for cookie in &forward.set_cookie {
                parts.headers.append(SET_COOKIE, cookie.clone());
            }
            apply(parts, backend_filters(plan, forward.backend));
            apply(parts, rule_filters(plan));
        }
        (Outcome::Reply(reply), _) if reply.reason == ReplyReason::Redirect => apply(parts, rule_filters(plan)),
        (Outcome::Forward(_) | Outcome::Reply(_), _) => {}
    }
    parts.headers.insert(SERVER, profile.server_header.clone());
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

fn rule_filters(plan: &Plan) -> Option<&Filters> {
    plan.rule.as_ref()?.filters.as_deref()
}

fn backend_filters(plan: &Plan, backend: usize) -> Option<&Filters> {
    match &plan.rule.as_ref()?.action {
        Action::Forward(forward) => forward.backends.get(backend)?.filters.as_deref(),
        Action::Redirect(_) | Action::Respond(_) => None,
    }
}

fn apply(parts: &mut response::Parts, filters: Option<&Filters>) {
    for ops in filters.iter().flat_map(|filters| &filters.response_headers) {
        apply_to_headers(&mut parts.headers, ops);
    }
}
