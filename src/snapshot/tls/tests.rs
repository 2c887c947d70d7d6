use rustls::{
    SignatureScheme,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

use super::*;
use crate::base::ObjectName;

fn certificate(pem: &str, key: &str, names: &[&str]) -> Arc<Certificate> {
    let chain = CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<Vec<_>, _>>().unwrap();
    let key = CertifiedKey::from_der(chain, PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(), crypto::provider()).unwrap();
    Arc::new(Certificate {
        secret: ObjectName::new("ns", names.join("-")),
        names: names.iter().map(|name| Hostname::parse(name)).collect(),
        fingerprint: names.join("-").into(),
        not_before: 0,
        not_after: 0,
        key: Arc::new(key),
    })
}

macro_rules! pem {
    ($name:literal, $names:expr) => {
        certificate(
            include_str!(concat!("../../../tests/certificates/", $name, ".crt")),
            include_str!(concat!("../../../tests/certificates/", $name, ".key")),
            $names,
        )
    };
}

const ECDSA: SignatureScheme = SignatureScheme::ECDSA_NISTP256_SHA256;
const RSA: SignatureScheme = SignatureScheme::RSA_PSS_SHA256;

/// Fingerprint of the certificate that is chosen.
fn chosen(certificates: &[Arc<Certificate>], name: Option<&str>, schemes: &[SignatureScheme]) -> Option<String> {
    certificate::choose(certificates, name, schemes).map(|certificate| certificate.fingerprint.to_string())
}

#[test]
fn the_certificate_fits_the_name_and_what_the_client_can_verify() {
    let certificates = [pem!("b", &["b.example"]), pem!("a-rsa", &["a.example"]), pem!("wild", &["*.wild.example"])];
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
        assert_eq!(chosen(&certificates, name, schemes).as_deref(), expected, "{name:?} {schemes:?}");
    }
}

#[test]
fn the_longest_matching_name_wins_whatever_the_order() {
    let certificates = [
        pem!("b", &["other.example"]),
        pem!("all", &["*.example", "*.x.example"]),
        pem!("a", &["a.x.example"]),
        pem!("wild", &["unrelated.example", "*.a.x.example", "b.x.example"]),
    ];
    for turn in 0..certificates.len() {
        let mut turned = certificates.clone();
        turned.rotate_left(turn);
        for order in [turned.clone(), {
            turned.reverse();
            turned
        }] {
            for (name, expected) in [
                ("a.x.example", "a.x.example"),
                ("b.x.example", "unrelated.example-*.a.x.example-b.x.example"),
                ("c.x.example", "*.example-*.x.example"),
                ("c.example", "*.example-*.x.example"),
                ("other.example", "other.example"),
                ("c.a.x.example", "unrelated.example-*.a.x.example-b.x.example"),
            ] {
                assert_eq!(chosen(&order, Some(name), &[ECDSA]).as_deref(), Some(expected), "{name} of {order:?}");
            }
            assert_eq!(chosen(&order, Some("none.test"), &[ECDSA]), Some(order[0].fingerprint.to_string()), "none: the first");
        }
    }
}

#[test]
fn of_names_that_are_as_long_the_first_wins_that_the_client_can_verify() {
    let (rsa, ecdsa, wildcard) = (pem!("a-rsa", &["a.example"]), pem!("a", &["a.example"]), pem!("wild", &["*.example"]));
    let first = |certificates: &[&Arc<Certificate>], schemes: &[SignatureScheme]| {
        let certificates: Vec<_> = certificates.iter().map(|certificate| Arc::clone(certificate)).collect();
        Arc::clone(certificate::choose(&certificates, Some("a.example"), schemes).unwrap())
    };
    for (certificates, schemes, expected) in [
        ([&wildcard, &rsa, &ecdsa], &[ECDSA, RSA][..], &rsa),
        ([&wildcard, &ecdsa, &rsa], &[ECDSA, RSA], &ecdsa),
        ([&wildcard, &rsa, &ecdsa], &[ECDSA], &ecdsa),
        ([&rsa, &rsa, &wildcard], &[ECDSA], &wildcard),
    ] {
        assert!(Arc::ptr_eq(&first(&certificates, schemes), expected), "{certificates:?} {schemes:?}");
    }
}

fn listener(name: &str, certificates: Vec<Arc<Certificate>>) -> Arc<TlsListener> {
    Arc::new(TlsListener::new(name, certificates, TlsSettings::default()))
}

#[test]
fn a_server_name_belongs_to_the_most_specific_listener_even_without_certificate() {
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
    assert!(only.listener(None).is_none() && only.listener(Some("b.example")).is_none());
}

#[test]
fn the_configuration_is_built_once_and_offers_http_2_first() {
    let listener = listener("any", vec![]);
    let config = listener.config().unwrap();
    assert_eq!(config.alpn_protocols, [b"h2".to_vec(), b"http/1.1".to_vec()]);
    assert!(config.ticketer.enabled() && config.max_early_data_size == 0);
    assert!(Arc::ptr_eq(&config, &listener.config().unwrap()));
}

#[test]
fn settings_narrow_what_is_offered() {
    use rustls::{CipherSuite, NamedGroup};
    let settings = TlsSettings {
        cipher_suites: Some([CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256].into()),
        groups: Some([NamedGroup::secp384r1].into()),
        ..TlsSettings::default()
    };
    let narrowed = settings.narrow(crypto::provider());
    let suites: Vec<_> = narrowed.cipher_suites.iter().filter(|suite| suite.tls13().is_none()).map(|suite| suite.suite()).collect();
    assert_eq!(suites, [CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256]);
    assert_eq!(narrowed.cipher_suites.len(), 4, "and those of TLS 1.3");
    assert_eq!(narrowed.kx_groups.iter().map(|group| group.name()).collect::<Vec<_>>(), [NamedGroup::secp384r1]);
    assert!(Arc::ptr_eq(&TlsSettings::default().narrow(crypto::provider()), crypto::provider()), "no copy without need");
}

#[test]
fn nothing_secret_is_shown() {
    let certificate = pem!("a", &["a.example"]);
    assert_eq!(format!("{certificate:?}"), "Certificate(ns/a.example a.example)");
}
