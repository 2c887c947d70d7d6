//! The request side of an exchange: what is written to the upstream.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use http::HeaderMap;
use tokio::io::AsyncWrite as _;

use crate::proxy::{
    up::{host_stream::HostStream, outbound::Outbound},
    wire::{fields::last_chunk, poll_budget::PollBudget, trailers},
};

use super::{ExchangeError, RequestFraming};

/// The request side.
#[derive(Debug)]
pub(super) struct Upload<B> {
    /// Until everything is written: what was read of it is accounted for as long as it is there.
    body: Option<B>,
    /// Nothing more comes of it.
    ended: bool,
    touched: bool,
    framing: RequestFraming,
    left: u64,
    out: Out,
    wrote: bool,
    /// The upstream no longer reads: its answer may still come.
    broken: bool,
}

/// Bytes to write: a head or chunk size, data, and what follows the data.
#[derive(Debug, Default)]
struct Out {
    before: Vec<u8>,
    before_at: usize,
    data: Bytes,
    after: &'static [u8],
}

// === impl Upload ===

impl<B> Upload<B> {
    /// Writes the head at once if no body follows; otherwise the first piece of the body shall go with it.
    pub(super) fn start(io: &HostStream, head: &[u8], body: Option<B>, framing: RequestFraming) -> Self {
        let left = if let RequestFraming::Length(length) = framing { length } else { 0 };
        let bodyless = body.is_none() || framing == RequestFraming::None;
        let mut upload = Self { body, ended: bodyless, touched: false, framing, left, out: Out::default(), wrote: false, broken: false };
        let mut written = 0;
        if bodyless {
            match io.try_write(head) {
                Ok(length) => written = length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => upload.broken = true,
            }
        }
        upload.wrote = written > 0;
        upload.out.before.extend_from_slice(head.get(written..).unwrap_or_default());
        upload
    }

    /// Everything was written.
    pub(super) fn is_done(&self) -> bool {
        !self.broken && self.ended && self.out.is_empty()
    }

    /// At least one byte was handed to the system.
    pub(super) fn wrote(&self) -> bool {
        self.wrote
    }

    /// The upstream was gone before it could have seen a byte.
    pub(super) fn failed_unwritten(&self) -> bool {
        self.broken && !self.wrote
    }

    /// The request body, if no byte of it was taken.
    pub(super) fn untouched_body(self) -> Option<B> {
        if self.touched { None } else { self.body }
    }
}

impl<B> Upload<B>
where
    B: Outbound,
{
    /// Moves the request body on. Ready with an error only for a failing client; a failing upstream is left to its answer.
    pub(super) fn poll(&mut self, io: &mut HostStream, cx: &mut Context<'_>) -> Poll<Result<(), ExchangeError>> {
        let mut budget = PollBudget::default();
        loop {
            if budget.is_spent(cx) {
                return Poll::Pending;
            }
            // The first piece of a body rides with the head: one system call.
            if !self.ended && self.out.data.is_empty() && self.out.after.is_empty() && !self.broken {
                match self.poll_body(cx) {
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Ready(Ok(())) => budget.spend(self.out.data.len(), 1),
                    Poll::Pending if self.out.is_empty() => {
                        // What was written shall not wait for more of the body.
                        self.broken |= matches!(Pin::new(&mut *io).poll_flush(cx), Poll::Ready(Err(_)));
                        return Poll::Pending;
                    }
                    Poll::Pending => {}
                }
            }
            if self.broken || (self.out.is_empty() && self.ended) {
                if !self.broken {
                    self.broken = ready!(Pin::new(&mut *io).poll_flush(cx)).is_err();
                    self.body = None;
                }
                return Poll::Ready(Ok(()));
            }
            if self.out.is_empty() {
                continue;
            }
            match ready!(self.out.poll_write(io, cx)) {
                Ok(()) => {
                    self.wrote = true;
                    self.body.iter().for_each(Outbound::moved);
                }
                Err(_) => self.broken = true,
            }
        }
    }

    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ExchangeError>> {
        let Some(body) = &mut self.body else { return Poll::Ready(Ok(())) };
        let frame = ready!(Pin::new(&mut *body).poll_frame(cx));
        self.touched = true;
        match frame {
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => self.queue_data(data),
                Err(frame) => {
                    let mut trailers = frame.into_trailers().unwrap_or_default();
                    trailers::sieve(&mut trailers);
                    self.queue_end(&trailers)
                }
            },
            Some(Err(error)) => Err(ExchangeError::RequestBody(error.into())),
            None => self.queue_end(&HeaderMap::new()),
        }
        .into()
    }

    fn queue_data(&mut self, data: Bytes) -> Result<(), ExchangeError> {
        let length = data.len() as u64;
        match self.framing {
            RequestFraming::Length(_) if length > self.left => {
                return Err(ExchangeError::RequestBody("the body is longer than its content-length".into()));
            }
            RequestFraming::Length(_) => {
                self.left -= length;
                self.ended = self.left == 0;
            }
            RequestFraming::Chunked if length > 0 => {
                use std::io::Write as _;
                // Writing to a Vec cannot fail.
                let _ = write!(self.out.before, "{length:x}\r\n");
                self.out.after = b"\r\n";
            }
            RequestFraming::Chunked | RequestFraming::None => {}
        }
        self.out.data = data;
        Ok(())
    }

    fn queue_end(&mut self, trailers: &HeaderMap) -> Result<(), ExchangeError> {
        self.ended = true;
        match self.framing {
            RequestFraming::Length(_) if self.left > 0 => {
                Err(ExchangeError::RequestBody("the body is shorter than its content-length".into()))
            }
            RequestFraming::Chunked => {
                last_chunk(&mut self.out.before, trailers);
                Ok(())
            }
            RequestFraming::Length(_) | RequestFraming::None => Ok(()),
        }
    }
}

// === impl Out ===

impl Out {
    fn is_empty(&self) -> bool {
        self.before.len() == self.before_at && self.data.is_empty() && self.after.is_empty()
    }

    /// Writes once; at least one byte was written if there is no error.
    fn poll_write(&mut self, io: &mut HostStream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let before = self.before.get(self.before_at..).unwrap_or_default();
        let mut written = match (before.is_empty(), self.data.is_empty(), self.after.is_empty()) {
            (false, true, true) => ready!(io.poll_write_pieces(cx, &[IoSlice::new(before)]))?,
            (true, false, true) => ready!(io.poll_write_pieces(cx, &[IoSlice::new(&self.data)]))?,
            _ => {
                let pieces = [IoSlice::new(before), IoSlice::new(&self.data), IoSlice::new(self.after)];
                ready!(io.poll_write_pieces(cx, &pieces))?
            }
        };
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        let from_before = written.min(before.len());
        self.before_at += from_before;
        written -= from_before;
        if self.before_at == self.before.len() {
            self.before.clear();
            self.before_at = 0;
        }
        let from_data = written.min(self.data.len());
        self.data.advance(from_data);
        written -= from_data;
        self.after = self.after.get(written..).unwrap_or_default();
        Poll::Ready(Ok(()))
    }
}
