use proptest::prelude::*;
use rustls::pki_types::{CertificateDer, pem::PemObject};

use super::*;

macro_rules! der {
    ($name:literal) => {
        CertificateDer::from_pem_slice(include_bytes!(concat!("../../../tests/certificates/", $name, ".crt"))).unwrap()
    };
}

/// 2020-01-01 and 2120-01-01.
const VALIDITY: (i64, i64) = (1_577_836_800, 4_733_510_400);

#[test]
fn certificates_of_all_versions_and_keys_are_read() {
    use PublicKeyKind::*;
    for (der, version, kind, names, not_after) in [
        (der!("a"), 3, EcdsaP256, &["a.example"][..], VALIDITY.1),
        (der!("wild"), 3, EcdsaP256, &["*.wild.example"], VALIDITY.1),
        (der!("a-rsa"), 3, Rsa(2048), &["a.example"], VALIDITY.1),
        (der!("v1"), 1, EcdsaP256, &["v1.example"], VALIDITY.1),
        (der!("common-name"), 3, EcdsaP256, &["common-name.example"], VALIDITY.1),
        (der!("p521"), 3, EcdsaP521, &["p521.example"], VALIDITY.1),
        (der!("rsa8192"), 3, Rsa(8192), &["rsa8192.example"], VALIDITY.1),
        (der!("secp256k1"), 3, EcdsaOther, &["secp256k1.example"], VALIDITY.1),
        (der!("expired"), 3, EcdsaP256, &["expired.example"], 1_609_459_200),
        // An authority: its name is no DNS name of a server, but it might be one.
        (der!("root"), 3, EcdsaP256, &["root"], VALIDITY.1),
    ] {
        let x509 = X509::parse(&der).unwrap();
        assert_eq!((x509.version, x509.public_key_kind(), &*x509.dns_names()), (version, kind, names));
        assert_eq!((x509.not_before, x509.not_after), (VALIDITY.0, not_after), "{names:?}");
    }
}

#[test]
fn issuer_and_subject_tell_who_signed() {
    let (root, intermediate, leaf) = (der!("root"), der!("intermediate"), der!("leaf"));
    let [root, intermediate, leaf] = [&root, &intermediate, &leaf].map(|der| X509::parse(der).unwrap());
    assert!(root.is_self_issued() && !intermediate.is_self_issued());
    assert_eq!((leaf.issuer, intermediate.issuer), (intermediate.subject, root.subject));
}

#[test]
fn alternative_names_of_all_types_are_read() {
    use AlternativeName::*;
    let der = der!("client");
    let names = X509::parse(&der).unwrap().alternative_names;
    assert_eq!(names, [Dns("client.example"), Uri("spiffe://example/client"), Email("client@client.example"), Ip([192, 0, 2, 7].into())]);
}

#[test]
fn names_that_are_none_are_left_out() {
    for (name, is_name) in
        [("a.example", true), ("*.a", true), ("a_b.c", true), ("", false), ("*", false), ("a..b", false), ("A Company", false)]
    {
        assert_eq!(is_dns_name(name), is_name, "{name}");
    }
}

#[test]
fn times_are_those_of_the_calendar() {
    for (tag, text, seconds) in [
        (Tag::UtcTime, "700101000000Z", Some(0)),
        (Tag::UtcTime, "491231235959Z", Some(2_524_607_999)),
        (Tag::UtcTime, "500101000000Z", Some(-631_152_000)),
        (Tag::UtcTime, "240229120000Z", Some(1_709_208_000)),
        (Tag::GeneralizedTime, "21200101000000Z", Some(VALIDITY.1)),
        (Tag::GeneralizedTime, "99991231235959Z", Some(253_402_300_799)),
        (Tag::UtcTime, "7001010000Z", None),
        (Tag::UtcTime, "701301000000Z", None),
        (Tag::GeneralizedTime, "700101000000Z", None),
        (Tag::UtcTime, "700101000000+0100", None),
    ] {
        let element = [&[tag as u8, u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
        assert_eq!(time::read(&mut Der::new(&element)).ok(), seconds, "{text}");
    }
}

#[test]
fn what_is_cut_off_or_goes_on_is_no_certificate() {
    let der = der!("a");
    for length in 0..der.len() {
        assert!(X509::parse(&der[..length]).is_err(), "{length}");
    }
    assert!(X509::parse(&[&der[..], &[0]].concat()).is_err());
}

proptest! {
    #[test]
    fn whatever_is_changed_nothing_panics(changes in prop::collection::vec((0usize..700, any::<u8>()), 1..6)) {
        let mut bytes = der!("client").to_vec();
        for (at, byte) in changes {
            if let Some(target) = bytes.get_mut(at) {
                *target = byte;
            }
        }
        if let Ok(x509) = X509::parse(&bytes) {
            x509.dns_names();
            x509.public_key_kind();
        }
    }
}
