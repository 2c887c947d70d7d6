//! The state of one stream: what has come of the request's body, and what may be sent.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::HeaderMap;

use super::{cut::Cut, window::ReceiveWindow};

/// A stream. Its own task and that of its connection share it.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) id: u32,
    pub(super) receive: ReceiveWindow,
    /// What the client's window lets pass; below 0 after it was made smaller.
    pub(super) send_window: Cell<i64>,
    /// The last frame of the response was handed over, or the stream was reset.
    pub(super) has_ended: Cell<bool>,
    /// Its task waits for window, or for room in what waits to be written.
    pub(super) waits: Cell<bool>,
    incoming: RefCell<Incoming>,
    cut: Cell<Option<Cut>>,
    reader: RefCell<Option<Waker>>,
    writer: RefCell<Option<Waker>>,
}

/// What has come of a request's body and has not been read.
#[derive(Debug)]
struct Incoming {
    pieces: VecDeque<Bytes>,
    bytes: usize,
    trailers: Option<Result<HeaderMap, &'static str>>,
    /// The client has no more to say.
    ended: bool,
    /// Nobody reads it any more.
    unwanted: bool,
    /// Bytes that are still to come, where the head announced a length.
    announced: Option<u64>,
}

/// The next of a request's body.
#[derive(Debug)]
pub(super) enum Piece {
    Data(Bytes),
    Trailers(HeaderMap),
    /// Trailers that no host would take; what is wrong with them.
    Malformed(&'static str),
    Cut(Cut),
    End,
}

/// What has come does not fit what the head announced, or comes behind the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Misfit {
    AfterEnd,
    Length,
}

// === impl Stream ===

impl Stream {
    pub(super) fn new(id: u32, receive: ReceiveWindow, send_window: i64, announced: Option<u64>, ended: bool) -> Self {
        Self {
            id,
            receive,
            send_window: Cell::new(send_window),
            has_ended: Cell::new(false),
            waits: Cell::new(false),
            incoming: RefCell::new(Incoming { pieces: VecDeque::new(), bytes: 0, trailers: None, ended, unwanted: false, announced }),
            cut: Cell::new(None),
            reader: RefCell::new(None),
            writer: RefCell::new(None),
        }
    }

    /// Why it has ended before its time.
    pub(super) fn cut(&self) -> Option<Cut> {
        self.cut.get()
    }

    /// It ends before its time.
    pub(super) fn end(&self, cut: Cut) {
        if self.cut.get().is_none() {
            self.cut.set(Some(cut));
            self.wake_reader();
            self.wake_writer();
        }
    }

    /// Waits until it ends before its time.
    pub(super) fn poll_cut(&self, cx: &Context<'_>) -> Poll<Cut> {
        remember(&self.writer, cx);
        self.cut.get().map_or(Poll::Pending, Poll::Ready)
    }

    pub(super) fn wake_writer(&self) {
        self.waits.set(false);
        if let Some(waker) = &*self.writer.borrow() {
            waker.wake_by_ref();
        }
    }

    fn wake_reader(&self) {
        if let Some(waker) = &*self.reader.borrow() {
            waker.wake_by_ref();
        }
    }

    /// Whether the client has no more to say.
    pub(super) fn client_ended(&self) -> bool {
        self.incoming.borrow().ended
    }

    /// Whether nothing of the body is left to be read.
    pub(super) fn is_read(&self) -> bool {
        let incoming = self.incoming.borrow();
        incoming.ended && incoming.pieces.is_empty() && incoming.trailers.is_none()
    }

    /// Bytes that have come and were not read.
    pub(super) fn unread(&self) -> usize {
        self.incoming.borrow().bytes
    }

    /// Takes a piece of the body; how many bytes of it nobody wants.
    ///
    /// # Errors
    /// It comes after the end, or is more or less than announced.
    pub(super) fn received(&self, data: Bytes, ends: bool) -> Result<usize, Misfit> {
        let mut incoming = self.incoming.borrow_mut();
        if incoming.ended {
            return Err(Misfit::AfterEnd);
        }
        if let Some(announced) = incoming.announced {
            let left = announced.checked_sub(data.len() as u64).ok_or(Misfit::Length)?;
            if ends && left > 0 {
                return Err(Misfit::Length);
            }
            incoming.announced = Some(left);
        }
        incoming.ended = ends;
        let mut unwanted = 0;
        if incoming.unwanted {
            unwanted = data.len();
        } else if !data.is_empty() {
            incoming.bytes += data.len();
            incoming.pieces.push_back(data);
        }
        drop(incoming);
        self.wake_reader();
        Ok(unwanted)
    }

    /// Takes the trailers, with which the body ends.
    ///
    /// # Errors
    /// They come after the end, or the body is less than announced.
    pub(super) fn received_trailers(&self, trailers: Result<HeaderMap, &'static str>) -> Result<(), Misfit> {
        self.received(Bytes::new(), true)?;
        self.incoming.borrow_mut().trailers = Some(trailers);
        Ok(())
    }

    /// Reads the next of the body.
    pub(super) fn poll_piece(&self, cx: &Context<'_>) -> Poll<Piece> {
        let mut incoming = self.incoming.borrow_mut();
        if let Some(data) = incoming.pieces.pop_front() {
            incoming.bytes -= data.len();
            return Poll::Ready(Piece::Data(data));
        }
        // What came whole is whole, whatever became of the connection since.
        match incoming.trailers.take() {
            Some(Ok(trailers)) => return Poll::Ready(Piece::Trailers(trailers)),
            Some(Err(what)) => return Poll::Ready(Piece::Malformed(what)),
            None if incoming.ended => return Poll::Ready(Piece::End),
            None => {}
        }
        if let Some(cut) = self.cut.get() {
            return Poll::Ready(Piece::Cut(cut));
        }
        remember(&self.reader, cx);
        Poll::Pending
    }

    /// Nobody reads the body any more; how many bytes of it are thrown away.
    pub(super) fn unwant(&self) -> usize {
        let mut incoming = self.incoming.borrow_mut();
        incoming.unwanted = true;
        incoming.pieces.clear();
        std::mem::take(&mut incoming.bytes)
    }
}

/// Remembers whom to wake.
fn remember(place: &RefCell<Option<Waker>>, cx: &Context<'_>) {
    match &mut *place.borrow_mut() {
        Some(waker) => waker.clone_from(cx.waker()),
        none => *none = Some(cx.waker().clone()),
    }
}
