//! The body of a host's answer, whichever protocol brings it.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use h2::Reason;
use http_body::{Body, Frame, SizeHint};

use crate::telemetry::ResponseFlag;

use super::{
    h1,
    http2::{self, StreamError},
    outbound::Outbound,
    pool::PoolMembership,
};

/// What is read of a host's body. At its end a connection of HTTP/1.1 goes back to the pool.
#[derive(Debug)]
pub(in crate::proxy) struct UpstreamBody<B>(Reader<B>);

/// Which protocol it is read in.
#[derive(Debug)]
enum Reader<B> {
    /// In HTTP/1.1.
    Http1(h1::ResponseBody<B, PoolMembership>),
    /// In HTTP/2.
    Http2(http2::ResponseBody<B>),
}

/// Why a host's body breaks off.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub(in crate::proxy) struct UpstreamError(Broken);

/// Which protocol it breaks off in.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("{0}")]
    Http1(#[source] h1::ExchangeError),
    #[error("{0}")]
    Http2(#[source] StreamError),
}

// === impl UpstreamBody ===

impl<B> UpstreamBody<B> {
    /// One in HTTP/1.1.
    pub(super) fn http1(body: h1::ResponseBody<B, PoolMembership>) -> Self {
        Self(Reader::Http1(body))
    }

    /// One in HTTP/2.
    pub(super) fn http2(body: http2::ResponseBody<B>) -> Self {
        Self(Reader::Http2(body))
    }
}

impl<B: Outbound> UpstreamBody<B> {
    /// The next read takes no more than this, but at least 8 KiB. Of a stream of HTTP/2 its window is the limit.
    pub(in crate::proxy) fn limit_reads(&mut self, most: usize) {
        match &mut self.0 {
            Reader::Http1(body) => body.limit_reads(most),
            Reader::Http2(_) => {}
        }
    }

    /// Bytes of memory held for what was read, the piece of this length that was handed out last included; 0: it has left.
    pub(in crate::proxy) fn held(&mut self, piece: usize) -> usize {
        match &mut self.0 {
            Reader::Http1(body) => body.held(piece),
            Reader::Http2(body) => body.held(piece),
        }
    }

    /// Moves the rest of the request's body on while nobody reads the answer.
    pub(in crate::proxy) fn poll_upload(&mut self, cx: &mut Context<'_>) {
        match &mut self.0 {
            // Its answer ends the connection, and no peer of HTTP/1.1 counts on both directions at once.
            Reader::Http1(_) => {}
            Reader::Http2(body) => body.poll_upload(cx),
        }
    }
}

impl<B: Outbound> Body for UpstreamBody<B> {
    type Data = Bytes;
    type Error = UpstreamError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, UpstreamError>>> {
        match &mut self.get_mut().0 {
            Reader::Http1(body) => {
                Pin::new(body).poll_frame(cx).map(|frame| Some(frame?.map_err(|error| UpstreamError(Broken::Http1(error)))))
            }
            Reader::Http2(body) => {
                Pin::new(body).poll_frame(cx).map(|frame| Some(frame?.map_err(|error| UpstreamError(Broken::Http2(error)))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Reader::Http1(body) => body.is_end_stream(),
            Reader::Http2(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Reader::Http1(body) => body.size_hint(),
            Reader::Http2(body) => body.size_hint(),
        }
    }
}

// === impl UpstreamError ===

impl UpstreamError {
    /// The response flag of an answer that breaks off for it.
    pub(in crate::proxy) fn flag(&self) -> ResponseFlag {
        match &self.0 {
            Broken::Http1(h1::ExchangeError::RequestBody(_)) | Broken::Http2(StreamError::RequestBody(_)) => {
                ResponseFlag::DownstreamProtocolError
            }
            // A body of HTTP/1.1 that a close cuts off is malformed, as to Envoy's parser.
            Broken::Http1(h1::ExchangeError::Invalid(_) | h1::ExchangeError::Closed)
            | Broken::Http2(StreamError::Invalid(_) | StreamError::NoWebSocket | StreamError::Reset(Reason::PROTOCOL_ERROR)) => {
                ResponseFlag::UpstreamProtocolError
            }
            Broken::Http1(h1::ExchangeError::Io(_)) | Broken::Http2(StreamError::Closed(_)) => ResponseFlag::UpstreamConnectionTermination,
            Broken::Http2(StreamError::GoneAway | StreamError::Refused | StreamError::Reset(_)) => ResponseFlag::UpstreamRemoteReset,
        }
    }
}
