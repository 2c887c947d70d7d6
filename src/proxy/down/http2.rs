//! HTTP/2 of clients, on the `h2` crate: the connection's task carries frames, and each stream has a task of its own, which ends that
//! stream alone when a deadline passes (RFC 9113).

use std::{
    future::{Future as _, poll_fn},
    pin::pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::{
    Reason, RecvStream, SendStream,
    server::{Connection, SendResponse},
};
use http::{
    HeaderMap, HeaderName, Method, Request, Version,
    header::{CONTENT_LENGTH, DATE},
    response,
};

use crate::proxy::{
    body::ResponseBody,
    budget::Account,
    config::ProxyConfig,
    connection::{Conn, ConnContext, Signal},
    date,
    error::ProxyError,
    flight::{Flight, FlightGuard},
    h1::{MAX_HEADERS, give_way},
    headers::HopHeaders,
    io::ClientIo,
    request::{self, Response, Served},
    timing::Protocol,
};

use super::ClientBody;

/// Bytes of a body after which other streams have their turn.
const TURN_BYTES: usize = 256 * 1024;
/// Most bytes of data that a connection holds for a stream beyond what its window lets pass.
const SEND_BUFFER: usize = 64 * 1024;

/// Serves until the connection ends.
pub(in crate::proxy) async fn serve(io: ClientIo, context: Rc<ConnContext>) {
    let builder = builder(&context.worker.config);
    let Some(connection) = context.conn.told_or(async { builder.handshake::<_, Bytes>(io).await.ok() }).await else { return };
    context.conn.speaks(Protocol::Http2);
    match drive(connection, &context).await {
        Ok(()) => {}
        // What a client does to its own connection is no news.
        Err(error) => tracing::debug!(%error, "a client's HTTP/2 connection ended"),
    }
}

fn builder(config: &ProxyConfig) -> h2::server::Builder {
    let limits = &config.limits;
    let mut builder = h2::server::Builder::new();
    builder
        .max_concurrent_streams(limits.http2_streams)
        .initial_window_size(limits.http2_stream_window)
        .initial_connection_window_size(limits.http2_connection_window)
        .max_header_list_size(u32::try_from(limits.head_bytes).unwrap_or(u32::MAX))
        .max_send_buffer_size(config.buffer_bytes.min(SEND_BUFFER));
    builder
}

/// Carries the connection's frames and starts a task for each stream.
async fn drive(mut connection: Connection<ClientIo, Bytes>, context: &Rc<ConnContext>) -> Result<(), h2::Error> {
    loop {
        let accepted = poll_fn(|cx| {
            match context.conn.signal(cx) {
                Some(Signal::Finish) => connection.graceful_shutdown(),
                Some(Signal::Abort | Signal::HeadTimeout) => return Poll::Ready(None),
                Some(Signal::Rest) | None => {}
            }
            connection.poll_accept(cx)
        })
        .await;
        let Some(stream) = accepted else { return Ok(()) };
        let (request, respond) = stream?;
        let context = Rc::clone(context);
        let worker = Rc::clone(&context.worker);
        worker.spawn(async move { serve_stream(context, request, respond).await });
    }
}

/// Why a stream ends before its response is complete.
enum Cut {
    /// The client has reset it, or the connection is gone.
    Gone,
    /// It is reset with this code.
    Reset(Reason),
}

async fn serve_stream(context: Rc<ConnContext>, request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
    let (parts, stream) = request.into_parts();
    let length = parts.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    let body = ClientBody::http2(stream, length);
    let (has_body, is_head) = (!body.is_end_stream(), parts.method == Method::HEAD);
    let guard = FlightGuard::begin(&context.worker, &context.conn, !has_body);
    let flight = Rc::clone(guard.flight());
    flight.expects_continue.set(has_body && request::expects_continue(&parts.headers));
    let response = if let Some(refusal) = refusal(&parts.headers) {
        Ok(request::refuse(&context, guard, Some(&parts), &refusal))
    } else {
        answer(&context, guard, &flight, Request::from_parts(parts, body), &mut respond).await
    };
    let sent = match response {
        Ok(response) => deliver(&context, &flight, response, is_head, &mut respond).await,
        Err(cut) => Err(cut),
    };
    if let Err(Cut::Reset(reason)) = sent {
        respond.send_reset(reason);
    }
}

/// Whether a name that came in HTTP/2 frames is a token (RFC 9110 section 5.6.2). The `http` crate lets a double quote pass there.
pub(super) fn is_token(name: &HeaderName) -> bool {
    !name.as_str().as_bytes().contains(&b'"')
}

/// What the `h2` crate lets pass and no HTTP/1.1 peer takes.
fn refusal(headers: &HeaderMap) -> Option<ProxyError> {
    if headers.len() > MAX_HEADERS {
        return Some(ProxyError::HeadTooLarge);
    }
    (!headers.keys().all(is_token)).then_some(ProxyError::BadRequest("an invalid header name"))
}

/// Waits for the answer, passing on what comes before it.
async fn answer(
    context: &Rc<ConnContext>,
    guard: FlightGuard,
    flight: &Flight,
    request: Request<ClientBody>,
    respond: &mut SendResponse<Bytes>,
) -> Result<Response, Cut> {
    let mut serving = pin!(request::serve(context, guard, request));
    let served = poll_fn(|cx| {
        if respond.poll_reset(cx).is_ready() {
            return Poll::Ready(None);
        }
        let polled = serving.as_mut().poll(cx).map(Some);
        send_interims(flight, respond);
        polled
    })
    .await;
    match served {
        Some(Served::Response(response)) => Ok(response),
        // Only HTTP/1.1 requests ask for one.
        Some(Served::Tunnel(_)) => Err(Cut::Reset(Reason::INTERNAL_ERROR)),
        None => Err(Cut::Gone),
    }
}

/// Sends the interim responses that have come (RFC 9113 section 8.1).
fn send_interims(flight: &Flight, respond: &mut SendResponse<Bytes>) {
    while let Some(mut interim) = flight.take_interim() {
        strip(&mut interim);
        // A stream that takes none any more tells so when the response is sent.
        let _ = respond.send_informational(http::Response::from_parts(interim, ()));
    }
}

async fn deliver(
    context: &Rc<ConnContext>,
    flight: &Flight,
    response: Response,
    is_head: bool,
    respond: &mut SendResponse<Bytes>,
) -> Result<(), Cut> {
    if context.worker.ends_keep_alive() {
        context.conn.tell(Signal::Finish);
    }
    let Response { mut parts, mut body, .. } = response;
    strip(&mut parts);
    if date::is_wanted(&parts) {
        parts.headers.insert(DATE, context.worker.date.borrow().clone());
    }
    if let Some(length) = body.own_length() {
        parts.headers.insert(CONTENT_LENGTH, length.into());
    }
    let bodyless = is_head || body.is_end_stream();
    let head = http::Response::from_parts(parts, ());
    let mut stream = respond.send_response(head, bodyless).map_err(|_gone| Cut::Gone)?;
    if bodyless {
        body.delivered();
        return Ok(());
    }
    let handed = Account::new(&context.worker.budget);
    let conn = &context.conn;
    let mut delivery = Delivery { body: &mut body, stream: &mut stream, piece: Bytes::new(), ends: false, conn, handed };
    let delivered = poll_fn(|cx| delivery.poll(flight, cx)).await;
    if delivered.is_ok() {
        body.delivered();
    }
    delivered
}

/// Headers that an HTTP/2 response must not have (RFC 9113 section 8.2.2).
fn strip(parts: &mut response::Parts) {
    parts.version = Version::HTTP_2;
    HopHeaders::scan(&parts.headers).strip_response(&mut parts.headers);
}

/// A response's body on its way to the client. A piece is read only when the client has granted window for some of it, and is handed over
/// as far as the window goes: what a stream holds can always be sent, and whether it moves can be seen.
struct Delivery<'a> {
    body: &'a mut ResponseBody,
    stream: &'a mut SendStream<Bytes>,
    /// Read and not handed over yet.
    piece: Bytes,
    /// The piece is the last.
    ends: bool,
    conn: &'a Conn,
    /// What was handed over and may not have left yet.
    handed: Account,
}

// === impl Delivery ===

impl Delivery<'_> {
    fn poll(&mut self, flight: &Flight, cx: &mut Context<'_>) -> Poll<Result<(), Cut>> {
        if self.stream.poll_reset(cx).is_ready() {
            return Poll::Ready(Err(Cut::Gone));
        }
        if self.body.give_up() {
            return Poll::Ready(Err(Cut::Reset(Reason::CANCEL)));
        }
        flight.wake_with(cx.waker());
        if !self.conn.is_stalled() {
            self.handed.set(0);
        }
        let mut turn = 0;
        while turn < TURN_BYTES {
            self.stream.reserve_capacity(self.piece.len().clamp(1, SEND_BUFFER));
            let room = match self.stream.capacity() {
                0 => match ready!(self.stream.poll_capacity(cx)) {
                    Some(Ok(room)) => room,
                    Some(Err(_)) | None => return Poll::Ready(Err(Cut::Gone)),
                },
                room => room,
            };
            if room == 0 {
                continue;
            }
            if self.piece.is_empty() {
                // Too much is buffered for all together: what was handed over has to leave first.
                if self.handed.is_full() {
                    if self.conn.is_stalled() {
                        self.conn.wake_when_read(cx.waker());
                        return Poll::Pending;
                    }
                    break;
                }
                if let Some(done) = ready!(self.poll_piece(cx)) {
                    return Poll::Ready(done);
                }
                // Room for a byte was asked for until now, to know that there is a window.
                self.stream.reserve_capacity(self.piece.len().clamp(1, SEND_BUFFER));
            }
            let room = self.stream.capacity().max(room);
            let piece = self.piece.split_to(room.min(self.piece.len()));
            turn += piece.len().max(1);
            self.handed.add(piece.len(), SEND_BUFFER);
            flight.touch();
            let last = self.ends && self.piece.is_empty();
            if self.stream.send_data(piece, last).is_err() {
                return Poll::Ready(Err(Cut::Gone));
            }
            if last {
                return Poll::Ready(Ok(()));
            }
        }
        give_way(cx);
        Poll::Pending
    }

    /// Reads a piece of the body; `Some`: the stream has ended, one way or the other.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<(), Cut>>> {
        let frame = match ready!(self.body.poll_frame(cx)) {
            Some(Ok(frame)) => frame,
            None => return Poll::Ready(Some(self.stream.send_data(Bytes::new(), true).map_err(|_gone| Cut::Gone))),
            Some(Err(error)) => return Poll::Ready(Some(Err(Cut::Reset(error.http2_reason())))),
        };
        match frame.into_data() {
            Ok(data) => {
                self.piece = data;
                self.ends = self.body.is_end_stream();
                Poll::Ready(None)
            }
            Err(frame) => {
                let trailers = frame.into_trailers().unwrap_or_default();
                Poll::Ready(Some(self.stream.send_trailers(trailers).map_err(|_gone| Cut::Gone)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_in_frames_is_a_token_in_lower_case() {
        for byte in 0..=u8::MAX {
            let token = byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"!#$%&'*+-.^_`|~".contains(&byte);
            assert_eq!(HeaderName::from_lowercase(&[b'x', byte]).is_ok_and(|name| is_token(&name)), token, "{byte:#x}");
        }
    }
}
