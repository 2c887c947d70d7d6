//! HTTP/2 of clients: the connection's task carries frames, and each stream has a task of its own, which ends that stream alone when a
//! deadline passes (RFC 9113).

mod conduct;
mod cut;
mod delivery;
mod driver;
mod exchange;
mod head;
pub(super) mod incoming;
mod out;
mod reception;
mod responder;
mod session;
mod stream;
mod window;

use std::{future::poll_fn, rc::Rc};

use http::Version;

use crate::proxy::{
    flow::{context::ConnContext, request::note_refused},
    state::{config::Limits, timing::Protocol},
    wire::{frames::SETTINGS, reason::Reason},
};

use super::io::ClientIo;

use self::{
    driver::Driver,
    exchange::Http2,
    reception::{INITIAL_WINDOW_SIZE, MAX_CONCURRENT_STREAMS, MAX_HEADER_LIST_SIZE, Reception},
    session::Session,
};

/// Serves until the connection ends.
pub(in crate::proxy) async fn serve(io: ClientIo, context: Rc<ConnContext>) {
    let limits = context.worker.config.limits.clone();
    let session = Rc::new(Session::new(Rc::clone(&context.conn), limits.http2_connection_window));
    let mut reception = Reception::new(&limits);
    let mut io = io;
    let begun = context.conn.told_or(async { begin(&mut io, &mut reception, &session).await });
    match begun.await {
        Some(Ok(())) => {}
        Some(Err(reason)) => return note_refused(&context, Version::HTTP_2, None, reason.what_is_wrong()),
        None => return,
    }
    context.conn.speaks(Protocol::Http2);
    greet(&session, &limits);
    let shared = Rc::new(Http2 { context, session });
    Driver::new(io, reception, shared).run().await;
}

/// Waits for the preface; `None`: the client has gone.
async fn begin(io: &mut ClientIo, reception: &mut Reception, session: &Session) -> Option<Result<(), Reason>> {
    loop {
        match reception.step(session) {
            Ok(_) if reception.has_begun() => return Some(Ok(())),
            Ok(_) => {}
            Err(reason) => return Some(Err(reason)),
        }
        if let Ok(0) | Err(_) = poll_fn(|cx| reception.buffer().poll_fill(io, cx)).await {
            return None;
        }
    }
}

/// Tells the client our settings.
fn greet(session: &Session, limits: &Limits) {
    let mut settings = Vec::new();
    for (setting, value) in [
        (MAX_CONCURRENT_STREAMS, limits.http2_streams),
        (INITIAL_WINDOW_SIZE, limits.http2_stream_window),
        // Twice what is served: a head in between is answered as any other is that is too large.
        (MAX_HEADER_LIST_SIZE, u32::try_from(limits.head_bytes.saturating_mul(2)).unwrap_or(u32::MAX)),
    ] {
        settings.extend_from_slice(&setting.to_be_bytes());
        settings.extend_from_slice(&value.to_be_bytes());
    }
    session.frame(SETTINGS, 0, 0, &settings);
    session.give(None, 0);
}
