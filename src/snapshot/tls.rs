//! TLS termination: which certificate a handshake gets.

use std::{
    borrow::Cow,
    fmt,
    sync::{Arc, OnceLock},
};

use rustls::{
    ServerConfig, SignatureScheme,
    crypto::ring::{Ticketer, default_provider},
    server::{ClientHello, NoServerSessionStorage, ResolvesServerCert},
    sign::CertifiedKey,
};

use crate::base::ObjectName;

use super::{HostMap, HostMapBuilder, Hostname};

/// Protocols offered by ALPN, the preferred one first (RFC 7301's registry).
const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// A certificate with its private key.
#[derive(Clone)]
pub struct Certificate {
    /// The Secret that it was read from.
    pub secret: ObjectName,
    /// The DNS names that it is for.
    pub names: Box<[Hostname]>,
    /// SHA-256 of the certificate itself, lower-case hexadecimal.
    pub fingerprint: Box<str>,
    /// Chain and private key as rustls uses them.
    pub key: Arc<CertifiedKey>,
}

/// The certificates of one HTTPS listener, in the order of its certificateRefs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerCertificates {
    /// Name of the listener.
    pub name: Arc<str>,
    /// Empty where none can be used: handshakes for the listener's hostname are refused, and no other listener answers in its place.
    pub certificates: Box<[Arc<Certificate>]>,
}

/// What one port of a Gateway needs to terminate TLS. Established connections do not look at it.
pub struct TlsTermination {
    listeners: Arc<Listeners>,
    /// Built by the first handshake: its ticket keys are random, which what builds snapshots must not be.
    config: OnceLock<Result<Arc<ServerConfig>, rustls::Error>>,
}

/// Certificates by the hostname of their listener, as rustls asks for them.
#[derive(Debug)]
struct Listeners(HostMap<ListenerCertificates>);

// === impl TlsTermination ===

impl TlsTermination {
    /// Termination for these listeners of one port.
    pub fn new(listeners: impl IntoIterator<Item = (Hostname, ListenerCertificates)>) -> Self {
        let mut map = HostMapBuilder::new();
        for (hostname, listener) in listeners {
            map.insert(hostname, Arc::new(listener));
        }
        Self { listeners: Arc::new(Listeners(map.build())), config: OnceLock::new() }
    }

    /// The certificates of the listener that a server name (lower case; absent: the client sent none) belongs to.
    pub fn listener(&self, server_name: Option<&str>) -> Option<&ListenerCertificates> {
        self.listeners.find(server_name)
    }

    /// All listeners by hostname.
    pub fn listeners(&self) -> impl Iterator<Item = (&Hostname, &ListenerCertificates)> {
        self.listeners.0.iter().map(|(hostname, listener)| (hostname, &**listener))
    }

    /// What rustls needs for a handshake: TLS 1.2 and 1.3 with the cipher suites of Mozilla's intermediate profile, ALPN h2 and http/1.1,
    /// stateless session tickets whose keys no other port or Gateway shares. (With shared keys, a ticket from one Gateway would let another
    /// one answer in its name without its certificate.)
    ///
    /// # Errors
    /// The cryptographic provider is unusable.
    pub fn config(&self) -> Result<Arc<ServerConfig>, rustls::Error> {
        self.config.get_or_init(|| server_config(Arc::clone(&self.listeners)).map(Arc::new)).clone()
    }
}

fn server_config(resolver: Arc<Listeners>) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(resolver);
    config.alpn_protocols = ALPN.map(<[u8]>::to_vec).into();
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = Ticketer::new()?;
    Ok(config)
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

// === impl Listeners ===

impl Listeners {
    fn find(&self, server_name: Option<&str>) -> Option<&ListenerCertificates> {
        // The empty name belongs to the listener without hostname, if there is one.
        self.0.get(server_name.unwrap_or_default()).map(|listener| &**listener)
    }
}

impl ResolvesServerCert for Listeners {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().map(lower_case);
        let certificate = self.find(name.as_deref())?.choose(name.as_deref(), hello.signature_schemes())?;
        Some(Arc::clone(&certificate.key))
    }
}

/// A server name as hostnames are matched with it.
pub fn lower_case(server_name: &str) -> Cow<'_, str> {
    match server_name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        true => Cow::Owned(server_name.to_ascii_lowercase()),
        false => Cow::Borrowed(server_name),
    }
}

// === impl ListenerCertificates ===

impl ListenerCertificates {
    /// The certificate for a server name: the first that names it and that the client can verify, else the first it can verify.
    fn choose(&self, server_name: Option<&str>, schemes: &[SignatureScheme]) -> Option<&Arc<Certificate>> {
        let usable = || self.certificates.iter().filter(|certificate| certificate.key.key.choose_scheme(schemes).is_some());
        let named = server_name.and_then(|name| usable().find(|certificate| certificate.is_for(name)));
        named.or_else(|| usable().next())
    }
}

// === impl Certificate ===

impl Certificate {
    /// Whether a client that asks for this name (lower case) will accept the certificate: a wildcard stands for exactly one label (RFC 9525).
    pub fn is_for(&self, server_name: &str) -> bool {
        self.names.iter().any(|name| match name {
            Hostname::Exact(name) => **name == *server_name,
            Hostname::Wildcard(suffix) => server_name.split_once('.').is_some_and(|(label, rest)| !label.is_empty() && *rest == **suffix),
            Hostname::Any => false,
        })
    }
}

impl PartialEq for Certificate {
    /// The chain says which private key there is.
    fn eq(&self, other: &Self) -> bool {
        self.secret == other.secret && self.key.cert == other.key.cert
    }
}

impl Eq for Certificate {}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificate({} {})", self.secret, self.fingerprint)
    }
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

    use super::*;

    fn certificate(pem: &str, key: &str, names: &[&str]) -> Arc<Certificate> {
        let chain = CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<Vec<_>, _>>().unwrap();
        let key = CertifiedKey::from_der(chain, PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(), &default_provider()).unwrap();
        Arc::new(Certificate {
            secret: ObjectName::new("ns", names.join("-")),
            names: names.iter().map(|name| Hostname::parse(name)).collect(),
            fingerprint: names.join("-").into(),
            key: Arc::new(key),
        })
    }

    macro_rules! pem {
        ($name:literal, $names:expr) => {
            certificate(
                include_str!(concat!("../../tests/certificates/", $name, ".crt")),
                include_str!(concat!("../../tests/certificates/", $name, ".key")),
                $names,
            )
        };
    }

    fn chosen(listener: &ListenerCertificates, name: Option<&str>, schemes: &[SignatureScheme]) -> Option<String> {
        listener.choose(name, schemes).map(|certificate| certificate.fingerprint.to_string())
    }

    #[test]
    fn the_certificate_fits_the_name_and_what_the_client_can_verify() {
        const ECDSA: SignatureScheme = SignatureScheme::ECDSA_NISTP256_SHA256;
        const RSA: SignatureScheme = SignatureScheme::RSA_PSS_SHA256;
        let certificates = [pem!("b", &["b.example"]), pem!("a-rsa", &["a.example"]), pem!("wild", &["*.wild.example"])];
        let listener = ListenerCertificates { name: "https".into(), certificates: certificates.into() };
        for (name, schemes, expected) in [
            (Some("b.example"), &[ECDSA, RSA][..], Some("b.example")),
            (Some("a.example"), &[ECDSA, RSA], Some("a.example")),
            (Some("x.wild.example"), &[RSA, ECDSA], Some("*.wild.example")),
            (Some("x.y.wild.example"), &[ECDSA, RSA], Some("b.example")),
            (Some("wild.example"), &[ECDSA, RSA], Some("b.example")),
            (None, &[ECDSA, RSA], Some("b.example")),
            (Some("a.example"), &[ECDSA], Some("b.example")),
            (Some("b.example"), &[RSA], Some("a.example")),
            (Some("b.example"), &[SignatureScheme::ED25519], None),
        ] {
            assert_eq!(chosen(&listener, name, schemes).as_deref(), expected, "{name:?} {schemes:?}");
        }
    }

    #[test]
    fn a_server_name_belongs_to_the_most_specific_listener_even_without_certificate() {
        let listener = |name: &str, certificates: Vec<_>| ListenerCertificates { name: name.into(), certificates: certificates.into() };
        let termination = TlsTermination::new([
            (Hostname::Any, listener("any", vec![pem!("all", &["a.example"])])),
            (Hostname::parse("*.example"), listener("wild", vec![pem!("b", &["b.example"])])),
            (Hostname::parse("a.example"), listener("a", vec![])),
        ]);
        let name = |server_name: Option<&str>| termination.listener(server_name).map(|listener| &*listener.name);
        assert_eq!((name(None), name(Some("other"))), (Some("any"), Some("any")));
        assert_eq!((name(Some("b.example")), name(Some("a.example"))), (Some("wild"), Some("a")));
        assert!(termination.listener(Some("a.example")).unwrap().certificates.is_empty());
        let only = TlsTermination::new([(Hostname::parse("a.example"), listener("a", vec![]))]);
        assert_eq!((only.listener(None), only.listener(Some("b.example"))), (None, None));
    }

    #[test]
    fn the_configuration_is_built_once_and_offers_http_2_first() {
        let termination = TlsTermination::new([]);
        let config = termination.config().unwrap();
        assert_eq!(config.alpn_protocols, [b"h2".to_vec(), b"http/1.1".to_vec()]);
        assert!(config.ticketer.enabled() && config.max_early_data_size == 0);
        assert!(Arc::ptr_eq(&config, &termination.config().unwrap()));
    }

    #[test]
    fn nothing_secret_is_shown() {
        let certificate = pem!("a", &["a.example"]);
        assert_eq!(format!("{certificate:?}"), "Certificate(ns/a.example a.example)");
    }
}
