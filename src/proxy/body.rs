//! Bodies on their way through: they stream, keep their exact length and their trailers, and tell the flight what moves.

use std::{
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::telemetry::ResponseFlag;

use super::{
    budget::Account,
    down::{ClientBody, ClientBodyError},
    flight::{Expiry, Flight, FlightGuard},
    h1,
    upstream::{UpstreamBody, UpstreamError},
};

/// The client's body on its way to the upstream.
#[derive(Debug)]
pub(super) enum RequestBody {
    /// None.
    Empty,
    /// Streamed.
    Streaming(Upload),
}

/// A streamed request body.
#[derive(Debug)]
pub(super) struct Upload {
    inner: ClientBody,
    flight: Rc<Flight>,
    account: Account,
}

/// The response's body on its way to the client. It ends the flight when it is dropped.
#[derive(Debug)]
pub(super) struct ResponseBody {
    source: Source,
    /// The client has it whole.
    delivered: bool,
    guard: FlightGuard,
}

#[derive(Debug)]
enum Source {
    /// The gateway's own words, or none.
    Text(Bytes),
    /// Streamed from the upstream.
    Streaming(UpstreamBody, Account),
}

/// Why a response body breaks off.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodyError {
    #[error("the upstream's body broke off: {0}")]
    Upstream(#[source] UpstreamError),
    #[error("a deadline passed: {0:?}")]
    Expired(Expiry),
}

// === impl RequestBody ===

impl RequestBody {
    /// Wraps the body of a request; none of the flight's work is done for a request without one.
    pub(super) fn new(inner: ClientBody, guard: &FlightGuard) -> Self {
        if inner.is_end_stream() {
            return Self::Empty;
        }
        Self::Streaming(Upload { inner, flight: Rc::clone(guard.flight()), account: Account::new(&guard.worker().budget, guard.flight()) })
    }

    /// Whether the request can be sent a second time: it has no body.
    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Self::Empty)
    }
}

impl h1::Outbound for RequestBody {
    fn moved(&self) {
        if let Self::Streaming(upload) = self {
            upload.flight.touch();
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = ClientBodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ClientBodyError>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Streaming(upload) => upload.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Streaming(upload) => upload.inner.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        let exact = match self {
            Self::Empty => Some(0),
            Self::Streaming(upload) => upload.inner.exact_length(),
        };
        exact.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

// === impl Upload ===

impl Upload {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ClientBodyError>>> {
        // The caller that asks for a piece has written the one before.
        self.account.set(self.inner.held(0));
        self.inner.limit_reads(self.account.room());
        let polled = self.inner.poll_frame(cx);
        self.account.set(self.inner.held(data_length(&polled)));
        let Poll::Ready(polled) = polled else {
            self.flight.wants_body();
            return Poll::Pending;
        };
        self.flight.expects_continue.set(false);
        match &polled {
            Some(Ok(frame)) => {
                self.flight.touch();
                if let Some(data) = frame.data_ref() {
                    let received = &self.flight.outcome.received;
                    received.set(received.get() + data.len() as u64);
                }
                // An HTTP/2 client may end the stream later, in a frame that nobody waits for.
                if frame.is_trailers() || self.inner.is_end_stream() || self.inner.exact_length() == Some(0) {
                    self.flight.upload_ended();
                }
            }
            Some(Err(_)) => self.flight.client_failed.set(true),
            None => self.flight.upload_ended(),
        }
        Poll::Ready(polled)
    }
}

// === impl ResponseBody ===

impl ResponseBody {
    /// The gateway's own words; empty: none.
    pub(super) fn text(text: Bytes, guard: FlightGuard) -> Self {
        Self { source: Source::Text(text), delivered: false, guard }
    }

    /// An upstream's body; the flight ends with it.
    pub(super) fn streaming(inner: UpstreamBody, guard: FlightGuard) -> Self {
        let account = Account::new(&guard.worker().budget, guard.flight());
        Self { source: Source::Streaming(inner, account), delivered: false, guard }
    }

    /// The next piece.
    pub(super) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let flight = self.guard.flight();
        if let Some(expiry) = flight.expired() {
            self.give_up();
            return Poll::Ready(Some(Err(BodyError::Expired(expiry))));
        }
        let polled = match &mut self.source {
            Source::Text(text) if text.is_empty() => Poll::Ready(None),
            Source::Text(text) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(text))))),
            Source::Streaming(body, account) => {
                // The caller that asks for a piece has written the one before.
                account.set(body.held(0));
                body.limit_reads(account.room());
                let polled = Pin::new(&mut *body).poll_frame(cx);
                account.set(body.held(data_length(&polled)));
                polled
            }
        };
        let Poll::Ready(polled) = polled else {
            flight.wake_with(cx.waker());
            return Poll::Pending;
        };
        Poll::Ready(match polled {
            Some(Ok(frame)) => {
                flight.touch();
                if let Some(data) = frame.data_ref() {
                    let sent = &flight.outcome.sent;
                    sent.set(sent.get() + data.len() as u64);
                }
                Some(Ok(frame))
            }
            Some(Err(error)) => {
                self.guard.aborted(error.flag());
                Some(Err(BodyError::Upstream(error)))
            }
            None => None,
        })
    }

    /// Moves the rest of the request's body on while the client does not read.
    pub(super) fn poll_upload(&mut self, cx: &mut Context<'_>) {
        if let Source::Streaming(body, _) = &mut self.source {
            body.poll_upload(cx);
        }
    }

    /// Whether it is known that nothing follows.
    pub(super) fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Text(text) => text.is_empty(),
            Source::Streaming(body, _) => body.is_end_stream(),
        }
    }

    /// Bytes that are still to come, where that is known.
    pub(super) fn exact_length(&self) -> Option<u64> {
        match &self.source {
            Source::Text(text) => Some(text.len() as u64),
            Source::Streaming(body, _) => body.size_hint().exact(),
        }
    }

    /// The length of the gateway's own words; `None` for a host's answer.
    pub(super) fn own_length(&self) -> Option<u64> {
        match &self.source {
            Source::Text(text) => Some(text.len() as u64),
            Source::Streaming(..) => None,
        }
    }

    /// Whether a deadline has passed: what of the body has not left by now never will.
    pub(super) fn give_up(&self) -> bool {
        let Some(expiry) = self.guard.flight().expired() else { return false };
        self.guard.aborted(match expiry {
            Expiry::Request | Expiry::Attempt => ResponseFlag::UpstreamRequestTimeout,
            Expiry::Idle => ResponseFlag::StreamIdleTimeout,
            Expiry::Buffers => ResponseFlag::Overload,
        });
        true
    }

    /// The response has left whole.
    pub(super) fn delivered(&mut self) {
        self.delivered = true;
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        if !self.delivered {
            self.guard.aborted(ResponseFlag::DownstreamConnectionTermination);
        }
    }
}

/// Bytes of data that were handed out.
fn data_length<E>(polled: &Poll<Option<Result<Frame<Bytes>, E>>>) -> usize {
    match polled {
        Poll::Ready(Some(Ok(frame))) => frame.data_ref().map_or(0, Bytes::len),
        Poll::Ready(Some(Err(_)) | None) | Poll::Pending => 0,
    }
}

// === impl BodyError ===

impl BodyError {
    /// The code that a client's HTTP/2 stream is reset with.
    pub(super) fn http2_reason(&self) -> h2::Reason {
        match self {
            Self::Upstream(_) => h2::Reason::INTERNAL_ERROR,
            Self::Expired(_) => h2::Reason::CANCEL,
        }
    }
}
