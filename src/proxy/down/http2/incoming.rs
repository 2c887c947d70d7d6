//! The body of a request that an HTTP/2 stream brings.

use std::{
    fmt,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::Frame;

use crate::proxy::{flow::client_body::ClientBodyError, wire::reason::Reason};

use super::{
    cut::Cut,
    session::Session,
    stream::{Piece, Stream},
};

/// The body of an HTTP/2 stream.
pub(in crate::proxy::down) struct Http2Body {
    session: Rc<Session>,
    stream: Rc<Stream>,
    /// Bytes that the request's content-length leaves; `None` without one.
    left: Option<u64>,
}

/// The stream has ended within its body.
#[derive(Clone, Copy, Debug, thiserror::Error)]
enum Ended {
    #[error("the client has reset it with code {0}")]
    Reset(u32),
    #[error("the connection is gone")]
    Gone,
}

// === impl Http2Body ===

impl Http2Body {
    /// The body of a stream whose head announces this length.
    pub(super) fn new(session: Rc<Session>, stream: Rc<Stream>, length: Option<u64>) -> Self {
        Self { session, stream, left: length }
    }

    pub(in crate::proxy::down) fn poll_frame(&mut self, cx: &Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ClientBodyError>>> {
        Poll::Ready(match ready!(self.stream.poll_piece(cx)) {
            Piece::Data(data) => {
                // The reader of a body asks for the next piece when this one is on its way: the client may send as much again.
                self.session.give(Some(&self.stream), data.len());
                self.left = self.left.map(|left| left.saturating_sub(data.len() as u64));
                Some(Ok(Frame::data(data)))
            }
            Piece::Trailers(trailers) => Some(Ok(Frame::trailers(trailers))),
            Piece::Malformed(what) => Some(Err(ClientBodyError::Malformed(what))),
            Piece::Cut(cut) => Some(Err(ClientBodyError::Stream(Box::new(Ended::from(cut))))),
            Piece::End => None,
        })
    }

    /// Bytes that have come and were not read.
    pub(in crate::proxy::down) fn unread(&self) -> usize {
        self.stream.unread()
    }

    /// Whether nothing follows.
    pub(in crate::proxy::down) fn is_end_stream(&self) -> bool {
        self.stream.is_read()
    }

    /// Bytes that are still to come, where the head announced a length.
    pub(in crate::proxy::down) fn exact_length(&self) -> Option<u64> {
        self.left
    }
}

impl Drop for Http2Body {
    fn drop(&mut self) {
        self.session.give(None, self.stream.unwant());
    }
}

impl fmt::Debug for Http2Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http2Body").field("stream", &self.stream).field("left", &self.left).finish_non_exhaustive()
    }
}

impl From<Cut> for Ended {
    fn from(cut: Cut) -> Self {
        match cut {
            Cut::ByClient(Reason(code)) | Cut::Reset(Reason(code)) => Self::Reset(code),
            Cut::Gone => Self::Gone,
        }
    }
}
