//! What a stream's task answers with.

use std::{
    rc::Rc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header::CONTENT_LENGTH};

use crate::{
    base::head::response,
    proxy::wire::{
        date,
        hpack::{Encoder, Field},
        reason::Reason,
    },
};

use super::{cut::Cut, session::Session, stream::Stream};

/// The answering side of a stream. When it is dropped, the stream is over.
pub(super) struct Responder {
    session: Rc<Session>,
    stream: Rc<Stream>,
}

// === impl Responder ===

impl Responder {
    pub(super) fn new(session: Rc<Session>, stream: Rc<Stream>) -> Self {
        Self { session, stream }
    }

    /// Waits until the stream ends before its time.
    pub(super) fn poll_cut(&self, cx: &Context<'_>) -> Poll<Cut> {
        self.stream.poll_cut(cx)
    }

    /// Whether the stream still takes anything.
    fn is_open(&self) -> bool {
        !self.stream.has_ended.get() && self.stream.cut().is_none()
    }

    /// Sends an interim response (RFC 9113 section 8.1).
    pub(super) fn send_interim(&self, parts: &response::Parts) {
        if self.is_open() {
            self.session.block(self.stream.id, false, |encoder, out| encode_head(encoder, out, parts, None, None));
        }
    }

    /// Sends the head of the response. `date`: the value of `date`, where the response has none and wants one. `length`: that of a body which
    /// is known as a whole.
    ///
    /// # Errors
    /// The stream has ended.
    pub(super) fn send_head(&self, parts: &response::Parts, date: &HeaderValue, length: Option<u64>, ends: bool) -> Result<(), Cut> {
        if let Some(cut) = self.stream.cut() {
            return Err(cut);
        }
        let date = date::is_wanted(parts).then_some(date);
        self.session.block(self.stream.id, ends, |encoder, out| encode_head(encoder, out, parts, date, length));
        self.stream.has_ended.set(ends);
        Ok(())
    }

    /// Waits until bytes may be handed over, and tells how many.
    pub(super) fn poll_room(&self) -> Poll<usize> {
        self.session.poll_room(&self.stream)
    }

    /// Sends a piece of the body, no longer than `poll_room` said.
    pub(super) fn send_data(&self, data: Bytes, ends: bool) {
        if self.is_open() {
            self.session.conduct.sent_data(data.len());
            self.session.data(&self.stream, data, ends);
            self.stream.has_ended.set(ends);
        }
    }

    /// Sends trailers, with which the body ends.
    pub(super) fn send_trailers(&self, trailers: &HeaderMap) {
        if self.is_open() {
            self.session.block(self.stream.id, true, |encoder, out| {
                for (name, value) in trailers {
                    let is_sensitive = value.is_sensitive();
                    encoder.field(out, Field { name: name.as_str().as_bytes(), value: value.as_bytes(), is_sensitive });
                }
            });
            self.stream.has_ended.set(true);
        }
    }

    /// Ends the stream at once.
    pub(super) fn reset(&self, reason: Reason) {
        if self.is_open() {
            self.session.reset(self.stream.id, reason);
            self.stream.has_ended.set(true);
        }
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        if self.is_open() {
            self.reset(Reason::CANCEL);
        } else if !self.stream.client_ended() && self.stream.cut().is_none() {
            // The answer is complete: nobody reads the rest of the request (RFC 9113 section 8.1).
            self.session.reset(self.stream.id, Reason::NO_ERROR);
        }
        self.stream.end(Cut::Gone);
        self.session.close(&self.stream);
    }
}

/// Encodes the head of a response.
fn encode_head(encoder: &mut Encoder, out: &mut Vec<u8>, parts: &response::Parts, date: Option<&HeaderValue>, length: Option<u64>) {
    Encoder::status(out, parts.status.as_str());
    for (name, value, is_sensitive) in parts.headers.fields() {
        if length.is_none() || name != CONTENT_LENGTH.as_str().as_bytes() {
            encoder.field(out, Field { name, value, is_sensitive });
        }
    }
    if let Some(date) = date {
        encoder.field(out, Field { name: b"date", value: date.as_bytes(), is_sensitive: false });
    }
    if let Some(length) = length {
        let mut digits = itoa::Buffer::new();
        encoder.field(out, Field { name: b"content-length", value: digits.format(length).as_bytes(), is_sensitive: false });
    }
}
