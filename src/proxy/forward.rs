//! Attempts: from a plan to an answer, host by host.

use std::{rc::Rc, time::Duration};

use http::Method;
use smallvec::SmallVec;
use tokio::time::Instant;

use crate::{plan::ForwardPlan, snapshot::RoutePolicy, telemetry::RetryReason};

use super::{
    body::RequestBody,
    error::ProxyError,
    flight::{Flight, FlightGuard},
    pool::Lease,
    retry::{Attempt, Next, Situation, is_repeatable},
    upstream::{self, Answer, Encoded, Failed},
};

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

impl<'a> Attempts<'a> {
    /// Prepares the attempts at a request.
    pub(super) fn new(
        guard: &'a mut FlightGuard,
        plan: &'a ForwardPlan,
        policy: &'a RoutePolicy,
        method: &Method,
        body: &RequestBody,
    ) -> Self {
        let repeatable = is_repeatable(method, body.is_empty());
        Self { guard, plan, policy, host: plan.host, tried: SmallVec::new(), repeatable, replaced: false, retries: 0 }
    }

    /// Makes attempts until one is settled.
    pub(super) async fn run(mut self, request: &Encoded, body: RequestBody) -> Result<Answer, ProxyError> {
        let mut body = if body.is_empty() { None } else { Some(body) };
        loop {
            let lease = match self.idle_connection() {
                Some(lease) => lease,
                None => Box::pin(self.new_connection()).await?,
            };
            let reused = lease.is_reused();
            let with_body = body.is_some();
            let (result, next, reason) = match self.attempt(lease, request, body.take()).await {
                Ok(answer) => {
                    let next = match &answer {
                        Answer::Response(parts, _) => self.situation(false).next(&Attempt::Answered(parts.status)),
                        Answer::Upgraded(..) => Next::Settle,
                    };
                    (Ok(answer), next, RetryReason::Status)
                }
                Err(failed) => {
                    let next = self.after(&failed, reused, with_body);
                    body = failed.body;
                    (Err(failed.error), next, RetryReason::Reset)
                }
            };
            if next == Next::Settle || !Box::pin(self.move_on(next, reason)).await {
                return result;
            }
        }
    }

    fn after(&self, failed: &Failed, reused: bool, with_body: bool) -> Next {
        let next = self.situation(reused).next(&Attempt::Failed(&failed.error));
        if with_body && failed.body.is_none() {
            // Part of the body is gone with the connection.
            return Next::Settle;
        }
        match failed.error {
            // What was never written cannot be repeated by sending it.
            ProxyError::UpstreamClosed(_) if failed.not_sent => {
                if self.replaced {
                    Next::OtherHost
                } else {
                    Next::SameHost
                }
            }
            _ => next,
        }
    }

    fn idle_connection(&self) -> Option<Lease> {
        if self.replaced {
            return None;
        }
        let worker = self.guard.worker();
        worker.pool.borrow_mut().checkout(worker, &self.plan.cluster, self.host, self.guard.flight().started)
    }

    /// Connects to the host at hand, or to the next ones of the sequence.
    async fn new_connection(&mut self) -> Result<Lease, ProxyError> {
        loop {
            let worker = Rc::clone(self.guard.worker());
            let flight = Rc::clone(self.guard.flight());
            self.note_host();
            let connected = flight.bound(upstream::connect(&worker, &self.plan.cluster, self.host)).await;
            let error = match connected {
                Ok(Ok(lease)) => return Ok(lease),
                Ok(Err(error)) => error,
                Err(expiry) => return Err(flight.expiry_error(expiry)),
            };
            let next = self.situation(false).next(&Attempt::Failed(&error));
            if next == Next::Settle || !self.leave_host().await {
                return Err(error);
            }
            worker.metrics.retry(RetryReason::ConnectFailure);
            if let Some(lease) = worker.pool.borrow_mut().checkout(&worker, &self.plan.cluster, self.host, flight.started) {
                return Ok(lease);
            }
        }
    }

    async fn attempt(&mut self, lease: Lease, request: &Encoded, body: Option<RequestBody>) -> Result<Answer, Failed> {
        self.note_attempt();
        let flight = Rc::clone(self.guard.flight());
        flight.arm_attempt(self.policy.timeouts.backend_request);
        let on_interim = &mut |status, headers| flight.send_interim(status, headers);
        match flight.bound(upstream::exchange(lease, request, body, on_interim)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(failed)) => Err(Failed { error: blame(&flight, failed.error), ..failed }),
            Err(expiry) => Err(Failed { error: flight.expiry_error(expiry), not_sent: false, body: None }),
        }
    }

    fn note_attempt(&mut self) {
        let outcome = &self.guard.flight().outcome;
        outcome.attempts.set(outcome.attempts.get() + 1);
        self.note_host();
        if let Some(host) = self.plan.cluster.hosts.get(self.host as usize) {
            self.guard.occupy(host.live.as_ref());
        }
    }

    /// Whoever cannot be reached is named too.
    fn note_host(&self) {
        if let Some(host) = self.plan.cluster.hosts.get(self.host as usize) {
            self.guard.note_host(&host.text);
        }
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
            Next::OtherHost => {
                if !self.leave_host().await {
                    return false;
                }
                self.replaced = false;
            }
            Next::Policy(wait) => {
                self.retries += 1;
                self.replaced = false;
                // The wait is no part of an attempt, and the last attempt's expiry is dealt with.
                self.guard.flight().arm_attempt(None);
                // With a single host the policy's retry goes to it again, as Envoy's does.
                self.advance_host();
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

    /// Leaves a host that has failed for the one that its sessions will have without it; `false` when all that may be tried were.
    async fn leave_host(&mut self) -> bool {
        if !self.may_try_another() {
            return false;
        }
        let (worker, flight) = (Rc::clone(self.guard.worker()), Rc::clone(self.guard.flight()));
        let detour = worker.detours.host(&self.plan.cluster, self.plan.selection, &self.tried, Instant::now());
        let host = flight.bound(detour).await.ok().flatten().or_else(|| self.plan.next_host(&self.tried));
        self.take_host(host)
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

/// A connection that broke because the client's body did is not the upstream's fault.
fn blame(flight: &Flight, error: ProxyError) -> ProxyError {
    if flight.client_failed.get() { ProxyError::ClientBody } else { error }
}
