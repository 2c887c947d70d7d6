//! A request's body, whichever protocol brings it.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;

use crate::proxy::{
    flow::client_body::{self, ClientBodyError},
    wire::{fields::MAX_HEADERS, headers::is_token},
};

use super::http1::SharedWire;

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

/// The body of an HTTP/2 stream.
#[derive(Debug)]
pub(super) struct Http2Body {
    stream: h2::RecvStream,
    /// Bytes that the request's content-length leaves; `None` without one.
    left: Option<u64>,
}

type Polled = Poll<Option<Result<Frame<Bytes>, ClientBodyError>>>;

// === impl ClientBody ===

impl ClientBody {
    /// The body of a stream whose head announces this length.
    pub(super) fn http2(stream: h2::RecvStream, length: Option<u64>) -> Self {
        if stream.is_end_stream() { Self::Empty } else { Self::Http2(Http2Body { stream, left: length }) }
    }
}

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
            Self::Http2(body) => body.stream.flow_control().used_capacity() + piece,
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Http1(wire, _) => wire.borrow().body_is_complete(),
            Self::Http2(body) => body.stream.is_end_stream(),
        }
    }

    fn exact_length(&self) -> Option<u64> {
        match self {
            Self::Empty => Some(0),
            Self::Http1(_, left) => *left,
            Self::Http2(body) => body.left,
        }
    }
}

// === impl Http2Body ===

impl Http2Body {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Polled {
        match ready!(self.stream.poll_data(cx)) {
            Some(Ok(data)) => {
                // The reader of a body asks for the next piece when this one is on its way: the client may send as much again.
                // Of a stream that was reset there is no window left to grant.
                let _ = self.stream.flow_control().release_capacity(data.len());
                self.left = self.left.map(|left| left.saturating_sub(data.len() as u64));
                Poll::Ready(Some(Ok(Frame::data(data))))
            }
            Some(Err(error)) => Poll::Ready(Some(Err(broken(error)))),
            None => Poll::Ready(ready!(self.poll_trailers(cx))),
        }
    }

    fn poll_trailers(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ClientBodyError>>> {
        let trailers: Option<HeaderMap> = ready!(self.stream.poll_trailers(cx)).map_err(broken)?;
        let malformed = trailers.as_ref().and_then(|trailers| match trailers {
            trailers if trailers.len() > MAX_HEADERS => Some("the trailers are too many"),
            trailers if !trailers.keys().all(|name| is_token(name.as_str().as_bytes())) => Some("the name of a trailer is invalid"),
            _ => None,
        });
        if let Some(what) = malformed {
            return Poll::Ready(Some(Err(ClientBodyError::Malformed(what))));
        }
        Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))))
    }
}

fn broken(error: h2::Error) -> ClientBodyError {
    ClientBodyError::Stream(error.into())
}

fn data_length(frame: &Frame<Bytes>) -> u64 {
    frame.data_ref().map_or(0, |data| data.len() as u64)
}
