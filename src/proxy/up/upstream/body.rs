//! The body of a host's answer, whichever protocol brings it.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use h2::Reason;
use http_body::{Body, Frame, SizeHint};

use crate::{
    proxy::{
        flow::{replay::Sent, request_body::RequestBody},
        up::{h1, pool::PoolMembership},
    },
    telemetry::ResponseFlag,
};

use super::http2::{self, StreamError};

/// What is read of a host's body. At its end a connection of HTTP/1.1 goes back to the pool.
#[derive(Debug)]
pub(in crate::proxy) enum UpstreamBody {
    /// In HTTP/1.1.
    Http1(h1::ResponseBody<Sent<RequestBody>, PoolMembership>),
    /// In HTTP/2.
    Http2(http2::ResponseBody<Sent<RequestBody>>),
}

/// Why a host's body breaks off.
#[derive(Debug, thiserror::Error)]
pub(in crate::proxy) enum UpstreamError {
    #[error("{0}")]
    Http1(#[source] h1::ExchangeError),
    #[error("{0}")]
    Http2(#[source] StreamError),
}

// === impl UpstreamBody ===

impl UpstreamBody {
    /// The next read takes no more than this, but at least 8 KiB. Of a stream of HTTP/2 its window is the limit.
    pub(in crate::proxy) fn limit_reads(&mut self, most: usize) {
        match self {
            Self::Http1(body) => body.limit_reads(most),
            Self::Http2(_) => {}
        }
    }

    /// Bytes of memory held for what was read, the piece of this length that was handed out last included; 0: it has left.
    pub(in crate::proxy) fn held(&mut self, piece: usize) -> usize {
        match self {
            Self::Http1(body) => body.held(piece),
            Self::Http2(body) => body.held(piece),
        }
    }

    /// Moves the rest of the request's body on while nobody reads the answer.
    pub(in crate::proxy) fn poll_upload(&mut self, cx: &mut Context<'_>) {
        match self {
            // Its answer ends the connection, and no peer of HTTP/1.1 counts on both directions at once.
            Self::Http1(_) => {}
            Self::Http2(body) => body.poll_upload(cx),
        }
    }
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = UpstreamError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, UpstreamError>>> {
        match self.get_mut() {
            Self::Http1(body) => Pin::new(body).poll_frame(cx).map(|frame| Some(frame?.map_err(UpstreamError::Http1))),
            Self::Http2(body) => Pin::new(body).poll_frame(cx).map(|frame| Some(frame?.map_err(UpstreamError::Http2))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Http1(body) => body.is_end_stream(),
            Self::Http2(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http1(body) => body.size_hint(),
            Self::Http2(body) => body.size_hint(),
        }
    }
}

// === impl UpstreamError ===

impl UpstreamError {
    /// The response flag of an answer that breaks off for it.
    pub(in crate::proxy) fn flag(&self) -> ResponseFlag {
        match self {
            Self::Http1(h1::ExchangeError::RequestBody(_)) | Self::Http2(StreamError::RequestBody(_)) => {
                ResponseFlag::DownstreamProtocolError
            }
            // A body of HTTP/1.1 that a close cuts off is malformed, as to Envoy's parser.
            Self::Http1(h1::ExchangeError::Invalid(_) | h1::ExchangeError::Closed)
            | Self::Http2(StreamError::Invalid(_) | StreamError::NoWebSocket | StreamError::Reset(Reason::PROTOCOL_ERROR)) => {
                ResponseFlag::UpstreamProtocolError
            }
            Self::Http1(h1::ExchangeError::Io(_)) | Self::Http2(StreamError::Closed(_)) => ResponseFlag::UpstreamConnectionTermination,
            Self::Http2(StreamError::GoneAway | StreamError::Refused | StreamError::Reset(_)) => ResponseFlag::UpstreamRemoteReset,
        }
    }
}
