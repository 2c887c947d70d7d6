//! A place for one stream on a connection.

use std::rc::Rc;

use bytes::Bytes;
use h2::{
    SendStream,
    client::{ResponseFuture, SendRequest},
};
use http::Request;

use super::connection::Connection;

/// The right to open one stream, and then that stream's place on its connection.
#[derive(Debug)]
pub(in crate::proxy) struct Lease {
    pub(super) connection: Rc<Connection>,
    sender: Option<SendRequest<Bytes>>,
    /// The connection has carried a request before.
    reused: bool,
}

// === impl Lease ===

impl Lease {
    /// The right to open a stream of a connection, if there may be one more.
    pub(in crate::proxy) fn of(connection: &Rc<Connection>) -> Option<Self> {
        let (sender, reused) = connection.take_stream()?;
        Some(Self { connection: Rc::clone(connection), sender: Some(sender), reused })
    }

    /// Whether the connection has carried a request before: the host may have closed it meanwhile.
    pub(in crate::proxy) fn is_reused(&self) -> bool {
        self.reused
    }

    /// Whether the host takes WebSocket over HTTP/2 (RFC 8441).
    pub(super) fn takes_websocket(&self) -> bool {
        self.sender.as_ref().is_some_and(SendRequest::is_extended_connect_protocol_enabled)
    }

    /// Opens the stream. `ends`: no body follows.
    ///
    /// # Errors
    /// The connection takes no more streams: nothing was sent.
    pub(super) fn open(&mut self, request: Request<()>, ends: bool) -> Result<(ResponseFuture, SendStream<Bytes>), Option<h2::Error>> {
        let Some(mut sender) = self.sender.take() else { return Err(None) };
        let opened = sender.send_request(request, ends);
        if opened.is_err() {
            self.connection.leave();
        }
        opened.map_err(Some)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.connection.stream_ended();
    }
}
