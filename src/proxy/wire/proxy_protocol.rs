//! The PROXY protocol on sockets: before a connection's first byte a proxy says who the client is. `opening` reads what it says.

use std::{io, net::SocketAddr};

use proxy_header::{ProxiedAddress, ProxyHeader};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{snapshot::ProxyProtocolVersion, telemetry::ProxyProtocolResult};

use super::opening::{Ends, HeaderProgress, parse_header};

/// What one look at the socket may find.
const LOOK: usize = 256;

/// Reads a header, and not one byte more. `None`: it names no client.
///
/// # Errors
/// Why there is no header.
pub(in crate::proxy) async fn read(client: &mut TcpStream) -> Result<Option<Ends>, ProxyProtocolResult> {
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
        if let HeaderProgress::Complete(_, ends) = progress {
            return Ok(ends);
        }
    }
}

/// Tells a host who the client is; `None`: the connection is the gateway's own.
///
/// # Errors
/// The host's connection is broken.
pub(in crate::proxy) async fn write(host: &mut TcpStream, version: ProxyProtocolVersion, client: Option<Ends>) -> io::Result<()> {
    host.write_all(&header(version, client)?).await
}

fn header(version: ProxyProtocolVersion, client: Option<Ends>) -> io::Result<Vec<u8>> {
    // Both addresses of a header are of one family.
    let (source, destination) = match client {
        Some(Ends { source, destination }) => (canonical(source), canonical(destination)),
        None => return encoded(version, &ProxyHeader::with_local()),
    };
    let (source, destination) = match (source.is_ipv4(), destination.is_ipv4()) {
        (true, false) => (mapped(source), destination),
        (false, true) => (source, mapped(destination)),
        (true, true) | (false, false) => (source, destination),
    };
    encoded(version, &ProxyHeader::with_address(ProxiedAddress::stream(source, destination)))
}

fn encoded(version: ProxyProtocolVersion, header: &ProxyHeader<'_>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let done = match version {
        ProxyProtocolVersion::V1 => header.encode_v1(&mut bytes),
        ProxyProtocolVersion::V2 => header.encode_v2(&mut bytes),
    };
    done.map(|()| bytes).map_err(|error| io::Error::other(error.to_string()))
}

/// IPv4 as IPv4, also where it came through a socket of IPv6.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// IPv4 as IPv6.
fn mapped(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) => SocketAddr::new(v4.ip().to_ipv6_mapped().into(), v4.port()),
        SocketAddr::V6(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(source: &str, destination: &str) -> Option<Ends> {
        Some(Ends { source: source.parse().unwrap(), destination: destination.parse().unwrap() })
    }

    #[test]
    fn what_is_written_is_read_as_it_was_meant() {
        for version in [ProxyProtocolVersion::V1, ProxyProtocolVersion::V2] {
            for (client, expected) in [
                (None, None),
                (ends("10.0.0.1:1", "10.0.0.2:2"), ends("10.0.0.1:1", "10.0.0.2:2")),
                (ends("[::1]:1", "[::2]:2"), ends("[::1]:1", "[::2]:2")),
                (ends("[::ffff:10.0.0.1]:1", "[::ffff:10.0.0.2]:2"), ends("10.0.0.1:1", "10.0.0.2:2")),
                (ends("10.0.0.1:1", "[::2]:2"), ends("[::ffff:10.0.0.1]:1", "[::2]:2")),
                (ends("[::1]:1", "10.0.0.2:2"), ends("[::1]:1", "[::ffff:10.0.0.2]:2")),
            ] {
                let written = header(version, client).unwrap();
                assert_eq!(parse_header(&written), HeaderProgress::Complete(written.len(), expected), "{version:?} {client:?}");
            }
        }
    }
}
