//! The TLS versions, suites and curves that a listener's options leave.

use std::sync::Arc;

use rustls::{CipherSuite, NamedGroup, SupportedProtocolVersion, crypto::CryptoProvider, version};

use super::ClientValidation;

/// What a listener's TLS is narrowed to; by default nothing beyond what the gateway offers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsSettings {
    /// Versions that are spoken.
    pub versions: TlsVersions,
    /// Cipher suites of TLS 1.2; those of TLS 1.3 are always offered, as in Envoy.
    pub cipher_suites: Option<Box<[CipherSuite]>>,
    /// Groups for the key exchange.
    pub groups: Option<Box<[NamedGroup]>>,
    /// What is inside.
    pub content: TlsContent,
    /// Which certificates clients must show.
    pub client_validation: Option<Arc<ClientValidation>>,
}

/// What a listener's TLS carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsContent {
    /// HTTP: ALPN offers HTTP/2 and HTTP/1.1.
    #[default]
    Http,
    /// Something that is not looked at: no protocol is agreed on by ALPN, as Envoy's listeners do without `alpn_protocols`.
    Opaque,
}

/// Versions of TLS that are spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsVersions {
    /// 1.2 and 1.3.
    #[default]
    Both,
    /// 1.2 only.
    Tls12,
    /// 1.3 only.
    Tls13,
}

// === impl TlsVersions ===

impl TlsVersions {
    /// As rustls has them.
    pub(super) fn supported(self) -> &'static [&'static SupportedProtocolVersion] {
        const BOTH: &[&SupportedProtocolVersion] = &[&version::TLS13, &version::TLS12];
        match self {
            Self::Both => BOTH,
            Self::Tls12 => BOTH.get(1..).unwrap_or_default(),
            Self::Tls13 => BOTH.get(..1).unwrap_or_default(),
        }
    }

    /// The names of the versions, the lowest first.
    pub fn names(self) -> &'static [&'static str] {
        match self {
            Self::Both => &["TLSv1.2", "TLSv1.3"],
            Self::Tls12 => &["TLSv1.2"],
            Self::Tls13 => &["TLSv1.3"],
        }
    }
}

// === impl TlsSettings ===

impl TlsSettings {
    /// What is left of what a provider offers.
    pub(super) fn narrow(&self, provider: &Arc<CryptoProvider>) -> Arc<CryptoProvider> {
        if self.cipher_suites.is_none() && self.groups.is_none() {
            return Arc::clone(provider);
        }
        let mut narrowed = CryptoProvider::clone(provider);
        if let Some(suites) = &self.cipher_suites {
            narrowed.cipher_suites.retain(|suite| suite.tls13().is_some() || suites.contains(&suite.suite()));
        }
        if let Some(groups) = &self.groups {
            narrowed.kx_groups.retain(|group| groups.contains(&group.name()));
        }
        Arc::new(narrowed)
    }
}
