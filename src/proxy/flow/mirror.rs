//! Copies of requests for mirrors: each is sent once, in a task of its own, and its answer is read and thrown away.

use std::{pin::Pin, rc::Rc, time::Duration};

use http_body::Body as _;
use tokio::time::Instant;

use crate::{
    base::head::{HeaderMap, request},
    plan::ForwardPlan,
    proxy::{
        state::flight::{Expiry, Flight},
        up::{Answer, Encoded},
        worker::Worker,
    },
    snapshot::RoutePolicy,
    telemetry::MirrorResult,
};

use super::{
    client_body::ClientBody,
    forward::{Attempts, Tries},
    guard::FlightGuard,
    request_body::RequestBody,
    response_body::HostBody,
};

/// Most bytes of an answer that are read so that its connection can be used again.
const MOST_READ: usize = 1 << 20;

/// Sends a copy of a request, whose head is ready for the host, and of its body as far as that is read.
pub(in crate::proxy) fn start<C: ClientBody>(
    worker: &Rc<Worker>,
    plan: &ForwardPlan,
    policy: &RoutePolicy,
    parts: &request::Parts,
    headers: HeaderMap,
    body: &mut RequestBody<C>,
) {
    let mut guard = FlightGuard::begin_mirror(worker, body.is_empty());
    guard.hold_head(&headers, &parts.uri);
    if guard.head_is_too_much() {
        // Room is for what clients wait for.
        return worker.metrics.mirrored(MirrorResult::Failed);
    }
    guard.flight().arm(&policy.timeouts);
    if worker.is_closing() {
        hasten(guard.flight(), worker);
    }
    let copy = body.copy(&guard);
    let request = Encoded::new(&worker.hosts, plan.protocol, &parts.method, &parts.uri, headers, copy.length(), false);
    let (plan, method) = (plan.clone(), parts.method.clone());
    let tries = Tries { retry: None, timeout: policy.timeouts.backend_request };
    let of = Rc::clone(worker);
    worker.spawn(async move {
        let (mut guard, mut request) = (guard, request);
        let answer = Attempts::new(&mut guard, &plan, tries, &method, copy.is_empty()).run(&mut request, copy).await;
        request.discard(&of.hosts);
        let result = match answer {
            Ok(Answer::Response(_, body)) => discard(guard.flight(), body, of.config.limits.mirror_answer).await,
            Ok(Answer::Switched(_)) | Err(_) => MirrorResult::Failed,
        };
        of.metrics.mirrored(result);
    });
}

/// The worker ends: no client waits for a copy, and so it has no more time than a farewell.
pub(in crate::proxy) fn hasten(copy: &Flight, worker: &Worker) {
    copy.end_by(Instant::now() + worker.config.limits.farewell);
}

/// Reads an answer to its end, or as much of it as is worth the connection: one that never ends, such as a stream of events, must not outlive
/// its request for long.
async fn discard<C: ClientBody>(flight: &Flight, mut body: HostBody<C>, time: Duration) -> MirrorResult {
    flight.end_within(time);
    let mut read = 0;
    while read <= MOST_READ {
        match flight.bound(std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx))).await {
            Ok(Some(Ok(frame))) => {
                flight.touch();
                read += frame.data_ref().map_or(0, bytes::Bytes::len);
            }
            Ok(Some(Err(_))) | Err(Expiry::Attempt | Expiry::Idle | Expiry::Buffers | Expiry::Moved) => return MirrorResult::Failed,
            Ok(None) | Err(Expiry::Request) => break,
        }
    }
    MirrorResult::Answered
}
