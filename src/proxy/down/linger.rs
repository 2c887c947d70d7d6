//! How a connection ends whose client may still be sending: closing it at once would make the system throw away the answer that the client
//! has not read yet (RFC 9112 section 9.6).

use std::{
    future::poll_fn,
    io,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Instant, timeout_at};

/// The client has stopped sending when nothing came for this long.
const QUIET: Duration = Duration::from_secs(2);
/// Most time altogether.
const LONGEST: Duration = Duration::from_secs(30);

/// Reads and throws away until the client has closed, is quiet, or has had enough time. `read` tells how many bytes came; 0 is the end.
pub(super) async fn until_quiet(mut read: impl FnMut(&mut Context<'_>) -> Poll<io::Result<usize>>) {
    let end = Instant::now() + LONGEST;
    loop {
        let deadline = end.min(Instant::now() + QUIET);
        match timeout_at(deadline, poll_fn(&mut read)).await {
            Ok(Ok(1..)) if Instant::now() < end => {}
            Ok(_) | Err(_) => return,
        }
    }
}
