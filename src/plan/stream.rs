//! The decision on what is not looked at: connections of TCP, of TLS by their server name, and flows of UDP.

use std::{net::SocketAddr, sync::Arc};

use http::StatusCode;

use crate::base::head::request;
use crate::snapshot::{Action, BackendName, Bind, Listener, Rule, Snapshot, UpstreamProtocol};

use super::{
    affinity::Trace,
    backend,
    chooser::Chooser,
    connection::Connection,
    decision::{ForwardPlan, Outcome, Plan, Reply, ReplyReason},
    split,
};

/// A connection, or a flow of datagrams, as far as its way depends on it.
#[derive(Clone, Copy, Debug)]
pub struct StreamConnection<'a> {
    /// Where it came in.
    pub bind: &'a Bind,
    /// The client's address.
    pub remote: SocketAddr,
    /// The address it connected to.
    pub local: SocketAddr,
    /// The name in its ClientHello, lower case; `None` without TLS, or without a name.
    pub server_name: Option<&'a str>,
    /// The gateway has ended its TLS: only then hosts may be spoken to in a TLS of the gateway's own.
    pub is_terminated: bool,
}

/// Where a connection goes.
#[derive(Debug)]
pub struct StreamPlan {
    /// Its listener.
    pub listener: Arc<Listener>,
    /// The rule that sends it on.
    pub rule: Arc<Rule>,
    /// The backend that was drawn.
    pub backend: Arc<BackendName>,
    /// Cluster and host.
    pub forward: ForwardPlan,
}

/// Why a connection is closed.
pub type StreamRefusal = ReplyReason;

/// Decides on a connection. Of several routes for its name the oldest counts; a share without a backend is closed.
///
/// # Errors
/// Why it goes nowhere.
pub fn plan_stream(connection: &StreamConnection<'_>, snapshot: &Snapshot, chooser: &mut Chooser) -> Result<StreamPlan, StreamRefusal> {
    let plan = plan_stream_traced(connection, snapshot, chooser, None);
    let backend = plan.backend().map(|backend| Arc::clone(&backend.name));
    let forward = match plan.outcome {
        Outcome::Forward(forward) => forward,
        Outcome::Reply(reply) => return Err(reply.reason),
    };
    let (Some(listener), Some(matched), Some(backend)) = (plan.listener, plan.matched, backend) else { return Err(ReplyReason::NoRoute) };
    Ok(StreamPlan { listener, rule: Arc::clone(&matched.rule), backend, forward })
}

/// The same as a plan, which is filled in as far as the steps get. There is nobody who could be answered: of its reply only the reason counts.
pub(super) fn plan_stream_traced(
    connection: &StreamConnection<'_>,
    snapshot: &Snapshot,
    chooser: &mut Chooser,
    trace: Option<&mut Trace>,
) -> Plan {
    let client = connection.remote.ip().to_canonical();
    let mut plan = Plan {
        listener: None,
        matched: None,
        backend: None,
        client,
        outcome: Outcome::Reply(refuse(ReplyReason::NoListener)),
        cors: None,
        mirrors: Vec::new(),
    };
    plan.outcome = match decide(&mut plan, connection, snapshot, chooser, trace) {
        Ok(forward) => Outcome::Forward(forward),
        Err(reply) => Outcome::Reply(reply),
    };
    plan
}

fn decide(
    plan: &mut Plan,
    connection: &StreamConnection<'_>,
    snapshot: &Snapshot,
    chooser: &mut Chooser,
    mut trace: Option<&mut Trace>,
) -> Result<ForwardPlan, Reply> {
    let StreamConnection { bind, remote, local, server_name, is_terminated } = *connection;
    let name = server_name.unwrap_or_default();
    let listener = plan.listener.insert(Arc::clone(bind.listeners.get(name).ok_or_else(|| refuse(ReplyReason::NoListener))?));
    if let Some(why) = &listener.refusal {
        return Err(refuse(ReplyReason::ListenerRefused(why.clone())));
    }
    let found = listener.hosts.get(name).and_then(|routes| routes.find("/", |matcher| matcher.is_empty()));
    let rule = &*plan.matched.insert(Arc::clone(found.ok_or_else(|| refuse(ReplyReason::NoRoute))?.entry)).rule;
    let forward = match &rule.action {
        Action::Forward(forward) => forward,
        Action::Respond(reply) => return Err(refuse(ReplyReason::Rule(reply.reason.clone()))),
        Action::Redirect(_) => return Err(refuse(ReplyReason::Redirect)),
    };
    // Policies that read a request find no key in this one.
    let parts = &request::Parts::default();
    let http = Connection { bind, remote, local, tls: None };
    let (index, backend) = split::draw(forward, &rule.policy, parts, &http, plan.client, chooser, trace.as_deref_mut())?;
    plan.backend = Some(index);
    let cluster = backend::cluster(backend, snapshot)?;
    let (policy, protocol) = (&*rule.policy, UpstreamProtocol::Http1);
    let asked = backend::Asked { parts, connection: &http, client: plan.client, policy, protocol, bound: None };
    let mut forward = backend::choose_host(cluster, &asked, chooser, trace)?;
    forward.session = None;
    forward.tls = forward.tls.filter(|_| is_terminated);
    Ok(forward)
}

fn refuse(reason: ReplyReason) -> Reply {
    Reply { status: StatusCode::SERVICE_UNAVAILABLE, location: None, reason }
}
