//! The one cryptographic library of the process, as TLS and fingerprints use it.

use std::{
    fmt::Write as _,
    sync::{Arc, LazyLock},
};

use aws_lc_rs::digest;
use rustls::{
    RootCertStore,
    crypto::{CryptoProvider, aws_lc_rs as library},
};

pub use library::Ticketer;

/// What rustls offers and takes where nothing narrows it. Of the groups that a client has sent a share for, its first one is taken:
/// X25519MLKEM768 for today's browsers.
pub fn provider() -> &'static Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| Arc::new(library::default_provider()));
    &PROVIDER
}

/// The authorities that the system trusts, read when they are first asked for; an image may have none.
pub fn system_authorities() -> &'static Arc<RootCertStore> {
    static ROOTS: LazyLock<Arc<RootCertStore>> = LazyLock::new(|| {
        let mut roots = RootCertStore::empty();
        // Of a system's many roots some are of no use to anybody.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        Arc::new(roots)
    });
    &ROOTS
}

/// SHA-256, lower-case hexadecimal.
pub fn sha256(bytes: &[u8]) -> Box<str> {
    let mut text = String::with_capacity(64);
    for byte in digest::digest(&digest::SHA256, bytes).as_ref() {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text.into()
}

/// What a server answers to the key of a WebSocket handshake (`Sec-WebSocket-Accept`, RFC 6455 section 4.2.2).
pub fn websocket_accept(key: &[u8]) -> Box<str> {
    const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    let mut sha1 = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    sha1.update(key.trim_ascii());
    sha1.update(GUID);
    base64(sha1.finish().as_ref()).into()
}

/// Base 64 with padding (RFC 4648 section 4).
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let bits = three.iter().chain([0, 0].iter()).take(3).fold(0_usize, |bits, byte| bits << 8 | usize::from(*byte));
        for place in 0..4 {
            let letter = LETTERS.get(bits >> (18 - 6 * place) & 63).filter(|_| place <= three.len());
            text.push(letter.map_or('=', |letter| char::from(*letter)));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_websocket_key_is_answered_as_the_rfc_says() {
        assert_eq!(&*websocket_accept(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn base64_pads() {
        for (bytes, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }
}
