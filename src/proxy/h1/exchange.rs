//! One request and its answer on a connection.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderMap, StatusCode, response};
use http_body::{Body, Frame, SizeHint};
use tokio::net::TcpStream;

use super::{
    BoxError, ExchangeError, Failed, H1Connection, MAX_HEAD_BYTES, Outbound, Progress, Recycle, RequestFraming,
    chunked::{Chunked, Step},
    head::{self, Framing, Head},
    poll_budget::PollBudget,
    upload::Upload,
};

/// Most interim heads before an answer: room for a 102 every few seconds of a long operation.
const MAX_INTERIM_HEADS: u8 = 64;

/// Is called with each interim head that a proxy passes on (RFC 9110 section 15.2): every 1xx except 100, which the gateway sends itself,
/// and 101. Headers of the connection and of framing are removed.
pub(crate) type OnInterim<'a> = dyn FnMut(StatusCode, HeaderMap) + 'a;

/// A request on its way.
#[derive(Debug)]
pub(crate) struct Exchange<B> {
    connection: H1Connection,
    upload: Upload<B>,
    head_request: bool,
    wants_upgrade: bool,
    answer_begun: bool,
    interim: Interim,
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
pub(crate) enum Answer<B, R: Recycle> {
    /// A response.
    Response(response::Parts, ResponseBody<B, R>),
    /// The upstream switched protocols: the raw connection, what it already sent in the new protocol, and what would have taken the
    /// connection back.
    Upgraded(response::Parts, TcpStream, Bytes, R),
}

/// The body of an answer. Reading it also keeps the rest of the request body flowing; dropped early, it closes the connection.
#[derive(Debug)]
pub(crate) struct ResponseBody<B, R: Recycle> {
    /// `None` once the connection went back or failed.
    exchange: Option<Box<Exchange<B>>>,
    recycle: Option<R>,
    framing: BodyFraming,
    keep_alive: bool,
    /// The body has failed; said once what came before it had time to be passed on.
    failure: Option<ExchangeError>,
    budget: PollBudget,
}

#[derive(Debug)]
enum BodyFraming {
    Length(u64),
    Chunked(Chunked),
    UntilClose,
}

// === impl Exchange ===

impl<B> Exchange<B>
where
    B: Outbound,
    B::Error: Into<BoxError>,
{
    /// Starts a request: a head without a body is written at once. `body` is ignored for `RequestFraming::None`.
    ///
    /// Boxed: it goes from hand to hand until the end of the answer, and is large.
    pub(crate) fn start(
        connection: H1Connection,
        head: &[u8],
        body: Option<B>,
        framing: RequestFraming,
        head_request: bool,
        wants_upgrade: bool,
    ) -> Box<Self> {
        let upload = Upload::start(&connection.io, head, body, framing);
        Box::new(Self { connection, upload, head_request, wants_upgrade, answer_begun: false, interim: Interim::default() })
    }

    /// Waits for the answer's head, and tells of the interim heads before it.
    ///
    /// # Errors
    /// `Failed` says how far the exchange came, and gives the request body back if nothing of it was taken. The connection is closed.
    pub(crate) async fn answer<R: Recycle>(
        mut self: Box<Self>,
        recycle: R,
        on_interim: &mut OnInterim<'_>,
    ) -> Result<Answer<B, R>, Failed<B>> {
        match poll_fn(|cx| self.poll_head(cx, on_interim)).await {
            Ok(head) => Ok(self.into_answer(head, recycle)),
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
        if let Poll::Ready(Err(error)) = self.upload.poll(&self.connection.io, cx) {
            return Poll::Ready(Err(error));
        }
        if self.upload.failed_unwritten() {
            return Poll::Ready(Err(ExchangeError::Io(io::ErrorKind::BrokenPipe.into())));
        }
        loop {
            if let Some(length) = head::head_length(self.connection.read.as_slice())? {
                let head = head::parse(&self.connection.read.take(length as u64))?;
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
            match ready!(self.connection.read.poll_fill(&mut self.connection.io, cx))? {
                0 => return Poll::Ready(Err(ExchangeError::Closed)),
                _ => self.answer_begun = true,
            }
        }
    }

    fn into_answer<R: Recycle>(self: Box<Self>, head: Head, recycle: R) -> Answer<B, R> {
        let (mut parts, ()) = http::Response::new(()).into_parts();
        parts.status = head.status;
        parts.headers = head.headers;
        if parts.status == StatusCode::SWITCHING_PROTOCOLS {
            let (io, read) = self.connection.into_parts();
            return Answer::Upgraded(parts, io, read, recycle);
        }
        let bodyless = self.head_request || parts.status == StatusCode::NO_CONTENT || parts.status == StatusCode::NOT_MODIFIED;
        let framing = match head.framing {
            _ if bodyless => BodyFraming::Length(0),
            Framing::Length(length) => BodyFraming::Length(length),
            Framing::Chunked => BodyFraming::Chunked(Chunked::default()),
            Framing::UntilClose => BodyFraming::UntilClose,
        };
        let keep_alive = head.keep_alive && !self.interim.ends_connection && (bodyless || head.framing != Framing::UntilClose);
        let ends = matches!(framing, BodyFraming::Length(0));
        let mut body = ResponseBody {
            exchange: Some(self),
            recycle: Some(recycle),
            framing,
            keep_alive,
            failure: None,
            budget: PollBudget::default(),
        };
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
    pub(crate) fn limit_reads(&mut self, most: usize) {
        if let Some(exchange) = &mut self.exchange {
            exchange.connection.read.limit(most);
        }
    }

    /// Bytes of memory held for what was read, the piece of this length that was handed out last included; 0: it has left.
    pub(crate) fn held(&self, piece: usize) -> usize {
        self.exchange.as_ref().map_or(piece, |exchange| exchange.connection.read.held(piece))
    }

    /// The answer is complete: the connection goes back if it may carry another request.
    fn finish(&mut self) {
        let (Some(exchange), Some(recycle)) = (self.exchange.take(), self.recycle.take()) else { return };
        let mut connection = exchange.connection;
        if self.keep_alive && exchange.upload.is_done() && connection.read.is_empty() {
            connection.read.release();
            connection.served = connection.served.saturating_add(1);
            recycle.recycle(connection);
        }
    }

    fn piece(&mut self, data: Bytes, chunks: usize) -> Poll<Option<Result<Frame<Bytes>, ExchangeError>>> {
        self.budget.spend(data.len(), chunks);
        Poll::Ready(Some(Ok(Frame::data(data))))
    }

    /// The body fails with the next poll: the head and what came of the body shall leave first, and an error would discard them.
    fn fail<T>(&mut self, error: ExchangeError, cx: &Context<'_>) -> Poll<Option<Result<T, ExchangeError>>> {
        self.exchange = None;
        self.recycle = None;
        self.failure = Some(error);
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<B, R> Body for ResponseBody<B, R>
where
    B: Outbound,
    B::Error: Into<BoxError>,
    R: Recycle + Unpin,
{
    type Data = Bytes;
    type Error = ExchangeError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ExchangeError>>> {
        let this = self.get_mut();
        if this.exchange.is_some() && this.budget.is_spent(cx) {
            return Poll::Pending;
        }
        loop {
            let Some(exchange) = &mut this.exchange else { return Poll::Ready(this.failure.take().map(Err)) };
            if let Poll::Ready(Err(error)) = exchange.upload.poll(&exchange.connection.io, cx) {
                return this.fail(error, cx);
            }
            let read = &mut exchange.connection.read;
            match &mut this.framing {
                BodyFraming::Length(left) if !read.is_empty() => {
                    let data = read.take(*left);
                    *left -= data.len() as u64;
                    if *left == 0 {
                        this.finish();
                    }
                    return this.piece(data, 1);
                }
                BodyFraming::UntilClose if !read.is_empty() => {
                    let data = read.take(u64::MAX);
                    return this.piece(data, 1);
                }
                BodyFraming::Chunked(chunked) => match chunked.step(read) {
                    Ok(Step::More) => {}
                    Ok(Step::Data(data, chunks)) => return this.piece(data, chunks),
                    Ok(Step::End(trailers)) => {
                        this.finish();
                        return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
                    }
                    Err(error) => return this.fail(error, cx),
                },
                BodyFraming::Length(_) | BodyFraming::UntilClose => {}
            }
            match read.poll_fill(&mut exchange.connection.io, cx) {
                Poll::Pending => {
                    this.budget.reset();
                    return Poll::Pending;
                }
                Poll::Ready(Ok(0)) if matches!(this.framing, BodyFraming::UntilClose) => {
                    this.exchange = None;
                    return Poll::Ready(None);
                }
                Poll::Ready(Ok(0)) => return this.fail(ExchangeError::Closed, cx),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return this.fail(ExchangeError::Io(error), cx),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.exchange.is_none() && self.failure.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match self.framing {
            BodyFraming::Length(left) => SizeHint::with_exact(left),
            BodyFraming::Chunked(_) | BodyFraming::UntilClose => SizeHint::default(),
        }
    }
}
