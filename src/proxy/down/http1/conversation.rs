//! Serves a client's HTTP/1.1 connection: one request after the other, each answered before the next is read.

use std::{
    cell::RefCell,
    future::{Future as _, poll_fn},
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Version};
use tokio::{io::AsyncWrite as _, time::timeout};

use crate::{
    base::head::request,
    proxy::{
        down::{body::ClientBody, io::ClientIo, linger},
        flow::{
            client_body::ClientBodyError,
            context::ConnContext,
            guard::FlightGuard,
            request::{Response, Served, refuse, serve as serve_request},
            response_body::ResponseBody,
            upgrade::{self, Tunnel},
        },
        state::{budget::Account, conn::Signal, error::ProxyError, flight::Flight, timing::Protocol},
        wire::spare,
    },
    telemetry::RequestRefusal,
};

use super::{
    SharedWire,
    delivery::{Broken, Delivery},
    encode::{ConnectionWord, ResponseFraming, encode_head, framing},
    head::{BodyFraming, Refusal, RequestHead},
    out::Out,
    wire::{First, Next, Wire},
};

/// What is left of an upload after its answer is read to its end, so that the connection can be kept: if it is known to be no more than this,
/// or not known at all.
const DRAINED_BYTES: u64 = 64 * 1024;
/// An answer of so many bytes is under way as soon as it is written: ten segments, the window that a connection begins with (RFC 6928).
const AT_ONCE_BYTES: u64 = 10 * 1400;
/// Most time to take leave of a client whose connection ends.
const FAREWELL: Duration = Duration::from_secs(2);

/// What is known of a client when it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) enum Beginning {
    /// It may speak HTTP/2 with prior knowledge: its first bytes tell.
    Unknown,
    /// It speaks HTTP/1.
    Http1,
}

/// Serves until the connection ends; `Some`: the client speaks HTTP/2 on it, nothing of which has been used.
///
/// Buffers and state live only while the client has something to say: most connections of a gateway are idle.
pub(in crate::proxy) async fn serve(mut io: ClientIo, mut beginning: Beginning, context: Rc<ConnContext>) -> Option<ClientIo> {
    loop {
        // Boxed: else the room for it would stay with the resting connection.
        match Box::pin(Conversation::new(io, beginning, &context).run()).await {
            Left::Nothing => return None,
            Left::Http2(io) => return Some(io),
            Left::Resting(resting) => io = resting,
        }
        beginning = Beginning::Http1;
        context.worker.metrics.connection_rests();
        let woken = context.conn.told_or(async { io.readable().await.ok() }).await;
        context.worker.metrics.connection_wakes();
        woken?;
    }
}

/// What a conversation leaves of its connection.
enum Left {
    Nothing,
    /// It waits for the client's next request, if there will be one.
    Resting(ClientIo),
    /// What was read is the beginning of HTTP/2.
    Http2(ClientIo),
}

struct Conversation<'a> {
    context: &'a Rc<ConnContext>,
    beginning: Beginning,
    wire: SharedWire,
    out: Out,
    /// The connection ends after the request at hand.
    last: bool,
    /// A head that has begun and not ended.
    head: Account,
}

/// What happens while no request is at hand.
enum Event {
    Head(RequestHead),
    Refused(ProxyError),
    Http2,
    Rest,
    End,
}

/// What follows a request.
enum After {
    Next,
    /// The client may still be sending.
    Linger,
    /// The client has its answer, and was told that the connection ends with it.
    Leave,
    /// The client has its answer, and said itself that it sends no more.
    Close,
    End,
    /// Only that the connection breaks tells the client that its answer is not whole.
    Break,
    Tunnel(Box<Tunnel>),
}

/// What the answer to a request has to know of it.
#[derive(Clone, Copy)]
struct Asked {
    is_head: bool,
    version: Version,
    keep_alive: bool,
    takes_trailers: bool,
}

// === impl Conversation ===

impl<'a> Conversation<'a> {
    fn new(io: ClientIo, beginning: Beginning, context: &'a Rc<ConnContext>) -> Self {
        Self {
            context,
            beginning,
            wire: Rc::new(RefCell::new(Wire::new(io))),
            out: Out::default(),
            last: false,
            head: Account::at_rest(&context.worker.budget),
        }
    }

    /// Runs until the connection ends, rests, or turns out to be another protocol's.
    async fn run(mut self) -> Left {
        loop {
            let after = match self.next().await {
                Event::Head(head) => self.exchange(head).await,
                Event::Refused(error) => self.refuse(&error).await,
                Event::Http2 => return self.into_io().map_or(Left::Nothing, Left::Http2),
                Event::Rest => return self.into_io().map_or(Left::Nothing, Left::Resting),
                Event::End => After::End,
            };
            match after {
                After::Next => {}
                After::Linger => {
                    self.linger().await;
                    return Left::Nothing;
                }
                After::Leave => {
                    self.leave().await;
                    return Left::Nothing;
                }
                After::Close => return Left::Nothing,
                After::Break => {
                    self.wire.borrow().io.break_off();
                    return Left::Nothing;
                }
                After::End => {
                    self.close().await;
                    return Left::Nothing;
                }
                After::Tunnel(tunnel) => {
                    let worker = Rc::clone(&self.context.worker);
                    if let Some(io) = self.into_io() {
                        upgrade::run(&worker, *tunnel, io).await;
                    }
                    return Left::Nothing;
                }
            }
        }
    }

    /// The socket, with what was read ahead.
    fn into_io(self) -> Option<ClientIo> {
        Rc::try_unwrap(self.wire).ok().map(|wire| wire.into_inner().into_io())
    }

    async fn next(&mut self) -> Event {
        let (conn, worker) = (&self.context.conn, &self.context.worker);
        let limits = &worker.config.limits;
        poll_fn(|cx| {
            let mut wire = self.wire.borrow_mut();
            let mut rests = false;
            match conn.signal(cx) {
                None => {}
                Some(Signal::Finish) if wire.is_quiet() => return Poll::Ready(Event::End),
                Some(Signal::Finish) => self.last = true,
                Some(Signal::Rest) => rests = true,
                Some(Signal::HeadTimeout) => return Poll::Ready(Event::Refused(ProxyError::HeadTimeout)),
                Some(Signal::Abort) => return Poll::Ready(Event::End),
            }
            if self.beginning == Beginning::Unknown {
                match ready!(wire.poll_beginning(cx)) {
                    First::Http1 => {
                        self.beginning = Beginning::Http1;
                        conn.speaks(Protocol::Http1);
                    }
                    First::Http2 => return Poll::Ready(Event::Http2),
                    First::Nothing => return Poll::Ready(Event::End),
                }
            }
            let polled = wire.poll_head(limits.head_bytes, cx).map(|next| match next {
                Next::Head(head) => Event::Head(head),
                Next::Refused(Refusal::Malformed(what)) => Event::Refused(ProxyError::BadRequest(what)),
                Next::Refused(Refusal::TargetTooLong) => Event::Refused(ProxyError::TargetTooLong),
                Next::Refused(Refusal::TooLarge) => Event::Refused(ProxyError::HeadTooLarge),
                Next::Closed => Event::End,
            });
            let unended = if polled.is_pending() { wire.unended() } else { 0 };
            self.head.set(unended);
            if worker.budget.cuts_head(unended + conn.unread_at_rest()) {
                worker.metrics.request_refused(RequestRefusal::Buffers);
                return Poll::Ready(Event::Refused(ProxyError::Overload));
            }
            // The next head may have begun: it goes on where it is.
            if rests && polled.is_pending() { Poll::Ready(Event::Rest) } else { polled }
        })
        .await
    }

    /// Does what the connection is told while it is busy.
    fn heed(&mut self, cx: &Context<'_>) -> Result<(), Broken> {
        match self.context.conn.signal(cx) {
            Some(Signal::Abort) => return Err(Broken),
            Some(Signal::Finish) => self.last = true,
            Some(Signal::Rest | Signal::HeadTimeout) | None => {}
        }
        Ok(())
    }

    async fn exchange(&mut self, mut head: RequestHead) -> After {
        let asked = Asked {
            is_head: head.parts.method == Method::HEAD,
            version: head.parts.version,
            keep_alive: head.keep_alive,
            takes_trailers: head.takes_trailers,
        };
        let (body, has_body) = match head.framing {
            BodyFraming::Length(0) => (ClientBody::Empty, false),
            BodyFraming::Length(length) => (ClientBody::Http1(Rc::clone(&self.wire), Some(length)), true),
            BodyFraming::Chunked => (ClientBody::Http1(Rc::clone(&self.wire), None), true),
        };
        let guard = FlightGuard::begin(&self.context.worker, &self.context.conn, !has_body);
        let flight = Rc::clone(guard.flight());
        flight.expects_continue.set(has_body && head.expects_continue);
        match self.answer(guard, &flight, &mut head.parts, body).await {
            Ok(Served::Response(response)) => self.deliver(&flight, asked, response).await,
            Ok(Served::Tunnel(tunnel)) => self.switch(asked, tunnel).await,
            Err(Broken) => After::End,
        }
    }

    /// Waits for the answer, passing on what comes before it.
    async fn answer(
        &mut self,
        guard: FlightGuard,
        flight: &Flight,
        parts: &mut request::Parts,
        body: ClientBody,
    ) -> Result<Served<ClientBody>, Broken> {
        let version = parts.version;
        let mut serving = pin!(serve_request(self.context, guard, parts, body));
        poll_fn(|cx| {
            if self.heed(cx).is_err() {
                return Poll::Ready(Err(Broken));
            }
            let polled = serving.as_mut().poll(cx);
            self.add_interims(flight, version);
            if let Poll::Ready(served) = polled {
                return Poll::Ready(Ok(served));
            }
            if self.poll_written(cx).is_err() || self.wire.borrow_mut().poll_gone(cx).is_ready() {
                return Poll::Ready(Err(Broken));
            }
            Poll::Pending
        })
        .await
    }

    /// Takes the interim responses that have come (RFC 9110 section 15.2), which HTTP/1.0 does not know. One that finds no room is dropped: a
    /// client that does not read does without.
    fn add_interims(&mut self, flight: &Flight, version: Version) {
        while let Some(interim) = flight.take_interim() {
            if version == Version::HTTP_11 && self.out.has_room() {
                encode_head(self.out.gathered(), version, &interim, ResponseFraming::None, ConnectionWord::None, None);
            }
        }
    }

    /// Writes what can be written now.
    fn poll_written(&mut self, cx: &mut Context<'_>) -> Result<(), Broken> {
        if self.out.is_empty() {
            return Ok(());
        }
        match self.out.poll_write(&mut self.wire.borrow_mut().io, cx) {
            Poll::Ready(Err(_)) => Err(Broken),
            Poll::Ready(Ok(())) | Poll::Pending => Ok(()),
        }
    }

    /// Writes the response; what follows depends on how much of the request is still to come.
    async fn deliver(&mut self, flight: &Flight, asked: Asked, response: Response<ClientBody>) -> After {
        let Response { parts, mut body, close } = response;
        let framing = framing(asked.is_head, asked.version, parts.status, body.exact_length());
        let close = close || self.last || !asked.keep_alive || framing == ResponseFraming::UntilClose || !self.may_drain(flight);
        let word = match asked.version {
            _ if close => ConnectionWord::Close,
            Version::HTTP_10 => ConnectionWord::KeepAlive,
            _ => ConnectionWord::None,
        };
        encode_head(self.out.gathered(), asked.version, &parts, framing, word, Some(&self.context.worker.date.borrow()));
        spare::give_back(parts.headers);
        let delivered = self.deliver_body(flight, &mut body, framing, asked.takes_trailers).await;
        if delivered.is_ok() {
            body.delivered();
        }
        drop(body);
        match delivered {
            Ok(()) => self.after(asked, close || self.last).await,
            Err(Broken) if framing == ResponseFraming::UntilClose => After::Break,
            Err(Broken) => After::End,
        }
    }

    /// Whether what is left of the upload is so little that it may be read to keep the connection.
    fn may_drain(&self, flight: &Flight) -> bool {
        let wire = self.wire.borrow();
        if wire.body_is_complete() {
            return true;
        }
        // A client that waits for leave to send its body need not send it at all after a final answer.
        !flight.expects_continue.get() && !wire.body_is_broken() && wire.body_left().is_none_or(|left| left <= DRAINED_BYTES)
    }

    async fn after(&mut self, asked: Asked, close: bool) -> After {
        let (complete, unread) = {
            let wire = self.wire.borrow();
            (wire.body_is_complete(), wire.has_unread())
        };
        match (complete, close) {
            (true, false) => After::Next,
            (true, true) if unread => After::Linger,
            (true, true) if !asked.keep_alive && self.may_close().await => After::Close,
            (true, true) => After::Leave,
            (false, true) => After::Linger,
            (false, false) if self.drain().await => After::Next,
            (false, false) => After::Linger,
        }
    }

    /// Whether the connection of a client that sends no more (RFC 9112 section 9.6) may be closed at once. One that does send would cost itself
    /// what has not left yet: that of a long answer is waited for.
    async fn may_close(&self) -> bool {
        self.out.left() <= AT_ONCE_BYTES && poll_fn(|cx| Poll::Ready(self.wire.borrow().io.ends_by_closing(cx))).await
    }

    /// Reads the rest of an upload; whether its end was found.
    async fn drain(&mut self) -> bool {
        let _busy = self.context.conn.busy();
        linger::until_end(|cx| {
            if self.heed(cx).is_err() || self.last {
                return Poll::Ready(Some(Err(ClientBodyError::Closed)));
            }
            let polled = ready!(self.wire.borrow_mut().poll_body(cx));
            Poll::Ready(polled.map(|frame| frame.map(|frame| frame.data_ref().map_or(0, Bytes::len))))
        })
        .await
    }

    async fn deliver_body(
        &mut self,
        flight: &Flight,
        body: &mut ResponseBody<ClientBody>,
        framing: ResponseFraming,
        takes_trailers: bool,
    ) -> Result<(), Broken> {
        let mut delivery = Delivery::new(body, framing, takes_trailers);
        poll_fn(|cx| {
            if self.heed(cx).is_err() {
                return Poll::Ready(Err(Broken));
            }
            delivery.poll(flight, &mut self.out, &self.wire, cx)
        })
        .await
    }

    /// The client and its host speak another protocol from here on.
    async fn switch(&mut self, asked: Asked, tunnel: Box<Tunnel>) -> After {
        encode_head(
            self.out.gathered(),
            asked.version,
            &tunnel.parts,
            ResponseFraming::None,
            ConnectionWord::WebSocket,
            Some(&self.context.worker.date.borrow()),
        );
        let flight = Rc::clone(tunnel.guard.flight());
        match flight.bound(self.flush()).await {
            Ok(Ok(())) => After::Tunnel(tunnel),
            Ok(Err(_)) | Err(_) => After::End,
        }
    }

    async fn flush(&mut self) -> std::io::Result<()> {
        poll_fn(|cx| self.out.poll_write(&mut self.wire.borrow_mut().io, cx)).await
    }

    /// Answers what is no request.
    async fn refuse(&mut self, error: &ProxyError) -> After {
        self.wire.borrow_mut().give_up();
        self.head.set(0);
        let guard = FlightGuard::begin(&self.context.worker, &self.context.conn, true);
        let flight = Rc::clone(guard.flight());
        let asked = Asked { is_head: false, version: Version::HTTP_11, keep_alive: false, takes_trailers: false };
        let response = refuse(self.context, guard, None, error);
        self.deliver(&flight, asked, response).await;
        After::Linger
    }

    /// Ends a connection whose client may still be sending.
    async fn linger(&self) {
        self.close().await;
        linger::until_quiet(|cx| self.wire.borrow_mut().poll_discard(cx)).await;
    }

    /// Ends a connection whose client has no reason to send any more, but may do so: with whatever came to a closed socket the system would
    /// throw away what has not left of the answer. A drain does not wait for it.
    async fn leave(&self) {
        self.close().await;
        if !self.context.worker.is_draining() {
            let quiet = linger::until_quiet(|cx| self.wire.borrow_mut().poll_discard(cx));
            let left = async {
                quiet.await;
                Some(())
            };
            self.context.conn.told_or(left).await;
        }
    }

    async fn close(&self) {
        // The connection ends either way.
        let closing = poll_fn(|cx| Pin::new(&mut self.wire.borrow_mut().io).poll_shutdown(cx));
        let _ = timeout(FAREWELL, closing).await;
    }
}
