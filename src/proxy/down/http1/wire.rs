//! The read side of a client's connection: the connection's task reads heads, and the request that is forwarded reads bodies.

use std::{
    cell::RefCell,
    io,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::Frame;

use crate::proxy::{
    down::io::ClientIo,
    flow::client_body::ClientBodyError,
    wire::{
        chunked::{Chunked, Malformed, Step},
        read_buffer::ReadBuffer,
    },
};

use super::head::{self, BodyFraming, Refusal, RequestHead};

/// A connection that its task and the body of the request at hand share. Both live in one task, so that no borrow meets another.
pub(in crate::proxy) type SharedWire = Rc<RefCell<Wire>>;

/// A client's connection.
#[derive(Debug)]
pub(in crate::proxy) struct Wire {
    pub(super) io: ClientIo,
    read: ReadBuffer,
    /// Bytes at the start of `read` in which no head ends.
    scanned: usize,
    body: Incoming,
}

/// The body of the request at hand.
#[derive(Debug)]
enum Incoming {
    /// Read to its end, or there is none.
    Complete,
    /// This much is to come.
    Length(u64),
    Chunked(Chunked),
    /// Where it ends is unknown: nothing more can be read off the connection.
    Broken,
}

/// The 24 bytes that an HTTP/2 client with prior knowledge begins with (RFC 9113 section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What the first bytes of a connection tell.
pub(super) enum First {
    Http1,
    Http2,
    /// There were none, or too few.
    Nothing,
}

/// What a connection brings next.
#[derive(Debug)]
pub(super) enum Next {
    Head(RequestHead),
    /// What came is no request.
    Refused(Refusal),
    /// The client has closed, or the connection broke.
    Closed,
}

// === impl Wire ===

impl Wire {
    pub(super) fn new(io: ClientIo) -> Self {
        Self { io, read: ReadBuffer::default(), scanned: 0, body: Incoming::Complete }
    }

    /// The socket, with what was read ahead.
    pub(super) fn into_io(self) -> ClientIo {
        let ahead = self.read.into_bytes();
        self.io.with_ahead(ahead)
    }

    /// Waits until the first bytes tell the protocol.
    pub(super) fn poll_beginning(&mut self, cx: &mut Context<'_>) -> Poll<First> {
        loop {
            let bytes = self.read.as_slice();
            let length = bytes.len().min(PREFACE.len());
            if bytes.get(..length) != PREFACE.get(..length) {
                return Poll::Ready(First::Http1);
            }
            if length == PREFACE.len() {
                return Poll::Ready(First::Http2);
            }
            if let Ok(0) | Err(_) = ready!(self.read.poll_fill(&mut self.io, cx)) {
                return Poll::Ready(First::Nothing);
            }
        }
    }

    /// Whether nothing has come since the last request.
    pub(super) fn is_quiet(&self) -> bool {
        self.read.is_empty() && self.body_is_complete()
    }

    /// The next request's head. `max_bytes`: the longest head that is read.
    pub(super) fn poll_head(&mut self, max_bytes: usize, cx: &mut Context<'_>) -> Poll<Next> {
        loop {
            if !self.read.is_empty() {
                match head::parse(&mut self.read, &mut self.scanned, max_bytes) {
                    Ok(Some(head)) => {
                        self.body = match head.framing {
                            BodyFraming::Length(0) => Incoming::Complete,
                            BodyFraming::Length(length) => Incoming::Length(length),
                            BodyFraming::Chunked => Incoming::Chunked(Chunked::strict()),
                        };
                        return Poll::Ready(Next::Head(head));
                    }
                    Ok(None) => {}
                    Err(refusal) => {
                        self.body = Incoming::Broken;
                        return Poll::Ready(Next::Refused(refusal));
                    }
                }
            }
            match ready!(self.read.poll_fill(&mut self.io, cx)) {
                Ok(0) | Err(_) => return Poll::Ready(Next::Closed),
                Ok(_) => {}
            }
        }
    }

    /// Whether the request at hand has no more body to read.
    pub(in crate::proxy) fn body_is_complete(&self) -> bool {
        matches!(self.body, Incoming::Complete)
    }

    /// The next read takes no more than this, but at least 8 KiB.
    pub(in crate::proxy) fn limit_reads(&mut self, most: usize) {
        self.read.limit(most);
    }

    /// Bytes of memory held for what was read, the piece of this length that was handed out last included; 0: it has left.
    pub(in crate::proxy) fn held(&self, piece: usize) -> usize {
        self.read.held(piece)
    }

    /// The next piece of the request's body.
    pub(in crate::proxy) fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ClientBodyError>>> {
        loop {
            match &mut self.body {
                Incoming::Complete => return Poll::Ready(None),
                Incoming::Broken => return Poll::Ready(Some(Err(ClientBodyError::Closed))),
                Incoming::Length(left) if !self.read.is_empty() => {
                    let data = self.read.take(*left);
                    *left -= data.len() as u64;
                    if *left == 0 {
                        self.body = Incoming::Complete;
                    }
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Incoming::Length(_) => {}
                Incoming::Chunked(chunked) => match chunked.step(&mut self.read) {
                    Ok(Step::More) => {}
                    Ok(Step::Data(data, _)) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                    Ok(Step::End(trailers)) => {
                        self.body = Incoming::Complete;
                        return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
                    }
                    Err(Malformed(what)) => {
                        self.body = Incoming::Broken;
                        return Poll::Ready(Some(Err(ClientBodyError::Malformed(what))));
                    }
                },
            }
            if let Ok(0) | Err(_) = ready!(self.read.poll_fill(&mut self.io, cx)) {
                self.body = Incoming::Broken;
                return Poll::Ready(Some(Err(ClientBodyError::Closed)));
            }
        }
    }

    /// Bytes of the body that are still to come, where that is known.
    pub(super) fn body_left(&self) -> Option<u64> {
        match self.body {
            Incoming::Complete => Some(0),
            Incoming::Length(left) => Some(left),
            Incoming::Chunked(_) | Incoming::Broken => None,
        }
    }

    /// Whether the body can still be read to its end.
    pub(super) fn body_is_broken(&self) -> bool {
        matches!(self.body, Incoming::Broken)
    }

    /// Bytes of memory that a head takes which has begun and not ended.
    pub(super) fn unended(&self) -> usize {
        if self.read.is_empty() { 0 } else { self.read.held(0) }
    }

    /// Gives up what has come: it is no request.
    pub(super) fn give_up(&mut self) {
        self.read.release();
    }

    /// Whether bytes have come that nobody has read.
    pub(super) fn has_unread(&self) -> bool {
        !self.read.is_empty()
    }

    /// Looks whether the client has gone while its request is answered. What comes of the next request is kept; while something is kept,
    /// no more is read.
    pub(super) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.is_quiet() {
            return Poll::Pending;
        }
        match self.read.poll_fill(&mut self.io, cx) {
            Poll::Ready(Ok(0) | Err(_)) => Poll::Ready(()),
            Poll::Ready(Ok(_)) | Poll::Pending => Poll::Pending,
        }
    }

    /// Reads and throws away. `Ok(0)`: the client has closed.
    pub(super) fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let read = ready!(self.read.poll_fill(&mut self.io, cx));
        self.read.release();
        Poll::Ready(read)
    }
}
