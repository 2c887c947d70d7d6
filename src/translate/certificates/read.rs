//! What is in a Secret: chain, private key, authorities of clients.

use std::sync::Arc;

use k8s_openapi::{
    ByteString,
    api::core::v1::{ConfigMap, Secret},
};
use rustls::{
    RootCertStore,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject},
    },
    sign::{CertifiedKey, SigningKey},
};

use crate::base::{
    ObjectName, crypto,
    x509::{PublicKeyKind, X509},
};
use crate::snapshot::{Certificate, Hostname};

use super::pem::{Section, sections};

/// Keys of a Secret of type `kubernetes.io/tls`.
pub(super) const CHAIN: &str = "tls.crt";
pub(super) const PRIVATE_KEY: &str = "tls.key";

/// The authorities, as Gateway API and Gloo name them.
pub(super) const AUTHORITIES: &str = "ca.crt";

/// Why an object names no authorities.
pub(super) const NO_AUTHORITIES: &str = "ca.crt is missing or empty; expected certificates of authorities in PEM";

/// Types of Secrets that may hold a certificate.
const TYPES: [&str; 2] = ["kubernetes.io/tls", "Opaque"];

/// Certificates of authorities.
pub(in crate::translate) type Authorities = Arc<[CertificateDer<'static>]>;

/// A certificate, and what is odd about it although it serves.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) certificate: Certificate,
    pub(super) oddities: Vec<String>,
}

/// Reads and checks certificate chain and private key.
///
/// # Errors
/// Field and expectation, and no part of the private key.
pub(super) fn certificate(name: &ObjectName, secret: &Secret) -> Result<Read, String> {
    let kind = secret.type_.as_deref().filter(|kind| !kind.is_empty()).unwrap_or("Opaque");
    if !TYPES.contains(&kind) {
        return Err("type: holds no certificate; expected kubernetes.io/tls".to_owned());
    }
    let ders = certificates(CHAIN, "a certificate chain", required(secret, CHAIN)?)?;
    let chain = parsed(CHAIN, &ders)?;
    let Some(leaf) = chain.first() else { return Err(format!("{CHAIN}: expected a certificate")) };
    let (key, keys) = private_key(required(secret, PRIVATE_KEY)?)?;
    let key = load(key, leaf)?;
    if let Some(mismatch) = mismatch(&*key, &chain, keys) {
        return Err(mismatch);
    }
    let mut oddities = broken_links(&chain);
    if keys > 1 {
        oddities.push(format!("{PRIVATE_KEY} holds {keys} private keys; the first is used"));
    }
    let certificate = Certificate {
        secret: name.clone(),
        names: leaf.dns_names().into_iter().map(Hostname::parse).collect(),
        fingerprint: ders.first().map(|first| crypto::sha256(first)).unwrap_or_default(),
        not_before: leaf.not_before,
        not_after: first_expiry(&chain),
        key: Arc::new(CertifiedKey::new(ders, key)),
    };
    Ok(Read { certificate, oddities })
}

/// Reads the authorities that clients' certificates must come from; `None` where the Secret names none. (Some issuers leave the key empty.)
///
/// # Errors
/// Field and expectation.
pub(super) fn authorities(secret: &Secret) -> Result<Option<Authorities>, String> {
    field(secret, AUTHORITIES).map(read_authorities).transpose()
}

/// Reads the authorities that a ConfigMap names.
///
/// # Errors
/// Field and expectation.
pub(super) fn authorities_of_map(map: &ConfigMap) -> Result<Authorities, String> {
    let text = map.data.as_ref().and_then(|data| data.get(AUTHORITIES)).map(String::as_bytes);
    let bytes = || map.binary_data.as_ref().and_then(|data| data.get(AUTHORITIES)).map(|ByteString(bytes)| bytes.as_slice());
    let text = text.or_else(bytes).filter(|text| !text.trim_ascii().is_empty());
    read_authorities(text.ok_or(NO_AUTHORITIES)?)
}

fn read_authorities(text: &[u8]) -> Result<Authorities, String> {
    let ders = certificates(AUTHORITIES, "certificates of authorities", text)?;
    parsed(AUTHORITIES, &ders)?;
    for (index, der) in ders.iter().enumerate() {
        let added = RootCertStore::empty().add(der.clone());
        added.map_err(|_| format!("{AUTHORITIES}: certificate {} is not that of an authority", index + 1))?;
    }
    Ok(ders.into())
}

fn field<'s>(secret: &'s Secret, key: &str) -> Option<&'s [u8]> {
    let value = secret.data.as_ref().and_then(|data| data.get(key)).map(|ByteString(bytes)| bytes.as_slice());
    value.filter(|bytes| !bytes.trim_ascii().is_empty())
}

fn required<'s>(secret: &'s Secret, key: &str) -> Result<&'s [u8], String> {
    field(secret, key).ok_or_else(|| format!("{key} is missing; expected {CHAIN} and {PRIVATE_KEY} in PEM"))
}

fn certificates(field: &str, expected: &str, text: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let problem = |why: &str| format!("{field}: expected {expected} in PEM: {why}");
    let found = sections(text).map_err(problem)?;
    if found.contains(&Section::OtherCertificate) {
        return Err(problem("a section has another label than CERTIFICATE"));
    }
    if !found.contains(&Section::Certificate) {
        return Err(problem("found no certificate"));
    }
    let mut ders = Vec::new();
    for der in CertificateDer::pem_slice_iter(text) {
        let der = der.map_err(|error| problem(&format!("certificate {}: {}", ders.len() + 1, why(&error))))?;
        ders.push(der);
    }
    Ok(ders)
}

fn parsed<'c>(field: &str, ders: &'c [CertificateDer<'static>]) -> Result<Vec<X509<'c>>, String> {
    let parse = |(index, der): (usize, &'c CertificateDer<'static>)| {
        X509::parse(der).map_err(|why| format!("{field}: certificate {} of {} is no X.509 certificate: {why}", index + 1, ders.len()))
    };
    ders.iter().enumerate().map(parse).collect()
}

/// The first private key, and how many there are.
fn private_key(text: &[u8]) -> Result<(PrivateKeyDer<'static>, usize), String> {
    let problem = |why: &str| format!("{PRIVATE_KEY}: expected a private key in PEM (PKCS#8, PKCS#1 or SEC1): {why}");
    let found = sections(text).map_err(problem)?;
    let keys = found.iter().filter(|section| **section == Section::PrivateKey).count();
    if keys == 0 {
        return Err(problem(if found.contains(&Section::EncryptedPrivateKey) {
            "it is encrypted, and there is no password to read it with; decrypt it first"
        } else if found.contains(&Section::Certificate) {
            "found a certificate"
        } else {
            "found none"
        }));
    }
    let key = PrivateKeyDer::from_pem_slice(text).map_err(|error| problem(why(&error)))?;
    Ok((key, keys))
}

/// The error without the text that it complains of.
fn why(error: &pem::Error) -> &'static str {
    match error {
        pem::Error::MissingSectionEnd { .. } => "a section has no end",
        pem::Error::IllegalSectionStart { .. } => "a section has no proper beginning",
        pem::Error::Base64Decode(_) => "a section is not base64",
        pem::Error::NoItemsFound => "found none",
        _ => "it cannot be read",
    }
}

fn load(key: PrivateKeyDer<'static>, leaf: &X509<'_>) -> Result<Arc<dyn SigningKey>, String> {
    const TAKEN: &str = "expected an RSA key of 2048 to 8192 bits, an ECDSA key (P-256, P-384, P-521) or an Ed25519 key";
    crypto::provider().key_provider.load_private_key(key).map_err(|_| match leaf.public_key_kind() {
        PublicKeyKind::Rsa(bits) if !(2048..=8192).contains(&bits) => {
            format!("{PRIVATE_KEY}: an RSA key of {bits} bits is not supported; {TAKEN}")
        }
        PublicKeyKind::EcdsaOther => format!("{PRIVATE_KEY}: an ECDSA key on the certificate's curve is not supported; {TAKEN}"),
        PublicKeyKind::Other => format!("{PRIVATE_KEY}: a key of the certificate's algorithm is not supported; {TAKEN}"),
        PublicKeyKind::Rsa(_) | PublicKeyKind::EcdsaP256 | PublicKeyKind::EcdsaP384 | PublicKeyKind::EcdsaP521 | PublicKeyKind::Ed25519 => {
            format!("{PRIVATE_KEY}: it is no private key, or of a kind that is not supported; {TAKEN}")
        }
    })
}

/// Why the key is not that of the first certificate, if so.
fn mismatch(key: &dyn SigningKey, chain: &[X509<'_>], keys: usize) -> Option<String> {
    let public = key.public_key()?;
    let place = chain.iter().position(|certificate| certificate.public_key_info == public.as_ref());
    match place {
        Some(0) => None,
        Some(place) => Some(format!(
            "{PRIVATE_KEY} is the private key of certificate {} in {CHAIN}, not of the first; expected the server's certificate first, then its \
             issuer's",
            place + 1
        )),
        None if keys > 1 => {
            Some(format!("the first of {keys} keys in {PRIVATE_KEY} is not the private key of the first certificate in {CHAIN}"))
        }
        None => Some(format!("{PRIVATE_KEY} is not the private key of the first certificate in {CHAIN}")),
    }
}

/// Where a certificate is not followed by that of its issuer. Many clients find their way all the same, others do not; Envoy serves such a
/// chain, too.
fn broken_links(chain: &[X509<'_>]) -> Vec<String> {
    let pairs = chain.iter().zip(chain.iter().skip(1)).enumerate();
    let broken = pairs.filter(|(_, (certificate, issuer))| !is_issued_by(certificate, issuer)).map(|(index, _)| {
        format!(
            "{CHAIN}: certificate {} did not issue certificate {}, so some clients will not trust the chain; expected each certificate to be \
             followed by its issuer's",
            index + 2,
            index + 1
        )
    });
    broken.collect()
}

fn is_issued_by(certificate: &X509<'_>, issuer: &X509<'_>) -> bool {
    if certificate.issuer != issuer.subject {
        return false;
    }
    let known = crypto::provider().signature_verification_algorithms.all.iter().filter(|algorithm| {
        algorithm.signature_alg_id().as_ref() == certificate.signature_algorithm
            && algorithm.public_key_alg_id().as_ref() == issuer.public_key_algorithm
    });
    let mut results =
        known.map(|algorithm| algorithm.verify_signature(issuer.public_key, certificate.signed, certificate.signature).is_ok());
    // By an algorithm that is not known, the name is all there is to see.
    results.next().is_none_or(|first| first || results.any(|result| result))
}

/// When the first certificate expires that clients look at: they have their own copy of the authority at the end of a chain.
fn first_expiry(chain: &[X509<'_>]) -> i64 {
    let Some((first, rest)) = chain.split_first() else { return i64::MAX };
    let others = rest.iter().filter(|certificate| !certificate.is_self_issued());
    others.map(|certificate| certificate.not_after).fold(first.not_after, i64::min)
}
