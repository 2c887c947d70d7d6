//! The PROXY protocol, versions 1 and 2 (HAProxy's `doc/proxy-protocol.txt`): before a connection's first byte a proxy says who the client is.

use std::{io, net::SocketAddr};

use proxy_header::{Error as HeaderError, ParseConfig, Protocol, ProxiedAddress, ProxyHeader};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{snapshot::ProxyProtocolVersion, telemetry::ProxyProtocolResult};

/// Most bytes of a header, with what a load balancer adds to the addresses.
const MOST: usize = 4096;

/// What one look at the socket may find.
const LOOK: usize = 256;

/// How a header of version 1 begins.
const VERSION_1: &[u8] = b"PROXY ";

/// How a header of version 2 begins.
const VERSION_2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// The ends of a client's connection, to the first proxy that takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ends {
    /// The client's address.
    pub(super) source: SocketAddr,
    /// The address that it connected to.
    pub(super) destination: SocketAddr,
}

/// What the bytes so far amount to.
#[derive(Debug, PartialEq, Eq)]
enum Progress {
    /// The beginning of a header.
    Incomplete,
    /// A header of so many bytes. `None`: the connection is the load balancer's own, or of a kind without addresses.
    Complete(usize, Option<Ends>),
    /// No header.
    Malformed,
}

/// Reads a header, and not one byte more. `None`: it names no client.
///
/// # Errors
/// Why there is no header.
pub(super) async fn read(client: &mut TcpStream) -> Result<Option<Ends>, ProxyProtocolResult> {
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
        let progress = parse(&seen);
        let taken = match progress {
            // It is taken off the socket, which otherwise would stay readable: what is to come is waited for.
            Progress::Incomplete => length,
            Progress::Complete(whole, _) => whole.saturating_sub(before).min(length),
            Progress::Malformed => return Err(ProxyProtocolResult::Malformed),
        };
        client.read_exact(look.get_mut(..taken).unwrap_or_default()).await.map_err(closed)?;
        if let Progress::Complete(_, ends) = progress {
            return Ok(ends);
        }
    }
}

fn parse(seen: &[u8]) -> Progress {
    let begins = |start: &[u8]| seen.iter().zip(start).all(|(byte, expected)| byte == expected);
    if !begins(VERSION_1) && !begins(VERSION_2) {
        return Progress::Malformed;
    }
    match ProxyHeader::parse(seen, ParseConfig { include_tlvs: false, ..ParseConfig::default() }) {
        // The crate says the same of a whole header of version 2 that is too short for its addresses.
        Err(HeaderError::BufferTooShort) if seen.len() < MOST && !is_whole_version_2(seen) => Progress::Incomplete,
        Err(_) => Progress::Malformed,
        Ok((_, length)) if length > MOST => Progress::Malformed,
        Ok((header, length)) => match header.proxied_address() {
            Some(address) if address.protocol != Protocol::Stream => Progress::Malformed,
            address => {
                let ends = address.map(|address| Ends { source: address.source, destination: address.destination });
                Progress::Complete(length, ends)
            }
        },
    }
}

/// Whether as many bytes are there as a header of version 2 says that it has.
fn is_whole_version_2(seen: &[u8]) -> bool {
    let length = seen.get(14..16).and_then(|length| length.try_into().ok()).map(u16::from_be_bytes);
    seen.starts_with(VERSION_2) && length.is_some_and(|length| seen.len() >= 16 + usize::from(length))
}

/// Tells a host who the client is; `None`: the connection is the gateway's own.
///
/// # Errors
/// The host's connection is broken.
pub(super) async fn write(host: &mut TcpStream, version: ProxyProtocolVersion, client: Option<Ends>) -> io::Result<()> {
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

    fn version_2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [VERSION_2, &[0x20 | command, family], &length, rest].concat()
    }

    fn ends(source: &str, destination: &str) -> Option<Ends> {
        Some(Ends { source: source.parse().unwrap(), destination: destination.parse().unwrap() })
    }

    const IPV4: [u8; 12] = [10, 0, 0, 1, 10, 0, 0, 2, 0x30, 0x39, 0x01, 0xbb];

    #[test]
    fn headers_of_both_versions_are_read_and_what_follows_is_left() {
        let ipv6 = [&[0; 15][..], &[1], &[0; 15], &[2], &[0x30, 0x39, 0x01, 0xbb]].concat();
        let with_more = [&IPV4[..], &[0x04, 0, 3, 1, 2, 3]].concat();
        for (header, expected) in [
            (b"PROXY TCP4 10.0.0.1 10.0.0.2 12345 443\r\n".to_vec(), ends("10.0.0.1:12345", "10.0.0.2:443")),
            (b"PROXY TCP6 ::1 ::2 12345 443\r\n".to_vec(), ends("[::1]:12345", "[::2]:443")),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (b"PROXY UNKNOWN whatever it says\r\n".to_vec(), None),
            (version_2(1, 0x11, &IPV4), ends("10.0.0.1:12345", "10.0.0.2:443")),
            (version_2(1, 0x11, &with_more), ends("10.0.0.1:12345", "10.0.0.2:443")),
            (version_2(1, 0x21, &ipv6), ends("[::1]:12345", "[::2]:443")),
            (version_2(0, 0x00, &[]), None),
            (version_2(0, 0x11, &IPV4), None),
        ] {
            for end in 0..header.len() {
                assert_eq!(parse(&header[..end]), Progress::Incomplete, "{end} bytes of {header:?}");
            }
            let length = header.len();
            let followed = [&header[..], b"GET / HTTP/1.1\r\n\r\n"].concat();
            assert_eq!(parse(&followed), Progress::Complete(length, expected), "{header:?}");
        }
    }

    #[test]
    fn what_is_no_header_is_known_by_its_first_wrong_byte() {
        for wrong in [
            &b"G"[..],
            b"PROXX",
            b"\r\n\r\nX",
            b"\x16\x03\x01",
            b"PROXY TCP4 10.0.0.1 10.0.0.2 12345 443 and more\r\n",
            b"PROXY TCP4 10.0.0.1 10.0.0.2 12345 70000\r\n",
            b"PROXY TCP4 ::1 ::2 1 2\r\n",
            b"PROXY UDP4 10.0.0.1 10.0.0.2 1 2\r\n",
            b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\rX",
        ] {
            assert_eq!(parse(wrong), Progress::Malformed, "{}", wrong.escape_ascii());
        }
        assert_eq!(parse(&[b"PROXY UNKNOWN ".as_slice(), &[b'x'; 200]].concat()), Progress::Malformed, "longer than 107 bytes");
        assert_eq!(parse(&version_2(1, 0x12, &IPV4)), Progress::Malformed, "a datagram");
        assert_eq!(parse(&version_2(1, 0x11, &IPV4[..4])), Progress::Malformed, "too short for its addresses");
        let huge = version_2(1, 0x11, &[&IPV4[..], &[0; 5000]].concat());
        assert_eq!((parse(&huge[..MOST]), parse(&huge)), (Progress::Malformed, Progress::Malformed));
        let mut other = version_2(1, 0x11, &IPV4);
        other[12] = 0x31;
        assert_eq!(parse(&other), Progress::Malformed, "version 3");
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
                assert_eq!(parse(&written), Progress::Complete(written.len(), expected), "{version:?} {client:?}");
            }
        }
    }
}
