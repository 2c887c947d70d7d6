//! Copies of a request's body, for mirrors: what the request reads is queued for each, and nobody waits for a slow one.

use std::{
    cell::RefCell,
    collections::VecDeque,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

use crate::proxy::state::{budget::Account, flight::Flight};

use super::client_body::ClientBodyError;

/// Most bytes that a copy may be behind the request.
const MOST_BEHIND: usize = 1 << 20;

/// Small pieces are joined up to this: each by itself would take many times its bytes.
const JOINED: usize = 16 << 10;

/// Where the pieces of a body go beside the host. Dropped before the body has ended, the copies break off.
#[derive(Debug, Default)]
pub(in crate::proxy) struct Tee(Vec<Rc<Queue>>);

/// The body of one mirror.
#[derive(Debug)]
pub(in crate::proxy) struct BodyCopy {
    queue: Rc<Queue>,
    flight: Rc<Flight>,
    /// Bytes still to come, where the request says.
    left: Option<u64>,
}

#[derive(Debug)]
struct Queue(RefCell<State>);

#[derive(Debug)]
struct State {
    pieces: VecDeque<Piece>,
    bytes: usize,
    account: Account,
    end: End,
    waker: Option<Waker>,
}

/// What waits for a mirror. Copied: a piece of a few bytes would keep the whole buffer that it was read into.
#[derive(Debug)]
enum Piece {
    Data(Vec<u8>),
    Trailers(HeaderMap),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// More is to come.
    Open,
    /// All of the body is queued.
    Whole,
    /// The request broke off, or the mirror is too slow.
    Broken,
}

// === impl Tee ===

impl Tee {
    /// Adds a copy. `length`: of the whole body, where it is known. `account`: is charged for what waits.
    pub(in crate::proxy) fn add(&mut self, flight: Rc<Flight>, length: Option<u64>, account: Account) -> BodyCopy {
        let state = State { pieces: VecDeque::new(), bytes: 0, account, end: End::Open, waker: None };
        let queue = Rc::new(Queue(RefCell::new(state)));
        self.0.push(Rc::clone(&queue));
        BodyCopy { queue, flight, left: length }
    }

    /// Queues a piece.
    pub(in crate::proxy) fn push(&self, frame: &Frame<Bytes>) {
        for queue in &self.0 {
            queue.0.borrow_mut().push(frame);
        }
    }

    /// The body has ended well.
    pub(in crate::proxy) fn end(&self) {
        for queue in &self.0 {
            queue.0.borrow_mut().finish(End::Whole);
        }
    }
}

impl Drop for Tee {
    fn drop(&mut self) {
        for queue in &self.0 {
            queue.0.borrow_mut().finish(End::Broken);
        }
    }
}

// === impl State ===

impl State {
    fn push(&mut self, frame: &Frame<Bytes>) {
        if self.end != End::Open {
            return;
        }
        if let Some(data) = frame.data_ref() {
            if self.bytes + data.len() > MOST_BEHIND || self.account.is_full() {
                return self.finish(End::Broken);
            }
            match self.pieces.back_mut() {
                Some(Piece::Data(last)) if last.len() + data.len() <= JOINED => last.extend_from_slice(data),
                Some(_) | None => self.pieces.push_back(Piece::Data(data.to_vec())),
            }
            self.hold(self.bytes + data.len());
        } else if let Some(trailers) = frame.trailers_ref() {
            self.pieces.push_back(Piece::Trailers(trailers.clone()));
        }
        self.wake();
    }

    fn finish(&mut self, end: End) {
        if self.end != End::Open {
            return;
        }
        self.end = end;
        if end == End::Broken {
            self.forget();
        }
        self.wake();
    }

    fn forget(&mut self) {
        self.pieces = VecDeque::new();
        self.hold(0);
    }

    fn hold(&mut self, bytes: usize) {
        self.bytes = bytes;
        self.account.set(bytes);
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

// === impl BodyCopy ===

impl BodyCopy {
    /// Whether all of it has been handed out.
    pub(in crate::proxy) fn is_end_stream(&self) -> bool {
        let state = self.queue.0.borrow();
        state.end == End::Whole && state.pieces.is_empty()
    }

    /// Bytes still to come, where that is known.
    pub(in crate::proxy) fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }

    /// The mirror moves.
    pub(in crate::proxy) fn moved(&self) {
        self.flight.touch();
    }
}

impl Drop for BodyCopy {
    /// The mirror has had enough, or is gone: nothing more is kept for it, however long the request goes on.
    fn drop(&mut self) {
        let mut state = self.queue.0.borrow_mut();
        state.end = End::Broken;
        state.forget();
    }
}

impl Body for BodyCopy {
    type Data = Bytes;
    type Error = ClientBodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ClientBodyError>>> {
        let copy = self.get_mut();
        let mut state = copy.queue.0.borrow_mut();
        if let Some(piece) = state.pieces.pop_front() {
            let frame = match piece {
                Piece::Data(data) => Frame::data(Bytes::from(data)),
                Piece::Trailers(trailers) => Frame::trailers(trailers),
            };
            let length = frame.data_ref().map_or(0, Bytes::len);
            let bytes = state.bytes.saturating_sub(length);
            state.hold(bytes);
            copy.left = copy.left.map(|left| left.saturating_sub(length as u64));
            if state.pieces.is_empty() && state.end == End::Whole {
                copy.flight.upload_ended();
            }
            return Poll::Ready(Some(Ok(frame)));
        }
        match state.end {
            End::Whole => {
                copy.flight.upload_ended();
                Poll::Ready(None)
            }
            End::Broken => Poll::Ready(Some(Err(ClientBodyError::Closed))),
            End::Open => {
                state.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::proxy::state::{
        budget::{Budget, SharedBudget},
        conn::Conn,
    };

    use super::*;

    fn copy(tee: &mut Tee, length: Option<u64>) -> BodyCopy {
        let shared = SharedBudget::new(64 << 20, Arc::default());
        let account = Account::at_rest(&Rc::new(Budget::new(Arc::new(shared), Arc::default())));
        tee.add(Rc::new(Flight::new(Rc::new(Conn::new()), false)), length, account)
    }

    fn data(length: usize) -> Frame<Bytes> {
        Frame::data(Bytes::from(vec![b'x'; length]))
    }

    /// What can be read now: lengths of data, `{}` for trailers, `.` for the end, `!` for an error.
    fn read(copy: &mut BodyCopy) -> String {
        let mut seen = String::new();
        loop {
            match Pin::new(&mut *copy).poll_frame(&mut Context::from_waker(Waker::noop())) {
                Poll::Pending => return seen,
                Poll::Ready(None) => return seen + ".",
                Poll::Ready(Some(Err(_))) => return seen + "!",
                Poll::Ready(Some(Ok(frame))) => {
                    seen += &frame.data_ref().map_or_else(|| "{}".to_owned(), |data| format!("{} ", data.len()))
                }
            }
        }
    }

    #[test]
    fn every_copy_gets_all_pieces_and_the_end() {
        let mut tee = Tee::default();
        let (mut one, mut other) = (copy(&mut tee, Some(5)), copy(&mut tee, None));
        tee.push(&data(3));
        assert_eq!((read(&mut one), one.size_hint().exact()), ("3 ".to_owned(), Some(2)));
        tee.push(&data(2));
        tee.push(&Frame::trailers(HeaderMap::new()));
        tee.end();
        assert_eq!((read(&mut one), one.is_end_stream(), one.flight.uploaded.get()), ("2 {}.".to_owned(), true, true));
        drop(tee);
        assert!(!other.is_end_stream());
        assert_eq!((read(&mut other), other.size_hint().exact()), ("5 {}.".to_owned(), None));
    }

    #[test]
    fn a_copy_of_a_request_that_breaks_off_breaks_off() {
        let mut tee = Tee::default();
        let mut one = copy(&mut tee, None);
        tee.push(&data(3));
        drop(tee);
        assert_eq!((read(&mut one), one.is_end_stream()), ("!".to_owned(), false));
    }

    #[test]
    fn nothing_is_kept_for_a_mirror_that_is_gone() {
        let mut tee = Tee::default();
        let gone = copy(&mut tee, None);
        tee.push(&data(3));
        let queue = Rc::clone(&gone.queue);
        drop(gone);
        tee.push(&data(3));
        assert_eq!((queue.0.borrow().bytes, queue.0.borrow().pieces.len()), (0, 0));
        tee.end();
    }

    #[test]
    fn small_pieces_that_wait_are_joined() {
        let mut tee = Tee::default();
        let mut slow = copy(&mut tee, None);
        for _ in 0..2 * JOINED {
            tee.push(&data(1));
            tee.push(&data(0));
        }
        tee.push(&data(JOINED));
        tee.push(&Frame::trailers(HeaderMap::new()));
        tee.end();
        let pieces = slow.queue.0.borrow().pieces.len();
        assert_eq!((pieces, read(&mut slow)), (4, format!("{JOINED} {JOINED} {JOINED} {{}}.")));
    }

    #[test]
    fn a_copy_that_falls_too_far_behind_breaks_off_and_the_others_go_on() {
        let mut tee = Tee::default();
        let (mut slow, mut quick) = (copy(&mut tee, None), copy(&mut tee, None));
        for _ in 0..3 {
            tee.push(&data(MOST_BEHIND / 2));
            assert_eq!(read(&mut quick), format!("{} ", MOST_BEHIND / 2));
        }
        tee.end();
        assert_eq!((read(&mut slow), read(&mut quick)), ("!".to_owned(), ".".to_owned()));
        assert_eq!(slow.queue.0.borrow().bytes, 0, "nothing is kept for it");
    }
}
