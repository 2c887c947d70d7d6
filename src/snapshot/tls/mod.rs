//! TLS termination: which certificate a handshake gets, what is spoken, and which clients are let in. TLS to hosts.

mod certificate;
mod client_validation;
mod host;
mod settings;

use std::{
    borrow::Cow,
    fmt,
    sync::{Arc, OnceLock},
};

use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, UnixTime},
    server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier, danger::ClientCertVerifier},
    sign::CertifiedKey,
};

use crate::base::crypto;

use super::{HostMap, HostMapBuilder, Hostname};

pub use certificate::Certificate;
pub use client_validation::{ClientValidation, ClientValidationMode};
pub use host::{HostIdentity, HostTls, Trust, UpstreamTls};
pub use settings::{TlsContent, TlsSettings, TlsVersions};

/// Protocols offered by ALPN, the preferred one first (RFC 7301's registry).
const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// How one HTTPS listener terminates TLS.
pub struct TlsListener {
    /// Name of the listener.
    pub name: Arc<str>,
    /// In the order of its certificateRefs. Empty where none can be used: handshakes for the listener's hostname are refused, and no other
    /// listener answers in its place.
    pub certificates: Arc<[Arc<Certificate>]>,
    /// What its TLS is narrowed to.
    pub settings: TlsSettings,
    /// Built by the first handshake: its ticket keys are random, which what builds snapshots must not be.
    handshakes: OnceLock<Result<Handshakes, rustls::Error>>,
}

/// What handshakes of a listener need.
struct Handshakes {
    config: Arc<ServerConfig>,
    verifier: Arc<dyn ClientCertVerifier>,
}

/// What one port of a Gateway needs to terminate TLS. Established connections do not look at it.
pub struct TlsTermination(HostMap<TlsListener>);

/// The certificates of a listener, as rustls asks for them.
#[derive(Debug)]
struct Choice(Arc<[Arc<Certificate>]>);

/// A server name as hostnames are matched with it.
pub fn lower_case(server_name: &str) -> Cow<'_, str> {
    match server_name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        true => Cow::Owned(server_name.to_ascii_lowercase()),
        false => Cow::Borrowed(server_name),
    }
}

// === impl TlsTermination ===

impl Default for TlsTermination {
    /// Nothing is terminated.
    fn default() -> Self {
        Self::new([])
    }
}

impl TlsTermination {
    /// Termination for these listeners of one port.
    pub fn new(listeners: impl IntoIterator<Item = (Hostname, Arc<TlsListener>)>) -> Self {
        let mut map = HostMapBuilder::new();
        for (hostname, listener) in listeners {
            map.insert(hostname, listener);
        }
        Self(map.build())
    }

    /// The listener that a server name (lower case; absent: the client sent none) belongs to.
    pub fn listener(&self, server_name: Option<&str>) -> Option<&Arc<TlsListener>> {
        // The empty name belongs to the listener without hostname, if there is one.
        self.0.get(server_name.unwrap_or_default())
    }

    /// All listeners by hostname.
    pub fn listeners(&self) -> impl Iterator<Item = (&Hostname, &Arc<TlsListener>)> {
        self.0.iter()
    }
}

impl PartialEq for TlsTermination {
    fn eq(&self, other: &Self) -> bool {
        self.listeners().eq(other.listeners())
    }
}

impl Eq for TlsTermination {}

impl fmt::Debug for TlsTermination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.listeners()).finish()
    }
}

// === impl TlsListener ===

impl TlsListener {
    /// A listener that no client has come to yet.
    pub fn new(name: impl Into<Arc<str>>, certificates: impl Into<Arc<[Arc<Certificate>]>>, settings: TlsSettings) -> Self {
        Self { name: name.into(), certificates: certificates.into(), settings, handshakes: OnceLock::new() }
    }

    /// What rustls needs for a handshake: TLS 1.2 and 1.3 with the cipher suites of Mozilla's intermediate profile, or less where the settings
    /// say so; ALPN h2 and http/1.1; stateless session tickets whose keys no other listener shares. (With shared keys, a ticket of one listener
    /// would let another one answer in its name without its certificate, and let in whom the other one has not verified.)
    ///
    /// # Errors
    /// Something of the settings cannot be used.
    pub fn config(&self) -> Result<Arc<ServerConfig>, rustls::Error> {
        self.handshakes().map(|handshakes| Arc::clone(&handshakes.config))
    }

    /// Whether whom a ticket lets in would be let in anew: meanwhile the certificate that the client showed then may have expired.
    pub fn readmits(&self, shown: Option<&[CertificateDer<'_>]>) -> bool {
        let Ok(Handshakes { verifier, .. }) = self.handshakes() else { return false };
        match shown.and_then(|chain| chain.split_first()) {
            Some((certificate, intermediates)) => verifier.verify_client_cert(certificate, intermediates, UnixTime::now()).is_ok(),
            None => !(verifier.offer_client_auth() && verifier.client_auth_mandatory()),
        }
    }

    fn handshakes(&self) -> Result<&Handshakes, rustls::Error> {
        self.handshakes.get_or_init(|| self.prepare()).as_ref().map_err(Clone::clone)
    }

    fn prepare(&self) -> Result<Handshakes, rustls::Error> {
        let provider = self.settings.narrow(crypto::provider());
        let verifier = match &self.settings.client_validation {
            Some(validation) => validation.verifier(&provider)?,
            None => WebPkiClientVerifier::no_client_auth(),
        };
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(self.settings.versions.supported())?
            .with_client_cert_verifier(Arc::clone(&verifier))
            .with_cert_resolver(Arc::new(Choice(Arc::clone(&self.certificates))));
        config.alpn_protocols = match self.settings.content {
            TlsContent::Http => ALPN.map(<[u8]>::to_vec).into(),
            TlsContent::Opaque => Vec::new(),
        };
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = crypto::Ticketer::new()?;
        Ok(Handshakes { config: Arc::new(config), verifier })
    }
}

impl PartialEq for TlsListener {
    fn eq(&self, other: &Self) -> bool {
        (&self.name, &self.certificates, &self.settings) == (&other.name, &other.certificates, &other.settings)
    }
}

impl Eq for TlsListener {}

impl fmt::Debug for TlsListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, certificates, settings) = (&self.name, &self.certificates, &self.settings);
        f.debug_struct("TlsListener").field("name", name).field("certificates", certificates).field("settings", settings).finish()
    }
}

// === impl Choice ===

impl ResolvesServerCert for Choice {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().map(lower_case);
        let certificate = certificate::choose(&self.0, name.as_deref(), hello.signature_schemes())?;
        Some(Arc::clone(&certificate.key))
    }
}

#[cfg(test)]
mod tests;
