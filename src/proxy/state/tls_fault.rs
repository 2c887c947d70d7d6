//! Why a TLS handshake with a host failed, as far as the log tells.

use std::io;

use tokio_rustls::rustls;

/// Why a TLS handshake with a host failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsFault {
    /// The host's certificate does not come from whom is trusted, is not valid now, or is for somebody else.
    Certificate,
    /// The host has refused: it may ask for a client certificate.
    Refused,
    /// Anything else: it does not speak TLS, or no version that is spoken here, or it went away.
    Other,
}

// === impl TlsFault ===

impl TlsFault {
    /// Why this error.
    pub(in crate::proxy) fn of(error: &io::Error) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented) => Self::Certificate,
            Some(rustls::Error::AlertReceived(_)) => Self::Refused,
            Some(_) | None => Self::Other,
        }
    }

    /// In words, for the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Certificate => "upstream certificate refused",
            Self::Refused => "upstream refused the TLS handshake",
            Self::Other => "upstream TLS handshake failed",
        }
    }
}
