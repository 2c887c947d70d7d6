//! Headers of the PROXY protocol, versions 1 and 2 (HAProxy's `doc/proxy-protocol.txt`): before a connection's first byte a load balancer says
//! who the client is.

use std::net::SocketAddr;

use proxy_header::{Error as HeaderError, ParseConfig, Protocol, ProxyHeader};

/// Most bytes of a header, with what a load balancer adds to the addresses.
pub const MAX_HEADER: usize = 4096;

/// How a header of version 1 begins.
const VERSION_1: &[u8] = b"PROXY ";

/// What follows in version 1 where no address is known.
const UNKNOWN: &[u8] = b"UNKNOWN";

/// Most bytes of a header of version 1 (section 2.1).
const MAX_LINE: usize = 107;

/// How a header of version 2 begins.
const VERSION_2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// How version 2 says that what follows is of a datagram between sockets of a file system.
const UNIX_DATAGRAM: [u8; 2] = [0x21, 0x32];

/// The ends of a client's connection, to the first proxy that takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// The client's address.
    pub source: SocketAddr,
    /// The address that it connected to.
    pub destination: SocketAddr,
}

/// What the bytes so far amount to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderProgress {
    /// The beginning of a header.
    Incomplete,
    /// A header of so many bytes. `None`: the connection is the load balancer's own, or of a kind without addresses.
    Complete(usize, Option<Ends>),
    /// No header.
    Malformed,
}

/// Looks at the bytes that a connection began with; what follows a header is not looked at.
pub fn parse_header(seen: &[u8]) -> HeaderProgress {
    let begins = |start: &[u8]| seen.iter().zip(start).all(|(byte, expected)| byte == expected);
    if !begins(VERSION_1) && !begins(VERSION_2) {
        return HeaderProgress::Malformed;
    }
    // The crate would take a longer line if all of it came at once, and not if it came in pieces.
    let seen = if seen.starts_with(VERSION_1) { seen.get(..MAX_LINE).unwrap_or(seen) } else { seen };
    if !is_strict(seen) {
        return HeaderProgress::Malformed;
    }
    match ProxyHeader::parse(seen, ParseConfig { include_tlvs: false, ..ParseConfig::default() }) {
        // The crate says the same of a whole header of version 2 that is too short for its addresses.
        Err(HeaderError::BufferTooShort) if seen.len() < MAX_HEADER && !is_whole_version_2(seen) => HeaderProgress::Incomplete,
        Err(_) => HeaderProgress::Malformed,
        Ok((_, length)) if length > MAX_HEADER => HeaderProgress::Malformed,
        Ok((header, length)) => match header.proxied_address() {
            Some(address) if address.protocol != Protocol::Stream => HeaderProgress::Malformed,
            address => {
                let ends = address.map(|address| Ends { source: address.source, destination: address.destination });
                HeaderProgress::Complete(length, ends)
            }
        },
    }
}

/// Whether a header has none of what the crate takes and others do not. Version 1: a word that only begins as `UNKNOWN`, a port with a sign;
/// version 2: datagrams of a file system's sockets.
fn is_strict(seen: &[u8]) -> bool {
    let Some(line) = seen.strip_prefix(VERSION_1) else { return seen.get(12..14) != Some(&UNIX_DATAGRAM) };
    match line.strip_prefix(UNKNOWN) {
        Some(rest) => rest.first().is_none_or(|next| matches!(next, b' ' | b'\r')),
        None => !line.split(|byte| *byte == b'\r').next().unwrap_or_default().contains(&b'+'),
    }
}

/// Whether as many bytes are there as a header of version 2 says that it has.
fn is_whole_version_2(seen: &[u8]) -> bool {
    let length = seen.get(14..16).and_then(|length| length.try_into().ok()).map(u16::from_be_bytes);
    seen.starts_with(VERSION_2) && length.is_some_and(|length| seen.len() >= 16 + usize::from(length))
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
                assert_eq!(parse_header(&header[..end]), HeaderProgress::Incomplete, "{end} bytes of {header:?}");
            }
            let length = header.len();
            let followed = [&header[..], b"GET / HTTP/1.1\r\n\r\n"].concat();
            assert_eq!(parse_header(&followed), HeaderProgress::Complete(length, expected), "{header:?}");
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
            b"PROXY TCP4 10.0.0.1 10.0.0.2 +1 2\r\n",
            b"PROXY UNKNOWNX\r\n",
        ] {
            assert_eq!(parse_header(wrong), HeaderProgress::Malformed, "{}", wrong.escape_ascii());
        }
        assert_eq!(
            parse_header(&[b"PROXY UNKNOWN ".as_slice(), &[b'x'; 200]].concat()),
            HeaderProgress::Malformed,
            "longer than 107 bytes"
        );
        let long = [b"PROXY UNKNOWN ".as_slice(), &[b'x'; 200], b"\r\n"].concat();
        assert_eq!(parse_header(&long), HeaderProgress::Malformed, "longer than 107 bytes, and all there");
        assert_eq!(parse_header(&version_2(1, 0x12, &IPV4)), HeaderProgress::Malformed, "a datagram");
        assert_eq!(parse_header(&version_2(1, 0x32, &[0; 216])), HeaderProgress::Malformed, "a datagram of a file system's sockets");
        assert_eq!(parse_header(&version_2(1, 0x11, &IPV4[..4])), HeaderProgress::Malformed, "too short for its addresses");
        let huge = version_2(1, 0x11, &[&IPV4[..], &[0; 5000]].concat());
        assert_eq!((parse_header(&huge[..MAX_HEADER]), parse_header(&huge)), (HeaderProgress::Malformed, HeaderProgress::Malformed));
        let mut other = version_2(1, 0x11, &IPV4);
        other[12] = 0x31;
        assert_eq!(parse_header(&other), HeaderProgress::Malformed, "version 3");
    }
}
