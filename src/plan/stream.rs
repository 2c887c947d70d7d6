//! The decision on a connection that is not looked at: TCP, and TLS by its server name.

use std::{net::SocketAddr, sync::Arc};

use http::request;

use crate::snapshot::{Action, Bind, Listener, Rule, Snapshot, UpstreamProtocol};

use super::{
    backend,
    chooser::Chooser,
    connection::Connection,
    decision::{ForwardPlan, ReplyReason},
};

/// A connection as far as its way depends on it.
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
    let StreamConnection { bind, remote, local, server_name, is_terminated } = *connection;
    let name = server_name.unwrap_or_default();
    let listener = bind.listeners.get(name).ok_or(ReplyReason::NoListener)?;
    if let Some(why) = &listener.refusal {
        return Err(ReplyReason::ListenerRefused(why.clone()));
    }
    let found = listener.hosts.get(name).and_then(|routes| routes.find("/", |matcher| matcher.is_empty())).ok_or(ReplyReason::NoRoute)?;
    let rule = &found.entry.rule;
    let forward = match &rule.action {
        Action::Forward(forward) => forward,
        Action::Respond(reply) => return Err(ReplyReason::Rule(reply.reason.clone())),
        Action::Redirect(_) => return Err(ReplyReason::Redirect),
    };
    let (_, backend) = backend::draw(forward, chooser).map_err(|reply| reply.reason)?;
    let cluster = backend::cluster(backend, snapshot).map_err(|reply| reply.reason)?;
    // Policies that read a request find no key in this one.
    let (parts, ()) = http::Request::new(()).into_parts();
    let parts: &request::Parts = &parts;
    let http = Connection { bind, remote, local, tls: None };
    let client = remote.ip().to_canonical();
    let asked = backend::Asked { parts, connection: &http, client, policy: &rule.policy, protocol: UpstreamProtocol::Http1 };
    let mut forward = backend::choose_host(cluster, &asked, chooser, None).map_err(|reply| reply.reason)?;
    forward.tls = forward.tls.filter(|_| is_terminated);
    Ok(StreamPlan { listener: Arc::clone(listener), rule: Arc::clone(rule), forward })
}
