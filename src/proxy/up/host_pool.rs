//! A worker's connections to one host.

use std::{net::SocketAddr, rc::Rc, sync::Arc};

use tokio::time::Instant;

use crate::{
    proxy::state::breaker::Opened,
    snapshot::{Host, PodRef},
};

use super::{h1::H1Connection, http2};

/// The connections to one host.
#[derive(Debug)]
pub(super) struct HostPool {
    pub(super) address: SocketAddr,
    pub(super) pod: Option<Arc<PodRef>>,
    pub(super) idle: Vec<Idle>,
    /// Connections of HTTP/2, idle or not.
    pub(super) http2: Vec<Rc<http2::Connection>>,
}

/// A connection of HTTP/1.1 that waits for a request.
#[derive(Debug)]
pub(super) struct Idle {
    pub(super) connection: H1Connection,
    pub(super) opened: Rc<Opened>,
    pub(super) since: Instant,
}

// === impl HostPool ===

impl HostPool {
    pub(super) fn new(host: &Host) -> Self {
        Self { address: host.address, pod: host.pod.clone(), idle: Vec::new(), http2: Vec::new() }
    }

    /// Since when its oldest idle connection waits, and whether that is one of HTTP/1.1.
    fn oldest(&self) -> Option<(Instant, bool)> {
        // The oldest of HTTP/1.1 is the first.
        let http1 = self.idle.first().map(|idle| (idle.since, true));
        let http2 = self.http2.iter().filter_map(|connection| connection.idle_since()).min().map(|since| (since, false));
        http1.into_iter().chain(http2).min()
    }

    pub(super) fn close_oldest(&mut self) -> Option<bool> {
        let (since, was_http1) = self.oldest()?;
        if was_http1 {
            self.idle.remove(0);
        } else if let Some(at) = self.http2.iter().position(|connection| connection.idle_since() == Some(since)) {
            self.http2.remove(at).leave();
        }
        Some(was_http1)
    }

    pub(super) fn is(&self, address: SocketAddr, pod: Option<&Arc<PodRef>>) -> bool {
        self.address == address
            && match (&self.pod, pod) {
                (None, None) => true,
                (Some(ours), Some(theirs)) => Arc::ptr_eq(ours, theirs) || ours.uid == theirs.uid,
                (Some(_), None) | (None, Some(_)) => false,
            }
    }
}

impl Drop for HostPool {
    /// The host has left its cluster, or the worker ends: streams go on to their end, and no new ones are opened.
    fn drop(&mut self) {
        self.http2.drain(..).for_each(|connection| connection.leave());
    }
}

/// Closes the connection of these hosts that has been idle longest, and says whether it was one of HTTP/1.1. `None`: none is idle.
pub(super) fn close_oldest<'a>(hosts: impl Iterator<Item = &'a mut HostPool>) -> Option<bool> {
    hosts.filter_map(|host| Some((host.oldest()?, host))).min_by_key(|(oldest, _)| *oldest)?.1.close_oldest()
}
