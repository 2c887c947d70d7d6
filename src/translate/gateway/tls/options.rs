//! `tls.options` of a listener: Gloo's keys. Each is honoured, or the listener is refused, since its author relies on it.

use std::collections::BTreeMap;

use rustls::{CipherSuite, NamedGroup};

use crate::base::text::{quoted, word};
use crate::snapshot::TlsVersions;

/// What Gloo's keys begin with.
const PREFIX: &str = "gateway.gloo.solo.io/ssl/";

/// The keys without `PREFIX`.
const KEYS: [&str; 6] =
    ["cipher-suites", "ecdh-curves", "maximum-tls-version", "minimum-tls-version", "one-way-tls", "verify-subject-alt-name"];

/// Cipher suites of TLS 1.2 that are offered, by OpenSSL's name, which is Envoy's; the names of the registry are taken, too.
const SUITES: [(&str, CipherSuite); 6] = [
    ("ECDHE-ECDSA-AES128-GCM-SHA256", CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
    ("ECDHE-RSA-AES128-GCM-SHA256", CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256),
    ("ECDHE-ECDSA-AES256-GCM-SHA384", CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384),
    ("ECDHE-RSA-AES256-GCM-SHA384", CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384),
    ("ECDHE-ECDSA-CHACHA20-POLY1305", CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256),
    ("ECDHE-RSA-CHACHA20-POLY1305", CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256),
];

/// Cipher suites that Envoy knows and that are not offered: without forward secrecy, or in CBC mode.
const WEAK_SUITES: [&str; 16] = [
    "AES128-GCM-SHA256",
    "AES128-SHA",
    "AES256-GCM-SHA384",
    "AES256-SHA",
    "ECDHE-ECDSA-AES128-SHA",
    "ECDHE-ECDSA-AES256-SHA",
    "ECDHE-RSA-AES128-SHA",
    "ECDHE-RSA-AES256-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA",
    "TLS_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_RSA_WITH_AES_256_CBC_SHA",
    "TLS_RSA_WITH_AES_256_GCM_SHA384",
];

/// Groups that are offered, by Envoy's names.
const GROUPS: [(&str, NamedGroup); 4] = [
    ("X25519MLKEM768", NamedGroup::X25519MLKEM768),
    ("X25519", NamedGroup::X25519),
    ("P-256", NamedGroup::secp256r1),
    ("P-384", NamedGroup::secp384r1),
];

/// Groups that Envoy knows and that are not offered.
const OTHER_GROUPS: [&str; 2] = ["P-521", "X25519Kyber768Draft00"];

/// What the options of a listener say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct TlsOptions {
    pub(super) versions: TlsVersions,
    pub(super) cipher_suites: Option<Box<[CipherSuite]>>,
    pub(super) groups: Option<Box<[NamedGroup]>>,
    /// Whether clients may do without a certificate although the Secret names authorities.
    pub(super) one_way: Option<bool>,
    pub(super) subject_alt_names: Box<[Box<str>]>,
    /// What of them has no effect, since the gateway is stricter anyway.
    pub(super) remarks: Vec<String>,
}

/// A version of TLS as Gloo names it; the numbers only order them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Version {
    Tls10,
    Tls11,
    Tls12,
    Tls13,
}

/// Reads the options.
///
/// # Errors
/// Key and expectation: an unknown key, or a value that cannot be honoured.
pub(super) fn read(options: Option<&BTreeMap<String, String>>) -> Result<TlsOptions, String> {
    let mut read = TlsOptions::default();
    let (mut minimum, mut maximum) = (None, None);
    for (key, value) in options.into_iter().flatten() {
        let expect = |problem: String| format!("tls.options: {}: {problem}", word(key));
        match key.strip_prefix(PREFIX).unwrap_or_default() {
            "minimum-tls-version" => minimum = version(value).map_err(expect)?,
            "maximum-tls-version" => maximum = version(value).map_err(expect)?,
            "cipher-suites" => read.cipher_suites = Some(suites(key, value, &mut read.remarks).map_err(expect)?),
            "ecdh-curves" => read.groups = Some(groups(key, value, &mut read.remarks).map_err(expect)?),
            "one-way-tls" => read.one_way = Some(one_way(value).map_err(expect)?),
            "verify-subject-alt-name" => read.subject_alt_names = names(value).map_err(expect)?,
            _ => {
                let known = KEYS.map(|key| format!("{PREFIX}{key}")).join(", ");
                return Err(expect(format!("this option is unknown, and unknown options are not ignored; expected one of {known}")));
            }
        }
    }
    read.versions = versions(minimum, maximum, &mut read.remarks)?;
    Ok(read)
}

fn version(value: &str) -> Result<Option<Version>, String> {
    match value {
        "TLS_AUTO" => Ok(None),
        "TLSv1_0" => Ok(Some(Version::Tls10)),
        "TLSv1_1" => Ok(Some(Version::Tls11)),
        "TLSv1_2" => Ok(Some(Version::Tls12)),
        "TLSv1_3" => Ok(Some(Version::Tls13)),
        _ => Err(format!("{} is no version; expected TLSv1_2, TLSv1_3 or TLS_AUTO", quoted(value))),
    }
}

fn versions(minimum: Option<Version>, maximum: Option<Version>, remarks: &mut Vec<String>) -> Result<TlsVersions, String> {
    if minimum.is_some_and(|minimum| minimum < Version::Tls12) {
        remarks.push(format!("tls.options: {PREFIX}minimum-tls-version: TLS before 1.2 is not supported"));
    }
    if minimum.zip(maximum).is_some_and(|(minimum, maximum)| minimum > maximum) {
        return Err(format!("tls.options: {PREFIX}minimum-tls-version is above {PREFIX}maximum-tls-version; expected no more than it"));
    }
    match (minimum, maximum) {
        (_, Some(Version::Tls10 | Version::Tls11)) => {
            Err(format!("tls.options: {PREFIX}maximum-tls-version: TLS before 1.2 is not supported; expected TLSv1_2 or TLSv1_3"))
        }
        (Some(Version::Tls13), _) => Ok(TlsVersions::Tls13),
        (_, Some(Version::Tls12)) => Ok(TlsVersions::Tls12),
        (_, Some(Version::Tls13) | None) => Ok(TlsVersions::Both),
    }
}

/// The parts of a list. Envoy has brackets around what is equally good.
fn parts(value: &str) -> impl Iterator<Item = &str> {
    let parts = value.split([',', ':', '|']).map(|part| part.trim().trim_start_matches('[').trim_end_matches(']').trim());
    parts.filter(|part| !part.is_empty())
}

fn suites(key: &str, value: &str, remarks: &mut Vec<String>) -> Result<Box<[CipherSuite]>, String> {
    let mut found = Vec::new();
    for part in parts(value) {
        let known = SUITES.iter().find(|(name, suite)| *name == part || suite.as_str() == Some(part));
        match known {
            Some((_, suite)) => found.push(*suite),
            None if WEAK_SUITES.contains(&part) => {
                remarks.push(format!("tls.options: {}: {part} is not supported, and is left out", word(key)))
            }
            None => return Err(format!("{} is no cipher suite of TLS 1.2; expected some of {}", quoted(part), listed(&SUITES))),
        }
    }
    if found.is_empty() { Err(format!("none of these is supported; expected some of {}", listed(&SUITES))) } else { Ok(found.into()) }
}

fn groups(key: &str, value: &str, remarks: &mut Vec<String>) -> Result<Box<[NamedGroup]>, String> {
    let mut found = Vec::new();
    for part in parts(value) {
        match GROUPS.iter().find(|(name, _)| *name == part) {
            Some((_, group)) => found.push(*group),
            None if OTHER_GROUPS.contains(&part) => {
                remarks.push(format!("tls.options: {}: {part} is not supported, and is left out", word(key)))
            }
            None => return Err(format!("{} is no group; expected some of {}", quoted(part), listed(&GROUPS))),
        }
    }
    if found.is_empty() { Err(format!("none of these is supported; expected some of {}", listed(&GROUPS))) } else { Ok(found.into()) }
}

fn listed<T>(known: &[(&str, T)]) -> String {
    known.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

fn one_way(value: &str) -> Result<bool, String> {
    match value.to_ascii_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(format!("{} is neither; expected true or false", quoted(value))),
    }
}

fn names(value: &str) -> Result<Box<[Box<str>]>, String> {
    let names: Box<[Box<str>]> = value.split(',').map(str::trim).filter(|name| !name.is_empty()).map(Into::into).collect();
    if names.is_empty() { Err("the value has no name; expected names with commas between them".to_owned()) } else { Ok(names) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(options: &[(&str, &str)]) -> Result<TlsOptions, String> {
        let options = options.iter().map(|(key, value)| (format!("{PREFIX}{key}"), (*value).to_owned())).collect();
        read(Some(&options))
    }

    #[test]
    fn versions_are_narrowed() {
        use TlsVersions::*;
        const MIN: &str = "minimum-tls-version";
        const MAX: &str = "maximum-tls-version";
        for (options, expected, remarks) in [
            (&[][..], Both, 0),
            (&[(MIN, "TLSv1_2")], Both, 0),
            (&[(MIN, "TLSv1_3")], Tls13, 0),
            (&[(MAX, "TLSv1_2")], Tls12, 0),
            (&[(MAX, "TLSv1_3")], Both, 0),
            (&[(MIN, "TLSv1_2"), (MAX, "TLSv1_2")], Tls12, 0),
            (&[(MIN, "TLSv1_3"), (MAX, "TLSv1_3")], Tls13, 0),
            (&[(MIN, "TLS_AUTO"), (MAX, "TLS_AUTO")], Both, 0),
            (&[(MIN, "TLSv1_0")], Both, 1),
            (&[(MIN, "TLSv1_1"), (MAX, "TLSv1_2")], Tls12, 1),
        ] {
            let read = read_all(options).unwrap();
            assert_eq!((read.versions, read.remarks.len()), (expected, remarks), "{options:?}");
        }
    }

    #[test]
    fn lists_are_read_by_envoys_names_and_by_the_registrys() {
        let read = read_all(&[
            (
                "cipher-suites",
                "[ECDHE-ECDSA-AES128-GCM-SHA256|ECDHE-ECDSA-CHACHA20-POLY1305], TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,AES128-SHA",
            ),
            ("ecdh-curves", "X25519MLKEM768,P-256,P-521"),
            ("one-way-tls", "False"),
            ("verify-subject-alt-name", "foo, spiffe://a/b"),
        ]);
        let read = read.unwrap();
        assert_eq!(
            read.cipher_suites.as_deref().unwrap(),
            [
                CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
                CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
                CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384
            ]
        );
        assert_eq!(read.groups.as_deref().unwrap(), [NamedGroup::X25519MLKEM768, NamedGroup::secp256r1]);
        assert_eq!((read.one_way, &*read.subject_alt_names), (Some(false), &["foo".into(), "spiffe://a/b".into()][..]));
        assert_eq!(read.remarks.len(), 2, "{:?}", read.remarks);
    }

    #[test]
    fn what_cannot_be_honoured_is_named() {
        for (key, value, words) in [
            ("minimum-tls-versions", "TLSv1_3", "minimum-tls-versions: this option is unknown"),
            ("minimum-tls-version", "TLSv1.3", "expected TLSv1_2"),
            ("maximum-tls-version", "TLSv1_1", "before 1.2 is not supported"),
            ("cipher-suites", "AES128-SHA", "none of these is supported"),
            ("cipher-suites", "TLS_AES_128_GCM_SHA256", "is no cipher suite of TLS 1.2"),
            ("cipher-suites", "", "none of these"),
            ("ecdh-curves", "P-521", "none of these"),
            ("ecdh-curves", "sect283k1", "is no group"),
            ("one-way-tls", "yes", "expected true or false"),
            ("verify-subject-alt-name", " ,", "has no name"),
        ] {
            let problem = read_all(&[(key, value)]).unwrap_err();
            assert!(problem.starts_with("tls.options: gateway.gloo.solo.io/ssl/") && problem.contains(words), "{key}: {problem}");
        }
        let problem = read_all(&[("minimum-tls-version", "TLSv1_3"), ("maximum-tls-version", "TLSv1_2")]).unwrap_err();
        assert!(problem.contains("is above"), "{problem}");
        let other = [("example.com/option".to_owned(), "x".to_owned())].into();
        assert!(read(Some(&other)).unwrap_err().contains("example.com/option: this option is unknown"));
    }

    #[test]
    fn whatever_is_offered_can_be_asked_for() {
        let provider = crate::base::crypto::provider();
        let suites = provider.cipher_suites.iter().filter(|suite| suite.tls13().is_none()).map(|suite| suite.suite());
        let mut offered: Vec<_> = suites.map(|suite| suite.as_str()).collect();
        let mut known: Vec<_> = SUITES.iter().map(|(_, suite)| suite.as_str()).collect();
        offered.sort_unstable();
        known.sort_unstable();
        assert_eq!(offered, known);
        assert!(provider.kx_groups.iter().all(|group| GROUPS.iter().any(|(_, known)| *known == group.name())));
        assert_eq!(provider.kx_groups.len(), GROUPS.len());
    }
}
