//! Attempts: from a plan to an answer, host by host.

use std::{net::SocketAddr, ops::ControlFlow, rc::Rc, time::Duration};

use http::Method;
use smallvec::SmallVec;
use tokio::time::{Instant, sleep};

use crate::{
    plan::ForwardPlan,
    proxy::{
        state::{
            breaker::{Ceilings, Counted, CountedKind, Held, Opened, Share},
            budget::Account,
            error::ProxyError,
            flight::Flight,
        },
        up::{self, ActiveConnection, Answer, Awaited, Encoded},
    },
    snapshot::{RetryPolicy, RoutePolicy, UpstreamProtocol},
    telemetry::{OverflowKind, ResponseFlag, RetryReason},
};

use super::{
    client_body::ClientBody,
    guard::FlightGuard,
    replay::{Sent, Source},
    request_body::RequestBody,
    retry::{Attempt, Failure, Next, PolicyRetry, RetryHost, Settled, Situation, is_repeatable},
};

/// Attempts at one request.
pub(in crate::proxy) struct Attempts<'a> {
    guard: &'a mut FlightGuard,
    plan: &'a ForwardPlan,
    tries: Tries<'a>,
    share: Rc<Share>,
    host: u32,
    tried: SmallVec<[u32; 4]>,
    repeatable: bool,
    /// A stale connection was replaced: the next attempt takes a new one.
    replaced: bool,
    retries: u32,
    /// The retry that is in flight.
    retrying: Option<Counted>,
}

/// What a rule says of attempts.
#[derive(Clone, Copy)]
pub(in crate::proxy) struct Tries<'a> {
    /// When another one is made.
    pub(in crate::proxy) retry: Option<&'a RetryPolicy>,
    /// Of each.
    pub(in crate::proxy) timeout: Option<Duration>,
}

/// An attempt without an answer.
struct FailedAttempt {
    error: ProxyError,
    reused: bool,
    unsent: bool,
}

/// What a host answers to a request of a client.
type HostAnswer<C> = Answer<Sent<RequestBody<C>>>;

type Outcome<C> = Result<HostAnswer<C>, FailedAttempt>;

impl<'a> Tries<'a> {
    /// Those of a policy.
    pub(in crate::proxy) fn of(policy: &'a RoutePolicy) -> Self {
        Self { retry: policy.retry.as_ref(), timeout: policy.timeouts.backend_request }
    }
}

impl<'a> Attempts<'a> {
    /// Prepares the attempts at a request. `is_empty`: it has no body.
    pub(in crate::proxy) fn new(
        guard: &'a mut FlightGuard,
        plan: &'a ForwardPlan,
        tries: Tries<'a>,
        method: &Method,
        is_empty: bool,
    ) -> Self {
        let share = guard.worker().hosts.share(&plan.cluster);
        Self {
            guard,
            plan,
            tries,
            share,
            host: plan.host,
            tried: SmallVec::new(),
            repeatable: is_repeatable(method, is_empty),
            replaced: false,
            retries: 0,
            retrying: None,
        }
    }

    /// Makes attempts until one is settled.
    pub(in crate::proxy) async fn run<C: ClientBody>(
        mut self,
        request: &mut Encoded,
        body: RequestBody<C>,
    ) -> Result<HostAnswer<C>, ProxyError> {
        self.guard.held.request = Some(self.count(CountedKind::Request)?);
        let mut body = self.source(body);
        loop {
            let outcome = self.attempt(request, &mut body).await;
            // A retry is in flight until its outcome is known.
            self.retrying = None;
            let outcome = match (self.situation(&body).next(&seen(&outcome)), outcome) {
                // The usual case; the answer is large, and is moved as little as can be.
                (Next::Settle(Settled::Done), Ok(answer)) if self.guard.flight().expired().is_none() => {
                    body.settle();
                    return Ok(answer);
                }
                (Next::Settle(settled), outcome) => {
                    body.settle();
                    return self.settle(outcome, settled);
                }
                (next, outcome) => Box::pin(self.move_on(next, outcome)).await,
            };
            if let ControlFlow::Break(outcome) = outcome {
                body.settle();
                return self.settle(outcome, Settled::Done);
            }
            if let Some(spans) = self.guard.next_span() {
                request.change_span(spans);
            }
        }
    }

    /// Kept only where a retry of a policy may need it, or a host of HTTP/2 may say that it did nothing about the request.
    fn source<C: ClientBody>(&self, body: RequestBody<C>) -> Source<RequestBody<C>> {
        if body.is_empty() {
            return Source::Empty;
        }
        let may_retry = self.speaks_http2() || self.tries.retry.is_some_and(|policy| policy.attempts > 0);
        let worker = self.guard.worker();
        Source::new(body, may_retry.then(|| (worker.config.backends.retry_body_bytes, Account::at_rest(&worker.budget))))
    }

    async fn attempt<C: ClientBody>(&mut self, request: &Encoded, body: &mut Source<RequestBody<C>>) -> Outcome<C> {
        let active = match self.idle_connection() {
            Some(active) => active,
            None => match Box::pin(self.new_connection()).await {
                Ok(active) => active,
                Err(error) => return Err(FailedAttempt { error, reused: false, unsent: true }),
            },
        };
        let reused = active.is_reused();
        self.note_attempt();
        let flight = Rc::clone(self.guard.flight());
        flight.arm_attempt(self.tries.timeout);
        let opened = active.opened();
        match flight.bound(up::exchange(active, request, body.send(), &self.guard.worker().hosts, &flight)).await {
            Ok(Ok(answer)) => {
                if matches!(answer, Answer::Switched(..)) {
                    self.guard.held.tunnel = opened;
                }
                Ok(answer)
            }
            Ok(Err(failed)) => {
                body.give_back(failed.body);
                Err(FailedAttempt { error: blame(&flight, failed.error), reused, unsent: failed.not_sent })
            }
            Err(expiry) => Err(FailedAttempt { error: flight.expiry_error(expiry), reused, unsent: false }),
        }
    }

    fn idle_connection(&self) -> Option<ActiveConnection> {
        // Of HTTP/2 no stale one is left to be found.
        if (self.replaced && !self.speaks_http2()) || self.share.is_awaited(self.plan.cluster.hosts.get(self.host as usize)?.address) {
            return None;
        }
        self.checkout()
    }

    fn checkout(&self) -> Option<ActiveConnection> {
        self.guard.worker().hosts.checkout(self.plan, self.host, self.guard.flight().started)
    }

    fn speaks_http2(&self) -> bool {
        match self.plan.protocol {
            UpstreamProtocol::Http1 => false,
            UpstreamProtocol::H2c => true,
        }
    }

    /// Connects to the host at hand; where there may be no more connections, waits for one. Counted as pending meanwhile, as in Envoy.
    async fn new_connection(&self) -> Result<ActiveConnection, ProxyError> {
        let (worker, flight, share) = (Rc::clone(self.guard.worker()), Rc::clone(self.guard.flight()), Rc::clone(&self.share));
        let cluster = &self.plan.cluster;
        let address = cluster.hosts.get(self.host as usize).map(|host| host.address).ok_or(ProxyError::NoHost)?;
        let _pending = self.count(CountedKind::Pending)?;
        let mut was_called = false;
        loop {
            if self.speaks_http2() {
                if let Some(active) = Box::pin(self.new_stream(address, was_called)).await? {
                    return Ok(active);
                }
            } else if let Some(opened) = self.room(address, was_called) {
                self.note_host();
                let client = flight.conn.ends();
                let connecting = up::connect(&worker.hosts, cluster, self.host, opened, self.plan.tls.as_ref(), client);
                let connected = flight.bound(connecting).await;
                return connected.unwrap_or_else(|expiry| Err(flight.expiry_error(expiry)));
            }
            if !was_called {
                worker.metrics.overflow(OverflowKind::Connections);
            }
            flight.bound(share.wait(address, was_called)).await.map_err(|expiry| flight.expiry_error(expiry))?;
            was_called = true;
            if let Some(active) = self.checkout() {
                share.look(self.ceilings());
                return Ok(active);
            }
        }
    }

    /// Opens a stream on a connection that is being made, or on one more. `None`: there may be no more, or they take no streams.
    async fn new_stream(&self, address: SocketAddr, was_called: bool) -> Result<Option<ActiveConnection>, ProxyError> {
        let (worker, flight, cluster) = (self.guard.worker(), self.guard.flight(), &self.plan.cluster);
        let tls = self.plan.tls.as_ref();
        loop {
            let awaited = worker.hosts.awaited(cluster, self.host, tls);
            let (connection, is_shared) = match awaited {
                Awaited::Connection(connection) => (connection, true),
                Awaited::Another { streams } => match self.room(address, was_called) {
                    Some(opened) => up::connect_http2(&worker.hosts, cluster, self.host, opened, tls, streams),
                    None => return Ok(None),
                },
                Awaited::Host => return Ok(None),
            };
            self.note_host();
            flight.bound(connection.ready()).await.map_err(|expiry| flight.expiry_error(expiry))??;
            let lease = connection.stream();
            if !is_shared {
                connection.leave();
                return lease.map(Some).ok_or(ProxyError::NoHost);
            }
            // Others may have been quicker: there may be another with room meanwhile.
            if let Some(active) = lease.or_else(|| self.checkout()) {
                return Ok(Some(active));
            }
        }
    }

    /// Room for a connection to this host, if need be in the place of an idle one of the cluster.
    fn room(&self, address: SocketAddr, was_called: bool) -> Option<Opened> {
        let open = || self.share.open(address, self.ceilings(), was_called);
        open().or_else(|| {
            let mine = was_called || !self.share.has_waiting();
            (mine && self.guard.worker().hosts.close_idle(self.plan.cluster.id)).then(open).flatten()
        })
    }

    fn note_attempt(&mut self) {
        let outcome = &self.guard.flight().outcome;
        outcome.attempts.set(outcome.attempts.get() + 1);
        outcome.host.set(Some(self.host));
        self.note_host();
        if let Some(host) = self.plan.cluster.hosts.get(self.host as usize) {
            self.guard.occupy(host.live.as_ref());
            if self.guard.flight().is_call.get() {
                self.guard.follow(self.plan, self.host);
            }
            let started = self.guard.flight().started;
            self.guard.worker().metrics.goes_to_host(started, self.plan.cluster.id.0, host.address, self.plan.hash);
        }
    }

    /// Also names a host that cannot be reached.
    fn note_host(&self) {
        if let Some(host) = self.plan.cluster.hosts.get(self.host as usize) {
            self.guard.note_host(host, self.plan.protocol);
        }
    }

    fn situation<C: ClientBody>(&self, body: &Source<RequestBody<C>>) -> Situation<'_> {
        Situation {
            repeatable: self.repeatable,
            body_whole: body.is_whole(),
            replaced: self.replaced,
            retries: self.retries,
            policy: self.tries.retry,
        }
    }

    fn ceilings(&self) -> Ceilings<'_> {
        Ceilings::new(&self.plan.cluster, &self.guard.worker().config.backends)
    }

    fn count(&self, kind: CountedKind) -> Result<Counted, ProxyError> {
        self.share.count(kind, self.ceilings()).ok_or_else(|| {
            self.guard.worker().metrics.overflow(kind.overflow());
            ProxyError::Overflow(kind.overflow())
        })
    }

    fn settle<C>(&mut self, outcome: Outcome<C>, settled: Settled) -> Result<HostAnswer<C>, ProxyError> {
        if let Err(failed) = &outcome {
            self.guard.note_attempt_end(None, Some(failed.error.reason()));
        }
        match settled {
            Settled::Done => {}
            Settled::LimitExceeded => self.flag(ResponseFlag::UpstreamRetryLimitExceeded),
            Settled::BodyGone => self.guard.worker().metrics.retry_without_body(),
        }
        let flight = self.guard.flight();
        let answer = match (outcome, flight.expired()) {
            (Ok(answer), None) => Ok(answer),
            // It would break off before its first byte.
            (Ok(_), Some(expiry)) => Err(flight.expiry_error(expiry)),
            (Err(failed_attempt), _) => Err(failed_attempt.error),
        };
        if answer.is_err() {
            // An answer of the gateway's own does not count against the cluster.
            self.guard.held = Held::default();
        }
        answer
    }

    /// Says of an answer that is passed on why it is the last. An error has a flag of its own.
    fn flag(&self, flag: ResponseFlag) {
        self.guard.flight().outcome.flag.set(flag);
    }

    /// Prepares the next attempt. `Break`: there is none, and this is the request's outcome.
    async fn move_on<C>(&mut self, next: Next, outcome: Outcome<C>) -> ControlFlow<Outcome<C>> {
        let reason = retry_reason(&outcome);
        self.note_end(&outcome);
        match next {
            Next::Settle(_) => return ControlFlow::Break(outcome),
            Next::SameHost => {
                self.forget_attempt();
                self.replaced = true;
            }
            Next::OtherHost => {
                self.forget_attempt();
                let refused = matches!(outcome, Err(FailedAttempt { error: ProxyError::UpstreamRefusedStream, .. }));
                self.replaced = match self.leave_host().await {
                    Ok(true) => false,
                    // The only host has refused one stream, and may take the next.
                    Ok(false) if refused && !self.replaced => true,
                    Ok(false) => return ControlFlow::Break(outcome),
                    Err(expired) => return ControlFlow::Break(Err(expired)),
                };
            }
            Next::Policy(retry) => self.policy_retry(retry, outcome).await?,
        }
        self.guard.worker().metrics.retry(reason);
        ControlFlow::Continue(())
    }

    /// The request goes on after this attempt.
    fn note_end<C>(&self, outcome: &Outcome<C>) {
        match outcome {
            Ok(Answer::Response(parts, _)) => self.guard.note_attempt_end(Some(parts.status.as_u16()), None),
            Ok(Answer::Switched(..)) => {}
            Err(failed) => self.guard.note_attempt_end(None, Some(failed.error.reason())),
        }
    }

    /// The deadline of the last attempt is dealt with.
    fn forget_attempt(&self) {
        self.guard.flight().arm_attempt(None);
    }

    async fn policy_retry<C>(&mut self, retry: PolicyRetry, outcome: Outcome<C>) -> ControlFlow<Outcome<C>> {
        match self.count(CountedKind::Retry) {
            Ok(retrying) => self.retrying = Some(retrying),
            Err(_) => {
                self.flag(ResponseFlag::UpstreamOverflow);
                return ControlFlow::Break(outcome);
            }
        }
        // Another attempt decides: this one's connection need not wait for it.
        drop(outcome);
        self.forget_attempt();
        self.guard.occupy(None);
        self.retries += 1;
        self.replaced = false;
        match self.next_host(retry.host).await {
            Ok(()) => {}
            Err(expired) => return ControlFlow::Break(Err(expired)),
        }
        let wait = retry.wait.at(self.guard.worker().chooser.borrow_mut().random.f64());
        match self.rest(wait).await {
            Ok(()) => ControlFlow::Continue(()),
            Err(expired) => ControlFlow::Break(Err(expired)),
        }
    }

    async fn rest(&self, wait: Duration) -> Result<(), FailedAttempt> {
        if wait.is_zero() {
            return Ok(());
        }
        let flight = self.guard.flight();
        flight.bound(sleep(wait)).await.map_err(|expiry| FailedAttempt::before(flight.expiry_error(expiry)))
    }

    /// Chooses where a retry of the policy goes. When all that may be tried were, it begins again with the first.
    async fn next_host(&mut self, retry: RetryHost) -> Result<(), FailedAttempt> {
        let found = match retry {
            RetryHost::Next => self.advance_host(),
            RetryHost::Successor => self.leave_host().await?,
        };
        if !found {
            self.tried.clear();
            self.host = self.plan.host;
        }
        Ok(())
    }

    /// Leaves a host that has failed for the one that its sessions will have without it; `false` when all that may be tried were.
    async fn leave_host(&mut self) -> Result<bool, FailedAttempt> {
        if !self.may_try_another() {
            return Ok(false);
        }
        let (worker, flight) = (Rc::clone(self.guard.worker()), Rc::clone(self.guard.flight()));
        let detour = worker.detours.host(&self.plan.cluster, self.plan.selection, &self.tried, Instant::now());
        let host = flight.bound(detour).await.map_err(|expiry| FailedAttempt::before(flight.expiry_error(expiry)))?;
        let host = host.or_else(|| self.plan.next_host(&self.tried));
        Ok(self.take_host(host))
    }

    /// Goes on to the next host of the sequence, as Envoy does; `false` when all that may be tried were.
    fn advance_host(&mut self) -> bool {
        let host = if self.may_try_another() { self.plan.next_host(&self.tried) } else { None };
        self.take_host(host)
    }

    /// The host at hand was tried; whether there may be another.
    fn may_try_another(&mut self) -> bool {
        self.tried.push(self.host);
        u32::try_from(self.tried.len()).is_ok_and(|tried| tried < self.guard.worker().config.max_hosts)
    }

    fn take_host(&mut self, host: Option<u32>) -> bool {
        self.host = host.unwrap_or(self.host);
        host.is_some()
    }
}

// === impl FailedAttempt ===

impl FailedAttempt {
    /// Time was up before the next attempt began.
    fn before(error: ProxyError) -> Self {
        Self { error, reused: false, unsent: true }
    }
}

/// What the decision about a retry looks at.
fn seen<C>(outcome: &Outcome<C>) -> Attempt<'_> {
    match outcome {
        Ok(Answer::Response(parts, _)) => Attempt::Answered(parts.status, &parts.headers),
        Ok(Answer::Switched(..)) => Attempt::Switched,
        Err(FailedAttempt { error, reused, unsent }) => Attempt::Failed(Failure { error, reused: *reused, unsent: *unsent }),
    }
}

fn retry_reason<C>(outcome: &Outcome<C>) -> RetryReason {
    match outcome {
        Ok(_) => RetryReason::Status,
        Err(FailedAttempt { error: ProxyError::Connect(_) | ProxyError::HostTls(_) | ProxyError::ConnectTimeout, .. }) => {
            RetryReason::ConnectFailure
        }
        Err(FailedAttempt { error: ProxyError::UpstreamRefusedStream | ProxyError::UpstreamGoneAway, .. }) => RetryReason::NotProcessed,
        Err(_) => RetryReason::Reset,
    }
}

/// A connection that broke because the client's body did is not the upstream's fault.
fn blame(flight: &Flight, error: ProxyError) -> ProxyError {
    if flight.client_failed.get() { ProxyError::ClientBody } else { error }
}
