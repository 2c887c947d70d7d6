//! Which listener, rule, key, hash and host a request gets, and why. It runs the same plan as the proxy, and answers in JSON.

mod answer;
mod failover;
mod question;
mod slot;
#[cfg(test)]
mod tests;
mod text;

use std::{net::SocketAddr, sync::Arc};

use crate::snapshot::{Bind, BindProtocol, Snapshot, TransportPort};

pub use answer::{Decision, ExplainAnswer, PolicyAnswer, TableAnswer};
pub use question::ExplainRequest;
pub use slot::{SlotAnswer, SlotState};

use super::{
    affinity::Trace,
    chooser::Chooser,
    connection::{Connection, Tls},
    plan_traced,
    stream::{StreamConnection, plan_stream_traced},
};
use failover::Failovers;
use question::{Question, Stream};

/// Answers questions about snapshots, one after the other; what took long to work out is kept for the next question.
#[derive(Debug)]
pub struct Explainer {
    /// Random choices are told as random, so any numbers will do.
    chooser: Chooser,
    failovers: Failovers,
}

// === impl Explainer ===

impl Explainer {
    /// `random` draws backends by weight; what is kept takes at most `most_bytes`, and one table.
    pub fn new(random: fastrand::Rng, most_bytes: usize) -> Self {
        Self { chooser: Chooser::new(random), failovers: Failovers::new(most_bytes / size_of::<u32>()) }
    }

    /// Answers one line of JSON with one line of JSON; a line that cannot be read with an object that has an `error`.
    pub fn explain_line(&mut self, line: &str, snapshot: &Snapshot) -> String {
        let answer = match serde_json::from_str::<ExplainRequest>(line) {
            Ok(request) => self.explain(&request, snapshot),
            Err(error) => ExplainAnswer::error(format!(
                "expected an object such as {{\"method\": \"GET\", \"url\": \"http://a.example/\", \"headers\": [[\"cookie\", \"a=b\"]]}}: {error}"
            )),
        };
        serde_json::to_string(&answer).unwrap_or_default()
    }

    /// Answers what becomes of a request.
    pub fn explain(&mut self, request: &ExplainRequest, snapshot: &Snapshot) -> ExplainAnswer {
        let question = match Question::read(request) {
            Ok(question) => question,
            Err(error) => return ExplainAnswer::error(error),
        };
        match find_bind(&question, snapshot) {
            Ok(bind) => ExplainAnswer::Decision(Box::new(self.decide(question, bind, snapshot))),
            Err(NoBind::Ambiguous(error)) => ExplainAnswer::error(error),
            Err(NoBind::Missing(reason)) => ExplainAnswer::Decision(Box::new(Decision::nothing(reason))),
        }
    }

    fn decide(&mut self, question: Question<'_>, bind: &Bind, snapshot: &Snapshot) -> Decision {
        match question.stream {
            Some(stream) => self.decide_stream(&question, stream, bind, snapshot),
            None => self.decide_request(question, bind, snapshot),
        }
    }

    fn decide_stream(&mut self, question: &Question<'_>, stream: Stream, bind: &Bind, snapshot: &Snapshot) -> Decision {
        let server_name = question.server_name.as_deref().filter(|_| stream == Stream::Tls);
        let is_looked_into = match bind.protocol {
            BindProtocol::Http | BindProtocol::Https(_) => true,
            BindProtocol::Tls(_) | BindProtocol::Tcp | BindProtocol::Udp => false,
        };
        if is_looked_into {
            return Decision::nothing(format!("requests are served on port {}: ask with http:// or https://", bind.port));
        }
        let local = question.local.unwrap_or(bind.address);
        let connection = StreamConnection { bind, remote: question.source, local, server_name, is_terminated: false };
        let mut trace = Trace::default();
        let plan = plan_stream_traced(&connection, snapshot, &mut self.chooser, Some(&mut trace));
        let known = answer::Known { ports: question.source_has_port && question.local.is_some(), source: !question.source_is_assumed };
        // Nobody is answered with a status.
        Decision { status: None, ..answer::decision(bind, &plan, trace, known, &mut self.failovers) }
    }

    fn decide_request(&mut self, question: Question<'_>, bind: &Bind, snapshot: &Snapshot) -> Decision {
        let ports_are_known = question.source_has_port && question.local.is_some();
        // A client asks for the URL's host when it opens the connection, whatever Host header it sends afterwards.
        let tls = match bind.protocol {
            BindProtocol::Http | BindProtocol::Tls(_) | BindProtocol::Tcp | BindProtocol::Udp => None,
            BindProtocol::Https(_) => Some(Tls { server_name: question.server_name.as_deref() }),
        };
        let connection = Connection { bind, remote: question.source, local: question.local.unwrap_or(bind.address), tls };
        let mut parts = question.parts;
        let mut trace = Trace::default();
        let plan = plan_traced(&mut parts, &connection, snapshot, &mut self.chooser, Some(&mut trace));
        let known = answer::Known { ports: ports_are_known, source: !question.source_is_assumed };
        answer::decision(bind, &plan, trace, known, &mut self.failovers)
    }
}

enum NoBind {
    /// No listener there: an answer without anything in it.
    Missing(String),
    /// The question has to say more.
    Ambiguous(String),
}

/// The bind of the Gateway named, or of the only Gateway, on the URL's port.
fn find_bind<'s>(question: &Question<'_>, snapshot: &'s Snapshot) -> Result<&'s Arc<Bind>, NoBind> {
    let gateway_is_meant = |bind: &Bind| question.gateway.is_none_or(|gateway| is_named(bind, gateway));
    let on_port: Vec<&Arc<Bind>> =
        snapshot.binds.values().filter(|bind| port_of(bind) == question.port && gateway_is_meant(bind)).collect();
    let first = on_port.first().ok_or_else(|| NoBind::Missing(nothing_there(question, snapshot)))?;
    if on_port.iter().any(|bind| bind.gateway != first.gateway) {
        let mut gateways: Vec<String> = on_port.iter().map(|bind| bind.gateway.to_string()).collect();
        gateways.sort();
        gateways.dedup();
        let gateways = gateways.join(", ");
        return Err(NoBind::Ambiguous(format!("several Gateways have port {}: {gateways}; name one as \"gateway\"", question.port)));
    }
    // A Gateway with several addresses has a bind for each.
    let is_reached = |bind: &Bind, local: SocketAddr| bind.address.ip().is_unspecified() || bind.address.ip() == local.ip();
    let reached = question.local.and_then(|local| on_port.iter().find(|bind| is_reached(bind, local)));
    Ok(reached.unwrap_or(first))
}

/// The port as its listeners declare it.
fn port_of(bind: &Bind) -> TransportPort {
    TransportPort { number: bind.port, transport: bind.protocol.transport() }
}

fn is_named(bind: &Bind, gateway: &str) -> bool {
    gateway.split_once('/').is_some_and(|(namespace, name)| *bind.gateway.namespace == *namespace && *bind.gateway.name == *name)
}

fn nothing_there(question: &Question<'_>, snapshot: &Snapshot) -> String {
    let mut ports: Vec<String> = snapshot.binds.values().map(|bind| format!("{} of {}", port_of(bind), bind.gateway)).collect();
    ports.sort();
    ports.dedup();
    ports.truncate(10);
    let there = if ports.is_empty() { "there are none at all".to_owned() } else { format!("there are {}", ports.join(", ")) };
    match question.gateway {
        Some(gateway) => format!("Gateway {gateway} has no listener on port {}; {there}", question.port),
        None => format!("no listener on port {}; {there}", question.port),
    }
}
