//! The PROXY protocol on a connection's socket.

use std::io;

use tokio::{io::AsyncReadExt as _, net::TcpStream};

use crate::telemetry::ProxyProtocolResult;

use super::super::opening::{Announced, HeaderProgress, parse_header};

/// What one look at the socket may find.
const LOOK: usize = 256;

/// Reads a header, and not one byte more. `None`: it names no client.
///
/// # Errors
/// Why there is no header.
pub(in crate::proxy) async fn read(client: &mut TcpStream) -> Result<Option<Announced>, ProxyProtocolResult> {
    let closed = |_: io::Error| ProxyProtocolResult::Closed;
    let mut seen = Vec::new();
    loop {
        let mut look = [0; LOOK];
        let length = client.peek(&mut look).await.map_err(closed)?;
        if length == 0 {
            return Err(ProxyProtocolResult::Closed);
        }
        let before = seen.len();
        seen.extend_from_slice(look.get(..length).unwrap_or_default());
        let progress = parse_header(&seen);
        let taken = match progress {
            // It is taken off the socket, which otherwise would stay readable: what is to come is waited for.
            HeaderProgress::Incomplete => length,
            HeaderProgress::Complete(whole, _) => whole.saturating_sub(before).min(length),
            HeaderProgress::Malformed => return Err(ProxyProtocolResult::Malformed),
        };
        client.read_exact(look.get_mut(..taken).unwrap_or_default()).await.map_err(closed)?;
        if let HeaderProgress::Complete(_, announced) = progress {
            return Ok(announced);
        }
    }
}
