//! One request and its answer on a connection.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::StatusCode;
use http_body::{Body, Frame, SizeHint};

use crate::base::head::response;
use crate::proxy::{
    up::{
        host_stream::HostStream,
        outbound::{OnInterim, Outbound},
    },
    wire::{
        chunked::{Chunked, Step},
        poll_budget::PollBudget,
    },
};

use super::{
    ExchangeError, Failed, H1Connection, MAX_HEAD_BYTES, Progress, Recycle, RequestFraming,
    head::{self, Framing, Head},
    upload::Upload,
};

/// Most interim heads before an answer: room for a 102 every few seconds of a long operation.
const MAX_INTERIM_HEADS: u8 = 64;

/// The connection ended within the head of the answer.
const CUT_OFF: ExchangeError = ExchangeError::Invalid("the connection closed within the head");

/// A request on its way, and then its answer.
#[derive(Debug)]
pub(in crate::proxy) struct Exchange<B, R: Recycle> {
    connection: H1Connection,
    recycle: R,
    upload: Upload<B>,
    head_request: bool,
    wants_upgrade: bool,
    answer_begun: bool,
    interim: Interim,
    /// Of the answer's body.
    framing: BodyFraming,
    /// The connection may carry another request after the answer.
    keep_alive: bool,
    budget: PollBudget,
}

/// The interim heads so far.
#[derive(Debug, Default)]
struct Interim {
    heads: u8,
    bytes: usize,
    /// One of them announced a body or a close: the connection carries no other request.
    ends_connection: bool,
}

/// What came back.
#[derive(Debug)]
pub(in crate::proxy) enum Answer<B, R: Recycle> {
    /// A response.
    Response(response::Parts, ResponseBody<B, R>),
    /// The upstream switched protocols.
    Upgraded(Box<Upgraded<R>>),
}

/// A connection on which the upstream switched protocols.
#[derive(Debug)]
pub(in crate::proxy) struct Upgraded<R> {
    /// The head of the answer.
    pub(in crate::proxy) parts: response::Parts,
    /// The raw connection.
    pub(in crate::proxy) io: HostStream,
    /// What the upstream already sent in the new protocol.
    pub(in crate::proxy) read: Bytes,
    /// What would have taken the connection back.
    pub(in crate::proxy) recycle: R,
}

/// The body of an answer. Reading it also keeps the rest of the request body flowing; dropped early, it closes the connection.
///
/// It is moved from hand to hand with every answer, so that its state is kept in the exchange's box.
#[derive(Debug)]
pub(in crate::proxy) enum ResponseBody<B, R: Recycle> {
    /// There is more of it.
    Open(Box<Exchange<B, R>>),
    /// It has failed; said once what came before it had time to be passed on.
    Failed(ExchangeError),
    /// It was read whole, or its failure was said.
    Over,
}

#[derive(Debug)]
enum BodyFraming {
    Length(u64),
    Chunked(Chunked),
    UntilClose,
}

// === impl Exchange ===

impl<B, R: Recycle> Exchange<B, R>
where
    B: Outbound,
{
    /// Starts a request: a head without a body is written at once. `body` is ignored for `RequestFraming::None`. `recycle` takes the
    /// connection back when the answer was read to the end.
    ///
    /// Boxed: it goes from hand to hand until the end of the answer, and is large.
    pub(in crate::proxy) fn start(
        connection: H1Connection,
        recycle: R,
        head: &[u8],
        body: Option<B>,
        framing: RequestFraming,
        head_request: bool,
        wants_upgrade: bool,
    ) -> Box<Self> {
        let upload = Upload::start(&connection.io, head, body, framing);
        Box::new(Self {
            connection,
            recycle,
            upload,
            head_request,
            wants_upgrade,
            answer_begun: false,
            interim: Interim::default(),
            framing: BodyFraming::Length(0),
            keep_alive: false,
            budget: PollBudget::default(),
        })
    }

    /// Waits for the answer's head, and tells of the interim heads before it.
    ///
    /// # Errors
    /// `Failed` says how far the exchange came, and gives the request body back if nothing of it was taken. The connection is closed.
    pub(in crate::proxy) async fn answer(mut self: Box<Self>, on_interim: &mut OnInterim<'_>) -> Result<Answer<B, R>, Failed<B>> {
        match poll_fn(|cx| self.poll_head(cx, on_interim)).await {
            Ok(head) => Ok(self.into_answer(head)),
            Err(error) => {
                let progress = match (self.answer_begun, self.upload.wrote()) {
                    (true, _) => Progress::AnswerBegun,
                    (false, true) => Progress::Written,
                    (false, false) => Progress::NothingWritten,
                };
                Err(Failed { error, progress, body: self.upload.untouched_body() })
            }
        }
    }

    fn poll_head(&mut self, cx: &mut Context<'_>, on_interim: &mut OnInterim<'_>) -> Poll<Result<Head, ExchangeError>> {
        if let Poll::Ready(Err(error)) = self.upload.poll(&mut self.connection.io, cx) {
            return Poll::Ready(Err(error));
        }
        if self.upload.failed_unwritten() {
            return Poll::Ready(Err(ExchangeError::Io(io::ErrorKind::BrokenPipe.into())));
        }
        let mut has_begun = false;
        loop {
            if !self.connection.read.is_empty()
                && let Some((head, length)) = head::parse(self.connection.read.as_slice(), std::mem::take(&mut has_begun))?
            {
                self.connection.read.skip(length);
                match head.status {
                    StatusCode::SWITCHING_PROTOCOLS if self.wants_upgrade => return Poll::Ready(Ok(head)),
                    StatusCode::SWITCHING_PROTOCOLS => {
                        return Poll::Ready(Err(ExchangeError::Invalid("it switches protocols without being asked")));
                    }
                    status if status.is_informational() => self.interim.add(head, length, on_interim)?,
                    _ => return Poll::Ready(Ok(head)),
                }
                continue;
            }
            match ready!(self.connection.read.poll_fill(&mut self.connection.io, cx)) {
                // However the connection ended, what came of a head is no answer: so Envoy's parser takes it.
                Ok(0) | Err(_) if !self.connection.read.is_empty() => return Poll::Ready(Err(CUT_OFF)),
                Ok(0) => return Poll::Ready(Err(ExchangeError::Closed)),
                Ok(_) => has_begun = !std::mem::replace(&mut self.answer_begun, true),
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }

    fn into_answer(mut self: Box<Self>, head: Head) -> Answer<B, R> {
        let parts = response::Parts { status: head.status, headers: head.headers, ..response::Parts::default() };
        if parts.status == StatusCode::SWITCHING_PROTOCOLS {
            let (io, read) = self.connection.into_parts();
            return Answer::Upgraded(Box::new(Upgraded { parts, io, read, recycle: self.recycle }));
        }
        let bodyless = self.head_request || parts.status == StatusCode::NO_CONTENT || parts.status == StatusCode::NOT_MODIFIED;
        self.framing = match head.framing {
            _ if bodyless => BodyFraming::Length(0),
            Framing::Length(length) => BodyFraming::Length(length),
            Framing::Chunked => BodyFraming::Chunked(Chunked::default()),
            Framing::UntilClose => BodyFraming::UntilClose,
        };
        self.keep_alive = head.keep_alive && !self.interim.ends_connection && (bodyless || head.framing != Framing::UntilClose);
        let ends = matches!(self.framing, BodyFraming::Length(0));
        let mut body = ResponseBody::Open(self);
        if ends {
            body.finish();
        }
        Answer::Response(parts, body)
    }
}

// === impl Interim ===

impl Interim {
    /// Passes an interim head on, unless there were too many.
    fn add(&mut self, head: Head, length: usize, on_interim: &mut OnInterim<'_>) -> Result<(), ExchangeError> {
        self.heads += 1;
        self.bytes += length;
        if self.heads > MAX_INTERIM_HEADS {
            return Err(ExchangeError::Invalid("more than 64 interim answers"));
        }
        if self.bytes > MAX_HEAD_BYTES {
            return Err(ExchangeError::Invalid("the interim answers are larger than 60 KiB"));
        }
        self.ends_connection |= !head.keep_alive;
        if head.status != StatusCode::CONTINUE {
            on_interim(head.status, head.headers);
        }
        Ok(())
    }
}

// === impl ResponseBody ===

impl<B, R: Recycle> ResponseBody<B, R> {
    /// The next read takes no more than this, but at least 8 KiB.
    pub(in crate::proxy) fn limit_reads(&mut self, most: usize) {
        if let Self::Open(exchange) = self {
            exchange.connection.read.limit(most);
        }
    }

    /// Bytes of memory held for what was read, the piece of this length that was handed out last included; 0: it has left.
    pub(in crate::proxy) fn held(&self, piece: usize) -> usize {
        match self {
            Self::Open(exchange) => exchange.connection.read.held(piece),
            Self::Failed(_) | Self::Over => piece,
        }
    }

    /// The answer is complete: the connection goes back if it may carry another request.
    fn finish(&mut self) {
        let Self::Open(exchange) = std::mem::replace(self, Self::Over) else { return };
        let Exchange { mut connection, recycle, upload, keep_alive, .. } = *exchange;
        if keep_alive && upload.is_done() && connection.read.is_empty() {
            connection.read.release();
            connection.served = connection.served.saturating_add(1);
            recycle.recycle(connection);
        }
    }

    fn take_failure(&mut self) -> Option<ExchangeError> {
        match std::mem::replace(self, Self::Over) {
            Self::Failed(error) => Some(error),
            Self::Open(_) | Self::Over => None,
        }
    }

    /// The body fails with the next poll: the head and what came of the body shall leave first, and an error would discard them.
    fn fail<T>(&mut self, error: ExchangeError, cx: &Context<'_>) -> Poll<Option<Result<T, ExchangeError>>> {
        *self = Self::Failed(error);
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

fn piece(data: Bytes) -> Poll<Option<Result<Frame<Bytes>, ExchangeError>>> {
    Poll::Ready(Some(Ok(Frame::data(data))))
}

impl<B, R> Body for ResponseBody<B, R>
where
    B: Outbound,
    R: Recycle + Unpin,
{
    type Data = Bytes;
    type Error = ExchangeError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ExchangeError>>> {
        let this = self.get_mut();
        loop {
            let exchange = match this {
                Self::Open(exchange) => exchange,
                Self::Failed(_) | Self::Over => return Poll::Ready(this.take_failure().map(Err)),
            };
            let Exchange { connection, upload, framing, budget, .. } = &mut **exchange;
            if budget.is_spent(cx) {
                return Poll::Pending;
            }
            if let Poll::Ready(Err(error)) = upload.poll(&mut connection.io, cx) {
                return this.fail(error, cx);
            }
            let read = &mut connection.read;
            match framing {
                BodyFraming::Length(left) if !read.is_empty() => {
                    let data = read.take(*left);
                    *left -= data.len() as u64;
                    budget.spend(data.len(), 1);
                    if *left == 0 {
                        this.finish();
                    }
                    return piece(data);
                }
                BodyFraming::UntilClose if !read.is_empty() => {
                    let data = read.take(u64::MAX);
                    budget.spend(data.len(), 1);
                    return piece(data);
                }
                BodyFraming::Chunked(chunked) => match chunked.step(read) {
                    Ok(Step::More) => {}
                    Ok(Step::Data(data, chunks)) => {
                        budget.spend(data.len(), chunks);
                        return piece(data);
                    }
                    Ok(Step::End(trailers)) => {
                        this.finish();
                        return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
                    }
                    Err(malformed) => return this.fail(malformed.into(), cx),
                },
                BodyFraming::Length(_) | BodyFraming::UntilClose => {}
            }
            let ends_with_connection = matches!(framing, BodyFraming::UntilClose);
            match read.poll_fill(&mut connection.io, cx) {
                Poll::Pending => {
                    budget.reset();
                    return Poll::Pending;
                }
                Poll::Ready(Ok(0)) if ends_with_connection => *this = Self::Over,
                Poll::Ready(Ok(0)) => return this.fail(ExchangeError::Closed, cx),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return this.fail(ExchangeError::Io(error), cx),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Over)
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Open(exchange) => match exchange.framing {
                BodyFraming::Length(left) => SizeHint::with_exact(left),
                BodyFraming::Chunked(_) | BodyFraming::UntilClose => SizeHint::default(),
            },
            Self::Failed(_) => SizeHint::default(),
            Self::Over => SizeHint::with_exact(0),
        }
    }
}
