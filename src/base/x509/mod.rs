//! What the gateway needs to know of an X.509 certificate (RFC 5280) of any version: names, validity, public key, who signed it.
//!
//! The parser that rustls uses takes version 3 only, and `openssl x509 -req` makes version 1. Extensions other than names are not looked at:
//! they matter only to those who verify the certificate.

mod der;
mod time;

use std::net::IpAddr;

use der::{Der, Tag};

pub use der::X509Error;

/// Object identifiers, as DER has them.
mod oid {
    pub(super) const COMMON_NAME: &[u8] = &[0x55, 4, 3];
    pub(super) const SUBJECT_ALTERNATIVE_NAME: &[u8] = &[0x55, 0x1d, 17];
    pub(super) const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1];
    pub(super) const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1];
    pub(super) const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];
    pub(super) const P384: &[u8] = &[0x2b, 0x81, 4, 0, 34];
    pub(super) const P521: &[u8] = &[0x2b, 0x81, 4, 0, 35];
    pub(super) const ED25519: &[u8] = &[0x2b, 0x65, 0x70];
}

/// A certificate.
#[derive(Clone, Debug)]
pub struct X509<'a> {
    /// 1, 2 or 3.
    pub version: u8,
    /// Who signed it: a Name in DER, the same bytes as the `subject` of that certificate.
    pub issuer: &'a [u8],
    /// Whom it is for: a Name in DER.
    pub subject: &'a [u8],
    /// From when on it is valid, seconds since the epoch.
    pub not_before: i64,
    /// Until when it is valid, seconds since the epoch.
    pub not_after: i64,
    /// SubjectPublicKeyInfo in DER.
    pub public_key_info: &'a [u8],
    /// AlgorithmIdentifier of the public key, without tag and length.
    pub public_key_algorithm: &'a [u8],
    /// The public key itself.
    pub public_key: &'a [u8],
    /// The last common name of the subject.
    pub common_name: Option<&'a str>,
    /// Names of the extension subjectAltName.
    pub alternative_names: Vec<AlternativeName<'a>>,
    /// What is signed: TBSCertificate in DER.
    pub signed: &'a [u8],
    /// AlgorithmIdentifier of the signature, without tag and length.
    pub signature_algorithm: &'a [u8],
    /// The issuer's signature.
    pub signature: &'a [u8],
}

/// A name of the extension subjectAltName, of the types that certificates of clients and servers have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlternativeName<'a> {
    /// dNSName.
    Dns(&'a str),
    /// uniformResourceIdentifier.
    Uri(&'a str),
    /// rfc822Name.
    Email(&'a str),
    /// iPAddress.
    Ip(IpAddr),
}

/// Kind of a public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublicKeyKind {
    /// RSA, with the bits of its modulus.
    Rsa(usize),
    /// ECDSA on P-256.
    EcdsaP256,
    /// ECDSA on P-384.
    EcdsaP384,
    /// ECDSA on P-521.
    EcdsaP521,
    /// ECDSA on another curve.
    EcdsaOther,
    /// Ed25519.
    Ed25519,
    /// Another algorithm.
    Other,
}

// === impl X509 ===

impl<'a> X509<'a> {
    /// Reads a certificate in DER.
    ///
    /// # Errors
    /// It is no certificate. The error shows no part of it.
    pub fn parse(text: &'a [u8]) -> Result<Self, X509Error> {
        let mut outer = Der::new(text);
        let mut certificate = outer.read(Tag::Sequence)?.inner();
        outer.end("bytes follow it")?;
        let signed = certificate.read(Tag::Sequence)?;
        let signature_algorithm = certificate.read(Tag::Sequence)?.content;
        let signature = certificate.read(Tag::BitString)?.bits()?;
        certificate.end("bytes follow its signature")?;

        let mut fields = signed.inner();
        let version = match fields.read_if(Tag::Context0)? {
            Some(version) => match version.inner().read(Tag::Integer)?.content {
                [encoded @ 0..=2] => encoded + 1,
                _ => return Err("its version is unknown"),
            },
            None => 1,
        };
        fields.read(Tag::Integer)?;
        fields.read(Tag::Sequence)?;
        let issuer = fields.read(Tag::Sequence)?;
        let mut validity = fields.read(Tag::Sequence)?.inner();
        let (not_before, not_after) = (time::read(&mut validity)?, time::read(&mut validity)?);
        let subject = fields.read(Tag::Sequence)?;
        let public_key_info = fields.read(Tag::Sequence)?;
        let mut key = public_key_info.inner();
        let public_key_algorithm = key.read(Tag::Sequence)?.content;
        let public_key = key.read(Tag::BitString)?.bits()?;
        fields.read_if(Tag::Context1Primitive)?;
        fields.read_if(Tag::Context2Primitive)?;
        let extensions = fields.read_if(Tag::Context3)?;
        fields.end("unknown fields follow its extensions")?;
        Ok(Self {
            version,
            issuer: issuer.whole,
            subject: subject.whole,
            not_before,
            not_after,
            public_key_info: public_key_info.whole,
            public_key_algorithm,
            public_key,
            common_name: common_name(subject.inner())?,
            alternative_names: extensions.map_or_else(|| Ok(Vec::new()), |extensions| alternative_names(extensions.inner()))?,
            signed: signed.whole,
            signature_algorithm,
            signature,
        })
    }

    /// Whether it says that it was signed by itself.
    pub fn is_self_issued(&self) -> bool {
        self.issuer == self.subject
    }

    /// The DNS names that it is for: those of subjectAltName; without any alternative name the common name, as Envoy reads it.
    pub fn dns_names(&self) -> Vec<&'a str> {
        if self.alternative_names.is_empty() {
            return self.common_name.into_iter().filter(|name| is_dns_name(name)).collect();
        }
        let dns = self.alternative_names.iter().filter_map(|name| match name {
            AlternativeName::Dns(name) => Some(*name),
            AlternativeName::Uri(_) | AlternativeName::Email(_) | AlternativeName::Ip(_) => None,
        });
        dns.filter(|name| is_dns_name(name)).collect()
    }

    /// Kind of its public key.
    pub fn public_key_kind(&self) -> PublicKeyKind {
        self.read_public_key_kind().unwrap_or(PublicKeyKind::Other)
    }

    fn read_public_key_kind(&self) -> Result<PublicKeyKind, X509Error> {
        let mut algorithm = Der::new(self.public_key_algorithm);
        Ok(match algorithm.read(Tag::ObjectIdentifier)?.content {
            oid::RSA => {
                let modulus = Der::new(self.public_key).read(Tag::Sequence)?.inner().read(Tag::Integer)?.content;
                let zeros = modulus.iter().take_while(|byte| **byte == 0).count();
                let (bytes, first) = (modulus.len() - zeros, modulus.get(zeros).copied().unwrap_or_default());
                PublicKeyKind::Rsa((bytes * 8).saturating_sub(first.leading_zeros() as usize))
            }
            oid::EC => match algorithm.read(Tag::ObjectIdentifier).map(|curve| curve.content) {
                Ok(oid::P256) => PublicKeyKind::EcdsaP256,
                Ok(oid::P384) => PublicKeyKind::EcdsaP384,
                Ok(oid::P521) => PublicKeyKind::EcdsaP521,
                Ok(_) | Err(_) => PublicKeyKind::EcdsaOther,
            },
            oid::ED25519 => PublicKeyKind::Ed25519,
            _ => PublicKeyKind::Other,
        })
    }
}

/// A DNS name with nothing strange in it; a wildcard may be its first label.
fn is_dns_name(name: &str) -> bool {
    let labels = name.strip_prefix("*.").unwrap_or(name);
    let is_label = |label: &str| !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    labels.split('.').all(is_label)
}

fn common_name(mut name: Der<'_>) -> Result<Option<&str>, X509Error> {
    let mut found = None;
    while !name.is_empty() {
        let mut attributes = name.read(Tag::Set)?.inner();
        while !attributes.is_empty() {
            let mut attribute = attributes.read(Tag::Sequence)?.inner();
            if attribute.read(Tag::ObjectIdentifier)?.content == oid::COMMON_NAME {
                // Whatever kind of string it is: a DNS name looks the same in all but those that hardly anybody uses.
                found = std::str::from_utf8(attribute.any()?.content).ok();
            }
        }
    }
    Ok(found)
}

fn alternative_names(mut extensions: Der<'_>) -> Result<Vec<AlternativeName<'_>>, X509Error> {
    let mut names = Vec::new();
    let mut list = extensions.read(Tag::Sequence)?.inner();
    while !list.is_empty() {
        let mut extension = list.read(Tag::Sequence)?.inner();
        let identifier = extension.read(Tag::ObjectIdentifier)?.content;
        extension.read_if(Tag::Boolean)?;
        let value = extension.read(Tag::OctetString)?;
        if identifier == oid::SUBJECT_ALTERNATIVE_NAME {
            let mut general_names = value.inner().read(Tag::Sequence)?.inner();
            while !general_names.is_empty() {
                let name = general_names.any()?;
                names.extend(general_name(name.tag, name.content));
            }
        }
    }
    Ok(names)
}

/// `None`: of a type that nobody asks for, or no text.
fn general_name(tag: u8, content: &[u8]) -> Option<AlternativeName<'_>> {
    let text = || std::str::from_utf8(content).ok();
    match tag {
        0x81 => text().map(AlternativeName::Email),
        0x82 => text().map(AlternativeName::Dns),
        0x86 => text().map(AlternativeName::Uri),
        0x87 => match content.len() {
            4 => <[u8; 4]>::try_from(content).ok().map(|bytes| AlternativeName::Ip(bytes.into())),
            _ => <[u8; 16]>::try_from(content).ok().map(|bytes| AlternativeName::Ip(bytes.into())),
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests;
