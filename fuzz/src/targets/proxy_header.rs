//! A header of the PROXY protocol: the bytes that come decide once, in whatever pieces; its addresses are those of a strict second reading.

use std::net::{IpAddr, SocketAddr};

use clingfish::proxy::opening::{Ends, HeaderProgress, MAX_HEADER, parse_header};

/// How a header of version 2 begins.
const VERSION_2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Bytes beyond the largest header that are of use.
const MORE: usize = 64;

/// The first byte tells whether a signature is put before the others, and how far they are filled up.
pub fn run(data: &[u8]) {
    let Some((kind, rest)) = data.split_first() else { return };
    let signature = [&b""[..], b"PROXY ", VERSION_2][usize::from(kind % 3)];
    let mut bytes = [signature, rest].concat();
    if kind & 128 > 0 {
        bytes.resize(MAX_HEADER + MORE, kind & 64);
    }
    bytes.truncate(MAX_HEADER + MORE);
    let mut decided = HeaderProgress::Incomplete;
    for end in 0..=bytes.len() {
        let now = parse_header(&bytes[..end]);
        if decided == HeaderProgress::Incomplete {
            decided = now;
        } else {
            assert_eq!(now, decided, "{end} bytes say something else than fewer did");
        }
        match now {
            HeaderProgress::Incomplete => assert!(end < MAX_HEADER, "{end} bytes, and more are waited for"),
            HeaderProgress::Complete(length, ends) => check(&bytes[..end], length, ends),
            HeaderProgress::Malformed => {}
        }
    }
}

fn check(seen: &[u8], length: usize, ends: Option<Ends>) {
    assert!((1..=seen.len().min(MAX_HEADER)).contains(&length), "{length} of {} bytes", seen.len());
    let header = &seen[..length];
    let expected = if header.starts_with(VERSION_2) { binary(header) } else { text(header) };
    let found = ends.map(|ends| (ends.source, ends.destination));
    assert_eq!(Some(found), expected, "{}", header.escape_ascii());
}

/// Source and destination, where a header has them.
type Pair = Option<(SocketAddr, SocketAddr)>;

/// Section 2.1: a line.
fn text(header: &[u8]) -> Option<Pair> {
    let line = header.strip_prefix(b"PROXY ")?.strip_suffix(b"\r\n")?;
    // What follows the word is anything.
    if line == b"UNKNOWN" || line.starts_with(b"UNKNOWN ") {
        return (!line.contains(&b'\r')).then_some(None);
    }
    let line = std::str::from_utf8(line).ok()?;
    let [family, source, destination, from, to] = line.split(' ').collect::<Vec<_>>().try_into().ok()?;
    let end = |address: &str, port: &str| {
        let address: IpAddr = address.parse().ok()?;
        let fits = family == if address.is_ipv4() { "TCP4" } else { "TCP6" };
        (fits && port.bytes().all(|byte| byte.is_ascii_digit())).then_some(SocketAddr::new(address, port.parse().ok()?))
    };
    Some(Some((end(source, from)?, end(destination, to)?)))
}

/// Section 2.2: a signature, version and command, family and transport, a length, addresses.
fn binary(header: &[u8]) -> Option<Pair> {
    let [command, family, high, low, body @ ..] = header.strip_prefix(VERSION_2)? else { return None };
    if usize::from(u16::from_be_bytes([*high, *low])) != body.len() {
        return None;
    }
    match (command, family) {
        (0x20, _) | (0x21, 0x00) => Some(None),
        (0x21, 0x11) => {
            let (source, rest) = body.split_first_chunk::<4>()?;
            let (destination, rest) = rest.split_first_chunk::<4>()?;
            addresses(IpAddr::from(*source), IpAddr::from(*destination), rest)
        }
        (0x21, 0x21) => {
            let (source, rest) = body.split_first_chunk::<16>()?;
            let (destination, rest) = rest.split_first_chunk::<16>()?;
            addresses(IpAddr::from(*source), IpAddr::from(*destination), rest)
        }
        // Sockets of a file system have no address of use.
        (0x21, 0x31) => Some(None),
        _ => None,
    }
}

fn addresses(source: IpAddr, destination: IpAddr, ports: &[u8]) -> Option<Pair> {
    let [a, b, c, d, ..] = *ports else { return None };
    let ports = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    Some(Some((SocketAddr::new(source, ports.0), SocketAddr::new(destination, ports.1))))
}
