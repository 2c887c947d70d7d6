//! A request from its arrival to its response: plan, then reply or forward.

use std::{rc::Rc, sync::Arc, time::Duration};

use http::{
    HeaderValue, Request, Response, Version,
    header::{CONNECTION, HOST, UPGRADE},
    request, response,
};
use hyper::{
    body::{Body, Incoming},
    upgrade::OnUpgrade,
};

use crate::{
    plan::{self, Connection, ForwardPlan, KeySource, Outcome, Plan, Tls},
    snapshot::{Bind, BindProtocol},
    telemetry::ResponseFlag,
};

use super::{
    body::{RequestBody, ResponseBody},
    connection::{ConnContext, Peer},
    error::ProxyError,
    flight::{Details, FlightGuard, PlanDetails},
    forward::Attempts,
    headers::{self, HopHeaders},
    reply,
    upgrade::{self, HostSide},
    upstream::{Answer, Encoded},
};

/// What is needed of the snapshot once a request has been planned.
struct Planned {
    plan: Plan,
    bind: Arc<Bind>,
}

/// Serves a request.
pub(super) async fn serve(context: &Rc<ConnContext>, mut request: Request<Incoming>) -> Response<ResponseBody> {
    let guard = FlightGuard::begin(&context.worker, &context.conn, request.body().is_end_stream());
    let version = request.version();
    let hop = HopHeaders::scan(request.headers());
    let wants_websocket = hop.websocket(request.headers(), request.method(), version);
    let tunnel = wants_websocket.then(|| hyper::upgrade::on(&mut request));
    let (mut parts, body) = request.into_parts();
    note_request(&guard, &parts);
    let planned = match admit(context, hop, &mut parts) {
        Ok(planned) => planned,
        Err(error) => return Finish { context, version, planned: None }.fail(&guard, &error),
    };
    guard.note_plan(&planned.plan, &planned.bind.gateway);
    let finish = Finish { context, version, planned: Some(&planned) };
    match &planned.plan.outcome {
        Outcome::Reply(reply) => finish.reply(&guard, reply),
        Outcome::Forward(forward) => finish.forward(guard, forward, parts, body, tunnel).await,
    }
}

/// Refuses what hyper lets through, and decides on the rest with one look at the snapshot.
fn admit(context: &Rc<ConnContext>, hop: HopHeaders, parts: &mut request::Parts) -> Result<Planned, ProxyError> {
    if !hop.framing_is_plain(&parts.headers) {
        return Err(ProxyError::BadRequest("unsupported transfer encoding"));
    }
    hop.strip_request(&mut parts.headers);
    let worker = &context.worker;
    let peer = &context.peer;
    let mut cached = worker.snapshot.borrow_mut();
    let snapshot = &cached.get().value;
    let bind = snapshot.binds.get(&peer.bind).filter(|bind| is_still_spoken(peer, bind)).ok_or(ProxyError::BindGone)?;
    let tls = peer.tls.as_ref().map(|tls| Tls { server_name: tls.server_name.as_deref() });
    let connection = Connection { bind, remote: peer.remote, local: peer.local, tls };
    let plan = plan::plan(parts, &connection, snapshot, &mut worker.chooser.borrow_mut());
    Ok(Planned { plan, bind: Arc::clone(bind) })
}

/// Whether the connection is of the kind that its port takes now: what is meant for HTTPS must not be had over an older connection without.
fn is_still_spoken(peer: &Peer, bind: &Bind) -> bool {
    match bind.protocol {
        BindProtocol::Http => peer.tls.is_none(),
        BindProtocol::Https(_) => peer.tls.is_some(),
    }
}

fn note_request(guard: &FlightGuard, parts: &request::Parts) {
    if !guard.is_logged() {
        return;
    }
    let host = parts.headers.get(HOST).and_then(|host| host.to_str().ok());
    let authority = parts.uri.authority().map(http::uri::Authority::as_str).or(host).unwrap_or_default().into();
    let details =
        Details { method: parts.method.clone(), path: parts.uri.path_and_query().cloned(), authority, plan: PlanDetails::default() };
    *guard.flight().outcome.details.borrow_mut() = Some(Box::new(details));
}

/// How the response to one request is completed.
struct Finish<'a> {
    context: &'a Rc<ConnContext>,
    version: Version,
    planned: Option<&'a Planned>,
}

impl Finish<'_> {
    /// Answers with what the plan prescribes.
    fn reply(&self, guard: &FlightGuard, reply: &plan::Reply) -> Response<ResponseBody> {
        let (mut parts, body, flag) = reply::planned(reply);
        self.complete(guard, &mut parts, flag, None);
        if self.version <= Version::HTTP_11 && matches!(reply.reason, plan::ReplyReason::BadRequest(_)) {
            close_after(&mut parts);
        }
        Response::from_parts(parts, body)
    }

    /// Answers with what the table of errors says.
    fn fail(&self, guard: &FlightGuard, error: &ProxyError) -> Response<ResponseBody> {
        let verdict = error.verdict();
        let (mut parts, body) = reply::failed(verdict);
        self.complete(guard, &mut parts, verdict.flag, None);
        if self.ends_connection(error) {
            close_after(&mut parts);
        }
        Response::from_parts(parts, body)
    }

    /// After these errors the connection's framing is in doubt, or nobody is there to serve it.
    fn ends_connection(&self, error: &ProxyError) -> bool {
        self.version <= Version::HTTP_11 && matches!(error, ProxyError::BadRequest(_) | ProxyError::ClientBody | ProxyError::BindGone)
    }

    async fn forward(
        &self,
        mut guard: FlightGuard,
        plan: &ForwardPlan,
        mut parts: request::Parts,
        body: Incoming,
        tunnel: Option<OnUpgrade>,
    ) -> Response<ResponseBody> {
        let Some(rule) = self.planned.and_then(|planned| planned.plan.rule.as_deref()) else {
            return self.fail(&guard, &ProxyError::NoHost);
        };
        if plan.key_source == KeySource::Missing {
            self.context.worker.metrics.hash_key_missing();
        }
        if rule.filters.is_some() {
            // A filter may set any header, but framing and the connection are not its business.
            HopHeaders::scan(&parts.headers).strip_request(&mut parts.headers);
        }
        let policy = &*rule.policy;
        guard.flight().arm(&policy.timeouts);
        let body = RequestBody::new(body, &guard);
        let worker = Rc::clone(guard.worker());
        let request = Encoded::new(&worker, &parts.method, &parts.uri, &parts.headers, &body, tunnel.is_some());
        worker.fall_in().await;
        let answer = Attempts::new(&mut guard, plan, policy, &parts.method, &body).run(&request, body).await;
        request.discard(&worker);
        match answer {
            Ok(answer) => self.answer(guard, answer, tunnel),
            Err(error) => self.fail(&guard, &error),
        }
    }

    fn answer(&self, guard: FlightGuard, answer: Answer, tunnel: Option<OnUpgrade>) -> Response<ResponseBody> {
        let (mut parts, body) = match answer {
            Answer::Response(parts, body) => (parts, body),
            Answer::Upgraded(parts, io, read) => return self.switch(guard, parts, HostSide { io, read }, tunnel),
        };
        let elapsed = guard.flight().upstream_time();
        self.complete(&guard, &mut parts, ResponseFlag::None, Some(elapsed));
        Response::from_parts(parts, ResponseBody::streaming(body, guard))
    }

    /// The upstream switches protocols: from here on only bytes are copied, if that is what was asked for.
    fn switch(&self, guard: FlightGuard, mut parts: response::Parts, host: HostSide, tunnel: Option<OnUpgrade>) -> Response<ResponseBody> {
        let Some(client) = tunnel.filter(|_| headers::is_websocket(&parts.headers)) else {
            return self.fail(&guard, &ProxyError::UnexpectedUpgrade);
        };
        let elapsed = guard.flight().upstream_time();
        parts.headers.remove(UPGRADE);
        self.complete(&guard, &mut parts, ResponseFlag::None, Some(elapsed));
        headers::set_websocket(&mut parts.headers);
        let worker = Rc::clone(guard.worker());
        worker.spawn(upgrade::tunnel(guard, client, host));
        Response::from_parts(parts, ResponseBody::empty())
    }

    /// What every response gets, whoever it is from.
    fn complete(&self, guard: &FlightGuard, parts: &mut response::Parts, flag: ResponseFlag, upstream: Option<Duration>) {
        let outcome = &guard.flight().outcome;
        outcome.status.set(parts.status.as_u16());
        outcome.flag.set(flag);
        outcome.upstream.set(upstream);
        // hyper answers in the version of the client; the host's own is of no consequence.
        parts.version = Version::HTTP_11;
        if let Some(planned) = self.planned {
            plan::finish_response(parts, &planned.plan, &planned.bind.profile, upstream);
        }
        if self.context.worker.is_leaving() && self.version <= Version::HTTP_11 {
            close_after(parts);
        }
    }
}

/// Makes a response the last one of its HTTP/1 connection.
fn close_after(parts: &mut response::Parts) {
    parts.headers.insert(CONNECTION, HeaderValue::from_static("close"));
}
