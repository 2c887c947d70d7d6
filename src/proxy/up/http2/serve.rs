//! The task of a connection: it carries the frames of all its streams until it ends.

use std::{
    future::{Future as _, poll_fn},
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use h2::{Ping, PingPong, client};
use tokio::time::timeout;

use crate::proxy::{state::config::Limits, up::host_stream::HostStream};

use super::{
    connection::{Connection, Failure, MOST_STREAMS},
    error::what_is_wrong,
    head::MAX_HEAD_BYTES,
    upload::SEND_BUFFER,
    watched::Watched,
};

/// How long a host may take to send its SETTINGS. Requests wait for them: they tell whether the host speaks HTTP/2, and how many streams it
/// takes.
const GREETING: Duration = Duration::from_secs(5);

/// Streams that were reset here and whose late frames are passed over, and for how long. The library counts frames for streams that it has
/// forgotten as faults, so that many requests that were given up would cost all others their connection.
const REMEMBERED_RESETS: usize = 1024;
const REMEMBERED_FOR: Duration = Duration::from_secs(30);

/// Most of a window (RFC 9113 section 6.9.1).
const LARGEST_WINDOW: u32 = (1 << 31) - 1;

/// Carries a connection until it ends, and says why.
pub(in crate::proxy) async fn serve(io: HostStream, connection: &Rc<Connection>, limits: &Limits) -> Failure {
    let io = Watched::new(io, Rc::clone(connection));
    let (sender, mut http2) = match builder(limits).handshake::<_, Bytes>(io).await {
        Ok(begun) => begun,
        Err(error) => return failure(connection, &error),
    };
    connection.greeted(sender);
    let mut pings = http2.ping_pong();
    let greeted = poll_fn(|cx| match poll(&mut http2, connection, cx) {
        Poll::Pending if !connection.is_connecting() => Poll::Ready(None),
        polled => polled.map(Some),
    });
    match timeout(GREETING, greeted).await {
        Err(_) => Failure::TimedOut,
        Ok(Some(failure)) => failure,
        Ok(None) => {
            poll_fn(|cx| {
                if let Some(pings) = &mut pings {
                    ping(pings, connection, cx);
                }
                poll(&mut http2, connection, cx)
            })
            .await
        }
    }
}

fn builder(limits: &Limits) -> client::Builder {
    let mut builder = client::Builder::new();
    let connection_window = limits.http2_stream_window.saturating_mul(MOST_STREAMS).min(LARGEST_WINDOW);
    builder
        .enable_push(false)
        .initial_window_size(limits.http2_stream_window)
        // All streams together: a client that does not read holds up nobody else's.
        .initial_connection_window_size(connection_window)
        .max_header_list_size(MAX_HEAD_BYTES)
        .max_send_buffer_size(SEND_BUFFER)
        .max_concurrent_reset_streams(REMEMBERED_RESETS)
        .reset_stream_duration(REMEMBERED_FOR)
        // The frames that would cause them are counted here.
        .max_local_error_reset_streams(None);
    builder
}

fn poll(http2: &mut client::Connection<Watched, Bytes>, connection: &Rc<Connection>, cx: &mut Context<'_>) -> Poll<Failure> {
    connection.wake_with(cx);
    let polled = Pin::new(&mut *http2).poll(cx);
    connection.follow(|| http2.max_concurrent_send_streams());
    if let Some(failure) = connection.must_end() {
        return Poll::Ready(failure);
    }
    polled.map(|ended| match ended {
        Ok(()) => Failure::Closed(io::ErrorKind::UnexpectedEof),
        Err(error) => failure(connection, &error),
    })
}

/// Asks the host whether it is there, if that is wanted. Any frame of its is an answer.
fn ping(pings: &mut PingPong, connection: &Connection, cx: &mut Context<'_>) {
    if connection.take_ping() {
        // The last one may not have been answered: then nothing else was heard, and the connection is about to end.
        let _ = pings.send_ping(Ping::opaque());
    }
    // Takes the answer, so that the next one can be sent.
    let _ = pings.poll_pong(cx);
}

fn failure(connection: &Connection, error: &h2::Error) -> Failure {
    tracing::debug!(%error, "a host's HTTP/2 connection ended");
    if let Some(failure) = connection.must_end() {
        return failure;
    }
    match error.reason() {
        Some(reason) if error.is_library() => Failure::Invalid(what_is_wrong(reason)),
        _ => Failure::Closed(error.get_io().map_or(io::ErrorKind::ConnectionReset, io::Error::kind)),
    }
}
