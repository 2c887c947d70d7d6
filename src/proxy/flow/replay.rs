//! A request body that can be sent more than once: what was read of it is kept while it streams, up to a limit.
//!
//! Nothing is read ahead and nothing is held back: an attempt asks, and what comes goes on at once. When more comes than may be kept, the kept
//! bytes go and the request cannot be sent again.

use std::{
    cell::RefCell,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

use crate::proxy::{state::budget::Account, up::Outbound};

/// The body of a request, for all its attempts.
#[derive(Debug)]
pub(in crate::proxy) enum Source<B> {
    /// There is none.
    Empty,
    /// It is not kept: it can be sent until the first frame of it is read. `None` while an attempt has it, or once it is gone.
    Once(Option<B>),
    /// It is kept while it streams.
    Kept(Rc<Kept<B>>),
}

/// The body of one attempt.
#[derive(Debug)]
pub(in crate::proxy) enum Sent<B> {
    /// It is not kept.
    Once(B),
    /// What earlier attempts have read, then the rest.
    Kept(Pass<B>),
}

/// One pass over a kept body, from its first byte. There is one at a time: the next begins when the one before was dropped.
#[derive(Debug)]
pub(in crate::proxy) struct Pass<B> {
    kept: Rc<Kept<B>>,
    /// Kept bytes that this attempt has taken.
    taken: usize,
    trailers_taken: bool,
}

/// A body and what has been read of it.
#[derive(Debug)]
pub(in crate::proxy) struct Kept<B>(RefCell<State<B>>);

#[derive(Debug)]
struct State<B> {
    /// `None` once it has ended.
    body: Option<B>,
    bytes: Vec<u8>,
    trailers: Option<HeaderMap>,
    /// Most bytes that are kept; `None` once nothing is kept any more.
    limit: Option<usize>,
    account: Account,
}

// === impl Source ===

impl<B: Body<Data = Bytes> + Unpin> Source<B> {
    /// A body that is kept up to `limit` bytes, which are charged to the account; `None`: not at all.
    pub(in crate::proxy) fn new(body: B, keep: Option<(usize, Account)>) -> Self {
        let announced = body.size_hint().lower();
        match keep {
            Some((limit, account)) if usize::try_from(announced).is_ok_and(|announced| announced <= limit) => {
                let state = State { body: Some(body), bytes: Vec::new(), trailers: None, limit: Some(limit), account };
                Self::Kept(Rc::new(Kept(RefCell::new(state))))
            }
            Some(_) | None => Self::Once(Some(body)),
        }
    }

    /// The body for an attempt. `None`: there is none.
    pub(in crate::proxy) fn send(&mut self) -> Option<Sent<B>> {
        match self {
            Self::Empty => None,
            Self::Once(body) => body.take().map(Sent::Once),
            Self::Kept(kept) => Some(Sent::Kept(Pass { kept: Rc::clone(kept), taken: 0, trailers_taken: false })),
        }
    }

    /// An attempt failed before it had read any of its body.
    pub(in crate::proxy) fn give_back(&mut self, sent: Option<Sent<B>>) {
        if let (Self::Once(body), Some(Sent::Once(back))) = (self, sent) {
            *body = Some(back);
        }
    }

    /// Whether another attempt could send the whole body.
    pub(in crate::proxy) fn is_whole(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Once(body) => body.is_some(),
            Self::Kept(kept) => kept.0.borrow().limit.is_some(),
        }
    }

    /// No further attempt follows: what is still to come is not kept.
    pub(in crate::proxy) fn settle(&self) {
        if let Self::Kept(kept) = self {
            kept.0.borrow_mut().forget();
        }
    }
}

// === impl Sent ===

impl<B: Body<Data = Bytes> + Unpin> Body for Sent<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match self.get_mut() {
            Self::Once(body) => Pin::new(body).poll_frame(cx),
            Self::Kept(pass) => pass.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Once(body) => body.is_end_stream(),
            Self::Kept(pass) => pass.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Once(body) => body.size_hint(),
            Self::Kept(pass) => pass.size_hint(),
        }
    }
}

impl<B: Outbound> Outbound for Sent<B> {
    fn moved(&self) {
        match self {
            Self::Once(body) => body.moved(),
            Self::Kept(pass) => pass.kept.0.borrow().body.iter().for_each(B::moved),
        }
    }
}

// === impl Pass ===

impl<B: Body<Data = Bytes> + Unpin> Pass<B> {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let mut state = self.kept.0.borrow_mut();
        if let Some(again) = state.bytes.get(self.taken..).filter(|again| !again.is_empty()) {
            let again = Bytes::copy_from_slice(again);
            self.taken += again.len();
            return Poll::Ready(Some(Ok(Frame::data(again))));
        }
        let Some(body) = &mut state.body else {
            let trailers = if std::mem::replace(&mut self.trailers_taken, true) { None } else { state.trailers.clone() };
            return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
        };
        let polled = ready!(Pin::new(body).poll_frame(cx));
        match &polled {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    state.keep(data);
                    self.taken = state.bytes.len();
                } else if let Some(trailers) = frame.trailers_ref() {
                    state.trailers = state.limit.map(|_| trailers.clone());
                    state.body = None;
                    self.trailers_taken = true;
                }
            }
            // What broke off cannot be sent again, and nobody is there who waits for an answer.
            Some(Err(_)) => state.forget(),
            None => state.body = None,
        }
        Poll::Ready(polled)
    }

    fn is_end_stream(&self) -> bool {
        let state = self.kept.0.borrow();
        let rest_ended = match &state.body {
            Some(body) => body.is_end_stream(),
            None => self.trailers_taken || state.trailers.is_none(),
        };
        rest_ended && self.taken >= state.bytes.len()
    }

    fn size_hint(&self) -> SizeHint {
        let state = self.kept.0.borrow();
        let again = state.bytes.len().saturating_sub(self.taken) as u64;
        let rest = state.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint);
        let mut hint = SizeHint::new();
        hint.set_lower(again.saturating_add(rest.lower()));
        if let Some(upper) = rest.upper() {
            hint.set_upper(again.saturating_add(upper));
        }
        hint
    }
}

// === impl State ===

impl<B> State<B> {
    fn keep(&mut self, data: &Bytes) {
        let Some(limit) = self.limit else { return };
        // Where buffers are scarce, what is on its way comes before what may never be needed.
        if self.bytes.len().saturating_add(data.len()) > limit || self.account.is_full() {
            return self.forget();
        }
        // Copied: a piece of a few bytes would keep the whole buffer that it was read into.
        self.bytes.extend_from_slice(data);
        self.account.set(self.bytes.len());
    }

    fn forget(&mut self) {
        self.limit = None;
        self.bytes = Vec::new();
        self.trailers = None;
        self.account.set(0);
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, sync::Arc};

    use http::{HeaderName, HeaderValue};

    use crate::proxy::state::budget::{Budget, SharedBudget};

    use super::*;

    /// A body as a script: what each poll gives.
    struct Script(VecDeque<Poll<Result<Frame<Bytes>, &'static str>>>);

    impl Body for Script {
        type Data = Bytes;
        type Error = &'static str;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
            self.0.pop_front().map_or(Poll::Ready(None), |poll| poll.map(Some))
        }

        fn is_end_stream(&self) -> bool {
            self.0.is_empty()
        }
    }

    fn data(text: &'static str) -> Poll<Result<Frame<Bytes>, &'static str>> {
        Poll::Ready(Ok(Frame::data(Bytes::from_static(text.as_bytes()))))
    }

    fn trailers() -> Poll<Result<Frame<Bytes>, &'static str>> {
        let trailers = [(HeaderName::from_static("x-sum"), HeaderValue::from_static("5"))].into_iter().collect();
        Poll::Ready(Ok(Frame::trailers(trailers)))
    }

    fn source(script: impl IntoIterator<Item = Poll<Result<Frame<Bytes>, &'static str>>>, limit: usize) -> Source<Script> {
        Source::new(Script(script.into_iter().collect()), Some((limit, account())))
    }

    fn account() -> Account {
        let shared = SharedBudget::new(1 << 20, Arc::default());
        Account::at_rest(&Rc::new(Budget::new(Arc::new(shared), Arc::default())))
    }

    /// What an attempt reads until the body is pending or ends: data as it is, trailers as `{}`, the end as `.`, an error as `!`.
    fn read(sent: &mut Sent<Script>) -> String {
        let mut seen = String::new();
        loop {
            match Pin::new(&mut *sent).poll_frame(&mut Context::from_waker(std::task::Waker::noop())) {
                Poll::Pending => return seen,
                Poll::Ready(None) => return seen + ".",
                Poll::Ready(Some(Err(_))) => return seen + "!",
                Poll::Ready(Some(Ok(frame))) => match frame.data_ref() {
                    Some(data) => seen += std::str::from_utf8(data).unwrap(),
                    None => seen += "{}",
                },
            }
        }
    }

    #[test]
    fn an_attempt_sends_what_the_one_before_has_read_and_then_the_rest() {
        let mut source = source([data("ab"), data("c"), Poll::Pending, data("de"), trailers()], 5);
        let mut first = source.send().unwrap();
        assert_eq!(read(&mut first), "abc", "nothing waits for the rest");
        assert!(!first.is_end_stream());
        drop(first);
        assert!(source.is_whole());
        let mut second = source.send().unwrap();
        assert_eq!(read(&mut second), "abcde{}.");
        assert!(second.is_end_stream());
        drop(second);
        assert_eq!(read(&mut source.send().unwrap()), "abcde{}.", "the source itself has ended");
    }

    #[test]
    fn an_attempt_that_was_dropped_halfway_through_the_kept_bytes_changes_nothing() {
        let mut source = source([data("ab"), data("cd")], 64);
        assert_eq!(read(&mut source.send().unwrap()), "abcd.");
        drop(source.send());
        let mut again = source.send().unwrap();
        assert_eq!((again.size_hint().exact(), again.is_end_stream()), (Some(4), false));
        assert_eq!(read(&mut again), "abcd.");
        assert!(again.is_end_stream());
    }

    #[test]
    fn what_is_too_much_is_passed_on_and_not_kept() {
        let mut source = source([data("abc"), data("def"), data("g")], 5);
        let mut first = source.send().unwrap();
        assert_eq!(read(&mut first), "abcdefg.");
        assert!(!source.is_whole());
        let Source::Kept(kept) = &source else { panic!("kept") };
        assert_eq!(kept.0.borrow().bytes.capacity(), 0, "the memory is given back");
    }

    #[test]
    fn what_is_kept_is_charged_and_let_go_of_where_buffers_are_scarce() {
        let shared = Arc::new(SharedBudget::new(1 << 20, Arc::default()));
        let budget = Rc::new(Budget::new(shared, Arc::default()));
        let script = [data("abc"), Poll::Pending, data("def"), data("g")];
        let mut source = Source::new(Script(script.into_iter().collect()), Some((64, Account::at_rest(&budget))));
        let mut sent = source.send().unwrap();
        assert_eq!((read(&mut sent), budget.charged()), ("abc".to_owned(), 3));
        let others = Account::at_rest(&budget);
        others.set(1 << 20);
        assert_eq!(read(&mut sent), "defg.");
        assert!(!source.is_whole());
        drop(others);
        assert_eq!(budget.charged(), 0);
    }

    #[test]
    fn a_settled_request_keeps_nothing_more() {
        let mut source = source([data("ab"), Poll::Pending, data("c")], 64);
        let mut first = source.send().unwrap();
        assert_eq!(read(&mut first), "ab");
        source.settle();
        assert!(!source.is_whole());
        assert_eq!(read(&mut first), "c.");
    }

    #[test]
    fn a_body_that_broke_off_is_not_whole() {
        let mut source = source([data("ab"), Poll::Ready(Err("gone"))], 64);
        assert_eq!(read(&mut source.send().unwrap()), "ab!");
        assert!(!source.is_whole());
    }

    #[test]
    fn without_a_limit_or_announced_as_too_long_it_is_sent_once() {
        for limit in [None, Some(1)] {
            let body = http_body_util::Full::new(Bytes::from_static(b"ab"));
            let mut source = Source::new(body, limit.map(|limit| (limit, account())));
            let sent = source.send();
            assert!(sent.is_some() && !source.is_whole(), "{limit:?}");
            source.give_back(sent);
            assert!(source.is_whole(), "nothing of it was read");
            assert!(source.send().is_some());
        }
        let mut none: Source<Script> = Source::Empty;
        assert!(none.send().is_none() && none.is_whole());
    }
}
