//! One request of an HTTP/2 client and its answer.

use std::{
    future::{Future as _, poll_fn},
    pin::pin,
    rc::Rc,
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Version};

use crate::{
    base::head::{request, response},
    proxy::{
        flow::{
            context::ConnContext,
            guard::FlightGuard,
            request::{Response, Served, expects_continue, refuse, serve as serve_request},
        },
        state::{
            budget::Account,
            conn::Signal,
            flight::{Expiry, Flight},
        },
        wire::{headers::HopHeaders, reason::Reason, spare},
    },
    telemetry::MovedStream,
};

use super::{
    super::body::ClientBody, cut::Cut, delivery::Delivery, head::Head, incoming::Http2Body, responder::Responder, session::Session,
    stream::Stream,
};

/// A stream that the client resets within this time, and before it has its answer, may have been opened for nothing else (Envoy:
/// `premature_reset_min_stream_lifetime_seconds`).
const PREMATURE: Duration = Duration::from_secs(1);

/// What all streams of a connection share.
pub(super) struct Http2 {
    pub(super) context: Rc<ConnContext>,
    pub(super) session: Rc<Session>,
}

// === impl Http2 ===

impl Http2 {
    /// Answers a request, and ends its stream.
    pub(super) async fn serve_stream(&self, head: Head, stream: Rc<Stream>, has_body: bool) {
        let context = &self.context;
        let respond = Responder::new(Rc::clone(&self.session), Rc::clone(&stream));
        let Head { mut parts, length, refused } = head;
        let body = if has_body { ClientBody::Http2(Http2Body::new(Rc::clone(&self.session), stream, length)) } else { ClientBody::Empty };
        let is_head = parts.method == Method::HEAD;
        let guard = FlightGuard::begin(&context.worker, &context.conn, !has_body);
        let flight = Rc::clone(guard.flight());
        flight.expects_continue.set(has_body && expects_continue(&parts.headers));
        let response = match refused {
            Some(refusal) => Ok(refuse(context, guard, Some(&parts), &refusal)),
            None => answer(context, guard, &flight, &mut parts, body, &respond).await,
        };
        let sent = match response {
            Ok(response) => self.deliver(&flight, response, is_head, &respond).await,
            Err(cut) => Err(cut),
        };
        if let Err(Cut::Reset(reason)) = sent {
            respond.reset(reason);
        }
        let conduct = &self.session.conduct;
        conduct.stream_ended(matches!(sent, Err(Cut::ByClient(_))) && flight.started.elapsed() < PREMATURE);
        if conduct.abuse().is_some() {
            context.conn.wake();
        }
    }

    async fn deliver(&self, flight: &Rc<Flight>, response: Response<ClientBody>, is_head: bool, respond: &Responder) -> Result<(), Cut> {
        let context = &self.context;
        if context.worker.ends_keep_alive() {
            context.conn.tell(Signal::Finish);
        }
        let Response { mut parts, mut body, .. } = response;
        strip(&mut parts);
        let bodyless = is_head || body.is_end_stream();
        let sent = respond.send_head(&parts, &context.worker.date.borrow(), body.own_length(), bodyless);
        spare::give_back(parts.headers);
        sent.map_err(|cut| cut.note(flight))?;
        if bodyless {
            body.delivered();
            return Ok(());
        }
        let handed = Account::new(&context.worker.budget, flight);
        let mut delivery = Delivery { body: &mut body, stream: respond, piece: Bytes::new(), ends: false, conn: &context.conn, handed };
        let delivered = poll_fn(|cx| delivery.poll(flight, cx)).await;
        if delivered.is_ok() {
            if flight.expired() == Some(Expiry::Moved) {
                context.worker.metrics.stream_moved(MovedStream::Grpc);
            }
            body.delivered();
        }
        delivered
    }
}

/// Waits for the answer, passing on what comes before it.
async fn answer(
    context: &Rc<ConnContext>,
    guard: FlightGuard,
    flight: &Flight,
    parts: &mut request::Parts,
    body: ClientBody,
    respond: &Responder,
) -> Result<Response<ClientBody>, Cut> {
    let mut serving = pin!(serve_request(context, guard, parts, body));
    let served = poll_fn(|cx| {
        if let Poll::Ready(cut) = respond.poll_cut(cx) {
            return Poll::Ready(Err(cut.note(flight)));
        }
        let polled = serving.as_mut().poll(cx).map(Ok);
        send_interims(flight, respond);
        polled
    })
    .await;
    match served? {
        Served::Response(response) => Ok(response),
        // Only HTTP/1.1 requests ask for one.
        Served::Tunnel(_) => Err(Cut::Reset(Reason::INTERNAL_ERROR)),
    }
}

/// Sends the interim responses that have come (RFC 9113 section 8.1).
fn send_interims(flight: &Flight, respond: &Responder) {
    while let Some(mut interim) = flight.take_interim() {
        strip(&mut interim);
        respond.send_interim(&interim);
    }
}

/// Headers that an HTTP/2 response must not have (RFC 9113 section 8.2.2).
fn strip(parts: &mut response::Parts) {
    parts.version = Version::HTTP_2;
    HopHeaders::scan(&parts.headers).strip_response(&mut parts.headers);
}
