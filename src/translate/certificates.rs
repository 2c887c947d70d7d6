//! Secrets as certificates, with the last good one of each.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    sync::Arc,
};

use k8s_openapi::{ByteString, api::core::v1::Secret};
use ring::digest;
use rustls::{
    crypto::ring::default_provider,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject},
    },
    sign::CertifiedKey,
};

use crate::base::{Kind, ObjectName, ObjectRef};
use crate::snapshot::{Certificate, Hostname};

use super::Resources;

/// Keys of a Secret of type `kubernetes.io/tls`.
const CHAIN: &str = "tls.crt";
const PRIVATE_KEY: &str = "tls.key";

/// Types of Secrets that may hold a certificate.
const TYPES: [&str; 2] = ["kubernetes.io/tls", "Opaque"];

/// The Secrets that listeners refer to. What one translation finds usable, the next may fall back to.
#[derive(Debug, Default)]
pub(super) struct Certificates {
    known: BTreeMap<ObjectName, Known>,
    wanted: BTreeSet<ObjectName>,
}

/// One Secret.
#[derive(Debug, Default)]
struct Known {
    /// What `problem` and `good` were found out from.
    source: Option<Arc<Secret>>,
    good: Option<Arc<Certificate>>,
    problem: Option<String>,
}

/// What became of a reference to a Secret.
#[derive(Clone, Debug, Default)]
pub(super) struct Found {
    /// What serves: the certificate of the Secret, or the last one of it that was usable.
    pub(super) certificate: Option<Arc<Certificate>>,
    /// Why the Secret as it is now cannot be used.
    pub(super) problem: Option<String>,
}

// === impl Certificates ===

impl Certificates {
    /// The Secrets that were asked for between `begin` and `end`.
    pub(super) fn wanted(&self) -> &BTreeSet<ObjectName> {
        &self.wanted
    }

    /// Forgets what is wanted, not what is known.
    pub(super) fn begin(&mut self) {
        self.wanted.clear();
    }

    /// Forgets what nobody asked for since `begin`.
    pub(super) fn end(&mut self) {
        let wanted = &self.wanted;
        self.known.retain(|name, _| wanted.contains(name));
    }

    /// The certificate in a Secret.
    pub(super) fn find(&mut self, name: &ObjectName, resources: &Resources) -> Found {
        self.wanted.insert(name.clone());
        let known = self.known.entry(name.clone()).or_default();
        match resources.secret(name) {
            Some(secret) => known.look_at(name, secret),
            None => *known = Known { source: None, good: known.good.take(), problem: Some(format!("Secret {name} does not exist")) },
        }
        let undecodable = resources.refused(&ObjectRef { kind: Kind::Secret, name: name.clone() });
        let problem = undecodable.map(|refused| format!("Secret {name}: {}", refused.message)).or_else(|| known.problem.clone());
        Found { certificate: known.good.clone(), problem }
    }
}

// === impl Known ===

impl Known {
    fn look_at(&mut self, name: &ObjectName, secret: &Arc<Secret>) {
        if self.source.as_ref().is_some_and(|source| Arc::ptr_eq(source, secret) || is_same(source, secret)) {
            return;
        }
        self.source = Some(Arc::clone(secret));
        match read(name, secret) {
            Ok(certificate) => {
                self.problem = None;
                if self.good.as_deref() != Some(&certificate) {
                    self.good = Some(Arc::new(certificate));
                }
            }
            Err(problem) => self.problem = Some(format!("Secret {name}: {problem}")),
        }
    }
}

/// Secrets are read again and again: what matters is whether they say something else.
fn is_same(one: &Secret, other: &Secret) -> bool {
    one.type_ == other.type_ && one.data == other.data
}

/// Reads and checks certificate chain and private key.
///
/// # Errors
/// Field and expectation; nothing of the private key.
fn read(name: &ObjectName, secret: &Secret) -> Result<Certificate, String> {
    let kind = secret.type_.as_deref().filter(|kind| !kind.is_empty()).unwrap_or("Opaque");
    if !TYPES.contains(&kind) {
        return Err("type: holds no certificate; expected kubernetes.io/tls".to_owned());
    }
    let chain = chain(field(secret, CHAIN)?)?;
    let key = PrivateKeyDer::from_pem_slice(field(secret, PRIVATE_KEY)?)
        .map_err(|error| format!("{PRIVATE_KEY}: expected a private key in PEM (PKCS#8, PKCS#1 or SEC1): {}", why(&error)))?;
    let (names, fingerprint) = identity(&chain)?;
    let key = CertifiedKey::from_der(chain, key, &default_provider()).map_err(|error| mismatch(&error))?;
    Ok(Certificate { secret: name.clone(), names, fingerprint, key: Arc::new(key) })
}

fn field<'s>(secret: &'s Secret, key: &str) -> Result<&'s [u8], String> {
    let value = secret.data.as_ref().and_then(|data| data.get(key)).map(|ByteString(bytes)| bytes.as_slice());
    value.filter(|bytes| !bytes.is_empty()).ok_or_else(|| format!("{key} is missing; expected {CHAIN} and {PRIVATE_KEY} in PEM"))
}

fn chain(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain = CertificateDer::pem_slice_iter(text).collect::<Result<Vec<_>, _>>();
    match chain {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        Ok(_) => Err(format!("{CHAIN}: expected a certificate chain in PEM, found no certificate")),
        Err(error) => Err(format!("{CHAIN}: expected a certificate chain in PEM: {}", why(&error))),
    }
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

/// The names and the fingerprint of the certificate at the head of the chain.
fn identity(chain: &[CertificateDer<'static>]) -> Result<(Box<[Hostname]>, Box<str>), String> {
    let first = chain.first().ok_or_else(|| format!("{CHAIN}: expected a certificate"))?;
    let parsed = webpki::EndEntityCert::try_from(first)
        .map_err(|error| format!("{CHAIN}: the first certificate is no X.509 certificate of version 3: {error}"))?;
    let names = parsed.valid_dns_names().map(Hostname::parse).collect();
    let mut fingerprint = String::with_capacity(64);
    for byte in digest::digest(&digest::SHA256, first).as_ref() {
        // Writing to a String cannot fail.
        let _ = write!(fingerprint, "{byte:02x}");
    }
    Ok((names, fingerprint.into()))
}

fn mismatch(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InconsistentKeys(_) => format!("{PRIVATE_KEY} is not the private key of the first certificate in {CHAIN}"),
        _ => format!("{PRIVATE_KEY}: expected an RSA key of at least 2048 bits, an ECDSA key (P-256, P-384) or an Ed25519 key"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{api::Object, translate::Change};

    const A: (&str, &str) = (include_str!("../../tests/certificates/a.crt"), include_str!("../../tests/certificates/a.key"));
    const NEXT: (&str, &str) = (include_str!("../../tests/certificates/a-next.crt"), include_str!("../../tests/certificates/a-next.key"));
    const RSA: (&str, &str) = (include_str!("../../tests/certificates/a-rsa.crt"), include_str!("../../tests/certificates/a-rsa.key"));
    const B: (&str, &str) = (include_str!("../../tests/certificates/b.crt"), include_str!("../../tests/certificates/b.key"));

    fn name() -> ObjectName {
        ObjectName::new("ns", "tls")
    }

    fn secret(kind: Option<&str>, entries: &[(&str, &str)]) -> Secret {
        let mut secret = Secret { type_: kind.map(str::to_owned), ..Secret::default() };
        secret.metadata.namespace = Some("ns".to_owned());
        secret.metadata.name = Some("tls".to_owned());
        let entry = |(key, value): &(&str, &str)| ((*key).to_owned(), ByteString(value.as_bytes().to_vec()));
        secret.data = Some(entries.iter().map(entry).collect());
        secret
    }

    fn of((chain, key): (&str, &str)) -> Secret {
        secret(Some("kubernetes.io/tls"), &[(CHAIN, chain), (PRIVATE_KEY, key)])
    }

    #[test]
    fn keys_of_all_kinds_are_read_with_the_names_they_are_for() {
        for (pair, names) in [(A, "a.example"), (NEXT, "a.example"), (RSA, "a.example"), (B, "b.example")] {
            let certificate = read(&name(), &of(pair)).unwrap();
            assert_eq!(*certificate.names, [Hostname::parse(names)]);
            assert_eq!(certificate.fingerprint.len(), 64);
        }
        assert!(read(&name(), &secret(None, &[(CHAIN, A.0), (PRIVATE_KEY, A.1)])).is_ok(), "Opaque with both keys");
    }

    #[test]
    fn what_cannot_be_used_is_named_without_showing_it() {
        let tls = Some("kubernetes.io/tls");
        let cut = &A.0[..A.0.len() / 2];
        let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let weird = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        for (kind, entries, words) in [
            (Some("kubernetes.io/dockercfg"), &[(CHAIN, A.0), (PRIVATE_KEY, A.1)][..], "type:"),
            (tls, &[(PRIVATE_KEY, A.1)], "tls.crt is missing"),
            (tls, &[(CHAIN, A.0)], "tls.key is missing"),
            (tls, &[(CHAIN, A.0), (PRIVATE_KEY, "")], "tls.key is missing"),
            (tls, &[(CHAIN, "Hello world\n"), (PRIVATE_KEY, A.1)], "tls.crt: expected a certificate chain"),
            (tls, &[(CHAIN, cut), (PRIVATE_KEY, A.1)], "a section has no end"),
            (tls, &[(CHAIN, garbage), (PRIVATE_KEY, A.1)], "no X.509 certificate"),
            (tls, &[(CHAIN, A.0), (PRIVATE_KEY, "Hello world\n")], "tls.key: expected a private key"),
            (tls, &[(CHAIN, A.0), (PRIVATE_KEY, weird)], "tls.key: expected an RSA key"),
            (tls, &[(CHAIN, A.0), (PRIVATE_KEY, B.1)], "tls.key is not the private key"),
        ] {
            let problem = read(&name(), &secret(kind, entries)).unwrap_err();
            assert!(problem.contains(words), "{problem}");
            assert!(!problem.contains("AAAA") && !problem.contains("Hello"), "{problem}");
        }
    }

    #[test]
    fn the_last_good_certificate_stays_until_there_is_a_better_one() {
        let mut resources = Resources::default();
        let mut certificates = Certificates::default();
        let mut step = |secret: Option<Secret>| {
            resources.apply(match secret {
                Some(secret) => Change::Apply(Box::new(Object::Secret(secret))),
                None => Change::Delete(ObjectRef { kind: Kind::Secret, name: name() }),
            });
            certificates.begin();
            let found = certificates.find(&name(), &resources);
            certificates.end();
            found
        };
        let nothing = step(None);
        assert!(nothing.certificate.is_none() && nothing.problem.unwrap().contains("does not exist"));
        let bad = step(Some(of((A.0, B.1))));
        assert!(bad.certificate.is_none() && bad.problem.is_some());
        let first = step(Some(of(A)));
        assert!(first.problem.is_none());
        let again = step(Some(of(A)));
        assert!(Arc::ptr_eq(again.certificate.as_ref().unwrap(), first.certificate.as_ref().unwrap()), "read again, nothing new");
        for broken in [Some(of((A.0, B.1))), None] {
            let found = step(broken);
            assert!(Arc::ptr_eq(found.certificate.as_ref().unwrap(), first.certificate.as_ref().unwrap()));
            assert!(found.problem.is_some());
        }
        let back = step(Some(of(A)));
        assert!(Arc::ptr_eq(back.certificate.as_ref().unwrap(), first.certificate.as_ref().unwrap()) && back.problem.is_none());
        let next = step(Some(of(NEXT)));
        assert!(next.problem.is_none() && next.certificate != first.certificate);
    }

    #[test]
    fn what_nobody_asks_for_is_forgotten() {
        let mut resources = Resources::default();
        resources.apply(Change::Apply(Box::new(Object::Secret(of(A)))));
        let mut certificates = Certificates::default();
        certificates.begin();
        certificates.find(&name(), &resources);
        certificates.end();
        assert_eq!(certificates.wanted().len(), 1);
        certificates.begin();
        certificates.end();
        assert!(certificates.wanted().is_empty() && certificates.known.is_empty());
    }
}
