//! From parts of a request to 64 bits, byte for byte as Envoy does it.
//!
//! Request data is always hashed with XXH64; MurmurHash2 serves for the points of a ring only.

use std::fmt::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use smallvec::SmallVec;

/// XXH64.
#[must_use]
pub fn xxh64(bytes: &[u8], seed: u64) -> u64 {
    xxhash_rust::xxh64::xxh64(bytes, seed)
}

const MURMUR_MULTIPLIER: u64 = 0xc6a4_a793_5bd1_e995;
const MURMUR_SEED: u64 = 0xc70f_6907;

/// Envoy's `MURMUR_HASH_2`: what libstdc++ calls `_Hash_bytes` on 64 bits, with the seed of `std::hash`.
///
/// It differs from MurmurHash64A in the tail: bytes that do not fill a word are not multiplied and shifted before they are
/// mixed in.
#[must_use]
pub fn murmur_hash_2(bytes: &[u8]) -> u64 {
    let shift_mix = |value: u64| value ^ (value >> 47);
    let (words, tail) = bytes.as_chunks::<8>();
    let mut hash = MURMUR_SEED ^ (bytes.len() as u64).wrapping_mul(MURMUR_MULTIPLIER);
    for word in words {
        let data = shift_mix(u64::from_le_bytes(*word).wrapping_mul(MURMUR_MULTIPLIER));
        hash ^= data.wrapping_mul(MURMUR_MULTIPLIER);
        hash = hash.wrapping_mul(MURMUR_MULTIPLIER);
    }
    if !tail.is_empty() {
        let data = tail.iter().rev().fold(0, |data, byte| (data << 8) | u64::from(*byte));
        hash = (hash ^ data).wrapping_mul(MURMUR_MULTIPLIER);
    }
    shift_mix(shift_mix(hash).wrapping_mul(MURMUR_MULTIPLIER))
}

/// Combines the hashes of a route's policies, in order.
///
/// Whether to stop after a `terminal` policy is for the caller, who asks [`value`](Self::value): Envoy stops when any
/// hash exists by then, not only one of that policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HashAccumulator(Option<u64>);

impl HashAccumulator {
    /// Takes in the hash of one more policy.
    pub fn add(&mut self, new: u64) {
        self.0 = Some(match self.0 {
            None => new,
            Some(old) => old.rotate_left(1) ^ new,
        });
    }

    /// The hash so far, if any policy gave one.
    #[must_use]
    pub fn value(&self) -> Option<u64> {
        self.0
    }
}

/// The hash of a header's values, one per line: blanks around them are trimmed, they are sorted by their bytes, and each
/// hash is the seed of the next. `None` without any value; one empty value has a hash.
pub fn header_values_hash(values: &mut SmallVec<[&[u8]; 4]>) -> Option<u64> {
    if values.is_empty() {
        return None;
    }
    for value in values.iter_mut() {
        *value = trim_ows(value);
    }
    values.sort_unstable();
    Some(values.iter().fold(0, |seed, value| xxh64(value, seed)))
}

/// Without optional whitespace (RFC 9110 section 5.6.3) at both ends.
fn trim_ows(value: &[u8]) -> &[u8] {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let Some(first) = value.iter().position(|byte| !blank(byte)) else {
        return &[];
    };
    let last = value.iter().rposition(|byte| !blank(byte)).unwrap_or(first);
    value.get(first..=last).unwrap_or_default()
}

/// The hash of a client's address: of its text, without port and brackets. A v4-mapped address stays `::ffff:1.2.3.4`.
#[must_use]
pub fn source_ip_hash(ip: IpAddr) -> u64 {
    xxh64(IpText::new(ip).as_str().as_bytes(), 0)
}

/// The value of a cookie that the gateway sets: 16 lower-case hexadecimal digits, from both ends of the TCP connection.
///
/// What is hashed is the text of `remote` and `local`, `ip:port` each, with nothing between them. A v4-mapped address
/// comes from a dual-stack socket and counts as plain IPv4.
#[must_use]
pub fn generated_cookie_value(remote: SocketAddr, local: SocketAddr) -> [u8; 16] {
    let mut text = Text::<{ 2 * SOCKET_TEXT }>::default();
    for end in [remote, local] {
        let ip = IpText::new(end.ip().to_canonical());
        if ip.is_v6 {
            text.push(b"[");
        }
        text.push(ip.text.as_bytes());
        text.push(if ip.is_v6 { b"]:" } else { b":" });
        text.push_number(end.port());
    }
    hex(xxh64(text.as_bytes(), 0))
}

fn hex(value: u64) -> [u8; 16] {
    let mut digits = [0; 16];
    for (place, digit) in digits.iter_mut().rev().enumerate() {
        let nibble = (value >> (4 * place)) as u8 & 0xf;
        *digit = if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 };
    }
    digits
}

/// The longest text of an IPv6 address: `0000:0000:0000:0000:0000:ffff:255.255.255.255`.
const IP_TEXT: usize = 45;
/// The longest text of an address with brackets, a colon and a port.
const SOCKET_TEXT: usize = IP_TEXT + 8;

/// Text of at most `N` bytes on the stack.
struct Text<const N: usize> {
    bytes: [u8; N],
    length: usize,
}

impl<const N: usize> Default for Text<N> {
    fn default() -> Self {
        Self { bytes: [0; N], length: 0 }
    }
}

impl<const N: usize> Text<N> {
    fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    /// What does not fit is left out; `N` is chosen so that everything does.
    fn push(&mut self, bytes: &[u8]) {
        let end = self.length + bytes.len();
        if let Some(room) = self.bytes.get_mut(self.length..end) {
            room.copy_from_slice(bytes);
            self.length = end;
        }
    }

    fn push_number(&mut self, number: u16) {
        self.push(itoa::Buffer::new().format(number).as_bytes());
    }

    fn push_v4(&mut self, ip: Ipv4Addr) {
        let [first, rest @ ..] = ip.octets();
        self.push_number(first.into());
        for octet in rest {
            self.push(b".");
            self.push_number(octet.into());
        }
    }
}

impl<const N: usize> fmt::Write for Text<N> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push(text.as_bytes());
        Ok(())
    }
}

/// An IP address as `inet_ntop` of glibc writes it, which is what Envoy hashes.
///
/// Rust's own text differs for one kind: addresses of `::/96` beyond `::ffff`, which glibc ends in dotted form.
pub(super) struct IpText {
    text: Text<IP_TEXT>,
    is_v6: bool,
}

impl IpText {
    pub(super) fn new(ip: IpAddr) -> Self {
        let mut text = Text::default();
        match ip {
            IpAddr::V4(v4) => text.push_v4(v4),
            IpAddr::V6(v6) => match embedded_v4(v6) {
                Some(v4) => {
                    text.push(b"::");
                    text.push_v4(v4);
                }
                None => {
                    // Never fails: see `push`.
                    let _ = write!(text, "{v6}");
                }
            },
        }
        Self { text, is_v6: ip.is_ipv6() }
    }

    pub(super) fn as_str(&self) -> &str {
        std::str::from_utf8(self.text.as_bytes()).unwrap_or_default()
    }
}

/// The IPv4 address that glibc shows at the end of an address of `::/96`; the mapped ones are written alike by both.
fn embedded_v4(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    match ip.segments() {
        [0, 0, 0, 0, 0, 0, high, _] if high != 0 => ip.to_ipv4(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xxh64_known_answers() {
        assert_eq!(xxh64(b"", 0), 0xef46_db37_51d8_e999);
        assert_eq!(xxh64(b"user-1", 0), 0xa173_746b_114c_6be8);
    }

    #[test]
    fn murmur_depends_on_every_byte_of_the_tail() {
        // The points themselves are held against Envoy by `tests/vectors/ring-murmur-5.json`.
        let whole = b"10.0.43.175:8080_1023";
        for length in 1..whole.len() {
            let mut changed = whole[..length].to_vec();
            changed[length - 1] ^= 1;
            assert_ne!(murmur_hash_2(&whole[..length]), murmur_hash_2(&changed), "length {length}");
        }
    }

    #[test]
    fn accumulation_rotates_the_old_hash() {
        let mut hash = HashAccumulator::default();
        assert_eq!(hash.value(), None);
        hash.add(0x8000_0000_0000_0001);
        assert_eq!(hash.value(), Some(0x8000_0000_0000_0001));
        hash.add(0x10);
        assert_eq!(hash.value(), Some(0x13));
    }

    #[test]
    fn header_values_are_trimmed_sorted_and_chained() {
        let hash = |lines: &[&'static str]| header_values_hash(&mut lines.iter().map(|line| line.as_bytes()).collect());
        assert_eq!(hash(&[]), None);
        assert_eq!(hash(&[""]), Some(xxh64(b"", 0)));
        assert_eq!(hash(&[" \t "]), Some(xxh64(b"", 0)));
        assert_eq!(hash(&["\ta b "]), Some(xxh64(b"a b", 0)));
        assert_eq!(hash(&["a,b"]), Some(xxh64(b"a,b", 0)));
        let chained = xxh64(b"b", xxh64(b"a", 0));
        assert_eq!(hash(&["b", " a"]), Some(chained));
        assert_eq!(hash(&["a", "b"]), Some(chained));
        assert_ne!(hash(&["ab"]), Some(chained));
        assert_eq!(hash(&["\u{ff}", "a"]), Some(xxh64("\u{ff}".as_bytes(), xxh64(b"a", 0))));
    }

    #[test]
    fn addresses_are_written_as_glibc_does() {
        for (address, text) in [
            ("1.2.3.4", "1.2.3.4"),
            ("2001:DB8:0::9", "2001:db8::9"),
            ("::ffff:1.2.3.4", "::ffff:1.2.3.4"),
            ("2001:0:0:0:0:DA2D:0:0000", "2001::da2d:0:0"),
            ("1:0:0:2:0:0:3:4", "1::2:0:0:3:4"),
            ("1:0:2:3:4:5:6:7", "1:0:2:3:4:5:6:7"),
            ("::", "::"),
            ("::1", "::1"),
            ("::5:6", "::0.5.0.6"),
            ("::1:5:6", "::1:5:6"),
        ] {
            let ip: IpAddr = address.parse().unwrap();
            assert_eq!(IpText::new(ip).as_str(), text);
            assert_eq!(source_ip_hash(ip), xxh64(text.as_bytes(), 0));
        }
    }

    #[test]
    fn the_longest_addresses_fit() {
        let longest: SocketAddr = "[1111:2222:3333:4444:5555:6666:7777:8888]:65535".parse().unwrap();
        let expected = xxh64(longest.to_string().repeat(2).as_bytes(), 0);
        assert_eq!(generated_cookie_value(longest, longest), hex(expected));
    }

    #[test]
    fn generated_cookies_hash_both_ends() {
        let value = |remote: &str, local: &str| {
            String::from_utf8(generated_cookie_value(remote.parse().unwrap(), local.parse().unwrap()).into()).unwrap()
        };
        // Recorded from Envoy.
        let recorded = "e3dad8e7e75024c3";
        assert_eq!(value("127.148.36.179:55301", "127.0.0.1:28480"), recorded);
        assert_eq!(value("[::ffff:127.148.36.179]:55301", "[::ffff:127.0.0.1]:28480"), recorded);
        assert_ne!(value("127.148.36.179:55302", "127.0.0.1:28480"), recorded);
        let v6 = format!("{:016x}", xxh64(b"[::1]:50412[::1]:8080", 0));
        assert_eq!(value("[::1]:50412", "[::1]:8080"), v6);
    }
}
