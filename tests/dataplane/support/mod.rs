//! A proxy in this process, raw clients, scripted upstreams.

mod client;
mod upstream;
mod world;

use std::time::Duration;

pub use client::{Client, Response};
pub use upstream::{Conversation, Upstream};
pub use world::{Proxy, World};

/// Patience of every wait; only a failing test uses it up.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Polls until the condition holds.
#[track_caller]
#[expect(clippy::disallowed_types, reason = "these tests wait for real sockets, no clock is paused")]
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + PATIENCE;
    while !condition() {
        assert!(std::time::Instant::now() < deadline, "gave up waiting: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
