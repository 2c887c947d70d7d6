//! The one cryptographic library of the process, as TLS and fingerprints use it.

use std::{
    fmt::Write as _,
    sync::{Arc, LazyLock},
};

use aws_lc_rs::digest;
use rustls::crypto::{CryptoProvider, aws_lc_rs as library};

pub use library::Ticketer;

/// What rustls offers and takes where nothing narrows it. Of the groups that a client has sent a share for, its first one is taken:
/// X25519MLKEM768 for today's browsers.
pub fn provider() -> &'static Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| Arc::new(library::default_provider()));
    &PROVIDER
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
