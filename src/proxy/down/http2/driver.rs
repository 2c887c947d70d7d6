//! The task of an HTTP/2 connection: it carries frames, and starts a task for each stream.

use std::{
    future::poll_fn,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use http::Version;
use tokio::io::AsyncWrite as _;

use crate::{
    proxy::{
        down::io::ClientIo,
        flow::request::note_refused,
        state::{budget::Account, conn::Signal},
        wire::{frames::PING, poll_budget::PollBudget, reason::Reason},
    },
    telemetry::RequestRefusal,
};

use super::{
    exchange::Http2,
    reception::{FAREWELL, Reception, Step},
};

/// Nothing is read while more than this waits to be written: a client that does not read gets no answers to its frames either.
const UNREAD_BYTES: usize = 128 * 1024;
/// The id above all of streams.
const ANY_STREAM: u32 = 0x7fff_ffff;

/// Carries the frames of a connection.
pub(super) struct Driver {
    io: ClientIo,
    reception: Reception,
    shared: Rc<Http2>,
    /// Memory of a header block that has begun and not ended.
    head: Account,
    budget: PollBudget,
    ending: Ending,
}

/// How far the end of a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    No,
    /// The client was asked to come back on another connection; streams that it opens before it knows are served.
    Asked,
    /// It knows: when its streams have ended, the connection ends.
    Known,
    /// The connection ends when what waits has been written.
    Now,
}

/// The connection is no more.
struct Gone;

// === impl Driver ===

impl Driver {
    pub(super) fn new(io: ClientIo, reception: Reception, shared: Rc<Http2>) -> Self {
        let head = Account::at_rest(&shared.context.worker.budget);
        Self { io, reception, shared, head, budget: PollBudget::default(), ending: Ending::No }
    }

    /// Carries frames until the connection ends.
    pub(super) async fn run(mut self) {
        let in_order = poll_fn(|cx| self.poll(cx)).await;
        self.shared.session.end_streams();
        if in_order {
            // The connection ends either way.
            let _ = poll_fn(|cx| Pin::new(&mut self.io).poll_shutdown(cx)).await;
        }
    }

    /// Whether the connection has ended in order.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        self.shared.session.set_awake(true);
        match self.shared.context.conn.signal(cx) {
            Some(Signal::Finish) => self.ask_to_leave(),
            Some(Signal::Abort | Signal::HeadTimeout) => return Poll::Ready(false),
            Some(Signal::Rest) => {
                self.reception.release();
                self.shared.session.out().borrow_mut().release();
            }
            None => {}
        }
        if self.poll_read(cx).is_err() {
            return Poll::Ready(false);
        }
        self.look_at_conduct();
        self.look_at_end();
        let written = self.shared.session.out().borrow_mut().poll_write(&mut self.io, cx);
        match written {
            Poll::Ready(Err(_)) => return Poll::Ready(false),
            Poll::Ready(Ok(())) if self.ending == Ending::Now => return Poll::Ready(true),
            Poll::Ready(Ok(())) | Poll::Pending => {}
        }
        self.shared.session.wrote();
        self.shared.session.set_awake(false);
        Poll::Pending
    }

    /// Reads what there is, and takes in the frames.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Result<(), Gone> {
        while self.ending != Ending::Now && self.shared.session.out().borrow().queued() <= UNREAD_BYTES {
            let frames = self.take_frames();
            self.note_unended();
            if self.ending == Ending::Now {
                return Ok(());
            }
            self.budget.spend(0, frames);
            if self.budget.is_spent(cx) {
                return Ok(());
            }
            match self.reception.buffer().poll_fill(&mut self.io, cx) {
                Poll::Ready(Ok(0) | Err(_)) => return Err(Gone),
                Poll::Ready(Ok(length)) => self.budget.spend(length, 0),
                Poll::Pending => {
                    self.budget.reset();
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Takes in the frames that have come; how many they were.
    fn take_frames(&mut self) -> usize {
        let mut frames = 0;
        loop {
            match self.reception.step(&self.shared.session) {
                Ok(Step::Incomplete) => return frames,
                Ok(Step::Done) => {}
                Ok(Step::Opened(id, head, ends)) => self.open(id, *head, !ends),
                Ok(Step::Refused(reason)) => note_refused(&self.shared.context, Version::HTTP_2, None, reason.what_is_wrong()),
                Err(reason) => {
                    note_refused(&self.shared.context, Version::HTTP_2, None, reason.what_is_wrong());
                    self.end_now(reason);
                    return frames;
                }
            }
            if self.shared.session.conduct.abuse().is_some() {
                return frames;
            }
            frames += 1;
        }
    }

    fn open(&self, id: u32, head: super::head::Head, has_body: bool) {
        let Some(stream) = self.shared.session.find(id) else { return };
        self.shared.session.conduct.accepted();
        let shared = Rc::clone(&self.shared);
        self.shared.context.worker.spawn(async move { shared.serve_stream(head, stream, has_body).await });
    }

    /// Notes what a head takes that has begun and not ended.
    fn note_unended(&mut self) {
        let context = &self.shared.context;
        let open = self.reception.open_head();
        context.conn.set_within_head(self.reception.is_within());
        self.head.set(open);
        if context.worker.budget.cuts_head(open + context.conn.unread_at_rest()) {
            context.worker.metrics.request_refused(RequestRefusal::Buffers);
            self.end_now(Reason::ENHANCE_YOUR_CALM);
        }
    }

    fn look_at_conduct(&mut self) {
        let conduct = &self.shared.session.conduct;
        if let Some(abuse) = conduct.abuse()
            && self.ending != Ending::Now
        {
            self.shared.context.worker.metrics.http2_abuse(abuse);
            self.end_now(Reason::ENHANCE_YOUR_CALM);
        } else if conduct.is_warned() {
            self.ask_to_leave();
        }
    }

    fn look_at_end(&mut self) {
        let session = &self.shared.session;
        if self.ending == Ending::Asked && self.reception.took_leave() {
            self.ending = Ending::Known;
            self.reception.serve_no_more();
            session.go_away(self.reception.last_stream(), Reason::NO_ERROR);
        }
        if self.ending == Ending::Known && session.open_streams() == 0 {
            self.ending = Ending::Now;
        }
    }

    /// Asks the client to come back on another connection (RFC 9113 section 6.8).
    fn ask_to_leave(&mut self) {
        if self.ending == Ending::No {
            self.ending = Ending::Asked;
            self.shared.session.go_away(ANY_STREAM, Reason::NO_ERROR);
            self.shared.session.frame(PING, 0, 0, &FAREWELL);
        }
    }

    /// Ends the connection, and all its streams.
    fn end_now(&mut self, reason: Reason) {
        self.ending = Ending::Now;
        self.shared.session.go_away(self.reception.last_stream(), reason);
        self.shared.session.end_streams();
    }
}
