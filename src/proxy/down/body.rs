//! A request's body, whichever protocol brings it.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::Frame;

use crate::proxy::flow::client_body::{self, ClientBodyError};

use super::{http1::SharedWire, http2::incoming::Http2Body};

/// The body of a client's request.
#[derive(Debug)]
pub(super) enum ClientBody {
    /// None.
    Empty,
    /// Of an HTTP/1.1 connection.
    Http1(SharedWire, Option<u64>),
    /// Of an HTTP/2 stream.
    Http2(Http2Body),
}

type Polled = Poll<Option<Result<Frame<Bytes>, ClientBodyError>>>;

impl client_body::ClientBody for ClientBody {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Polled {
        match self {
            Self::Empty => Poll::Ready(None),
            Self::Http1(wire, left) => {
                let polled = ready!(wire.borrow_mut().poll_body(cx));
                if let (Some(left), Some(Ok(frame))) = (left, &polled) {
                    *left = left.saturating_sub(data_length(frame));
                }
                Poll::Ready(polled)
            }
            Self::Http2(body) => body.poll_frame(cx),
        }
    }

    fn limit_reads(&self, most: usize) {
        match self {
            Self::Empty | Self::Http2(_) => {}
            Self::Http1(wire, _) => wire.borrow_mut().limit_reads(most),
        }
    }

    fn held(&mut self, piece: usize) -> usize {
        match self {
            Self::Empty => piece,
            Self::Http1(wire, _) => wire.borrow().held(piece),
            Self::Http2(body) => body.unread() + piece,
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Http1(wire, _) => wire.borrow().body_is_complete(),
            Self::Http2(body) => body.is_end_stream(),
        }
    }

    fn exact_length(&self) -> Option<u64> {
        match self {
            Self::Empty => Some(0),
            Self::Http1(_, left) => *left,
            Self::Http2(body) => body.exact_length(),
        }
    }
}

fn data_length(frame: &Frame<Bytes>) -> u64 {
    frame.data_ref().map_or(0, |data| data.len() as u64)
}
