//! Decides about a request from its head: normalises, matches, filters, finds the key, makes a cookie, picks the host. Synchronous and
//! pure.
//!
//! The proxy and `explain` run the same `plan`.

pub mod affinity;
mod backend;
mod chooser;
mod claim;
mod client;
mod connection;
mod cookie;
mod cors;
mod decision;
pub mod explain;
mod filter;
#[cfg(test)]
mod fixture;
mod follow;
mod grpc;
mod lines;
mod mirror;
mod normalise;
mod rebind;
mod redirect;
mod response;
mod scheme;
mod session;
pub mod simulate;
mod split;
mod stream;
mod tag;
#[cfg(test)]
mod tests;
mod underscores;
pub mod verify;

use std::sync::Arc;

use http::{StatusCode, Version};

use crate::base::head::request;
use crate::snapshot::{Action, Bind, Listener, MatchedRoute, Query, Snapshot, Target};

use affinity::Trace;

pub use affinity::{KeyResult, PolicyTrace};
pub use chooser::Chooser;
pub use client::client_address;
pub use connection::{Connection, Tls};
pub use cors::CorsHeaders;
pub use decision::{ForwardPlan, KeySource, MAX_HOSTS_PER_REQUEST, Outcome, Plan, Reply, ReplyReason};
pub use explain::{Decision, ExplainAnswer, ExplainRequest, Explainer, PolicyAnswer, SlotAnswer, SlotState, TableAnswer};
pub use follow::Followed;
pub use grpc::{GrpcStatus, answer_call, grpc_status, grpc_timeout, is_grpc_content_type};
pub use rebind::Rebind;
pub use response::{Answered, finish_response};
pub use session::{Session, SessionState};
pub use simulate::{
    HostShare, ROLLOUT_KEYS, Rollout, RolloutReport, RuleName, SimulateError, SimulatedChange, SimulationReport, simulate,
    simulate_rollout, simulate_split,
};
pub use stream::{StreamConnection, StreamPlan, StreamRefusal, plan_stream};
pub use verify::{LoggedRequest, Verification, read_line};

/// Decides on a request and rewrites its head to what the backend shall see (hop-by-hop headers are the proxy's to strip).
pub fn plan(parts: &mut request::Parts, connection: &Connection<'_>, snapshot: &Snapshot, chooser: &mut Chooser) -> Plan {
    plan_traced(parts, connection, snapshot, chooser, None)
}

fn plan_traced(
    parts: &mut request::Parts,
    connection: &Connection<'_>,
    snapshot: &Snapshot,
    chooser: &mut Chooser,
    trace: Option<&mut Trace>,
) -> Plan {
    let mut plan = Plan {
        listener: None,
        matched: None,
        backend: None,
        client: connection.remote.ip().to_canonical(),
        outcome: Outcome::Reply(not_found(ReplyReason::NoListener)),
        cors: None,
        mirrors: Vec::new(),
    };
    plan.outcome = match decide(&mut plan, parts, connection, snapshot, chooser, trace) {
        Ok(forward) => Outcome::Forward(forward),
        Err(reply) => Outcome::Reply(reply),
    };
    plan
}

/// The steps, in Envoy's order. `plan` is filled in as far as they get.
fn decide(
    plan: &mut Plan,
    parts: &mut request::Parts,
    connection: &Connection<'_>,
    snapshot: &Snapshot,
    chooser: &mut Chooser,
    mut trace: Option<&mut Trace>,
) -> Result<ForwardPlan, Reply> {
    let authority = normalise::request_head(parts, connection.local, connection.bind.profile.path)?;
    // Lines of HTTP/1.1 stay as they are, and are hashed so.
    if parts.version == Version::HTTP_2 {
        client::join_cookies(&mut parts.headers);
    }
    underscores::sieve(&mut parts.headers, connection.bind.profile.headers_with_underscores)?;
    plan.client = client::identify(&mut parts.headers, connection, &mut chooser.random);
    let found = route(&mut plan.listener, parts, authority, connection)?;
    let rule = &*plan.matched.insert(Arc::clone(found.entry)).rule;
    let mut matched_len = found.matched_len;
    if let Some(cors) = rule.filters.as_deref().and_then(|filters| filters.cors.as_deref()) {
        let (headers, leave) = cors::judge(cors, parts);
        plan.cors = Some(headers);
        if let Some(allowed) = leave {
            return Err(preflight(allowed));
        }
    }
    let forward = match &rule.action {
        Action::Forward(forward) => forward,
        Action::Redirect(redirect) => return Err(redirect::reply(redirect, parts, connection, matched_len)),
        Action::Respond(reply) => {
            return Err(Reply { status: reply.status, location: None, reason: ReplyReason::Rule(reply.reason.clone()) });
        }
    };
    client::announce_timeout(&mut parts.headers, &rule.policy.timeouts);
    if let Some(filters) = &rule.filters {
        filter::apply_to_request(parts, filters, &mut matched_len).map_err(cannot_rewrite)?;
    }
    // Before a backend is drawn: a session stays with one whose weight is 0 by now.
    let bound = session::find(forward, &rule.policy, &parts.headers, snapshot);
    let found = bound.and_then(|bound| Some((bound.backend, forward.backends.get(bound.backend)?)));
    let (index, backend) = match found {
        Some(found) => found,
        None => split::draw(forward, &rule.policy, parts, connection, plan.client, chooser, trace.as_deref_mut())?,
    };
    plan.backend = Some(index);
    if let Target::Redirect(redirect) = &backend.target {
        return Err(redirect::reply(redirect, parts, connection, matched_len));
    }
    let cluster = backend::cluster(backend, snapshot)?;
    if let Some(filters) = &backend.filters {
        filter::apply_to_request(parts, filters, &mut matched_len).map_err(cannot_rewrite)?;
    }
    let protocol = rule.upstream_protocol(cluster);
    let asked = backend::Asked { parts, connection, client: plan.client, policy: &rule.policy, protocol, bound };
    let forward = backend::choose_host(cluster, &asked, chooser, trace)?;
    plan.mirrors = mirror::draw(rule, backend, &forward, &asked, snapshot, chooser);
    Ok(forward)
}

/// Finds listener, hostname and rule.
fn route<'c>(
    found_listener: &mut Option<Arc<Listener>>,
    parts: &request::Parts,
    authority: normalise::Authority,
    connection: &Connection<'c>,
) -> Result<MatchedRoute<'c>, Reply> {
    let host = authority.name(&parts.headers);
    let listener = connection.bind.listeners.get(&host).ok_or_else(|| not_found(ReplyReason::NoListener))?;
    *found_listener = Some(Arc::clone(listener));
    if connection.tls.is_some_and(|tls| is_misdirected(tls, &host, listener, connection.bind)) {
        return Err(Reply { status: StatusCode::MISDIRECTED_REQUEST, location: None, reason: ReplyReason::Misdirected });
    }
    if let Some(why) = &listener.refusal {
        let reason = ReplyReason::ListenerRefused(why.clone());
        return Err(Reply { status: StatusCode::INTERNAL_SERVER_ERROR, location: None, reason });
    }
    let query = Query::new(parts.uri.query().unwrap_or_default());
    // The most specific hostname owns the request: no falling through to a less specific one.
    let routes = listener.hosts.get(&host);
    let found = routes.and_then(|routes| routes.find(parts.uri.path(), |matcher| matcher.is_empty() || matcher.matches(parts, &query)));
    found.ok_or_else(|| not_found(ReplyReason::NoRoute))
}

/// Whether the client reuses a TLS connection that it opened for another listener (GEP-3567): the certificate it saw may be good for both
/// hostnames, but what was agreed on for one listener does not hold for the other.
fn is_misdirected(tls: Tls<'_>, host: &str, listener: &Arc<Listener>, bind: &Bind) -> bool {
    if tls.server_name == Some(host) {
        return false;
    }
    let own = bind.listeners.get(tls.server_name.unwrap_or_default());
    own.is_none_or(|own| !Arc::ptr_eq(own, listener))
}

fn preflight(allowed: bool) -> Reply {
    let status = if allowed { StatusCode::OK } else { StatusCode::FORBIDDEN };
    Reply { status, location: None, reason: ReplyReason::Preflight { allowed } }
}

fn not_found(reason: ReplyReason) -> Reply {
    Reply { status: StatusCode::NOT_FOUND, location: None, reason }
}

fn cannot_rewrite(why: &'static str) -> Reply {
    Reply { status: StatusCode::INTERNAL_SERVER_ERROR, location: None, reason: ReplyReason::Rule(why.into()) }
}
