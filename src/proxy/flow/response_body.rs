//! A response's body on its way to the client: it streams, keeps its exact length and its trailers, and tells the flight what moves.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body as _, Frame};

use crate::{
    proxy::{
        state::{budget::Account, flight::Expiry},
        up::{UpstreamBody, UpstreamError},
    },
    telemetry::ResponseFlag,
};

use super::{
    client_body::ClientBody,
    guard::FlightGuard,
    replay::Sent,
    request_body::{RequestBody, data_length},
};

/// The response's body on its way to the client. It ends the flight when it is dropped.
#[derive(Debug)]
pub(in crate::proxy) struct ResponseBody<C> {
    source: Source<C>,
    /// The client has it whole.
    delivered: bool,
    guard: FlightGuard,
}

/// A host's body, which keeps the rest of the request's body flowing.
pub(in crate::proxy) type HostBody<C> = UpstreamBody<Sent<RequestBody<C>>>;

#[derive(Debug)]
enum Source<C> {
    /// The gateway's own words, or none.
    Text(Bytes),
    /// Streamed from the upstream.
    Streaming(HostBody<C>, Account),
}

/// Why a response body breaks off.
#[derive(Debug, thiserror::Error)]
pub(in crate::proxy) enum BodyError {
    #[error("the upstream's body broke off: {0}")]
    Upstream(#[source] UpstreamError),
    #[error("a deadline passed: {0:?}")]
    Expired(Expiry),
}

// === impl ResponseBody ===

impl<C: ClientBody> ResponseBody<C> {
    /// The gateway's own words; empty: none.
    pub(in crate::proxy) fn text(text: Bytes, guard: FlightGuard) -> Self {
        Self { source: Source::Text(text), delivered: false, guard }
    }

    /// An upstream's body; the flight ends with it.
    pub(in crate::proxy) fn streaming(inner: HostBody<C>, guard: FlightGuard) -> Self {
        let account = Account::new(&guard.worker().budget, guard.flight());
        Self { source: Source::Streaming(inner, account), delivered: false, guard }
    }

    /// The next piece.
    pub(in crate::proxy) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
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
    pub(in crate::proxy) fn poll_upload(&mut self, cx: &mut Context<'_>) {
        if let Source::Streaming(body, _) = &mut self.source {
            body.poll_upload(cx);
        }
    }

    /// Whether it is known that nothing follows.
    pub(in crate::proxy) fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Text(text) => text.is_empty(),
            Source::Streaming(body, _) => body.is_end_stream(),
        }
    }

    /// Bytes that are still to come, where that is known.
    pub(in crate::proxy) fn exact_length(&self) -> Option<u64> {
        match &self.source {
            Source::Text(text) => Some(text.len() as u64),
            Source::Streaming(body, _) => body.size_hint().exact(),
        }
    }

    /// The length of the gateway's own words; `None` for a host's answer.
    pub(in crate::proxy) fn own_length(&self) -> Option<u64> {
        match &self.source {
            Source::Text(text) => Some(text.len() as u64),
            Source::Streaming(..) => None,
        }
    }

    /// Whether a deadline has passed: what of the body has not left by now never will.
    pub(in crate::proxy) fn give_up(&self) -> bool {
        let Some(expiry) = self.guard.flight().expired() else { return false };
        self.guard.aborted(match expiry {
            Expiry::Request | Expiry::Attempt => ResponseFlag::UpstreamRequestTimeout,
            Expiry::Idle => ResponseFlag::StreamIdleTimeout,
            Expiry::Buffers => ResponseFlag::Overload,
            Expiry::Moved => ResponseFlag::DurationTimeout,
        });
        true
    }

    /// The response has left whole.
    pub(in crate::proxy) fn delivered(&mut self) {
        self.delivered = true;
    }
}

impl<C> Drop for ResponseBody<C> {
    fn drop(&mut self) {
        if !self.delivered {
            self.guard.aborted(ResponseFlag::DownstreamConnectionTermination);
        }
    }
}
