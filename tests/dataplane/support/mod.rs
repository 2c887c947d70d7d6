//! A proxy in this process, raw clients, scripted upstreams.

mod client;
pub(crate) mod collector;
pub(crate) mod frames;
mod http2;
mod upstream;
mod world;

use std::time::Duration;

pub(crate) use client::Client;
pub(crate) use frames::Frames;
pub(crate) use http2::Http2Upstream;
pub(crate) use upstream::{Conversation, Upstream};
pub(crate) use world::{Proxy, Served, World, any_port};

/// Patience of every wait; only a failing test uses it up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Polls until the condition holds.
#[track_caller]
#[expect(clippy::disallowed_types, reason = "these tests wait for real sockets, no clock is paused")]
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + PATIENCE;
    while !condition() {
        assert!(std::time::Instant::now() < deadline, "gave up waiting: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
