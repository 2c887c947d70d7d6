//! The request's body on its way to a host.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::SendStream;

use crate::proxy::{
    state::budget::Account,
    up::outbound::{BoxError, Outbound},
    wire::{poll_budget::PollBudget, trailers},
};

use super::connection::Connection;

/// Most bytes of a body that a connection holds for a stream beyond what its window lets pass.
pub(super) const SEND_BUFFER: usize = 64 * 1024;

/// The request side of a stream.
#[derive(Debug)]
pub(super) struct Upload<B> {
    state: State<B>,
    touched: bool,
}

#[derive(Debug)]
enum State<B> {
    Going(Box<Going<B>>),
    /// All of it was handed to the connection, or the host takes no more: its answer may still come.
    Over,
}

#[derive(Debug)]
struct Going<B> {
    /// Until everything is handed over: what was read of it is accounted for as long as it is there.
    body: B,
    stream: SendStream<Bytes>,
    /// Read and not handed over yet.
    piece: Bytes,
    /// The piece is the last.
    ends: bool,
    /// What was handed over and may not have left yet.
    handed: Account,
}

// === impl Upload ===

impl<B> Upload<B> {
    /// There is no body.
    pub(super) fn none() -> Self {
        Self { state: State::Over, touched: false }
    }

    /// The request body, if no byte of it was taken.
    pub(super) fn untouched_body(self) -> Option<B> {
        match self.state {
            State::Going(going) if !self.touched => Some(going.body),
            State::Going(_) | State::Over => None,
        }
    }
}

impl<B> Upload<B>
where
    B: Outbound,
{
    pub(super) fn new(body: B, stream: SendStream<Bytes>, handed: Account) -> Self {
        let going = Going { body, stream, piece: Bytes::new(), ends: false, handed };
        Self { state: State::Going(Box::new(going)), touched: false }
    }

    /// Moves the body on. Ready with an error only for a failing client; a host that takes no more is left to its answer.
    pub(super) fn poll(&mut self, connection: &Connection, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        let State::Going(going) = &mut self.state else { return Poll::Ready(Ok(())) };
        let polled = going.poll(&mut self.touched, connection, cx);
        if polled.is_ready() {
            self.state = State::Over;
        }
        polled
    }
}

// === impl Going ===

impl<B> Going<B>
where
    B: Outbound,
{
    fn poll(&mut self, touched: &mut bool, connection: &Connection, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        let mut budget = PollBudget::default();
        if !connection.is_full() {
            self.handed.set(0);
        }
        loop {
            if budget.is_spent(cx) {
                return Poll::Pending;
            }
            if self.piece.is_empty() && !self.ends {
                let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
                *touched = true;
                match frame {
                    None => self.ends = true,
                    Some(Err(error)) => return Poll::Ready(Err(error.into())),
                    Some(Ok(frame)) => match frame.into_data() {
                        Ok(data) => {
                            self.piece = data;
                            self.ends = self.body.is_end_stream();
                        }
                        Err(frame) => {
                            let mut fields = frame.into_trailers().unwrap_or_default();
                            trailers::sieve(&mut fields);
                            return self.end_with(fields);
                        }
                    },
                }
                budget.spend(self.piece.len(), 1);
            }
            if self.piece.is_empty() {
                if self.ends {
                    return self.end();
                }
                continue;
            }
            // Too much is buffered for all together: what was handed over has to leave first.
            if connection.is_full() && self.handed.is_full() {
                connection.wake_when_written(cx);
                return Poll::Pending;
            }
            let Some(room) = ready!(self.poll_room(cx)) else { return Poll::Ready(Ok(())) };
            let piece = self.piece.split_to(room.min(self.piece.len()));
            self.handed.add(piece.len(), SEND_BUFFER);
            let last = self.ends && self.piece.is_empty();
            if self.stream.send_data(piece, last).is_err() {
                return Poll::Ready(Ok(()));
            }
            self.body.moved();
            if last {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Waits until some of the piece may be sent, and says how much. `None`: the host takes no more.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Option<usize>> {
        self.stream.reserve_capacity(self.piece.len().min(SEND_BUFFER));
        match self.stream.capacity() {
            0 => self.stream.poll_capacity(cx).map(|room| room?.ok()),
            room => Poll::Ready(Some(room)),
        }
    }

    // Of a stream that the host takes no more of, its answer says what is wrong.
    fn end(&mut self) -> Poll<Result<(), BoxError>> {
        let _ = self.stream.send_data(Bytes::new(), true);
        Poll::Ready(Ok(()))
    }

    fn end_with(&mut self, fields: http::HeaderMap) -> Poll<Result<(), BoxError>> {
        if fields.is_empty() {
            return self.end();
        }
        let _ = self.stream.send_trailers(fields);
        Poll::Ready(Ok(()))
    }
}
