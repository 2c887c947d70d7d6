//! A certificate with its private key, and for which names it is.

use std::{fmt, sync::Arc};

use rustls::{SignatureScheme, sign::CertifiedKey};

use crate::base::ObjectName;

use super::super::Hostname;

/// A certificate with its private key.
#[derive(Clone)]
pub struct Certificate {
    /// The Secret that it was read from.
    pub secret: ObjectName,
    /// The DNS names that it is for.
    pub names: Box<[Hostname]>,
    /// SHA-256 of the certificate itself, lower-case hexadecimal.
    pub fingerprint: Box<str>,
    /// From when on the certificate is valid, seconds since the epoch.
    pub not_before: i64,
    /// When the first certificate of the chain expires, seconds since the epoch.
    pub not_after: i64,
    /// Chain and private key as rustls uses them.
    pub key: Arc<CertifiedKey>,
}

/// How specifically a certificate names a server; the greater, the better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum NameMatch {
    /// By a wildcard.
    Wildcard,
    /// By the name itself.
    Exact,
}

/// The certificate for a server name (lower case) among those that the client can verify: the one with the longest matching name, an exact
/// name before a wildcard, of equal ones the first; where none names the server, the first.
pub(super) fn choose<'c>(
    certificates: &'c [Arc<Certificate>],
    server_name: Option<&str>,
    schemes: &[SignatureScheme],
) -> Option<&'c Arc<Certificate>> {
    let usable = || certificates.iter().filter(|certificate| certificate.key.key.choose_scheme(schemes).is_some());
    let named = server_name.and_then(|name| {
        let rated = usable().filter_map(|certificate| Some((certificate.match_for(name)?, certificate)));
        // The last of the greatest ones is the first in order.
        rated.rev().max_by_key(|(rating, _)| *rating)
    });
    named.map(|(_, certificate)| certificate).or_else(|| usable().next())
}

// === impl Certificate ===

impl Certificate {
    /// Whether a client that asks for this name (lower case) will accept the certificate, and by which kind of name. A wildcard stands for
    /// exactly one label (RFC 9525), so that all wildcards that match a name are equally long.
    fn match_for(&self, server_name: &str) -> Option<NameMatch> {
        let matches = self.names.iter().filter_map(|name| match name {
            Hostname::Exact(name) => (**name == *server_name).then_some(NameMatch::Exact),
            Hostname::Wildcard(suffix) => {
                let (label, rest) = server_name.split_once('.')?;
                (!label.is_empty() && *rest == **suffix).then_some(NameMatch::Wildcard)
            }
            Hostname::Any => None,
        });
        matches.max()
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
