//! Telling what was decided.

use std::borrow::Cow;

use http::header::SET_COOKIE;
use serde::{Deserialize, Serialize};

use crate::base::head::HeaderMap;
use crate::lb::Admits;
use crate::lb::TableKind;
use crate::plan::{ForwardPlan, KeySource, Outcome, Plan, PolicyTrace, Reply, SessionState, Trace, affinity::DrawnBy};
use crate::snapshot::{Action, Bind, Forward, Rule};

use super::{
    failover::Failovers,
    slot::{self, SlotAnswer},
};

/// What stands for a cookie's value that depends on ports which the question did not name.
const GENERATED: &str = "<generated>";

/// The answer to one question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ExplainAnswer {
    /// What becomes of the request.
    Decision(Box<Decision>),
    /// The question cannot be answered as it is.
    Error {
        /// Why, and what to do.
        error: String,
    },
}

/// What becomes of a request. `None` is `null`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// `NAMESPACE/NAME` of the Gateway; none without a listener on the port.
    pub gateway: Option<String>,
    /// Name of the listener.
    pub listener: Option<String>,
    /// `HTTPRoute NAMESPACE/NAME`.
    pub route: Option<String>,
    /// Index of the rule within the route.
    pub rule: Option<u16>,
    /// Index of the match within the rule; 0 for a rule without matches.
    #[serde(rename = "match")]
    pub match_index: Option<u16>,
    /// `Upstream NAMESPACE/NAME` or `Service NAMESPACE/NAME:PORT`.
    pub backend: Option<String>,
    /// The backend's cluster, where it has a name of its own: a policy of the route says how its hosts are chosen, or sessions are persistent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// The hash policies that were looked at, in order.
    pub policies: Vec<PolicyAnswer>,
    /// The request hash, 16 hex digits; none without a key.
    pub hash: Option<String>,
    /// The table that chose the host; none where the backend does not choose by hash.
    pub table: Option<TableAnswer>,
    /// The slot that the key falls on, where slots are hashed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<SlotAnswer>,
    /// The host; none where the choice is random.
    pub host: Option<String>,
    /// The hosts that failed connects lead to, one after the other: of the ring; under Maglev the hosts of the tables without the failed
    /// ones, as many as can be told soon.
    pub next: Vec<String>,
    /// The Set-Cookie header that would be sent.
    pub set_cookie: Option<String>,
    /// Status of the gateway's own answer, where no backend is asked.
    pub status: Option<u16>,
    /// Why, in a sentence.
    pub reason: String,
}

/// What one hash policy found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyAnswer {
    /// The policy: `cookie NAME`, `header NAME`, `sourceIp`, `query NAME`.
    pub policy: String,
    /// The key found.
    pub value: Option<String>,
    /// Its hash, 16 hex digits.
    pub hash: Option<String>,
}

/// The table of a cluster that chooses by hash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableAnswer {
    /// `ring` or `maglev`.
    pub kind: Cow<'static, str>,
    /// Points of the ring, slots of maglev.
    pub size: u64,
    /// The entry that chose the host; none without a key.
    pub entry: Option<u32>,
}

impl ExplainAnswer {
    pub(super) fn error(error: String) -> Self {
        Self::Error { error }
    }
}

impl Decision {
    pub(super) fn nothing(reason: String) -> Self {
        Self { reason, ..Self::default() }
    }
}

/// What the question says of the connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    /// The ports of both ends.
    pub(super) ports: bool,
    /// The client's address.
    pub(super) source: bool,
}

pub(super) fn decision(bind: &Bind, plan: &Plan, trace: Trace, known: Known, failovers: &mut Failovers) -> Decision {
    let rule = plan.rule();
    let backend = plan.backend().map(|backend| backend.name.to_string());
    let mut decision = Decision {
        gateway: Some(bind.gateway.to_string()),
        listener: plan.listener.as_ref().map(|listener| listener.name.to_string()),
        route: rule.map(|rule| rule.route.to_string()),
        rule: rule.map(|rule| rule.index),
        match_index: plan.matched.as_ref().map(|entry| entry.match_index),
        backend,
        cluster: plan.backend().and_then(|backend| backend.name.own_cluster_name()),
        ..Decision::default()
    };
    match &plan.outcome {
        Outcome::Forward(forward) => {
            tell_forward(&mut decision, forward, &trace.policies, known.ports, failovers);
            tell_session(&mut decision, plan, forward, &trace.policies, known.ports);
        }
        Outcome::Reply(reply) => tell_reply(&mut decision, reply),
    }
    let drawn_by = trace.drawn_by;
    decision.policies = trace.policies.into_iter().map(|policy| policy_answer(policy, known.ports)).collect();
    let weighted = rule.and_then(forward_of).map_or(0, |forward| forward.backends.len());
    if weighted > 1 && plan.backend.is_some() && !is_bound(plan) {
        decision.reason.push_str(&match drawn_by {
            DrawnBy::Weight => format!("; the backend was drawn by weight from {weighted}"),
            DrawnBy::Key => format!("; the key and the weights chose the backend from {weighted}"),
            DrawnBy::Name => format!("; the request names the backend, one of {weighted}"),
        });
    }
    if !known.source && decision.policies.iter().any(|policy| policy.policy == "sourceIp") {
        decision.reason.push_str("; no source was given, 127.0.0.1 is assumed");
    }
    decision
}

fn forward_of(rule: &Rule) -> Option<&Forward> {
    match &rule.action {
        Action::Forward(forward) => Some(forward),
        Action::Redirect(_) | Action::Respond(_) => None,
    }
}

fn tell_reply(decision: &mut Decision, reply: &Reply) {
    decision.status = Some(reply.status.as_u16());
    decision.reason = match &reply.location {
        Some(location) => format!("{} to {}", reply.reason, String::from_utf8_lossy(location.as_bytes())),
        None => reply.reason.to_string(),
    };
}

fn tell_forward(
    decision: &mut Decision,
    forward: &ForwardPlan,
    policies: &[PolicyTrace],
    ports_are_known: bool,
    failovers: &mut Failovers,
) {
    let depends_on_ports = !ports_are_known && policies.iter().any(|policy| policy.generated);
    let hash = forward.hash.filter(|_| !depends_on_ports);
    let table = forward.cluster.balancer.table();
    decision.table = table.map(|table| TableAnswer {
        kind: table.kind.name().into(),
        size: table.size,
        entry: hash.filter(|_| forward.key_source != KeySource::Bound).map(|_| forward.entry),
    });
    decision.hash = hash.map(hex);
    if hash.is_some() || forward.key_source == KeySource::Bound {
        let named = |host: &u32| Some(forward.cluster.hosts.get(*host as usize)?.text.to_string());
        decision.slot = slot::slot(forward);
        decision.host = Some(&forward.host).and_then(named);
        decision.next = failovers.after(forward).iter().filter_map(named).collect();
    }
    decision.set_cookie = forward.set_cookie.first().map(|cookie| cookie_text(cookie.as_bytes(), policies, ports_are_known));
    decision.reason = forward_reason(forward, policies, depends_on_ports);
    if let (Some(place), Some(_)) = (place(forward), hash) {
        decision.reason = format!("{}; {place}", decision.reason);
    }
    if let Some(meanwhile) = forward.cluster.table_state.meanwhile() {
        decision.reason = format!("{}; the table of its hosts is being built, until then it is {meanwhile}", decision.reason);
    }
}

fn is_bound(plan: &Plan) -> bool {
    matches!(&plan.outcome, Outcome::Forward(forward) if forward.key_source == KeySource::Bound)
}

/// What the client would get for its next request, and what the one that it sent was worth.
fn tell_session(decision: &mut Decision, plan: &Plan, forward: &ForwardPlan, policies: &[PolicyTrace], ports_are_known: bool) {
    let (Some(session), Some(entry)) = (&forward.session, &plan.matched) else { return };
    let mut headers = HeaderMap::new();
    session.keep(&forward.cluster, entry, Some(forward.host), &mut headers);
    if let Some(cookie) = headers.get(SET_COOKIE) {
        decision.set_cookie = Some(cookie_text(cookie.as_bytes(), policies, ports_are_known));
    }
    match session.state {
        SessionState::New | SessionState::Bound => {}
        SessionState::Lost => decision.reason.push_str("; the host of its tag is gone"),
        SessionState::Unknown => decision.reason.push_str("; its tag is unknown"),
    }
}

/// What the host's place in the table is worth, where it does not take all.
fn place(forward: &ForwardPlan) -> Option<String> {
    let host = forward.cluster.hosts.get(forward.host as usize)?;
    (host.admits != Admits::All)
        .then(|| format!("its host warms up and takes {:.0} % of the keys of its place", 100.0 * host.admits.share()))
}

fn forward_reason(forward: &ForwardPlan, policies: &[PolicyTrace], depends_on_ports: bool) -> String {
    let hosts = forward.cluster.balanced().len();
    let found: Vec<&str> = policies.iter().filter(|policy| policy.hash.is_some()).map(|policy| policy.policy.as_str()).collect();
    let found = found.join(" and ");
    match (forward.key_source, forward.cluster.balancer.table()) {
        (KeySource::Bound, _) if forward.host as usize >= hosts => {
            "the session is bound by its tag to a host that is about to end: it serves the sessions that it has".to_owned()
        }
        (KeySource::Bound, _) => "the session is bound to the host by its tag, whatever the table says".to_owned(),
        (KeySource::NotHashed, _) => format!("the backend does not choose by hash: any of its {hosts} hosts"),
        (KeySource::Missing, _) if policies.is_empty() => {
            format!("the backend chooses by hash, but the rule has no hash policy: any of its {hosts} hosts, at random")
        }
        (KeySource::Missing, _) => format!("no hash policy found a key: any of the {hosts} hosts, at random"),
        (_, _) if depends_on_ports => {
            format!("{found} is generated from the connection's addresses: give source and local with their ports to learn the host")
        }
        (KeySource::GeneratedCookie, Some(table)) => {
            format!(
                "{found} is generated from the connection's addresses; its hash falls on entry {} of the {}",
                forward.entry,
                table_name(table.kind)
            )
        }
        (_, Some(table)) => format!("the hash of {found} falls on entry {} of the {}", forward.entry, table_name(table.kind)),
        (_, None) => format!("the hash of {found} chooses the host"),
    }
}

/// A table in a sentence.
fn table_name(kind: TableKind) -> &'static str {
    match kind {
        TableKind::Ring => "ring",
        TableKind::Maglev => "Maglev table",
    }
}

fn policy_answer(trace: PolicyTrace, ports_are_known: bool) -> PolicyAnswer {
    if trace.generated && !ports_are_known {
        return PolicyAnswer { policy: trace.policy, value: Some(GENERATED.to_owned()), hash: None };
    }
    PolicyAnswer { policy: trace.policy, value: trace.value, hash: trace.hash.map(hex) }
}

fn cookie_text(cookie: &[u8], policies: &[PolicyTrace], ports_are_known: bool) -> String {
    let text = String::from_utf8_lossy(cookie).into_owned();
    let value = policies.iter().find(|policy| policy.generated).and_then(|policy| policy.value.as_deref());
    match value {
        Some(value) if !ports_are_known => text.replacen(value, GENERATED, 1),
        Some(_) | None => text,
    }
}

fn hex(hash: u64) -> String {
    format!("{hash:016x}")
}
