//! A request from its arrival to its response: plan, then reply or forward.

use std::{rc::Rc, sync::Arc, time::Duration};

use http::{
    StatusCode, Version,
    header::{DATE, EXPECT, UPGRADE},
};

use crate::{
    base::head::{HeaderMap, request, response},
    base::trace::continue_trace,
    plan::{self, Connection, ForwardPlan, GrpcStatus, KeySource, Outcome, Plan, SessionState, Tls},
    proxy::{
        state::{error::ProxyError, peer::Peer},
        up::{Answer, Encoded, HostSide, Switched},
        wire::{
            date,
            headers::{self, HopHeaders},
        },
        worker::Worker,
    },
    snapshot::{Bind, BindProtocol},
    telemetry::{MovedStream, ResponseFlag, SessionResult},
};

use super::{
    client_body::ClientBody,
    context::ConnContext,
    forward::{Attempts, Tries},
    guard::FlightGuard,
    late_host, mirror, reply,
    request_body::RequestBody,
    response_body::ResponseBody,
    upgrade::Tunnel,
};

/// What becomes of a request.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "a response is the usual case, and is moved once")]
pub(in crate::proxy) enum Served<C> {
    /// A response.
    Response(Response<C>),
    /// The client is told that the protocol changes, and then it does.
    Tunnel(Box<Tunnel>),
}

/// A response that the client's leg delivers.
#[derive(Debug)]
pub(in crate::proxy) struct Response<C> {
    pub(in crate::proxy) parts: response::Parts,
    pub(in crate::proxy) body: ResponseBody<C>,
    /// An HTTP/1 connection ends with it.
    pub(in crate::proxy) close: bool,
}

/// What is needed of the snapshot once a request has been planned.
struct Planned {
    plan: Plan,
    bind: Arc<Bind>,
    generation: u64,
}

/// Serves a request. Its head is rewritten in place, and its headers are gone once it is on its way.
pub(in crate::proxy) async fn serve<C: ClientBody>(
    context: &Rc<ConnContext>,
    mut guard: FlightGuard,
    parts: &mut request::Parts,
    body: C,
) -> Served<C> {
    let hop = HopHeaders::scan(&parts.headers);
    if hop.grpc(&parts.headers) {
        guard.flight().is_call.set(true);
    }
    let wants_websocket = hop.websocket(&parts.headers, &parts.method, parts.version);
    if guard.observes() {
        observe(context, &guard, hop, parts);
    } else {
        hop.strip_request(&mut parts.headers);
    }
    let admitted = admit(context, parts);
    guard.record().note_head(guard.log(), parts);
    let mut waited = false;
    let planned = match admitted {
        Ok(mut planned) if planned.plan.has_unknown_tag() => {
            let Planned { plan, bind, .. } = &mut planned;
            if let Some(generation) = Box::pin(late_host::wait_for_host(&context.worker, plan, bind)).await {
                planned.generation = generation;
                waited = true;
            }
            planned
        }
        Ok(planned) => planned,
        Err(error) => return Served::Response(Finish { context, planned: None }.fail(guard, &error)),
    };
    guard.hold_head(&parts.headers, &parts.uri);
    guard.note_plan(&planned.plan, &planned.bind.gateway, planned.generation);
    let finish = Finish { context, planned: Some(&planned) };
    match &planned.plan.outcome {
        Outcome::Reply(reply) => Served::Response(finish.reply(guard, reply)),
        Outcome::Forward(forward) => {
            note_session(&context.worker, forward, waited);
            finish.forward(guard, forward, parts, body, wants_websocket).await
        }
    }
}

/// Counts what the request says of its session.
fn note_session(worker: &Worker, plan: &ForwardPlan, waited: bool) {
    let Some(session) = &plan.session else { return };
    worker.metrics.session(match session.state {
        SessionState::Bound if waited => SessionResult::Waited,
        SessionState::Bound => SessionResult::Bound,
        SessionState::New => SessionResult::New,
        SessionState::Lost => SessionResult::Lost,
        SessionState::Unknown => SessionResult::Unknown,
    });
}

/// Begins the record of a request, and continues its trace. Strips the head as `serve` does without.
#[cold]
fn observe(context: &Rc<ConnContext>, guard: &FlightGuard, hop: HopHeaders, parts: &mut request::Parts) {
    let worker = &context.worker;
    if guard.log().is_some() {
        guard.record().begin(&context.peer, parts);
    }
    hop.strip_request(&mut parts.headers);
    let Some(tracer) = &worker.config.tracer else { return };
    let span = continue_trace(&mut parts.headers, tracer.sampler(), &mut worker.chooser.borrow_mut().random);
    if let Some(span) = span {
        if guard.log().is_none() {
            guard.record().begin(&context.peer, parts);
        }
        guard.record().begin_trace(span, if context.peer.tls.is_some() { "https" } else { "http" });
    }
}

/// The answer to what is no request, or is one that no plan is made for. `parts`: its head, where there is one.
pub(in crate::proxy) fn refuse<C: ClientBody>(
    context: &Rc<ConnContext>,
    guard: FlightGuard,
    parts: Option<&request::Parts>,
    error: &ProxyError,
) -> Response<C> {
    if guard.log().is_some() {
        match parts {
            Some(parts) => guard.record().begin(&context.peer, parts),
            None => guard.record().begin_refused(&context.peer, None),
        }
    }
    Finish { context, planned: None }.fail(guard, error)
}

/// Counts and logs what was refused before there was a request. `status`: of the answer, where there was one.
pub(in crate::proxy) fn note_refused(context: &Rc<ConnContext>, version: Version, status: Option<StatusCode>, reason: &'static str) {
    let guard = FlightGuard::begin(&context.worker, &context.conn, true);
    if guard.log().is_some() {
        guard.record().begin_refused(&context.peer, Some(version));
        guard.record().note_reason(reason);
    }
    let outcome = &guard.flight().outcome;
    outcome.status.set(status.map_or(0, |status| status.as_u16()));
    outcome.flag.set(ResponseFlag::DownstreamProtocolError);
}

/// Whether the client waits for leave to send its body (RFC 9110 section 10.1.1).
pub(in crate::proxy) fn expects_continue(headers: &HeaderMap) -> bool {
    headers.get(EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

/// Refuses what is too much, and decides on the rest with one look at the snapshot.
fn admit(context: &Rc<ConnContext>, parts: &mut request::Parts) -> Result<Planned, ProxyError> {
    let worker = &context.worker;
    if let Some(reason) = worker.refuses_requests() {
        worker.metrics.request_refused(reason);
        return Err(ProxyError::Overload);
    }
    let peer = &context.peer;
    let mut cached = worker.snapshot.borrow_mut();
    let versioned = cached.get();
    let snapshot = &versioned.value;
    let bind = snapshot.binds.get(&peer.bind).filter(|bind| is_still_spoken(peer, bind)).ok_or(ProxyError::BindGone)?;
    let tls = peer.tls.as_ref().map(|tls| Tls { server_name: tls.server_name.as_deref() });
    let connection = Connection { bind, remote: peer.remote, local: peer.local, tls };
    let plan = plan::plan(parts, &connection, snapshot, &mut worker.chooser.borrow_mut());
    Ok(Planned { plan, bind: Arc::clone(bind), generation: versioned.generation })
}

/// Whether the connection is of the kind that its port takes now: what is meant for HTTPS must not be had over an older connection without.
fn is_still_spoken(peer: &Peer, bind: &Bind) -> bool {
    match bind.protocol {
        BindProtocol::Http => peer.tls.is_none(),
        BindProtocol::Https(_) | BindProtocol::Tls(_) => peer.tls.is_some(),
        BindProtocol::Tcp | BindProtocol::Udp => false,
    }
}

/// How the response to one request is completed.
struct Finish<'a> {
    context: &'a Rc<ConnContext>,
    planned: Option<&'a Planned>,
}

impl Finish<'_> {
    /// Answers with what the plan prescribes.
    fn reply<C: ClientBody>(&self, guard: FlightGuard, reply: &plan::Reply) -> Response<C> {
        guard.flight().arm_answer();
        guard.record().note_reason(reply::why(&reply.reason));
        let (mut parts, mut text, flag) = reply::planned(reply);
        if guard.flight().is_call.get() {
            text = reply::to_call(&mut parts, text, GrpcStatus::of_error(reply.status));
        }
        self.complete(&guard, &mut parts, flag, None);
        let close = self.is_last() || matches!(reply.reason, plan::ReplyReason::BadRequest(_));
        Response { parts, body: ResponseBody::text(text, guard), close }
    }

    /// Answers with what the table of errors says.
    fn fail<C: ClientBody>(&self, guard: FlightGuard, error: &ProxyError) -> Response<C> {
        guard.flight().arm_answer();
        guard.record().note_reason(error.reason());
        if matches!(error, ProxyError::SessionMoved) {
            self.context.worker.metrics.stream_moved(MovedStream::Grpc);
        }
        let verdict = error.verdict();
        let (mut parts, mut text) = reply::failed(verdict);
        if guard.flight().is_call.get() {
            text = reply::to_call(&mut parts, text, error.grpc_status());
        }
        self.complete(&guard, &mut parts, verdict.flag, None);
        // What was not sent in time is not waited for once more.
        let stalled = matches!(error, ProxyError::RequestTimeout | ProxyError::UploadIdle) && !guard.flight().uploaded.get();
        let close = self.is_last() || error.ends_connection() || stalled;
        Response { parts, body: ResponseBody::text(text, guard), close }
    }

    async fn forward<C: ClientBody>(
        &self,
        mut guard: FlightGuard,
        plan: &ForwardPlan,
        parts: &mut request::Parts,
        body: C,
        wants_websocket: bool,
    ) -> Served<C> {
        let Some(rule) = self.planned.and_then(|planned| planned.plan.rule()) else {
            return Served::Response(self.fail(guard, &ProxyError::NoHost));
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
        if let Some(timeout) = rule.is_grpc().then(|| plan::grpc_timeout(&parts.headers)).flatten() {
            guard.flight().arm_call(timeout);
        }
        let mut body = RequestBody::new(body, &guard);
        let worker = Rc::clone(guard.worker());
        let headers = std::mem::take(&mut parts.headers);
        // What a connection becomes after it has switched protocols is not copied.
        if !wants_websocket {
            for mirror in self.planned.iter().flat_map(|planned| &planned.plan.mirrors) {
                mirror::start(&worker, mirror, policy, parts, headers.clone(), &mut body);
            }
        }
        let mut request = Encoded::new(&worker.hosts, plan.protocol, &parts.method, &parts.uri, headers, body.length(), wants_websocket);
        worker.yield_to_batch_writes().await;
        let answer = Attempts::new(&mut guard, plan, Tries::of(policy), &parts.method, body.is_empty()).run(&mut request, body).await;
        request.discard(&worker.hosts);
        match answer {
            Ok(Answer::Response(parts, body)) => Served::Response(self.answer(guard, parts, |guard| ResponseBody::streaming(body, guard))),
            Ok(Answer::Switched(switched)) => {
                let Switched { parts, host } = *switched;
                self.switch(guard, parts, host, wants_websocket)
            }
            Err(error) => Served::Response(self.fail(guard, &error)),
        }
    }

    fn answer<C: ClientBody>(
        &self,
        guard: FlightGuard,
        mut parts: response::Parts,
        body: impl FnOnce(FlightGuard) -> ResponseBody<C>,
    ) -> Response<C> {
        let elapsed = guard.flight().upstream_time();
        let flag = guard.flight().outcome.flag.get();
        self.complete(&guard, &mut parts, flag, Some(elapsed));
        Response { parts, body: body(guard), close: self.is_last() }
    }

    /// The upstream switches protocols: from here on only bytes are copied, if that is what was asked for.
    fn switch<C: ClientBody>(&self, guard: FlightGuard, mut parts: response::Parts, host: HostSide, wants_websocket: bool) -> Served<C> {
        if !(wants_websocket && headers::is_websocket(&parts.headers)) {
            return Served::Response(self.fail(guard, &ProxyError::UnexpectedUpgrade));
        }
        let elapsed = guard.flight().upstream_time();
        parts.headers.remove(UPGRADE);
        if let (Some(Outcome::Forward(plan)), Some(host)) =
            (self.planned.map(|planned| &planned.plan.outcome), guard.flight().outcome.host.get())
        {
            guard.follow(plan, host);
        }
        self.complete(&guard, &mut parts, ResponseFlag::None, Some(elapsed));
        Served::Tunnel(Box::new(Tunnel { parts, guard, host }))
    }

    /// Whether every connection of the worker ends with its next response.
    fn is_last(&self) -> bool {
        self.context.worker.ends_keep_alive()
    }

    /// What every response gets, also the gateway's own.
    fn complete(&self, guard: &FlightGuard, parts: &mut response::Parts, flag: ResponseFlag, upstream: Option<Duration>) {
        let outcome = &guard.flight().outcome;
        outcome.status.set(parts.status.as_u16());
        outcome.flag.set(flag);
        outcome.upstream.set(upstream);
        // The client's leg answers in the version of the client; the host's own is of no consequence.
        parts.version = Version::HTTP_11;
        if let Some(planned) = self.planned {
            if let (Outcome::Forward(forward), Some(_)) = (&planned.plan.outcome, upstream)
                && let Some(session) = &forward.session
                && session.has_left(outcome.host.get())
            {
                guard.worker().metrics.session(SessionResult::Failed);
            }
            let by_host = upstream.map(|time| plan::Answered { host: outcome.host.get(), time });
            plan::finish_response(parts, &planned.plan, &planned.bind.profile, by_host);
        } else {
            self.context.identify(parts);
        }
        if guard.log().is_some() && date::is_wanted(parts) {
            // The client's leg would write it; the log shall have it too.
            parts.headers.insert(DATE, self.context.worker.date.borrow().clone());
        }
        guard.note_answer(parts, upstream.is_some());
    }
}
