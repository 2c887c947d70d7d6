//! Clients' certificates and `tls.options`, as Gloo has them: from manifests to the wire.

use std::{
    io::{self, Read, Write},
    sync::Arc,
};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{
    ClientConfig, HandshakeKind,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use serde_json::{Value, json};

use crate::support::eventually;
use crate::tls::{A, A_NEXT, Ask, Declared, HTTP_2, Pem, Proxy, TLS_1_2, TLS_1_3, declare};

macro_rules! pem {
    ($name:literal) => {
        (include_str!(concat!("../certificates/", $name, ".crt")), include_str!(concat!("../certificates/", $name, ".key")))
    };
}

pub(crate) const CLIENT: Pem = pem!("client");
pub(crate) const OTHER: Pem = pem!("other-client");
pub(crate) const EXPIRED: Pem = pem!("expired-client");
pub(crate) const CLIENTS: &str = include_str!("../certificates/clients.crt");
pub(crate) const OTHER_CLIENTS: &str = include_str!("../certificates/other-clients.crt");

fn secret(pem: Pem, authorities: Option<&str>) -> Value {
    let mut secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "tls"}, "type": "kubernetes.io/tls",
        "stringData": {"tls.crt": pem.0, "tls.key": pem.1}});
    if let Some(authorities) = authorities {
        secret["stringData"]["ca.crt"] = authorities.into();
    }
    secret
}

fn gloo(options: &Value) -> Declared {
    declare("gloo-gateway", options, secret(A, Some(CLIENTS)))
}

fn option(name: &str, value: &str) -> Value {
    json!({format!("gateway.gloo.solo.io/ssl/{name}"): value})
}

/// The status of a request, and whether the session was resumed. Under TLS 1.3 a client learns only from the answer that it is not let in.
fn request(proxy: &Proxy, config: &Arc<ClientConfig>) -> io::Result<(u16, bool)> {
    let mut client = Ask::named("a.example").connect_with(config, proxy.address())?;
    client.0.write_all(b"GET / HTTP/1.1\r\nhost: a.example\r\n\r\n")?;
    let mut head = [0; 12];
    client.0.read_exact(&mut head)?;
    let status = std::str::from_utf8(&head[9..]).unwrap().parse().unwrap();
    Ok((status, client.0.conn.handshake_kind() == Some(HandshakeKind::Resumed)))
}

/// Whether a client with this certificate is let in, under both versions.
pub(crate) fn lets_in(proxy: &Proxy, client: Option<Pem>) -> bool {
    let results = [TLS_1_2, TLS_1_3].map(|versions| {
        let ask = Ask { versions, ..Ask::named("a.example") };
        match request(proxy, &Arc::new(ask.config_of(client))) {
            Ok((status, _)) => {
                assert_eq!(status, 302);
                true
            }
            Err(_) => false,
        }
    });
    assert_eq!(results[0], results[1], "TLS 1.2 and 1.3");
    results[0]
}

#[test]
fn gloos_authorities_decide_which_clients_come_in() {
    for (class, authorities, options, expected) in [
        // None, a good one, one of another authority, one that has expired.
        ("gloo-gateway", Some(CLIENTS), json!({}), [false, true, false, false]),
        ("gloo-gateway", Some(OTHER_CLIENTS), json!({}), [false, false, true, false]),
        ("gloo-gateway", None, json!({}), [true, true, true, true]),
        ("gloo-gateway", Some(""), json!({}), [true, true, true, true]),
        ("gloo-gateway", Some(CLIENTS), option("one-way-tls", "true"), [true, true, false, false]),
        ("gloo-gateway", Some(CLIENTS), option("one-way-tls", "false"), [false, true, false, false]),
        ("gloo-gateway", Some(CLIENTS), option("verify-subject-alt-name", "x,spiffe://example/client"), [false, true, false, false]),
        ("gloo-gateway", Some(CLIENTS), option("verify-subject-alt-name", "someone.example"), [false, false, false, false]),
        // Another class: cert-manager writes ca.crt for everybody.
        ("clingfish", Some(CLIENTS), json!({}), [true, true, true, true]),
        ("clingfish", Some(CLIENTS), option("one-way-tls", "false"), [false, true, false, false]),
    ] {
        let proxy = Proxy::start(declare(class, &options, secret(A, authorities)).snapshot());
        let found = [None, Some(CLIENT), Some(OTHER), Some(EXPIRED)].map(|client| lets_in(&proxy, client));
        assert_eq!(found, expected, "{class} {options}");
        let refused = 2 * found.iter().filter(|lets_in| !**lets_in).count();
        eventually("the refused to be counted", || proxy.handshakes("client_certificate") == refused);
    }
}

#[tokio::test]
async fn http_2_asks_for_a_certificate_as_well() {
    let proxy = Proxy::start(gloo(&json!({})).snapshot());
    for (client, expected) in [(Some(CLIENT), Some(302)), (None, None), (Some(OTHER), None)] {
        let config = Ask { alpn: HTTP_2, ..Ask::named("a.example") }.config_of(client);
        let socket = tokio::net::TcpStream::connect(proxy.address()).await.unwrap();
        let stream =
            tokio_rustls::TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("a.example").unwrap(), socket).await.unwrap();
        let exchange = async {
            let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.ok()?;
            tokio::spawn(connection);
            let request = Request::get("https://a.example/").body(Empty::<Bytes>::new()).unwrap();
            let response = sender.send_request(request).await.ok()?;
            let status = response.status().as_u16();
            response.into_body().collect().await.ok()?;
            Some(status)
        };
        assert_eq!(exchange.await, expected);
    }
}

#[test]
fn a_ticket_does_not_get_round_changed_authorities_or_names() {
    for versions in [TLS_1_2, TLS_1_3] {
        let ask = Ask { versions, ..Ask::named("a.example") };
        let config = Arc::new(ask.config_of(Some(CLIENT)));
        let mut declared = gloo(&json!({}));
        let proxy = Proxy::start(declared.snapshot());
        assert_eq!(request(&proxy, &config).unwrap(), (302, false));
        assert_eq!(request(&proxy, &config).unwrap(), (302, true), "tickets are good while nothing changes");
        // An object that does not matter here leaves them good.
        declared.apply(json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "unrelated"}}));
        proxy.apply(declared.snapshot());
        assert_eq!(request(&proxy, &config).unwrap(), (302, true));
        declared.apply(secret(A, Some(OTHER_CLIENTS)));
        proxy.apply(declared.snapshot());
        for _ in 0..2 {
            assert!(request(&proxy, &config).is_err(), "the authority is not trusted any more");
        }
        declared.apply(secret(A_NEXT, Some(CLIENTS)));
        proxy.apply(declared.snapshot());
        assert_eq!(request(&proxy, &config).unwrap(), (302, false));
    }
}

#[test]
fn authorities_that_turn_bad_stay_in_force_and_those_that_never_were_good_let_nobody_in() {
    let mut declared = gloo(&json!({}));
    let proxy = Proxy::start(declared.snapshot());
    declared.apply(secret(A_NEXT, Some("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")));
    proxy.apply(declared.snapshot());
    assert_eq!((lets_in(&proxy, Some(CLIENT)), lets_in(&proxy, None)), (true, false));
    let (status, message) = declared.resolved_refs();
    assert_eq!(status, "False");
    assert!(message.contains("ca.crt: certificate 1 of 1") && message.contains("last usable authorities stay in force"), "{message}");

    let mut never = declare("gloo-gateway", &json!({}), secret(A, Some("nothing")));
    assert!(never.snapshot().binds.is_empty(), "the one listener has nothing to serve with");
    assert_eq!(never.resolved_refs().0, "False");
}

#[test]
fn versions_and_suites_are_what_the_options_say() {
    for (options, tls_1_2, tls_1_3) in [
        (json!({}), true, true),
        (option("minimum-tls-version", "TLSv1_3"), false, true),
        (option("maximum-tls-version", "TLSv1_2"), true, false),
        // The certificate's key is ECDSA.
        (option("cipher-suites", "ECDHE-RSA-AES128-GCM-SHA256"), false, true),
        (option("cipher-suites", "ECDHE-ECDSA-AES128-GCM-SHA256"), true, true),
        (option("ecdh-curves", "P-256"), true, true),
    ] {
        let proxy = Proxy::start(declare("gloo-gateway", &options, secret(A, None)).snapshot());
        let speaks = |versions| request(&proxy, &Arc::new(Ask { versions, ..Ask::named("a.example") }.config())).is_ok();
        assert_eq!((speaks(TLS_1_2), speaks(TLS_1_3)), (tls_1_2, tls_1_3), "{options}");
    }
    let mut refused = declare("gloo-gateway", &option("minimum-tls-versions", "TLSv1_3"), secret(A, None));
    assert!(refused.snapshot().binds.is_empty(), "an option that is not known is not skipped");
}

#[test]
fn no_other_listener_answers_for_one_that_is_refused_for_its_guard() {
    let mut declared = declare("gloo-gateway", &json!({}), secret(A, None));
    let reference = json!([{"name": "tls"}]);
    for (options, expected) in [
        (json!({}), [true, true]),
        (option("verify-subject-alt-name", "client.example"), [false, true]),
        (option("minimum-tls-versions", "TLSv1_3"), [false, true]),
        (option("minimum-tls-version", "TLSv1_3"), [true, true]),
    ] {
        // The route is attached to both.
        declared.apply(json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": "gw"},
            "spec": {"gatewayClassName": "gloo-gateway", "listeners": [
                {"name": "any", "port": 8443, "protocol": "HTTPS", "tls": {"certificateRefs": reference}},
                {"name": "guarded", "port": 8443, "protocol": "HTTPS", "hostname": "a.example",
                    "tls": {"certificateRefs": reference, "options": options}}]}}));
        let proxy = Proxy::start(declared.snapshot());
        let served = ["a.example", "b.example"].map(|name| {
            let config = Arc::new(crate::tls::trusting(TLS_1_3));
            let mut client = Ask::named(name).connect_with(&config, proxy.address()).ok()?;
            Some(client.get(name))
        });
        assert_eq!(served, expected.map(|served| served.then_some(302)), "{options}");
    }
}

#[test]
fn a_certificate_that_expired_since_is_not_let_in_by_its_ticket() {
    use clingfish::snapshot::{ClientValidation, ClientValidationMode, TlsListener, TlsSettings};
    let der = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    let listener = |mode| {
        let validation = ClientValidation { authorities: [der(CLIENTS)].into(), mode, subject_alt_names: [].into() };
        TlsListener::new("https", Vec::new(), TlsSettings { client_validation: Some(Arc::new(validation)), ..TlsSettings::default() })
    };
    let shown = [None, Some([der(CLIENT.0)]), Some([der(EXPIRED.0)]), Some([der(OTHER.0)])];
    for (mode, expected) in [
        (ClientValidationMode::AllowValidOnly, [false, true, false, false]),
        (ClientValidationMode::AllowValidOrNone, [true, true, false, false]),
        (ClientValidationMode::AllowInsecureFallback, [true, true, true, true]),
    ] {
        let listener = listener(mode);
        assert_eq!(shown.each_ref().map(|shown| listener.readmits(shown.as_ref().map(<[_; 1]>::as_slice))), expected, "{mode:?}");
    }
    assert!(TlsListener::new("https", Vec::new(), TlsSettings::default()).readmits(None));
}
