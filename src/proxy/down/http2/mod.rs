//! HTTP/2 of clients, on the `h2` crate: the connection's task carries frames, and each stream has a task of its own, which ends that
//! stream alone when a deadline passes (RFC 9113).

mod conduct;
mod cut;
mod delivery;
mod watched;

use std::{
    future::{Future as _, poll_fn},
    pin::pin,
    rc::Rc,
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use h2::{
    Reason, RecvStream,
    server::{Connection, SendResponse},
};
use http::{
    HeaderValue, Method, Request, StatusCode, Version,
    header::{CONTENT_LENGTH, DATE},
};

use crate::{
    base::head::{request, response},
    proxy::{
        flow::{
            client_body::ClientBody as _,
            context::ConnContext,
            guard::FlightGuard,
            request::{Response, Served, expects_continue, note_refused, refuse, serve as serve_request},
        },
        state::{
            budget::Account,
            config::ProxyConfig,
            conn::Signal,
            error::ProxyError,
            flight::{Expiry, Flight},
            timing::Protocol,
        },
        wire::{
            date,
            fields::MAX_HEADERS,
            headers::{HopHeaders, is_token},
            spare,
        },
    },
    telemetry::{MovedStream, RequestRefusal},
};

use super::{body::ClientBody, io::ClientIo};

use self::{
    conduct::{Conduct, LibraryRefusal},
    cut::Cut,
    delivery::{Delivery, SEND_BUFFER},
    watched::Watched,
};

/// A stream that the client resets within this time, and before it has its answer, may have been opened for nothing else (Envoy:
/// `premature_reset_min_stream_lifetime_seconds`).
const PREMATURE: Duration = Duration::from_secs(1);

/// What all streams of a connection share.
struct Http2 {
    context: Rc<ConnContext>,
    conduct: Rc<Conduct>,
}

/// Serves until the connection ends.
pub(in crate::proxy) async fn serve(io: ClientIo, context: Rc<ConnContext>) {
    let builder = builder(&context.worker.config);
    let conduct = Rc::new(Conduct::new());
    let io = Watched::new(io, Rc::clone(&context.conn), Rc::clone(&conduct));
    let Some(connection) = context.conn.told_or(async { builder.handshake::<_, Bytes>(io).await.ok() }).await else { return };
    context.conn.speaks(Protocol::Http2);
    let shared = Rc::new(Http2 { context, conduct });
    if let Err(error) = drive(connection, &shared).await {
        shared.broke(&error);
    }
}

fn builder(config: &ProxyConfig) -> h2::server::Builder {
    let limits = &config.limits;
    let mut builder = h2::server::Builder::new();
    builder
        .max_concurrent_streams(limits.http2_streams)
        .initial_window_size(limits.http2_stream_window)
        .initial_connection_window_size(limits.http2_connection_window)
        // Twice what is served: a head in between is answered as any other is that is too large.
        .max_header_list_size(u32::try_from(limits.head_bytes.saturating_mul(2)).unwrap_or(u32::MAX))
        .max_send_buffer_size(config.buffer_bytes.min(SEND_BUFFER));
    builder
}

/// Carries the connection's frames and starts a task for each stream.
async fn drive(mut connection: Connection<Watched, Bytes>, shared: &Rc<Http2>) -> Result<(), h2::Error> {
    let (context, conduct) = (&shared.context, &shared.conduct);
    let (mut warned, mut ending) = (false, false);
    let head = Account::at_rest(&context.worker.budget);
    loop {
        let accepted = poll_fn(|cx| {
            match context.conn.signal(cx) {
                Some(Signal::Finish) => connection.graceful_shutdown(),
                Some(Signal::Abort | Signal::HeadTimeout) => return Poll::Ready(None),
                Some(Signal::Rest) | None => {}
            }
            let polled = connection.poll_accept(cx);
            shared.note_refused();
            head.set(conduct.open_head());
            if context.worker.budget.cuts_head(conduct.open_head() + context.conn.unread_at_rest()) && !std::mem::replace(&mut ending, true)
            {
                context.worker.metrics.request_refused(RequestRefusal::Buffers);
                connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
                return connection.poll_accept(cx);
            }
            if let Some(abuse) = conduct.abuse()
                && !std::mem::replace(&mut ending, true)
            {
                context.worker.metrics.http2_abuse(abuse);
                connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
                return connection.poll_accept(cx);
            }
            if conduct.is_warned() && !std::mem::replace(&mut warned, true) {
                context.conn.tell(Signal::Finish);
            }
            polled
        })
        .await;
        let Some(stream) = accepted else { return Ok(()) };
        let (request, respond) = stream?;
        conduct.accepted(respond.stream_id().as_u32());
        let shared = Rc::clone(shared);
        let worker = Rc::clone(&context.worker);
        worker.spawn(async move { shared.serve_stream(request, respond).await });
    }
}

// === impl Http2 ===

impl Http2 {
    async fn serve_stream(&self, request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
        let context = &self.context;
        let (parts, stream) = request.into_parts();
        let mut parts = request::Parts::from(parts);
        let length = parts.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        let body = ClientBody::http2(stream, length);
        let (has_body, is_head) = (!body.is_end_stream(), parts.method == Method::HEAD);
        let guard = FlightGuard::begin(&context.worker, &context.conn, !has_body);
        let flight = Rc::clone(guard.flight());
        flight.expects_continue.set(has_body && expects_continue(&parts.headers));
        let response = if let Some(refusal) = refusal(&parts, context.worker.config.limits.head_bytes) {
            Ok(refuse(context, guard, Some(&parts), &refusal))
        } else {
            answer(context, guard, &flight, &mut parts, body, &mut respond).await
        };
        let sent = match response {
            Ok(response) => self.deliver(&flight, response, is_head, &mut respond).await,
            Err(cut) => Err(cut),
        };
        if let Err(Cut::Reset(reason)) = sent {
            respond.send_reset(reason);
        }
        self.conduct.stream_ended(matches!(sent, Err(Cut::ByClient(_))) && flight.started.elapsed() < PREMATURE);
        if self.conduct.abuse().is_some() {
            context.conn.wake();
        }
    }

    /// Tells the log of what the library has refused by itself.
    fn note_refused(&self) {
        for refusal in self.conduct.take_refused() {
            let (status, reason) = match refusal {
                LibraryRefusal::TooLarge => (Some(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE), "request header fields too large"),
                LibraryRefusal::Reset(code) => (None, what_is_wrong(Reason::from(code))),
            };
            note_refused(&self.context, Version::HTTP_2, status, reason);
        }
    }

    /// The connection has ended in an error.
    fn broke(&self, error: &h2::Error) {
        tracing::debug!(%error, "a client's HTTP/2 connection ended");
        if let Some(reason) = error.reason()
            && error.is_library()
        {
            note_refused(&self.context, Version::HTTP_2, None, what_is_wrong(reason));
        }
    }

    async fn deliver(
        &self,
        flight: &Rc<Flight>,
        response: Response<ClientBody>,
        is_head: bool,
        respond: &mut SendResponse<Bytes>,
    ) -> Result<(), Cut> {
        let context = &self.context;
        if context.worker.ends_keep_alive() {
            context.conn.tell(Signal::Finish);
        }
        let Response { mut parts, mut body, .. } = response;
        strip(&mut parts);
        if date::is_wanted(&parts) {
            parts.headers.insert(DATE, context.worker.date.borrow().clone());
        }
        if let Some(length) = body.own_length() {
            parts.headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        let bodyless = is_head || body.is_end_stream();
        let head = http::Response::from_parts((&parts).into(), ());
        spare::give_back(parts.headers);
        let mut stream = respond.send_response(head, bodyless).map_err(|_gone| Cut::Gone.note(flight))?;
        if bodyless {
            body.delivered();
            return Ok(());
        }
        let handed = Account::new(&context.worker.budget, flight);
        let (conn, conduct) = (&*context.conn, &*self.conduct);
        let mut delivery = Delivery { body: &mut body, stream: &mut stream, piece: Bytes::new(), ends: false, conn, conduct, handed };
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
    respond: &mut SendResponse<Bytes>,
) -> Result<Response<ClientBody>, Cut> {
    let mut serving = pin!(serve_request(context, guard, parts, body));
    let served = poll_fn(|cx| {
        if let Poll::Ready(reset) = respond.poll_reset(cx) {
            return Poll::Ready(Err(Cut::told(reset).note(flight)));
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

/// Whether a head is more than is taken: its fields by number, and by the size that HTTP/2 gives them (RFC 9113 section 6.5.2).
fn is_too_large(parts: &request::Parts, most: usize) -> bool {
    const OVERHEAD: usize = 32;
    let fields: usize = parts.headers.iter().map(|(name, value)| name.len() + value.len() + OVERHEAD).sum();
    let target = parts.uri.path_and_query().map_or(0, |target| target.as_str().len());
    parts.headers.len() > MAX_HEADERS || fields + target > most
}

/// What the `h2` crate lets pass and no HTTP/1.1 peer takes. `most`: the size of the largest head that is taken.
fn refusal(parts: &request::Parts, most: usize) -> Option<ProxyError> {
    if is_too_large(parts, most) {
        return Some(ProxyError::HeadTooLarge);
    }
    (!parts.headers.keys().all(is_token)).then_some(ProxyError::BadRequest("an invalid header name"))
}

/// What the library's code for a refusal says, for the log.
fn what_is_wrong(reason: Reason) -> &'static str {
    match reason {
        Reason::PROTOCOL_ERROR => "malformed HTTP/2",
        Reason::FLOW_CONTROL_ERROR => "more HTTP/2 data than there is window for",
        Reason::STREAM_CLOSED => "a frame on a closed HTTP/2 stream",
        Reason::FRAME_SIZE_ERROR => "an HTTP/2 frame of an invalid size",
        Reason::COMPRESSION_ERROR => "an HTTP/2 header block that cannot be decoded",
        Reason::ENHANCE_YOUR_CALM => "the client exceeds a limit of HTTP/2",
        _ => "an HTTP/2 error",
    }
}

/// Sends the interim responses that have come (RFC 9113 section 8.1).
fn send_interims(flight: &Flight, respond: &mut SendResponse<Bytes>) {
    while let Some(mut interim) = flight.take_interim() {
        strip(&mut interim);
        // A stream that takes none any more tells so when the response is sent.
        let _ = respond.send_informational(http::Response::from_parts((&interim).into(), ()));
    }
}

/// Headers that an HTTP/2 response must not have (RFC 9113 section 8.2.2).
fn strip(parts: &mut response::Parts) {
    parts.version = Version::HTTP_2;
    HopHeaders::scan(&parts.headers).strip_response(&mut parts.headers);
}
