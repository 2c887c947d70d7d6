//! Bodies on their way through: they stream, keep their exact length and their trailers, and tell the flight what moves.

use std::{
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::telemetry::ResponseFlag;

use super::{
    connection::Conn,
    flight::{Expiry, Flight, FlightGuard},
    h1,
    pool::Seat,
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
    inner: Incoming,
    flight: Rc<Flight>,
    conn: Rc<Conn>,
}

/// The response's body on its way to the client.
#[derive(Debug)]
pub(super) enum ResponseBody {
    /// The gateway's own words, or none.
    Text(Bytes),
    /// Streamed from the upstream.
    Streaming(Download),
}

/// A streamed response body. It ends the flight when it is dropped.
#[derive(Debug)]
pub(super) struct Download {
    inner: UpstreamBody,
    ended: bool,
    guard: FlightGuard,
}

/// What is read of an upstream's body; at its end the connection goes back to the pool.
pub(super) type UpstreamBody = h1::ResponseBody<RequestBody, Seat>;

/// Why a response body breaks off.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodyError {
    #[error("the upstream's body broke off: {0}")]
    Upstream(#[source] h1::ExchangeError),
    #[error("a deadline passed: {0:?}")]
    Expired(Expiry),
}

// === impl RequestBody ===

impl RequestBody {
    /// Wraps the body of a request; `None` of the flight's work is done for a request without one.
    pub(super) fn new(inner: Incoming, guard: &FlightGuard) -> Self {
        if inner.is_end_stream() {
            return Self::Empty;
        }
        guard.conn().upload_began();
        Self::Streaming(Upload { inner, flight: Rc::clone(guard.flight()), conn: Rc::clone(guard.conn()) })
    }

    /// Whether the request can be sent a second time: it has no body.
    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Self::Empty)
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
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
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Streaming(upload) => upload.inner.size_hint(),
        }
    }
}

// === impl Upload ===

impl Upload {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = std::task::ready!(Pin::new(&mut self.inner).poll_frame(cx));
        match &polled {
            Some(Ok(frame)) => {
                self.flight.touch();
                if let Some(data) = frame.data_ref() {
                    let received = &self.flight.outcome.received;
                    received.set(received.get() + data.len() as u64);
                }
                if frame.is_trailers() || self.inner.is_end_stream() {
                    self.flight.upload_ended();
                }
            }
            Some(Err(_)) => self.flight.client_failed.set(true),
            None => self.flight.upload_ended(),
        }
        Poll::Ready(polled)
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.conn.upload_ended();
    }
}

// === impl ResponseBody ===

impl ResponseBody {
    /// No body.
    pub(super) fn empty() -> Self {
        Self::Text(Bytes::new())
    }

    /// An upstream's body; the flight ends with it.
    pub(super) fn streaming(inner: UpstreamBody, guard: FlightGuard) -> Self {
        Self::Streaming(Download { inner, ended: false, guard })
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Text(text) if text.is_empty() => Poll::Ready(None),
            Self::Text(text) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(text))))),
            Self::Streaming(download) => download.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Text(text) => text.is_empty(),
            Self::Streaming(download) => download.inner.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Text(text) => SizeHint::with_exact(text.len() as u64),
            Self::Streaming(download) => download.inner.size_hint(),
        }
    }
}

// === impl Download ===

impl Download {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let flight = self.guard.flight();
        if let Some(expiry) = flight.expired() {
            self.guard.aborted(match expiry {
                Expiry::Request | Expiry::Attempt => ResponseFlag::UpstreamRequestTimeout,
                Expiry::Idle => ResponseFlag::StreamIdleTimeout,
            });
            return Poll::Ready(Some(Err(BodyError::Expired(expiry))));
        }
        let Poll::Ready(polled) = Pin::new(&mut self.inner).poll_frame(cx) else {
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
                self.ended = frame.is_trailers();
                Some(Ok(frame))
            }
            Some(Err(error)) => {
                self.ended = true;
                self.guard.aborted(match &error {
                    h1::ExchangeError::RequestBody(_) => ResponseFlag::DownstreamProtocolError,
                    h1::ExchangeError::Invalid(_) => ResponseFlag::UpstreamProtocolError,
                    h1::ExchangeError::Io(_) | h1::ExchangeError::Closed => ResponseFlag::UpstreamConnectionTermination,
                });
                Some(Err(BodyError::Upstream(error)))
            }
            None => {
                self.ended = true;
                None
            }
        })
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        let whole = self.ended || self.inner.is_end_stream();
        if !whole {
            self.guard.aborted(ResponseFlag::DownstreamConnectionTermination);
        }
    }
}
