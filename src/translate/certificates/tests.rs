use k8s_openapi::ByteString;

use super::{
    read::{AUTHORITIES, CHAIN, PRIVATE_KEY, authorities, certificate},
    *,
};
use crate::{api::Object, base::crypto, translate::Change};

macro_rules! pem {
    ($name:literal) => {
        (
            include_str!(concat!("../../../tests/certificates/", $name, ".crt")),
            include_str!(concat!("../../../tests/certificates/", $name, ".key")),
        )
    };
}

macro_rules! file {
    ($name:literal) => {
        include_str!(concat!("../../../tests/certificates/", $name))
    };
}

type Pem = (&'static str, &'static str);

const A: Pem = pem!("a");
const NEXT: Pem = pem!("a-next");
const RSA: Pem = pem!("a-rsa");
const B: Pem = pem!("b");
const LEAF: Pem = pem!("leaf");
const INTERMEDIATE: &str = file!("intermediate.crt");
const ROOT: &str = file!("root.crt");
const TLS: Option<&str> = Some("kubernetes.io/tls");

/// Well-formed base64, and no certificate.
const GARBAGE: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";

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

/// The names that it is for, and what is odd about it.
fn reads(chain: &str, key: &str) -> Result<(Vec<String>, Vec<String>), String> {
    let read = certificate(&name(), &of((chain, key)))?;
    assert_eq!(read.certificate.fingerprint.len(), 64);
    Ok((read.certificate.names.iter().map(ToString::to_string).collect(), read.oddities))
}

#[test]
fn keys_of_all_kinds_are_read_with_the_names_they_are_for() {
    for (pair, names) in [
        (A, "a.example"),
        (NEXT, "a.example"),
        (RSA, "a.example"),
        (B, "b.example"),
        (pem!("v1"), "v1.example"),
        (pem!("common-name"), "common-name.example"),
        (pem!("p521"), "p521.example"),
        (pem!("rsa8192"), "rsa8192.example"),
        (pem!("expired"), "expired.example"),
        (pem!("wild"), "*.wild.example"),
    ] {
        assert_eq!(reads(pair.0, pair.1), Ok((vec![names.to_owned()], vec![])), "{names}");
    }
    assert!(certificate(&name(), &secret(None, &[(CHAIN, A.0), (PRIVATE_KEY, A.1)])).is_ok(), "Opaque with both keys");
}

#[test]
fn a_chain_is_taken_whatever_stands_around_its_sections() {
    let chain = [LEAF.0, INTERMEDIATE].concat();
    let crlf = |text: &str| text.replace('\n', "\r\n");
    let key_of_another_curve = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n";
    for (chain, key) in [
        (chain.clone(), LEAF.1.to_owned()),
        (crlf(&chain), crlf(LEAF.1)),
        (format!("subject=CN = leaf\n{}\n\nissuer=CN = root\n{INTERMEDIATE} \n", LEAF.0), LEAF.1.to_owned()),
        (chain.clone(), format!("{key_of_another_curve}{}", LEAF.1)),
        // Both in one, as some servers want it.
        (format!("{}{}{INTERMEDIATE}", LEAF.0, LEAF.1), format!("{}{}", LEAF.0, LEAF.1)),
        (chain + ROOT, LEAF.1.to_owned()),
    ] {
        assert_eq!(reads(&chain, &key), Ok((vec!["leaf.example".to_owned()], vec![])), "{chain}");
    }
}

#[test]
fn what_some_clients_will_not_trust_serves_and_is_told() {
    let twice = [LEAF.1, A.1].concat();
    for (chain, key, odd) in [
        ([LEAF.0, ROOT].concat(), LEAF.1, &["certificate 2 did not issue certificate 1"][..]),
        ([LEAF.0, ROOT, INTERMEDIATE].concat(), LEAF.1, &["2 did not issue certificate 1", "3 did not issue certificate 2"]),
        // Of the right name, but another key.
        ([A.0, file!("ca.crt"), ROOT].concat(), A.1, &["3 did not issue certificate 2"]),
        ([A.0, A.0].concat(), A.1, &["2 did not issue certificate 1"]),
        (LEAF.0.to_owned(), &twice, &["holds 2 private keys; the first is used"]),
    ] {
        let (_, oddities) = reads(&chain, key).unwrap();
        assert_eq!(oddities.len(), odd.len(), "{oddities:?}");
        assert!(oddities.iter().zip(odd).all(|(oddity, words)| oddity.contains(words)), "{oddities:?}");
    }
}

#[test]
fn a_signature_that_is_not_the_issuers_is_seen() {
    // The last byte of the leaf is one of its signature.
    let mut der = pem_bytes(LEAF.0);
    let last = der.last_mut().unwrap();
    *last ^= 1;
    let text = |der: &[u8]| format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", base64(der));
    let (_, oddities) = reads(&[&*text(&der), INTERMEDIATE].concat(), LEAF.1).unwrap();
    assert!(oddities[0].contains("certificate 2 did not issue certificate 1"), "{oddities:?}");
    der.truncate(der.len() - 1);
    let problem = reads(&[LEAF.0, &*text(&der)].concat(), LEAF.1).unwrap_err();
    assert_eq!(problem, "tls.crt: certificate 2 of 2 is no X.509 certificate: it is cut off");
}

fn pem_bytes(text: &str) -> Vec<u8> {
    use rustls::pki_types::{CertificateDer, pem::PemObject};
    CertificateDer::from_pem_slice(text.as_bytes()).unwrap().to_vec()
}

/// As a Secret of Kubernetes has it.
fn base64(bytes: &[u8]) -> String {
    serde_json::to_value(ByteString(bytes.to_vec())).unwrap().as_str().unwrap().to_owned()
}

#[test]
fn what_cannot_be_used_is_named_without_showing_it() {
    let cut = &A.0[..A.0.len() / 2];
    let weird = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    let (bad_second, bad_third) = ([LEAF.0, GARBAGE].concat(), [LEAF.0, INTERMEDIATE, GARBAGE].concat());
    let no_base64 = LEAF.0.to_owned() + &INTERMEDIATE.replace('M', "*");
    let (no_beginning, four_dashes) =
        (LEAF.0.to_owned() + &INTERMEDIATE[28..], LEAF.0.to_owned() + &INTERMEDIATE.replacen("E-----", "E----", 1));
    let trusted = LEAF.0.to_owned() + &INTERMEDIATE.replace("CERTIFICATE", "TRUSTED CERTIFICATE");
    let wrong_order = [INTERMEDIATE, LEAF.0].concat();
    let (two_keys, indented) = ([B.1, A.1].concat(), A.0.replace('\n', "\n  "));
    for (kind, entries, words) in [
        (Some("kubernetes.io/dockercfg"), &[(CHAIN, A.0), (PRIVATE_KEY, A.1)][..], "type:"),
        (TLS, &[], "tls.crt is missing"),
        (TLS, &[(PRIVATE_KEY, A.1)], "tls.crt is missing"),
        (TLS, &[(CHAIN, A.0)], "tls.key is missing"),
        (TLS, &[(CHAIN, A.0), (PRIVATE_KEY, "")], "tls.key is missing"),
        (TLS, &[(CHAIN, "Hello world\n"), (PRIVATE_KEY, A.1)], "tls.crt: expected a certificate chain"),
        (TLS, &[(CHAIN, cut), (PRIVATE_KEY, A.1)], "a section has no end"),
        (TLS, &[(CHAIN, GARBAGE), (PRIVATE_KEY, A.1)], "tls.crt: certificate 1 of 1 is no X.509 certificate"),
        (TLS, &[(CHAIN, &bad_second), (PRIVATE_KEY, LEAF.1)], "tls.crt: certificate 2 of 2 is no X.509 certificate"),
        (TLS, &[(CHAIN, &bad_third), (PRIVATE_KEY, LEAF.1)], "tls.crt: certificate 3 of 3 is no X.509 certificate"),
        (TLS, &[(CHAIN, &no_base64), (PRIVATE_KEY, LEAF.1)], "certificate 2: a section is not base64"),
        (TLS, &[(CHAIN, &no_beginning), (PRIVATE_KEY, LEAF.1)], "a section has no beginning"),
        (TLS, &[(CHAIN, &four_dashes), (PRIVATE_KEY, LEAF.1)], "a section has no proper beginning"),
        (TLS, &[(CHAIN, &trusted), (PRIVATE_KEY, LEAF.1)], "another label than CERTIFICATE"),
        (TLS, &[(CHAIN, &indented), (PRIVATE_KEY, A.1)], "a section is indented"),
        (TLS, &[(CHAIN, &wrong_order), (PRIVATE_KEY, LEAF.1)], "tls.key is the private key of certificate 2 in tls.crt, not of the first"),
        (TLS, &[(CHAIN, A.0), (PRIVATE_KEY, "Hello world\n")], "tls.key: expected a private key"),
        (TLS, &[(CHAIN, A.0), (PRIVATE_KEY, A.0)], "found a certificate"),
        (TLS, &[(CHAIN, A.1), (PRIVATE_KEY, A.1)], "found no certificate"),
        (TLS, &[(CHAIN, A.0), (PRIVATE_KEY, weird)], "expected an RSA key"),
        (TLS, &[(CHAIN, A.0), (PRIVATE_KEY, B.1)], "tls.key is not the private key"),
        (TLS, &[(CHAIN, A.0), (PRIVATE_KEY, &two_keys)], "the first of 2 keys in tls.key is not"),
        (TLS, &[(CHAIN, LEAF.0), (PRIVATE_KEY, file!("encrypted-pkcs8.key"))], "it is encrypted"),
        (TLS, &[(CHAIN, LEAF.0), (PRIVATE_KEY, file!("encrypted-old.key"))], "it is encrypted"),
        (TLS, &[(CHAIN, pem!("rsa1024").0), (PRIVATE_KEY, pem!("rsa1024").1)], "an RSA key of 1024 bits is not supported"),
        (TLS, &[(CHAIN, pem!("secp256k1").0), (PRIVATE_KEY, pem!("secp256k1").1)], "curve is not supported"),
    ] {
        let problem = certificate(&name(), &secret(kind, entries)).unwrap_err();
        assert!(problem.contains(words), "{problem}; expected {words}");
        assert!(!problem.contains("AAAA") && !problem.contains("Hello"), "{problem}");
    }
}

#[test]
fn the_chain_expires_with_its_first_certificate() {
    let not_after = |chain: &[&str], key: &str| certificate(&name(), &of((&chain.concat(), key))).unwrap().certificate.not_after;
    let (expired, expired_key) = pem!("expired");
    assert_eq!(not_after(&[LEAF.0, INTERMEDIATE], LEAF.1), 4_733_510_400);
    assert_eq!(not_after(&[expired, INTERMEDIATE], expired_key), 1_609_459_200);
    assert_eq!(not_after(&[LEAF.0, expired], LEAF.1), 1_609_459_200);
}

#[test]
fn authorities_are_certificates_or_none() {
    for (text, expected) in [
        (None, Ok(0)),
        (Some(""), Ok(0)),
        (Some(" \n"), Ok(0)),
        (Some(ROOT), Ok(1)),
        (Some(&*[ROOT, INTERMEDIATE].concat()), Ok(2)),
        (Some(GARBAGE), Err("ca.crt: certificate 1 of 1 is no X.509 certificate")),
        (Some("nothing"), Err("ca.crt: expected certificates of authorities in PEM: found no certificate")),
        (Some(&*[ROOT, GARBAGE].concat()), Err("ca.crt: certificate 2 of 2")),
    ] {
        let entries: Vec<_> = text.map(|text| (AUTHORITIES, text)).into_iter().collect();
        match (authorities(&secret(TLS, &entries)), expected) {
            (Ok(found), Ok(count)) => assert_eq!(found.map_or(0, |found| found.len()), count, "{text:?}"),
            (Err(problem), Err(words)) => assert!(problem.contains(words), "{problem}"),
            (found, _) => panic!("{found:?}, expected {expected:?}"),
        }
    }
}

#[test]
fn authorities_do_not_wait_for_the_certificate_and_outlive_a_bad_value() {
    let mut resources = Resources::default();
    let mut certificates = Certificates::default();
    let mut step = |chain: &str, authorities: Option<&str>| {
        let entries: Vec<_> = [(CHAIN, chain), (PRIVATE_KEY, A.1)].into_iter().chain(authorities.map(|text| (AUTHORITIES, text))).collect();
        resources.apply(Change::Apply(Box::new(Object::Secret(secret(TLS, &entries)))));
        let found = certificates.find(&name(), &resources);
        let shown = found.authorities.map(|all| all.iter().map(|der| crypto::sha256(der)).collect::<Vec<_>>());
        (found.certificate.is_some(), shown, found.authorities_problem.is_some())
    };
    let (root, intermediate) = (Some(vec![crypto::sha256(&pem_bytes(ROOT))]), Some(vec![crypto::sha256(&pem_bytes(INTERMEDIATE))]));
    assert_eq!(step(GARBAGE, Some(ROOT)), (false, root.clone(), false));
    assert_eq!(step(A.0, Some(GARBAGE)), (true, root, true));
    assert_eq!(step(GARBAGE, Some(INTERMEDIATE)), (true, intermediate, false));
    assert_eq!(step(A.0, None), (true, None, false));
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
