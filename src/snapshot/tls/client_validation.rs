//! Clients' certificates: who must show one, and which one is good.
//!
//! Gloo's `ca.crt` asks for it by listener; Gateway API's `spec.tls.frontend` asks by port, which is the same for each listener of the port.

use std::{net::IpAddr, sync::Arc};

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, UnixTime},
    server::{
        WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};

use crate::base::x509::{AlternativeName, X509};

/// Which certificates clients must show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientValidation {
    /// Certificates of the authorities that clients' certificates must come from.
    pub authorities: Box<[CertificateDer<'static>]>,
    /// Who is let in.
    pub mode: ClientValidationMode,
    /// A certificate must have one of these alternative names, of whatever type; empty: any will do.
    pub subject_alt_names: Box<[Box<str>]>,
}

/// Who is let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientValidationMode {
    /// Only who shows a valid certificate (Gateway API's `AllowValidOnly`, Envoy's `require_client_certificate`).
    AllowValidOnly,
    /// Who shows a valid certificate or none (Gloo's `one-way-tls`).
    AllowValidOrNone,
    /// Anybody; the client is asked all the same (Gateway API's `AllowInsecureFallback`).
    AllowInsecureFallback,
}

/// What rustls asks about a client's certificate.
#[derive(Debug)]
struct Verifier {
    webpki: Arc<dyn ClientCertVerifier>,
    validation: Arc<ClientValidation>,
}

// === impl ClientValidationMode ===

impl ClientValidationMode {
    /// The name as it is shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AllowValidOnly => "AllowValidOnly",
            Self::AllowValidOrNone => "AllowValidOrNone",
            Self::AllowInsecureFallback => "AllowInsecureFallback",
        }
    }
}

// === impl ClientValidation ===

impl ClientValidation {
    /// What rustls asks in a handshake.
    ///
    /// # Errors
    /// There is no authority, or one cannot be used.
    pub fn verifier(self: &Arc<Self>, provider: &Arc<CryptoProvider>) -> Result<Arc<dyn ClientCertVerifier>, Error> {
        let mut roots = RootCertStore::empty();
        for authority in &self.authorities {
            roots.add(authority.clone())?;
        }
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
        let webpki = builder.build().map_err(|error| Error::General(error.to_string()))?;
        Ok(Arc::new(Verifier { webpki, validation: Arc::clone(self) }))
    }

    fn is_named(&self, certificate: &CertificateDer<'_>) -> bool {
        if self.subject_alt_names.is_empty() {
            return true;
        }
        let Ok(certificate) = X509::parse(certificate) else { return false };
        certificate.alternative_names.iter().any(|name| self.subject_alt_names.iter().any(|wanted| is_same(name, wanted)))
    }
}

fn is_same(name: &AlternativeName<'_>, wanted: &str) -> bool {
    match name {
        AlternativeName::Dns(name) => name.eq_ignore_ascii_case(wanted),
        AlternativeName::Uri(name) | AlternativeName::Email(name) => *name == wanted,
        AlternativeName::Ip(name) => wanted.parse::<IpAddr>().is_ok_and(|wanted| *name == wanted),
    }
}

// === impl Verifier ===

impl ClientCertVerifier for Verifier {
    fn client_auth_mandatory(&self) -> bool {
        self.validation.mode == ClientValidationMode::AllowValidOnly
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.webpki.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if self.validation.mode == ClientValidationMode::AllowInsecureFallback {
            return Ok(ClientCertVerified::assertion());
        }
        self.webpki.verify_client_cert(certificate, intermediates, now)?;
        if self.validation.is_named(certificate) {
            Ok(ClientCertVerified::assertion())
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.webpki.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.webpki.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.webpki.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::pem::PemObject;

    use super::*;
    use crate::base::crypto;

    macro_rules! der {
        ($name:literal) => {
            CertificateDer::from_pem_slice(include_bytes!(concat!("../../../tests/certificates/", $name, ".crt"))).unwrap()
        };
    }

    fn accepts(mode: ClientValidationMode, names: &[&str], certificate: &CertificateDer<'_>) -> bool {
        let names = names.iter().map(|name| Box::from(*name)).collect();
        let validation = Arc::new(ClientValidation { authorities: [der!("clients")].into(), mode, subject_alt_names: names });
        let verifier = validation.verifier(crypto::provider()).unwrap();
        verifier.verify_client_cert(certificate, &[], UnixTime::now()).is_ok()
    }

    #[test]
    fn only_certificates_of_the_authorities_that_are_valid_now_are_good() {
        use ClientValidationMode::*;
        let all = [der!("client"), der!("other-client"), der!("expired-client"), der!("a"), CertificateDer::from_slice(b"?")];
        for mode in [AllowValidOnly, AllowValidOrNone] {
            assert_eq!(all.each_ref().map(|certificate| accepts(mode, &[], certificate)), [true, false, false, false, false]);
        }
        assert_eq!(all.each_ref().map(|certificate| accepts(AllowInsecureFallback, &["x"], certificate)), [true; 5]);
    }

    #[test]
    fn a_name_of_any_type_will_do_if_it_is_the_same() {
        let certificate = der!("client");
        for (names, good) in [
            (&["client.example"][..], true),
            (&["Client.Example"], true),
            (&["spiffe://example/client"], true),
            (&["spiffe://example/CLIENT"], false),
            (&["client@client.example"], true),
            (&["192.0.2.7"], true),
            (&["192.0.2.8"], false),
            (&["x", "y", "client.example"], true),
            (&["example"], false),
            (&["client"], false),
            (&[""], false),
        ] {
            assert_eq!(accepts(ClientValidationMode::AllowValidOnly, names, &certificate), good, "{names:?}");
        }
    }

    #[test]
    fn without_authority_nobody_could_come_in() {
        let mode = ClientValidationMode::AllowValidOnly;
        let validation = Arc::new(ClientValidation { authorities: [].into(), mode, subject_alt_names: [].into() });
        assert!(validation.verifier(crypto::provider()).is_err());
    }
}
