//! TLS to hosts: the name that is asked for, by what a host's certificate is verified, and what the gateway shows of itself.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        ResolvesClientCert, Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor, verify_server_name,
    },
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ParsedCertificate,
    sign::CertifiedKey,
};

use crate::base::{
    crypto,
    x509::{AlternativeName, X509},
};

use super::Certificate;

/// How many ways to shake hands are kept for one cluster: one for each client certificate that Gateways show, and for each protocol.
const KEPT: usize = 16;

/// Sessions that are kept to be resumed with the hosts of a cluster.
const SESSIONS: usize = 32;

/// How the hosts of a cluster are spoken to in TLS.
pub struct UpstreamTls {
    /// The name that is asked for (SNI); a host's certificate must have it where `subject_alt_names` is empty.
    pub server_name: ServerName<'static>,
    /// A host's certificate must have one of these names.
    pub subject_alt_names: Box<[HostIdentity]>,
    /// Whom a host's certificate must come from.
    pub trust: Trust,
    /// Built by the first handshakes.
    configs: Mutex<Vec<Prepared>>,
}

/// A name that a host's certificate has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostIdentity {
    /// A DNS name, lower case. One that begins with `*.` stands for itself and for the names below it.
    Dns(Box<str>),
    /// A URI, such as a SPIFFE id; compared as it is.
    Uri(Box<str>),
}

/// Whom the certificates of hosts must come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// These authorities.
    Authorities(Box<[CertificateDer<'static>]>),
    /// Those that the system trusts.
    System,
}

/// How TLS is spoken to a host: what its cluster asks of it, and what the Gateway shows that the request came through.
#[derive(Clone, Debug)]
pub struct HostTls {
    /// What is asked of the host.
    pub tls: Arc<UpstreamTls>,
    /// The client certificate; `None`: none is shown.
    pub identity: Option<Arc<Certificate>>,
}

/// A way to shake hands.
struct Prepared {
    identity: Option<Arc<Certificate>>,
    alpn: Option<&'static str>,
    config: Arc<ClientConfig>,
}

/// What rustls asks about a host's certificate.
#[derive(Debug)]
struct Verifier {
    roots: Arc<RootCertStore>,
    subject_alt_names: Box<[HostIdentity]>,
    provider: Arc<CryptoProvider>,
}

/// The client certificate of a Gateway, as rustls asks for it.
#[derive(Debug)]
struct Shown(Arc<CertifiedKey>);

// === impl UpstreamTls ===

impl UpstreamTls {
    /// TLS that nobody has spoken yet.
    pub fn new(server_name: ServerName<'static>, subject_alt_names: impl Into<Box<[HostIdentity]>>, trust: Trust) -> Self {
        Self { server_name, subject_alt_names: subject_alt_names.into(), trust, configs: Mutex::default() }
    }

    /// What rustls needs for a handshake: TLS 1.2 and 1.3. `alpn`: the one protocol that is asked for, by its name in ALPN.
    ///
    /// # Errors
    /// There is no authority, or one cannot be used.
    pub fn config(&self, identity: Option<&Arc<Certificate>>, alpn: Option<&'static str>) -> Result<Arc<ClientConfig>, Error> {
        // Held for a moment, and for connections only: requests on open connections do not come here.
        let mut configs = self.configs.lock().unwrap_or_else(PoisonError::into_inner);
        let is_asked = |known: &&Prepared| known.alpn == alpn && is_same(known.identity.as_ref(), identity);
        if let Some(known) = configs.iter().find(is_asked) {
            return Ok(Arc::clone(&known.config));
        }
        let config = Arc::new(self.prepare(identity, alpn)?);
        if configs.len() >= KEPT {
            configs.remove(0);
        }
        configs.push(Prepared { identity: identity.cloned(), alpn, config: Arc::clone(&config) });
        Ok(config)
    }

    fn prepare(&self, identity: Option<&Arc<Certificate>>, alpn: Option<&'static str>) -> Result<ClientConfig, Error> {
        let provider = Arc::clone(crypto::provider());
        let verifier =
            Verifier { roots: self.trust.roots()?, subject_alt_names: self.subject_alt_names.clone(), provider: Arc::clone(&provider) };
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match identity {
            Some(identity) => builder.with_client_cert_resolver(Arc::new(Shown(Arc::clone(&identity.key)))),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = alpn.into_iter().map(|name| name.as_bytes().to_vec()).collect();
        config.resumption = Resumption::in_memory_sessions(SESSIONS);
        Ok(config)
    }
}

impl PartialEq for UpstreamTls {
    fn eq(&self, other: &Self) -> bool {
        (&self.server_name, &self.subject_alt_names, &self.trust) == (&other.server_name, &other.subject_alt_names, &other.trust)
    }
}

impl Eq for UpstreamTls {}

impl fmt::Debug for UpstreamTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, names, trust) = (&self.server_name, &self.subject_alt_names, &self.trust);
        f.debug_struct("UpstreamTls").field("server_name", name).field("subject_alt_names", names).field("trust", trust).finish()
    }
}

// === impl Trust ===

impl Trust {
    fn roots(&self) -> Result<Arc<RootCertStore>, Error> {
        let roots = match self {
            Self::System => Arc::clone(crypto::system_authorities()),
            Self::Authorities(authorities) => {
                let mut roots = RootCertStore::empty();
                for authority in authorities {
                    roots.add(authority.clone())?;
                }
                Arc::new(roots)
            }
        };
        if roots.is_empty() { Err(Error::General("there is no authority that could be trusted".to_owned())) } else { Ok(roots) }
    }
}

// === impl HostTls ===

impl HostTls {
    /// Whether a connection that was made with one of them may carry what is sent with the other.
    pub fn is_same(one: Option<&Self>, other: Option<&Self>) -> bool {
        match (one, other) {
            (None, None) => true,
            (Some(one), Some(other)) => Arc::ptr_eq(&one.tls, &other.tls) && is_same(one.identity.as_ref(), other.identity.as_ref()),
            (Some(_), None) | (None, Some(_)) => false,
        }
    }

    /// What rustls needs for a handshake, as in `UpstreamTls::config`.
    ///
    /// # Errors
    /// There is no authority, or one cannot be used.
    pub fn config(&self, alpn: Option<&'static str>) -> Result<Arc<ClientConfig>, Error> {
        self.tls.config(self.identity.as_ref(), alpn)
    }
}

fn is_same(one: Option<&Arc<Certificate>>, other: Option<&Arc<Certificate>>) -> bool {
    match (one, other) {
        (None, None) => true,
        (Some(one), Some(other)) => Arc::ptr_eq(one, other),
        (Some(_), None) | (None, Some(_)) => false,
    }
}

// === impl HostIdentity ===

impl HostIdentity {
    /// Whether one of the names of a certificate is meant.
    fn is_in(&self, certificate: &X509<'_>, parsed: &ParsedCertificate<'_>) -> bool {
        match self {
            Self::Uri(wanted) => {
                certificate.alternative_names.iter().any(|name| matches!(name, AlternativeName::Uri(uri) if **wanted == **uri))
            }
            Self::Dns(wanted) => match wanted.strip_prefix('*').filter(|suffix| suffix.starts_with('.')) {
                Some(suffix) => certificate.alternative_names.iter().any(|name| match name {
                    AlternativeName::Dns(name) => name.len() > suffix.len() && name.to_ascii_lowercase().ends_with(suffix),
                    AlternativeName::Uri(_) | AlternativeName::Email(_) | AlternativeName::Ip(_) => false,
                }),
                None => ServerName::try_from(&**wanted).is_ok_and(|wanted| verify_server_name(parsed, &wanted).is_ok()),
            },
        }
    }
}

// === impl Verifier ===

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let parsed = ParsedCertificate::try_from(certificate)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&parsed, &self.roots, intermediates, now, algorithms)?;
        if self.subject_alt_names.is_empty() {
            verify_server_name(&parsed, server_name)?;
            return Ok(ServerCertVerified::assertion());
        }
        let named = X509::parse(certificate).map_err(|_| Error::from(CertificateError::BadEncoding))?;
        if self.subject_alt_names.iter().any(|wanted| wanted.is_in(&named, &parsed)) {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(CertificateError::NotValidForName.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

// === impl Shown ===

impl ResolvesClientCert for Shown {
    fn resolve(&self, _root_hint_subjects: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        // Shown whatever authorities the host names: it says itself whether it takes the certificate, as with Envoy.
        self.0.key.choose_scheme(schemes).map(|_| Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::pem::PemObject;

    use super::*;
    use crate::base::ObjectName;

    macro_rules! der {
        ($name:literal) => {
            CertificateDer::from_pem_slice(include_bytes!(concat!("../../../tests/certificates/", $name, ".crt"))).unwrap()
        };
    }

    fn names(names: &[HostIdentity], server_name: &str) -> bool {
        let roots = Trust::Authorities([der!("hosts")].into()).roots().unwrap();
        let verifier = Verifier { roots, subject_alt_names: names.into(), provider: Arc::clone(crypto::provider()) };
        let name = ServerName::try_from(server_name).unwrap();
        verifier.verify_server_cert(&der!("host"), &[], &name, &[], UnixTime::now()).is_ok()
    }

    #[test]
    fn a_host_must_have_the_name_or_one_of_the_alternative_names() {
        let dns = |name: &str| HostIdentity::Dns(name.into());
        let uri = |name: &str| HostIdentity::Uri(name.into());
        for (alternatives, server_name, good) in [
            (vec![], "host.example", true),
            (vec![], "a.wild.example", true),
            (vec![], "a.b.wild.example", false),
            (vec![], "other.example", false),
            (vec![dns("host.example")], "other.example", true),
            (vec![dns("other.example")], "host.example", false),
            (vec![dns("x.wild.example")], "other.example", true),
            (vec![dns("*.wild.example")], "other.example", true),
            (vec![dns("*.example")], "other.example", true),
            (vec![dns("*.host.example")], "other.example", false),
            (vec![dns("*")], "other.example", false),
            (vec![dns("")], "host.example", false),
            (vec![uri("spiffe://example/host")], "other.example", true),
            (vec![uri("spiffe://example/HOST")], "host.example", false),
            (vec![uri("spiffe://example/")], "host.example", false),
            (vec![uri("x"), dns("host.example")], "other.example", true),
        ] {
            assert_eq!(names(&alternatives, server_name), good, "{alternatives:?} {server_name}");
        }
    }

    fn identity(name: &str) -> Arc<Certificate> {
        let key = rustls::pki_types::PrivateKeyDer::from_pem_slice(include_bytes!("../../../tests/certificates/host.key")).unwrap();
        Arc::new(Certificate {
            secret: ObjectName::new("n", name),
            names: Box::default(),
            fingerprint: name.into(),
            not_before: 0,
            not_after: 0,
            key: Arc::new(CertifiedKey::from_der(vec![der!("host")], key, crypto::provider()).unwrap()),
        })
    }

    #[test]
    fn a_way_to_shake_hands_is_kept_for_each_identity_and_protocol() {
        let trust = Trust::Authorities([der!("hosts")].into());
        let tls = Arc::new(UpstreamTls::new(ServerName::try_from("host.example").unwrap(), [], trust));
        let (one, other) = (identity("one"), identity("other"));
        let config = |identity: Option<&Arc<Certificate>>, alpn| tls.config(identity, alpn).unwrap();
        assert!(Arc::ptr_eq(&config(None, Some("h2")), &config(None, Some("h2"))));
        assert!(!Arc::ptr_eq(&config(None, Some("h2")), &config(None, Some("http/1.1"))));
        assert!(Arc::ptr_eq(&config(Some(&one), None), &config(Some(&one), None)));
        assert!(!Arc::ptr_eq(&config(Some(&one), None), &config(Some(&other), None)));
        assert!(
            !config(None, None).client_auth_cert_resolver.has_certs() && config(Some(&one), None).client_auth_cert_resolver.has_certs()
        );
        for _ in 0..2 * KEPT {
            config(Some(&identity("more")), None);
        }
        assert_eq!(tls.configs.lock().unwrap().len(), KEPT);

        let of = |identity: Option<&Arc<Certificate>>| HostTls { tls: Arc::clone(&tls), identity: identity.cloned() };
        let (plain, shown, shown_by_another) = (of(None), of(Some(&one)), of(Some(&other)));
        assert!(HostTls::is_same(None, None) && HostTls::is_same(Some(&shown), Some(&of(Some(&one)))));
        for (one, other) in [(None, Some(&plain)), (Some(&plain), Some(&shown)), (Some(&shown), Some(&shown_by_another))] {
            assert!(!HostTls::is_same(one, other) && !HostTls::is_same(other, one));
        }
        let without = UpstreamTls::new(ServerName::try_from("host.example").unwrap(), [], Trust::Authorities(Box::default()));
        assert!(without.config(None, None).is_err());
    }
}
