//! A response's body on its way to an HTTP/2 client.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::{
    plan::GrpcStatus,
    proxy::{
        flow::response_body::{BodyError, ResponseBody},
        state::{
            budget::Account,
            conn::Conn,
            flight::{Expiry, Flight},
        },
        wire::{poll_budget::give_way, reason::Reason},
    },
};

use super::{super::body::ClientBody, cut::Cut, responder::Responder};

/// Bytes of a body after which other streams have their turn.
const TURN_BYTES: usize = 256 * 1024;
/// Most bytes that a stream is taken to have among what waits to be written.
const SEND_BUFFER: usize = 64 * 1024;

/// A response's body on its way to the client. A piece is read only when the client has granted window for some of it, and is handed over
/// as far as the window goes: what a stream holds can always be sent, and whether it moves can be seen.
pub(super) struct Delivery<'a> {
    pub(super) body: &'a mut ResponseBody<ClientBody>,
    pub(super) stream: &'a Responder,
    /// Read and not handed over yet.
    pub(super) piece: Bytes,
    /// The piece is the last.
    pub(super) ends: bool,
    pub(super) conn: &'a Conn,
    /// What was handed over and may not have left yet.
    pub(super) handed: Account,
}

// === impl Delivery ===

impl Delivery<'_> {
    pub(super) fn poll(&mut self, flight: &Flight, cx: &mut Context<'_>) -> Poll<Result<(), Cut>> {
        if let Poll::Ready(cut) = self.stream.poll_cut(cx) {
            return Poll::Ready(Err(cut.note(flight)));
        }
        if self.body.give_up() {
            return Poll::Ready(self.tell_moved(flight).unwrap_or(Err(Cut::Reset(Reason::CANCEL))));
        }
        flight.wake_with(cx.waker());
        if !self.conn.is_stalled() {
            self.handed.set(0);
        }
        let mut turn = 0;
        while turn < TURN_BYTES {
            let Poll::Ready(room) = self.stream.poll_room() else {
                // A client may go on sending before it reads on.
                self.body.poll_upload(cx);
                return Poll::Pending;
            };
            if self.piece.is_empty() {
                // Too much is buffered for all together: what was handed over has to leave first.
                if self.handed.is_full() {
                    if self.conn.is_stalled() {
                        self.conn.wake_when_read(cx.waker());
                        return Poll::Pending;
                    }
                    break;
                }
                if let Some(done) = ready!(self.poll_piece(cx)) {
                    return Poll::Ready(done);
                }
                if self.piece.is_empty() && !self.ends {
                    turn += 1;
                    continue;
                }
            }
            let piece = self.piece.split_to(room.min(self.piece.len()));
            turn += piece.len().max(1);
            self.handed.add(piece.len(), SEND_BUFFER);
            flight.touch();
            let last = self.ends && self.piece.is_empty();
            self.stream.send_data(piece, last);
            if last {
                return Poll::Ready(Ok(()));
            }
        }
        give_way(cx);
        Poll::Pending
    }

    /// Ends a call of gRPC whose session has moved in words that its client takes for a reason to call again.
    fn tell_moved(&self, flight: &Flight) -> Option<Result<(), Cut>> {
        let is_moved = flight.is_call.get() && flight.expired() == Some(Expiry::Moved);
        is_moved.then(|| {
            self.stream.send_trailers(&session_moved());
            Ok(())
        })
    }

    /// Reads a piece of the body; `Some`: the stream has ended, one way or the other.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<(), Cut>>> {
        let frame = match ready!(self.body.poll_frame(cx)) {
            Some(Ok(frame)) => frame,
            None => {
                self.stream.send_data(Bytes::new(), true);
                return Poll::Ready(Some(Ok(())));
            }
            Some(Err(error)) => return Poll::Ready(Some(Err(Cut::Reset(reason(&error))))),
        };
        match frame.into_data() {
            Ok(data) => {
                self.piece = data;
                self.ends = self.body.is_end_stream();
                Poll::Ready(None)
            }
            Err(frame) => {
                let trailers = frame.into_trailers().unwrap_or_default();
                self.stream.send_trailers(&trailers);
                Poll::Ready(Some(Ok(())))
            }
        }
    }
}

/// Trailers of a call that has to be made anew, with another pod.
fn session_moved() -> HeaderMap {
    let unavailable = GrpcStatus::Unavailable as u16;
    HeaderMap::from_iter([
        (HeaderName::from_static("grpc-status"), HeaderValue::from(unavailable)),
        (HeaderName::from_static("grpc-message"), HeaderValue::from_static("session moved")),
    ])
}

/// The code that a stream is reset with whose answer breaks off.
fn reason(error: &BodyError) -> Reason {
    match error {
        BodyError::Upstream(_) => Reason::INTERNAL_ERROR,
        BodyError::Expired(_) => Reason::CANCEL,
    }
}
