//! One request and its answer on a stream.

use std::{
    future::{Future as _, poll_fn},
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::{RecvStream, SendStream, client::ResponseFuture};
use http::StatusCode;
use http_body::{Body, Frame, SizeHint};

use crate::base::head::response;
use crate::proxy::{
    state::budget::Account,
    up::outbound::{OnInterim, Outbound},
    wire::{poll_budget::PollBudget, trailers},
};

use super::{
    error::StreamError,
    head::{self, MAX_HEAD_BYTES, RequestHead},
    lease::Lease,
    tunnel::Tunnel,
    upload::Upload,
};

/// Most interim heads before an answer, as of a host that speaks HTTP/1.1.
const MAX_INTERIM_HEADS: u8 = 64;

/// A failed exchange before there was an answer.
#[derive(Debug)]
pub(in crate::proxy) struct Failed<B> {
    pub(in crate::proxy) error: StreamError,
    /// Nothing of the request was handed to the connection.
    pub(in crate::proxy) not_sent: bool,
    /// The request body, if not a byte of it was taken.
    pub(in crate::proxy) body: Option<B>,
}

/// What came back.
#[derive(Debug)]
pub(in crate::proxy) enum Answer<B> {
    /// A response.
    Response(response::Parts, ResponseBody<B>),
    /// The host speaks WebSocket on the stream from now on.
    Switched(Box<Switched>),
}

/// A stream on which the host speaks another protocol.
#[derive(Debug)]
pub(in crate::proxy) struct Switched {
    /// The head of the answer, as a client of HTTP/1.1 expects it.
    pub(in crate::proxy) parts: response::Parts,
    pub(in crate::proxy) tunnel: Tunnel,
}

/// A request on its way.
#[derive(Debug)]
pub(in crate::proxy) struct Exchange<B> {
    response: ResponseFuture,
    upload: Upload<B>,
    /// Of a request for WebSocket: the host's way in, and the head.
    switch: Option<SendStream<Bytes>>,
    interims: u8,
    interim_bytes: usize,
    lease: Lease,
}

/// The body of an answer. Reading it also keeps the rest of the request body flowing; dropped early, it cancels the stream.
#[derive(Debug)]
pub(in crate::proxy) enum ResponseBody<B> {
    /// There is more of it.
    Open(Box<OpenBody<B>>),
    /// It has failed; said once what came before it had time to be passed on.
    Failed(StreamError),
    /// It was read whole, or its failure was said.
    Over,
}

/// A body that goes on.
#[derive(Debug)]
pub(in crate::proxy) struct OpenBody<B> {
    stream: RecvStream,
    upload: Upload<B>,
    lease: Lease,
    /// Read with the head.
    first: Option<Bytes>,
    /// Bytes that were handed out, for which the host has no new window yet.
    unreleased: usize,
    /// Bytes that the announced length leaves.
    left: Option<u64>,
    budget: PollBudget,
}

// === impl Exchange ===

impl<B> Exchange<B>
where
    B: Outbound,
{
    /// Opens a stream for the request. `handed`: charged with what waits in the connection.
    pub(in crate::proxy) fn start(
        mut lease: Lease,
        request: &RequestHead,
        body: Option<B>,
        handed: Account,
    ) -> Result<Box<Self>, Box<Failed<B>>> {
        if request.asks_for_websocket() && !lease.takes_websocket() {
            return Err(Box::new(Failed { error: StreamError::NoWebSocket, not_sent: true, body }));
        }
        let ends = body.is_none() && !request.asks_for_websocket();
        let Ok((response, stream)) = lease.open(request.request(), ends) else {
            // It is stale: no stream can be opened on it any more.
            return Err(Box::new(Failed { error: StreamError::Closed(io::ErrorKind::BrokenPipe), not_sent: true, body }));
        };
        let (upload, switch) = match body {
            Some(body) => (Upload::new(body, stream, handed), None),
            None => (Upload::none(), request.asks_for_websocket().then_some(stream)),
        };
        Ok(Box::new(Self { response, upload, switch, interims: 0, interim_bytes: 0, lease }))
    }

    /// Waits for the answer's head, and tells of the interim heads before it.
    ///
    /// # Errors
    /// `Failed` gives the request body back if nothing of it was taken. The stream is cancelled.
    pub(in crate::proxy) async fn answer(
        mut self: Box<Self>,
        request: &RequestHead,
        on_interim: &mut OnInterim<'_>,
    ) -> Result<Answer<B>, Failed<B>> {
        match poll_fn(|cx| self.poll_head(cx, on_interim)).await {
            Ok((parts, stream)) => self.into_answer(request, parts, stream),
            Err(error) => Err(Failed { error, not_sent: false, body: self.upload.untouched_body() }),
        }
    }

    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        on_interim: &mut OnInterim<'_>,
    ) -> Poll<Result<(http::response::Parts, RecvStream), StreamError>> {
        if let Poll::Ready(Err(error)) = self.upload.poll(&self.lease.connection, cx) {
            return Poll::Ready(Err(StreamError::RequestBody(error)));
        }
        while let Poll::Ready(Some(interim)) = self.response.poll_informational(cx) {
            let interim = interim.map_err(|error| StreamError::new(&error, &self.lease.connection))?;
            self.interim(interim.into_parts().0, on_interim)?;
        }
        let answer = ready!(Pin::new(&mut self.response).poll(cx)).map_err(|error| StreamError::new(&error, &self.lease.connection))?;
        Poll::Ready(Ok(answer.into_parts()))
    }

    fn interim(&mut self, parts: http::response::Parts, on_interim: &mut OnInterim<'_>) -> Result<(), StreamError> {
        self.interims = self.interims.saturating_add(1);
        self.interim_bytes = self.interim_bytes.saturating_add(head::size(&parts.headers));
        if self.interims > MAX_INTERIM_HEADS {
            return Err(StreamError::Invalid("more than 64 interim answers"));
        }
        if self.interim_bytes > MAX_HEAD_BYTES as usize {
            return Err(StreamError::Invalid("the interim answers are larger than 60 KiB"));
        }
        let (parts, _) = head::answer(parts)?;
        match parts.status {
            StatusCode::CONTINUE => {}
            StatusCode::SWITCHING_PROTOCOLS => return Err(StreamError::Invalid("it switches protocols in HTTP/2")),
            status => on_interim(status, parts.headers),
        }
        Ok(())
    }

    #[expect(clippy::boxed_local, reason = "it is large, and would be copied on its way here")]
    fn into_answer(
        self: Box<Self>,
        request: &RequestHead,
        parts: http::response::Parts,
        stream: RecvStream,
    ) -> Result<Answer<B>, Failed<B>> {
        let Self { upload, switch, lease, .. } = *self;
        let failed = |error| Failed { error, not_sent: false, body: None };
        let (parts, length) = head::answer(parts).map_err(failed)?;
        if let Some(send) = switch
            && parts.status.is_success()
        {
            let parts = head::switch(parts, request.websocket_key());
            let tunnel = Tunnel::new(stream, send, lease);
            return Ok(Answer::Switched(Box::new(Switched { parts, tunnel })));
        }
        let bodyless = request.is_head() || parts.status == StatusCode::NO_CONTENT || parts.status == StatusCode::NOT_MODIFIED;
        if bodyless {
            return Ok(Answer::Response(parts, ResponseBody::Over));
        }
        let mut body = OpenBody { stream, upload, lease, first: None, unreleased: 0, left: length, budget: PollBudget::default() };
        body.look_ahead().map_err(failed)?;
        let body = if body.is_end() { ResponseBody::Over } else { ResponseBody::Open(Box::new(body)) };
        Ok(Answer::Response(parts, body))
    }
}

// === impl OpenBody ===

impl<B> OpenBody<B> {
    /// Takes what came together with the head: a body that is malformed there is no answer at all.
    fn look_ahead(&mut self) -> Result<(), StreamError> {
        let mut nobody = Context::from_waker(std::task::Waker::noop());
        match self.stream.poll_data(&mut nobody) {
            Poll::Ready(Some(Ok(data))) => self.first = Some(data).filter(|data| !data.is_empty()),
            Poll::Ready(Some(Err(error))) => {
                let error = StreamError::new(&error, &self.lease.connection);
                // Of any other the head has arrived: the answer breaks off.
                if matches!(error, StreamError::Invalid(_)) {
                    return Err(error);
                }
            }
            Poll::Ready(None) | Poll::Pending => {}
        }
        Ok(())
    }

    /// Whether it is known that nothing follows.
    fn is_end(&self) -> bool {
        self.first.is_none() && self.stream.is_end_stream()
    }

    /// The host may send as much again as has gone on to the client.
    fn release(&mut self) {
        let released = std::mem::take(&mut self.unreleased);
        if released > 0 {
            // Of a stream that was reset there is no window left to grant.
            let _ = self.stream.flow_control().release_capacity(released);
        }
    }

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, StreamError>>> {
        let data = match self.first.take() {
            Some(first) => first,
            None => loop {
                match ready!(self.stream.poll_data(cx)) {
                    // The last frame may be empty, and says no more than the end does.
                    Some(Ok(data)) if data.is_empty() => {}
                    Some(Ok(data)) => break data,
                    Some(Err(error)) => return Poll::Ready(Some(Err(StreamError::new(&error, &self.lease.connection)))),
                    None => return Poll::Ready(None),
                }
            },
        };
        self.unreleased += data.len();
        self.left = self.left.map(|left| left.saturating_sub(data.len() as u64));
        self.budget.spend(data.len(), 1);
        Poll::Ready(Some(Ok(data)))
    }

    fn poll_trailers(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<http::HeaderMap>, StreamError>> {
        let fields = ready!(self.stream.poll_trailers(cx)).map_err(|error| StreamError::new(&error, &self.lease.connection))?;
        let Some(mut fields) = fields else { return Poll::Ready(Ok(None)) };
        head::check(&fields)?;
        trailers::sieve(&mut fields);
        Poll::Ready(Ok((!fields.is_empty()).then_some(fields)))
    }
}

// === impl ResponseBody ===

impl<B> ResponseBody<B> {
    /// Bytes of memory held for what was read, the piece of this length that was handed out last included; 0: it has left.
    pub(in crate::proxy) fn held(&mut self, piece: usize) -> usize {
        match self {
            Self::Open(body) => {
                if piece == 0 {
                    body.release();
                }
                body.stream.flow_control().used_capacity()
            }
            Self::Failed(_) | Self::Over => piece,
        }
    }

    /// The body fails with the next poll: the head and what came of the body shall leave first, and an error would discard them.
    fn fail<T>(&mut self, error: StreamError, cx: &Context<'_>) -> Poll<Option<Result<T, StreamError>>> {
        *self = Self::Failed(error);
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<B> ResponseBody<B>
where
    B: Outbound,
{
    /// Moves the rest of the request body on while nobody reads the answer.
    pub(in crate::proxy) fn poll_upload(&mut self, cx: &mut Context<'_>) {
        if let Self::Open(body) = self
            && let Poll::Ready(Err(error)) = body.upload.poll(&body.lease.connection, cx)
        {
            *self = Self::Failed(StreamError::RequestBody(error));
        }
    }
}

impl<B> Body for ResponseBody<B>
where
    B: Outbound,
{
    type Data = Bytes;
    type Error = StreamError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, StreamError>>> {
        let this = self.get_mut();
        let body = match this {
            Self::Open(body) => body,
            Self::Over => return Poll::Ready(None),
            Self::Failed(_) => {
                let Self::Failed(error) = std::mem::replace(this, Self::Over) else { return Poll::Ready(None) };
                return Poll::Ready(Some(Err(error)));
            }
        };
        if let Poll::Ready(Err(error)) = body.upload.poll(&body.lease.connection, cx) {
            return this.fail(StreamError::RequestBody(error), cx);
        }
        if body.budget.is_spent(cx) {
            return Poll::Pending;
        }
        let Poll::Ready(data) = body.poll_data(cx) else {
            body.budget.reset();
            return Poll::Pending;
        };
        match data {
            Some(Ok(data)) => {
                if body.is_end() {
                    *this = Self::Over;
                }
                Poll::Ready(Some(Ok(Frame::data(data))))
            }
            Some(Err(error)) => this.fail(error, cx),
            None => match ready!(body.poll_trailers(cx)) {
                Ok(fields) => {
                    *this = Self::Over;
                    Poll::Ready(fields.map(|fields| Ok(Frame::trailers(fields))))
                }
                Err(error) => this.fail(error, cx),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Over)
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Open(body) => body.left.map_or_else(SizeHint::default, SizeHint::with_exact),
            Self::Failed(_) => SizeHint::default(),
            Self::Over => SizeHint::with_exact(0),
        }
    }
}

// === impl StreamError ===
