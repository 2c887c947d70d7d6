//! A response's body on its way to an HTTP/2 client.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, SendStream};
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
        wire::poll_budget::give_way,
    },
};

use super::{super::body::ClientBody, conduct::Conduct, cut::Cut};

/// Bytes of a body after which other streams have their turn.
const TURN_BYTES: usize = 256 * 1024;
/// Most bytes of data that a connection holds for a stream beyond what its window lets pass.
pub(super) const SEND_BUFFER: usize = 64 * 1024;

/// A response's body on its way to the client. A piece is read only when the client has granted window for some of it, and is handed over
/// as far as the window goes: what a stream holds can always be sent, and whether it moves can be seen.
pub(super) struct Delivery<'a> {
    pub(super) body: &'a mut ResponseBody<ClientBody>,
    pub(super) stream: &'a mut SendStream<Bytes>,
    /// Read and not handed over yet.
    pub(super) piece: Bytes,
    /// The piece is the last.
    pub(super) ends: bool,
    pub(super) conn: &'a Conn,
    pub(super) conduct: &'a Conduct,
    /// What was handed over and may not have left yet.
    pub(super) handed: Account,
}

// === impl Delivery ===

impl Delivery<'_> {
    pub(super) fn poll(&mut self, flight: &Flight, cx: &mut Context<'_>) -> Poll<Result<(), Cut>> {
        if let Poll::Ready(reset) = self.stream.poll_reset(cx) {
            return Poll::Ready(Err(Cut::told(reset).note(flight)));
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
            self.stream.reserve_capacity(self.piece.len().clamp(1, SEND_BUFFER));
            let room = match self.stream.capacity() {
                0 => match self.stream.poll_capacity(cx) {
                    Poll::Ready(Some(Ok(room))) => room,
                    Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(Err(Cut::Gone)),
                    Poll::Pending => {
                        // A client may go on sending before it reads on.
                        self.body.poll_upload(cx);
                        return Poll::Pending;
                    }
                },
                room => room,
            };
            if room == 0 {
                continue;
            }
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
                // Room for a byte was asked for until now, to know that there is a window.
                self.stream.reserve_capacity(self.piece.len().clamp(1, SEND_BUFFER));
            }
            let room = self.stream.capacity().max(room);
            let piece = self.piece.split_to(room.min(self.piece.len()));
            turn += piece.len().max(1);
            self.handed.add(piece.len(), SEND_BUFFER);
            self.conduct.sent_data(piece.len());
            flight.touch();
            let last = self.ends && self.piece.is_empty();
            if self.stream.send_data(piece, last).is_err() {
                return Poll::Ready(Err(Cut::Gone));
            }
            if last {
                return Poll::Ready(Ok(()));
            }
        }
        give_way(cx);
        Poll::Pending
    }

    /// Ends a call of gRPC whose session has moved in words that its client takes for a reason to call again.
    fn tell_moved(&mut self, flight: &Flight) -> Option<Result<(), Cut>> {
        let is_moved = flight.is_call.get() && flight.expired() == Some(Expiry::Moved);
        is_moved.then(|| self.stream.send_trailers(session_moved()).map_err(|_gone| Cut::Gone))
    }

    /// Reads a piece of the body; `Some`: the stream has ended, one way or the other.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<(), Cut>>> {
        let frame = match ready!(self.body.poll_frame(cx)) {
            Some(Ok(frame)) => frame,
            None => return Poll::Ready(Some(self.stream.send_data(Bytes::new(), true).map_err(|_gone| Cut::Gone))),
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
                Poll::Ready(Some(self.stream.send_trailers(trailers).map_err(|_gone| Cut::Gone)))
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
