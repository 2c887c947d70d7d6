//! A response's body on its way to an HTTP/1.1 client.

use std::task::{Context, Poll};

use http::HeaderMap;

use crate::proxy::{down::body::ClientBody, flow::response_body::ResponseBody, state::flight::Flight, wire::poll_budget::give_way};

use super::{SharedWire, encode::ResponseFraming, out::Out};

/// Bytes of a body after which other connections have their turn.
const TURN_BYTES: usize = 1024 * 1024;

/// The answer could not be delivered: the client is gone, or the answer broke off.
pub(super) struct Broken;

/// A response on its way to the client.
pub(super) struct Delivery<'a> {
    body: &'a mut ResponseBody<ClientBody>,
    framing: ResponseFraming,
    takes_trailers: bool,
    /// All of the body is in `Out`.
    ended: bool,
    /// The body broke off.
    failed: bool,
}

// === impl Delivery ===

impl<'a> Delivery<'a> {
    pub(super) fn new(body: &'a mut ResponseBody<ClientBody>, framing: ResponseFraming, takes_trailers: bool) -> Self {
        Self { body, framing, takes_trailers, ended: false, failed: false }
    }

    /// Moves the body on; what has been gathered leaves in one go.
    pub(super) fn poll(&mut self, flight: &Flight, out: &mut Out, wire: &SharedWire, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        let mut turn = 0;
        loop {
            let waits = self.gather(out, &mut turn, cx);
            let mut wire = wire.borrow_mut();
            let before = wire.io.writes();
            let written = out.poll_write(&mut wire.io, cx);
            if wire.io.writes() != before {
                flight.touch();
            }
            match written {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(Err(Broken)),
                Poll::Pending if self.body.give_up() => return Poll::Ready(Err(Broken)),
                Poll::Pending => {
                    flight.wake_with(cx.waker());
                    drop(wire);
                    // A client may go on sending before it reads on.
                    self.body.poll_upload(cx);
                    return Poll::Pending;
                }
            }
            if self.failed {
                return Poll::Ready(Err(Broken));
            }
            if self.ended {
                return Poll::Ready(Ok(()));
            }
            if waits {
                return if wire.poll_gone(cx).is_ready() { Poll::Ready(Err(Broken)) } else { Poll::Pending };
            }
            if turn >= TURN_BYTES {
                give_way(cx);
                return Poll::Pending;
            }
        }
    }

    /// Takes of the body what is there and has room. Whether more has to be waited for.
    fn gather(&mut self, out: &mut Out, turn: &mut usize, cx: &mut Context<'_>) -> bool {
        while !self.ended && !self.failed && out.has_room() && *turn < TURN_BYTES {
            let frame = match self.body.poll_frame(cx) {
                Poll::Pending => return true,
                Poll::Ready(None) => {
                    self.end(out, None);
                    break;
                }
                Poll::Ready(Some(Err(_))) => {
                    self.failed = true;
                    break;
                }
                Poll::Ready(Some(Ok(frame))) => frame,
            };
            match frame.into_data() {
                Ok(data) => {
                    *turn += data.len();
                    out.add_data(data, self.framing);
                    if self.body.is_end_stream() {
                        self.end(out, None);
                    }
                }
                Err(frame) => self.end(out, frame.into_trailers().ok().as_ref()),
            }
        }
        false
    }

    fn end(&mut self, out: &mut Out, trailers: Option<&HeaderMap>) {
        out.add_end(self.framing, trailers.filter(|_| self.takes_trailers));
        self.ended = true;
    }
}
