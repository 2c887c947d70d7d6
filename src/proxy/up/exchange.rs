//! One request and its answer, whichever protocol its host speaks.

use std::{io, rc::Rc};

use bytes::Bytes;
use h2::Reason;

use crate::proxy::state::{budget::Account, error::ProxyError, flight::Flight};

use super::{
    answer::{Answer, HostIo, HostSide, Switched},
    body::UpstreamBody,
    encoded::{Encoded, Head, Http1Encoded},
    h1::{self, ExchangeError, Progress},
    hosts::Hosts,
    http2::{self, StreamError},
    outbound::{OnInterim, Outbound},
    pool::{Active, ActiveConnection, Http1Active},
};

/// An exchange without an answer.
#[derive(Debug)]
pub(in crate::proxy) struct Failed<B> {
    pub(in crate::proxy) error: ProxyError,
    /// Nothing of the request was written.
    pub(in crate::proxy) not_sent: bool,
    /// The body, if no byte of it was taken.
    pub(in crate::proxy) body: Option<B>,
}

/// Sends a request and waits for the head of its answer; dropping the future closes the connection, or cancels the stream. The flight gets
/// the interim heads that the client should have.
pub(in crate::proxy) async fn exchange<B: Outbound>(
    active: ActiveConnection,
    request: &Encoded,
    body: Option<B>,
    hosts: &Hosts,
    flight: &Rc<Flight>,
) -> Result<Answer<B>, Failed<B>> {
    let on_interim = &mut |status, headers| flight.send_interim(status, headers);
    match (active.0, &request.0) {
        (Active::Http1(active), Head::Http1(request)) => exchange_http1(active, request, body, on_interim).await,
        (Active::Http2(lease), Head::Http2(request)) => {
            let handed = Account::new(&hosts.budget, flight);
            Box::pin(exchange_http2(lease, request, body, handed, on_interim)).await
        }
        // The protocol is the cluster's, for the request as for its connections.
        (_, Head::Http1(_) | Head::Http2(_)) => Err(Failed { error: ProxyError::NoHost, not_sent: true, body }),
    }
}

async fn exchange_http1<B: Outbound>(
    active: Http1Active,
    request: &Http1Encoded,
    body: Option<B>,
    on_interim: &mut OnInterim<'_>,
) -> Result<Answer<B>, Failed<B>> {
    let Http1Active { connection, membership } = active;
    let exchange =
        h1::Exchange::start(connection, membership, &request.bytes, body, request.framing, request.is_head, request.wants_upgrade);
    match exchange.answer(on_interim).await {
        Ok(h1::Answer::Response(parts, body)) => Ok(Answer::Response(parts, UpstreamBody::http1(body))),
        Ok(h1::Answer::Upgraded(upgraded)) => {
            let h1::Upgraded { parts, io, read, recycle } = *upgraded;
            Ok(Answer::Switched(Box::new(Switched { parts, host: HostSide { io: HostIo::connection(io, recycle), read } })))
        }
        Err(failed) => Err(Failed {
            error: classify(failed.error, failed.progress),
            not_sent: failed.progress == Progress::NothingWritten,
            body: failed.body,
        }),
    }
}

async fn exchange_http2<B: Outbound>(
    lease: http2::Lease,
    request: &http2::RequestHead,
    body: Option<B>,
    handed: Account,
    on_interim: &mut OnInterim<'_>,
) -> Result<Answer<B>, Failed<B>> {
    let answer = match http2::Exchange::start(lease, request, body, handed) {
        Ok(exchange) => exchange.answer(request, on_interim).await,
        Err(failed) => Err(*failed),
    };
    match answer {
        Ok(http2::Answer::Response(parts, body)) => Ok(Answer::Response(parts, UpstreamBody::http2(body))),
        Ok(http2::Answer::Switched(switched)) => {
            let http2::Switched { parts, tunnel } = *switched;
            let host = HostSide { io: HostIo::stream(tunnel), read: Bytes::new() };
            Ok(Answer::Switched(Box::new(Switched { parts, host })))
        }
        Err(failed) => Err(Failed { error: classify_stream(failed.error), not_sent: failed.not_sent, body: failed.body }),
    }
}

fn classify(error: ExchangeError, progress: Progress) -> ProxyError {
    let closed = match progress {
        Progress::NothingWritten | Progress::Written => ProxyError::UpstreamClosed,
        Progress::AnswerBegun => ProxyError::UpstreamBrokeOff,
    };
    match error {
        ExchangeError::Io(error) => closed(error),
        ExchangeError::Closed => closed(io::ErrorKind::UnexpectedEof.into()),
        ExchangeError::Invalid(what) => ProxyError::UpstreamProtocol(what),
        ExchangeError::RequestBody(_) => ProxyError::ClientBody,
    }
}

fn classify_stream(error: StreamError) -> ProxyError {
    match error {
        StreamError::Closed(kind) => ProxyError::UpstreamClosed(kind.into()),
        StreamError::GoneAway => ProxyError::UpstreamGoneAway,
        StreamError::Refused => ProxyError::UpstreamRefusedStream,
        // To Envoy the host says that the gateway was wrong, and that the two do not speak the same protocol.
        StreamError::Reset(Reason::PROTOCOL_ERROR) => ProxyError::UpstreamProtocol("the upstream resets the stream as malformed"),
        StreamError::Reset(_) => ProxyError::UpstreamReset,
        StreamError::NoWebSocket => ProxyError::UpstreamNoWebSocket,
        StreamError::Invalid(what) => ProxyError::UpstreamProtocol(what),
        StreamError::RequestBody(_) => ProxyError::ClientBody,
    }
}
