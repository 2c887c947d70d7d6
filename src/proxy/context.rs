//! What all requests of a connection share.

use std::rc::Rc;

use http::{header::SERVER, response};

use super::{conn::Conn, peer::Peer, worker::Worker};

/// Everything a request needs to know about its connection.
#[derive(Debug)]
pub(super) struct ConnContext {
    pub(super) worker: Rc<Worker>,
    pub(super) conn: Rc<Conn>,
    pub(super) peer: Peer,
}

// === impl ConnContext ===

impl ConnContext {
    /// Puts the `server` header of the connection's port on an answer that no plan was made for.
    pub(super) fn identify(&self, parts: &mut response::Parts) {
        let mut cached = self.worker.snapshot.borrow_mut();
        if let Some(bind) = cached.get().value.binds.get(&self.peer.bind) {
            parts.headers.insert(SERVER, bind.profile.server_header.clone());
        }
    }
}
