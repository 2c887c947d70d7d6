//! Attempts: from a plan to a response, host by host.

use std::{rc::Rc, time::Duration};

use http::{HeaderMap, Method, Request, Response, Uri, Version};
use hyper::body::Incoming;
use smallvec::SmallVec;

use crate::{plan::ForwardPlan, snapshot::RoutePolicy, telemetry::RetryReason};

use super::{
    body::RequestBody,
    error::ProxyError,
    flight::{Flight, FlightGuard},
    pool::Lease,
    retry::{Attempt, Next, Situation, is_repeatable},
    upstream::{self, ExchangeError},
};

/// A response, and the connection it comes on.
pub(super) struct Answer {
    pub(super) response: Response<Incoming>,
    pub(super) lease: Lease,
}

/// Attempts at one request.
pub(super) struct Attempts<'a> {
    guard: &'a mut FlightGuard,
    plan: &'a ForwardPlan,
    policy: &'a RoutePolicy,
    host: u32,
    tried: SmallVec<[u32; 4]>,
    repeatable: bool,
    /// A stale connection was replaced: the next attempt takes a new one.
    replaced: bool,
    retries: u32,
}

/// The head of a request that may have to be sent again.
struct SavedHead {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
}

/// What an attempt came to.
enum Tried {
    Answered(Answer),
    /// The connection closed under the request before anything was written.
    NotSent(Box<Request<RequestBody>>),
    Failed {
        error: ProxyError,
        reused: bool,
    },
}

impl<'a> Attempts<'a> {
    /// Prepares the attempts at a request.
    pub(super) fn new(guard: &'a mut FlightGuard, plan: &'a ForwardPlan, policy: &'a RoutePolicy, request: &Request<RequestBody>) -> Self {
        let repeatable = is_repeatable(request.method(), request.body().is_empty());
        Self { guard, plan, policy, host: plan.host, tried: SmallVec::new(), repeatable, replaced: false, retries: 0 }
    }

    /// Makes attempts until one is settled.
    pub(super) async fn run(mut self, mut request: Request<RequestBody>) -> Result<Answer, ProxyError> {
        loop {
            let lease = match self.idle_connection() {
                Some(lease) => lease,
                None => Box::pin(self.new_connection()).await?,
            };
            let saved = self.keeps_head(&lease).then(|| SavedHead::of(&request));
            match self.attempt(lease, request).await {
                Tried::NotSent(unsent) => {
                    // Never written, so sending it cannot repeat anything.
                    self.replaced = true;
                    self.guard.worker().metrics.retry(RetryReason::Reset);
                    request = *unsent;
                }
                Tried::Answered(answer) => {
                    let next = self.situation(false).next(&Attempt::Answered(answer.response.status()));
                    let Some(saved) = saved else { return Ok(answer) };
                    if !self.move_on(next, RetryReason::Status).await {
                        return Ok(answer);
                    }
                    request = saved.into_request();
                }
                Tried::Failed { error, reused } => {
                    let next = self.situation(reused).next(&Attempt::Failed(&error));
                    let Some(saved) = saved else { return Err(error) };
                    if !self.move_on(next, RetryReason::Reset).await {
                        return Err(error);
                    }
                    request = saved.into_request();
                }
            }
        }
    }

    fn idle_connection(&self) -> Option<Lease> {
        if self.replaced {
            return None;
        }
        let worker = self.guard.worker();
        worker.pool.borrow_mut().checkout(&self.plan.cluster, self.host, self.guard.flight().started)
    }

    /// Connects to the host at hand, or to the next ones of the sequence.
    async fn new_connection(&mut self) -> Result<Lease, ProxyError> {
        loop {
            let worker = Rc::clone(self.guard.worker());
            let flight = Rc::clone(self.guard.flight());
            let connected = flight.bound(upstream::connect(&worker, &self.plan.cluster, self.host)).await;
            let error = match connected {
                Ok(Ok(lease)) => return Ok(lease),
                Ok(Err(error)) => error,
                Err(expiry) => return Err(flight.expiry_error(expiry)),
            };
            let hosts = u32::try_from(self.tried.len()).unwrap_or(u32::MAX).saturating_add(1);
            let next = self.situation(false).next(&Attempt::Failed(&error));
            if next == Next::Settle || hosts >= worker.config.max_hosts || !self.to_next_host() {
                return Err(error);
            }
            worker.metrics.retry(RetryReason::ConnectFailure);
            if let Some(lease) = worker.pool.borrow_mut().checkout(&self.plan.cluster, self.host, flight.started) {
                return Ok(lease);
            }
        }
    }

    async fn attempt(&mut self, mut lease: Lease, request: Request<RequestBody>) -> Tried {
        self.note_attempt();
        let flight = Rc::clone(self.guard.flight());
        flight.arm_attempt(self.policy.timeouts.backend_request);
        let reused = lease.reused;
        match flight.bound(upstream::exchange(&mut lease, request)).await {
            Ok(Ok(response)) => Tried::Answered(Answer { response, lease }),
            Ok(Err(ExchangeError::NotSent(request))) => Tried::NotSent(request),
            Ok(Err(ExchangeError::Broken(error))) => Tried::Failed { error: blame(&flight, error), reused },
            Err(expiry) => Tried::Failed { error: flight.expiry_error(expiry), reused: false },
        }
    }

    fn note_attempt(&mut self) {
        let outcome = &self.guard.flight().outcome;
        outcome.attempts.set(outcome.attempts.get() + 1);
        if let Some(host) = self.plan.cluster.hosts.get(self.host as usize) {
            self.guard.note_host(&host.text);
            self.guard.occupy(host.live.as_ref());
        }
    }

    /// Whether the head may be needed again: it costs a copy.
    fn keeps_head(&self, lease: &Lease) -> bool {
        self.repeatable && (lease.reused || self.policy.retry.is_some())
    }

    fn situation(&self, reused: bool) -> Situation<'_> {
        Situation {
            repeatable: self.repeatable,
            reused,
            replaced: self.replaced,
            retries: self.retries,
            policy: self.policy.retry.as_ref(),
        }
    }

    /// Prepares the next attempt; `false` if there is none.
    async fn move_on(&mut self, next: Next, reason: RetryReason) -> bool {
        match next {
            Next::Settle => return false,
            Next::SameHost => self.replaced = true,
            Next::NextHost(wait) => {
                self.retries += 1;
                self.replaced = false;
                // The wait is no part of an attempt, and the last attempt's expiry is dealt with.
                self.guard.flight().arm_attempt(None);
                // With a single host the policy's retry goes to it again, as Envoy's does.
                self.to_next_host();
                if !wait.is_zero() && !self.rest(wait).await {
                    return false;
                }
            }
        }
        self.guard.worker().metrics.retry(reason);
        true
    }

    /// Envoy's jitter: anything up to the full wait.
    async fn rest(&self, longest: Duration) -> bool {
        let share = self.guard.worker().chooser.borrow_mut().random.f64();
        self.guard.flight().bound(tokio::time::sleep(longest.mul_f64(share))).await.is_ok()
    }

    fn to_next_host(&mut self) -> bool {
        self.tried.push(self.host);
        match self.plan.next_host(&self.tried) {
            Some(host) => {
                self.host = host;
                true
            }
            None => false,
        }
    }
}

/// A connection that broke because the client's body did is not the upstream's fault.
fn blame(flight: &Flight, error: ProxyError) -> ProxyError {
    if flight.client_failed.get() { ProxyError::ClientBody } else { error }
}

// === impl SavedHead ===

impl SavedHead {
    fn of(request: &Request<RequestBody>) -> Self {
        Self { method: request.method().clone(), uri: request.uri().clone(), headers: request.headers().clone() }
    }

    fn into_request(self) -> Request<RequestBody> {
        let mut request = Request::new(RequestBody::Empty);
        *request.method_mut() = self.method;
        *request.uri_mut() = self.uri;
        *request.headers_mut() = self.headers;
        *request.version_mut() = Version::HTTP_11;
        request
    }
}
