//! What all requests of a connection share.

use std::rc::Rc;

use http::header::SERVER;

use crate::base::head::response;
use crate::proxy::{
    state::{conn::Conn, peer::Peer},
    worker::Worker,
};

/// Everything a request needs to know about its connection.
#[derive(Debug)]
pub(in crate::proxy) struct ConnContext {
    pub(in crate::proxy) worker: Rc<Worker>,
    pub(in crate::proxy) conn: Rc<Conn>,
    pub(in crate::proxy) peer: Peer,
}

// === impl ConnContext ===

impl ConnContext {
    /// Puts the `server` header of the connection's port on an answer that no plan was made for.
    pub(in crate::proxy) fn identify(&self, parts: &mut response::Parts) {
        let mut cached = self.worker.snapshot.borrow_mut();
        if let Some(bind) = cached.get().value.binds.get(&self.peer.bind) {
            parts.headers.insert(SERVER, bind.profile.server_header.clone());
        }
    }
}
