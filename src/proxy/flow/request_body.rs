//! A request's body on its way to the host: it streams, keeps its exact length and its trailers, and tells the flight what moves.

use std::{
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::proxy::{
    state::{budget::Account, flight::Flight},
    up::{BodyLength, Outbound},
};

use super::{
    body_copy::{BodyCopy, Tee},
    client_body::{ClientBody, ClientBodyError},
    guard::FlightGuard,
};

/// The client's body on its way to the upstream.
#[derive(Debug)]
pub(in crate::proxy) enum RequestBody<C> {
    /// None.
    Empty,
    /// Streamed.
    Streaming(Upload<C>),
    /// A copy of one that is streamed elsewhere.
    Copy(BodyCopy),
}

/// A streamed request body.
#[derive(Debug)]
pub(in crate::proxy) struct Upload<C> {
    inner: C,
    flight: Rc<Flight>,
    account: Account,
    /// Copies for mirrors.
    tee: Option<Box<Tee>>,
}

// === impl RequestBody ===

impl<C: ClientBody> RequestBody<C> {
    /// Wraps the body of a request; none of the flight's work is done for a request without one.
    pub(in crate::proxy) fn new(inner: C, guard: &FlightGuard) -> Self {
        if inner.is_end_stream() {
            return Self::Empty;
        }
        Self::Streaming(Upload {
            inner,
            flight: Rc::clone(guard.flight()),
            account: Account::new(&guard.worker().budget, guard.flight()),
            tee: None,
        })
    }

    /// A copy for a mirror, of which nothing may have been read yet. `mirror`: the flight of the mirror.
    pub(in crate::proxy) fn copy(&mut self, mirror: &FlightGuard) -> Self {
        let Self::Streaming(upload) = self else { return Self::Empty };
        let account = Account::new(&mirror.worker().budget, mirror.flight());
        let length = upload.inner.exact_length();
        Self::Copy(upload.tee.get_or_insert_default().add(Rc::clone(mirror.flight()), length, account))
    }

    /// Whether the request can be sent a second time: it has no body.
    pub(in crate::proxy) fn is_empty(&self) -> bool {
        matches!(self, Self::Empty)
    }

    /// What its head says of its length.
    pub(in crate::proxy) fn length(&self) -> BodyLength {
        match self {
            Self::Empty => BodyLength::None,
            Self::Streaming(_) | Self::Copy(_) => self.size_hint().exact().map_or(BodyLength::Unknown, BodyLength::Exactly),
        }
    }
}

impl<C: ClientBody> Outbound for RequestBody<C> {
    fn moved(&self) {
        match self {
            Self::Empty => {}
            Self::Streaming(upload) => upload.flight.touch(),
            Self::Copy(copy) => copy.moved(),
        }
    }
}

impl<C: ClientBody> Body for RequestBody<C> {
    type Data = Bytes;
    type Error = ClientBodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ClientBodyError>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Streaming(upload) => upload.poll_frame(cx),
            Self::Copy(copy) => Pin::new(copy).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Streaming(upload) => upload.inner.is_end_stream(),
            Self::Copy(copy) => copy.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        let exact = match self {
            Self::Empty => Some(0),
            Self::Streaming(upload) => upload.inner.exact_length(),
            Self::Copy(copy) => return copy.size_hint(),
        };
        exact.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

// === impl Upload ===

impl<C: ClientBody> Upload<C> {
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
                if let Some(tee) = &self.tee {
                    tee.push(frame);
                }
                // An HTTP/2 client may end the stream later, in a frame that nobody waits for.
                if frame.is_trailers() || self.inner.is_end_stream() || self.inner.exact_length() == Some(0) {
                    self.ended();
                }
            }
            Some(Err(_)) => self.flight.client_failed.set(true),
            None => self.ended(),
        }
        Poll::Ready(polled)
    }

    /// All of it has been read.
    fn ended(&self) {
        self.flight.upload_ended();
        if let Some(tee) = &self.tee {
            tee.end();
        }
    }
}

/// Bytes of data that were handed out.
pub(in crate::proxy) fn data_length<E>(polled: &Poll<Option<Result<Frame<Bytes>, E>>>) -> usize {
    match polled {
        Poll::Ready(Some(Ok(frame))) => frame.data_ref().map_or(0, Bytes::len),
        Poll::Ready(Some(Err(_)) | None) | Poll::Pending => 0,
    }
}
