//! Ends a connection whose client may still be sending. If it were closed at once, the system would throw away the answer that the client
//! has not read yet (RFC 9112 section 9.6).

use std::{
    future::poll_fn,
    io,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    task::yield_now,
    time::{Instant, timeout_at},
};

use crate::proxy::flow::client_body::ClientBodyError;

/// The client has stopped sending when nothing came for this long.
const QUIET: Duration = Duration::from_secs(2);
/// The longest pause within a body whose end is waited for.
const PAUSE: Duration = Duration::from_secs(5);
/// Most time altogether.
const LONGEST: Duration = Duration::from_secs(30);
/// Bytes after which other connections have their turn.
const TURN_BYTES: usize = 256 * 1024;

/// Reads and throws away until the client has closed, is quiet, or has had enough time. `read` tells how many bytes came; 0 is the end.
pub(super) async fn until_quiet(mut read: impl FnMut(&mut Context<'_>) -> Poll<io::Result<usize>>) {
    let end = Instant::now() + LONGEST;
    let mut turns = Turns::default();
    loop {
        let deadline = end.min(Instant::now() + QUIET);
        match timeout_at(deadline, poll_fn(&mut read)).await {
            Ok(Ok(length @ 1..)) if Instant::now() < end => turns.took(length).await,
            Ok(_) | Err(_) => return,
        }
    }
}

/// Reads until there is no more, as long as an honest client may take for what it has begun to send. Whether the end was found. `read` tells how
/// many bytes came.
pub(super) async fn until_end(mut read: impl FnMut(&mut Context<'_>) -> Poll<Option<Result<usize, ClientBodyError>>>) -> bool {
    let end = Instant::now() + LONGEST;
    let mut turns = Turns::default();
    loop {
        let deadline = end.min(Instant::now() + PAUSE);
        match timeout_at(deadline, poll_fn(&mut read)).await {
            Ok(None) => return true,
            Ok(Some(Ok(length))) if Instant::now() < end => turns.took(length).await,
            Ok(Some(_)) | Err(_) => return false,
        }
    }
}

/// Lets others have their turn while much is read.
#[derive(Debug, Default)]
struct Turns {
    bytes: usize,
}

// === impl Turns ===

impl Turns {
    /// So much was read.
    async fn took(&mut self, length: usize) {
        self.bytes += length;
        if self.bytes >= TURN_BYTES {
            self.bytes = 0;
            yield_now().await;
        }
    }
}
