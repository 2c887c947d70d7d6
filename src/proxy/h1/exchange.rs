//! One request and its answer on a connection.

use std::{
    future::poll_fn,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use http::{StatusCode, response};
use http_body::{Body, Frame, SizeHint};
use tokio::net::TcpStream;

use super::{
    ExchangeError, Failed, H1Connection, Progress, Recycle, RequestFraming,
    chunked::{Chunked, Step},
    head::{self, Framing},
};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A request on its way.
#[derive(Debug)]
pub(crate) struct Exchange<B> {
    connection: H1Connection,
    upload: Upload<B>,
    head_request: bool,
    wants_upgrade: bool,
    answer_begun: bool,
}

/// What came back.
#[derive(Debug)]
pub(crate) enum Answer<B, R: Recycle> {
    /// A response.
    Response(response::Parts, ResponseBody<B, R>),
    /// The upstream switched protocols: the raw connection, and what it already sent in the new protocol.
    Upgraded(response::Parts, TcpStream, Bytes),
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
}

#[derive(Debug)]
enum BodyFraming {
    Length(u64),
    Chunked(Chunked),
    UntilClose,
}

/// The request side.
#[derive(Debug)]
struct Upload<B> {
    body: Option<B>,
    touched: bool,
    framing: RequestFraming,
    left: u64,
    out: Out,
    wrote: bool,
    /// The upstream no longer reads: its answer may still come.
    broken: bool,
}

/// Bytes to write: a head or chunk size, data, and what follows the data.
#[derive(Debug, Default)]
struct Out {
    before: Vec<u8>,
    before_at: usize,
    data: Bytes,
    after: &'static [u8],
}

// === impl Exchange ===

impl<B> Exchange<B>
where
    B: Body<Data = Bytes> + Unpin,
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
        let left = if let RequestFraming::Length(length) = framing { length } else { 0 };
        let mut upload = Upload { body, touched: false, framing, left, out: Out::default(), wrote: false, broken: false };
        let mut written = 0;
        let bodyless = upload.body.is_none() || framing == RequestFraming::None;
        if bodyless {
            match connection.io.try_write(head) {
                Ok(length) => written = length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => upload.broken = true,
            }
        }
        upload.wrote = written > 0;
        upload.out.before.extend_from_slice(head.get(written..).unwrap_or_default());
        Box::new(Self { connection, upload, head_request, wants_upgrade, answer_begun: false })
    }

    /// Waits for the answer's head.
    ///
    /// # Errors
    /// `Failed` says how far the exchange came, and gives the request body back if nothing of it was taken. The connection is closed.
    pub(crate) async fn answer<R: Recycle>(mut self: Box<Self>, recycle: R) -> Result<Answer<B, R>, Failed<B>> {
        match poll_fn(|cx| self.poll_head(cx)).await {
            Ok(head) => Ok(self.into_answer(head, recycle)),
            Err(error) => {
                let progress = match (self.answer_begun, self.upload.wrote) {
                    (true, _) => Progress::AnswerBegun,
                    (false, true) => Progress::Written,
                    (false, false) => Progress::NothingWritten,
                };
                let body = if self.upload.touched { None } else { self.upload.body };
                Err(Failed { error, progress, body })
            }
        }
    }

    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<head::Head, ExchangeError>> {
        if let Poll::Ready(Err(error)) = self.upload.poll(&self.connection.io, cx) {
            return Poll::Ready(Err(error));
        }
        if self.upload.broken && !self.upload.wrote {
            return Poll::Ready(Err(ExchangeError::Io(io::ErrorKind::BrokenPipe.into())));
        }
        loop {
            if let Some(length) = head::head_length(self.connection.read.as_slice())? {
                let head = head::parse(&self.connection.read.take(length as u64))?;
                let interim = head.status.is_informational();
                if !interim || (head.status == StatusCode::SWITCHING_PROTOCOLS && self.wants_upgrade) {
                    return Poll::Ready(Ok(head));
                }
                if head.status == StatusCode::SWITCHING_PROTOCOLS {
                    return Poll::Ready(Err(ExchangeError::Invalid("it switches protocols without being asked")));
                }
                continue;
            }
            match ready!(self.connection.read.poll_fill(&mut self.connection.io, cx))? {
                0 => return Poll::Ready(Err(ExchangeError::Closed)),
                _ => self.answer_begun = true,
            }
        }
    }

    fn into_answer<R: Recycle>(self: Box<Self>, head: head::Head, recycle: R) -> Answer<B, R> {
        let (mut parts, ()) = http::Response::new(()).into_parts();
        parts.status = head.status;
        parts.headers = head.headers;
        if parts.status == StatusCode::SWITCHING_PROTOCOLS {
            let (io, read) = self.connection.into_parts();
            return Answer::Upgraded(parts, io, read);
        }
        let bodyless = self.head_request || parts.status == StatusCode::NO_CONTENT || parts.status == StatusCode::NOT_MODIFIED;
        let framing = match head.framing {
            _ if bodyless => BodyFraming::Length(0),
            Framing::Length(length) => BodyFraming::Length(length),
            Framing::Chunked => BodyFraming::Chunked(Chunked::default()),
            Framing::UntilClose => BodyFraming::UntilClose,
        };
        let keep_alive = head.keep_alive && (bodyless || head.framing != Framing::UntilClose);
        let ends = matches!(framing, BodyFraming::Length(0));
        let mut body = ResponseBody { exchange: Some(self), recycle: Some(recycle), framing, keep_alive, failure: None };
        if ends {
            body.finish();
        }
        Answer::Response(parts, body)
    }
}

// === impl ResponseBody ===

impl<B, R: Recycle> ResponseBody<B, R> {
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
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
    R: Recycle + Unpin,
{
    type Data = Bytes;
    type Error = ExchangeError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ExchangeError>>> {
        let this = self.get_mut();
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
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                BodyFraming::UntilClose if !read.is_empty() => {
                    return Poll::Ready(Some(Ok(Frame::data(read.take(u64::MAX)))));
                }
                BodyFraming::Chunked(chunked) => match chunked.step(read) {
                    Ok(Step::More) => {}
                    Ok(Step::Data(left)) => {
                        let data = read.take(left);
                        chunked.took(data.len() as u64);
                        return Poll::Ready(Some(Ok(Frame::data(data))));
                    }
                    Ok(Step::End(trailers)) => {
                        this.finish();
                        return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
                    }
                    Err(error) => return this.fail(error, cx),
                },
                BodyFraming::Length(_) | BodyFraming::UntilClose => {}
            }
            match ready!(read.poll_fill(&mut exchange.connection.io, cx)) {
                Ok(0) if matches!(this.framing, BodyFraming::UntilClose) => {
                    this.exchange = None;
                    return Poll::Ready(None);
                }
                Ok(0) => return this.fail(ExchangeError::Closed, cx),
                Ok(_) => {}
                Err(error) => return this.fail(ExchangeError::Io(error), cx),
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

// === impl Upload ===

impl<B> Upload<B> {
    fn is_done(&self) -> bool {
        !self.broken && self.body.is_none() && self.out.is_empty()
    }
}

impl<B> Upload<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    /// Moves the request body on. Ready with an error only for a failing client; a failing upstream is left to its answer.
    fn poll(&mut self, io: &TcpStream, cx: &mut Context<'_>) -> Poll<Result<(), ExchangeError>> {
        if self.framing == RequestFraming::None {
            self.body = None;
        }
        loop {
            // The first piece of a body rides with the head: one system call.
            if self.body.is_some() && self.out.data.is_empty() && self.out.after.is_empty() && !self.broken {
                match self.poll_body(cx) {
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Ready(Ok(())) => {}
                    Poll::Pending if self.out.is_empty() => return Poll::Pending,
                    Poll::Pending => {}
                }
            }
            if self.broken || (self.out.is_empty() && self.body.is_none()) {
                return Poll::Ready(Ok(()));
            }
            if self.out.is_empty() {
                continue;
            }
            match self.out.write(io) {
                Ok(()) => self.wrote = true,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if ready!(io.poll_write_ready(cx)).is_err() {
                        self.broken = true;
                    }
                }
                Err(_) => self.broken = true,
            }
        }
    }

    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ExchangeError>> {
        let Some(body) = &mut self.body else { return Poll::Ready(Ok(())) };
        let frame = ready!(Pin::new(&mut *body).poll_frame(cx));
        self.touched = true;
        match frame {
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => self.queue_data(data),
                Err(frame) => {
                    let trailers = frame.into_trailers().ok();
                    self.queue_end(trailers.as_ref())
                }
            },
            Some(Err(error)) => Err(ExchangeError::RequestBody(error.into())),
            None => self.queue_end(None),
        }
        .into()
    }

    fn queue_data(&mut self, data: Bytes) -> Result<(), ExchangeError> {
        let length = data.len() as u64;
        match self.framing {
            RequestFraming::Length(_) if length > self.left => {
                return Err(ExchangeError::RequestBody("the body is longer than its content-length".into()));
            }
            RequestFraming::Length(_) => {
                self.left -= length;
                if self.left == 0 {
                    self.body = None;
                }
            }
            RequestFraming::Chunked if length > 0 => {
                use std::io::Write as _;
                // Writing to a Vec cannot fail.
                let _ = write!(self.out.before, "{length:x}\r\n");
                self.out.after = b"\r\n";
            }
            RequestFraming::Chunked | RequestFraming::None => {}
        }
        self.out.data = data;
        Ok(())
    }

    fn queue_end(&mut self, trailers: Option<&http::HeaderMap>) -> Result<(), ExchangeError> {
        self.body = None;
        match self.framing {
            RequestFraming::Length(_) if self.left > 0 => {
                Err(ExchangeError::RequestBody("the body is shorter than its content-length".into()))
            }
            RequestFraming::Chunked => {
                self.out.before.extend_from_slice(b"0\r\n");
                for (name, value) in trailers.into_iter().flatten() {
                    self.out.before.extend_from_slice(name.as_str().as_bytes());
                    self.out.before.extend_from_slice(b": ");
                    self.out.before.extend_from_slice(value.as_bytes());
                    self.out.before.extend_from_slice(b"\r\n");
                }
                self.out.before.extend_from_slice(b"\r\n");
                Ok(())
            }
            RequestFraming::Length(_) | RequestFraming::None => Ok(()),
        }
    }
}

// === impl Out ===

impl Out {
    fn is_empty(&self) -> bool {
        self.before.len() == self.before_at && self.data.is_empty() && self.after.is_empty()
    }

    /// Writes once; at least one byte was written if there is no error.
    fn write(&mut self, io: &TcpStream) -> io::Result<()> {
        let before = self.before.get(self.before_at..).unwrap_or_default();
        let mut written = match (before.is_empty(), self.data.is_empty(), self.after.is_empty()) {
            (false, true, true) => io.try_write(before)?,
            (true, false, true) => io.try_write(&self.data)?,
            _ => io.try_write_vectored(&[IoSlice::new(before), IoSlice::new(&self.data), IoSlice::new(self.after)])?,
        };
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        let from_before = written.min(before.len());
        self.before_at += from_before;
        written -= from_before;
        if self.before_at == self.before.len() {
            self.before.clear();
            self.before_at = 0;
        }
        let from_data = written.min(self.data.len());
        self.data.advance(from_data);
        written -= from_data;
        self.after = self.after.get(written..).unwrap_or_default();
        Ok(())
    }
}
