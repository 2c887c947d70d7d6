//! TLS to hosts by BackendTLSPolicies, from manifests to the wire; certificates of clients by `spec.tls.frontend`.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use rustls::{
    RootCertStore, ServerConfig,
    crypto::aws_lc_rs::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{NoClientAuth, WebPkiClientVerifier, danger::ClientCertVerifier},
};
use serde_json::{Value, json};
use tokio_rustls::TlsAcceptor;

use crate::support::{Client, Http2Upstream, Upstream, eventually};
use crate::tls::{A, Ask, Declared, Pem, Proxy};
use crate::tls_clients::{CLIENT, CLIENTS, EXPIRED, OTHER, OTHER_CLIENTS, lets_in};

const HOST: Pem = (include_str!("../certificates/host.crt"), include_str!("../certificates/host.key"));
const HOSTS: &str = include_str!("../certificates/hosts.crt");

/// TLS before a plain upstream.
struct Front {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    _runtime: tokio::runtime::Runtime,
}

/// What a handshake said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Seen {
    server_name: Option<String>,
    alpn: Option<String>,
    client: Option<CertificateDer<'static>>,
}

/// Which client certificates a host wants.
#[derive(Clone, Copy)]
enum Wants {
    Nothing,
    Required,
}

fn der(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
}

impl Front {
    fn start(pem: Pem, alpn: &[&str], wants: Wants, behind: SocketAddr) -> Self {
        let verifier: Arc<dyn ClientCertVerifier> = match wants {
            Wants::Nothing => Arc::new(NoClientAuth),
            Wants::Required => {
                let mut roots = RootCertStore::empty();
                roots.add(der(CLIENTS)).unwrap();
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::new(default_provider())).build().unwrap()
            }
        };
        let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![der(pem.0)], PrivateKeyDer::from_pem_slice(pem.1.as_bytes()).unwrap())
            .unwrap();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&seen);
        runtime.spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (acceptor, told) = (acceptor.clone(), Arc::clone(&told));
                tokio::spawn(async move {
                    let Ok(mut stream) = acceptor.accept(socket).await else { return };
                    let session = stream.get_ref().1;
                    told.lock().unwrap().push(Seen {
                        server_name: session.server_name().map(str::to_owned),
                        alpn: session.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned()),
                        client: session.peer_certificates().map(|chain| chain[0].clone().into_owned()),
                    });
                    let mut plain = tokio::net::TcpStream::connect(behind).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut stream, &mut plain).await;
                });
            }
        });
        Self { address, seen, _runtime: runtime }
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

fn gateway(name: &str, tls: &Value) -> Value {
    json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": name},
        "spec": {"gatewayClassName": "clingfish", "tls": tls, "listeners": [{"name": "http", "port": 8080, "protocol": "HTTP"}]}})
}

fn service(host: SocketAddr, app_protocol: Option<&str>) -> Vec<Value> {
    vec![
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"},
            "spec": {"ports": [{"name": "https", "port": 443, "appProtocol": app_protocol}]}}),
        json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": "s-1", "labels": {"kubernetes.io/service-name": "s"}},
            "ports": [{"name": "https", "port": host.port()}], "endpoints": [{"addresses": [host.ip()]}]}),
    ]
}

fn policy(validation: &Value) -> Value {
    let mut validation = validation.clone();
    validation["caCertificateRefs"] = json!([{"group": "", "kind": "ConfigMap", "name": "ca"}]);
    json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "BackendTLSPolicy", "metadata": {"name": "p"},
        "spec": {"targetRefs": [{"group": "", "kind": "Service", "name": "s"}], "validation": validation}})
}

fn authorities(pem: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "ca"}, "data": {"ca.crt": pem}})
}

/// One Gateway, one route, one Service with this host.
fn declared(host: SocketAddr, app_protocol: Option<&str>, tls: &Value) -> Declared {
    let mut objects = vec![
        json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass", "metadata": {"name": "clingfish"},
            "spec": {"controllerName": "clingfish.dev/gateway-controller"}}),
        gateway("gw", tls),
        json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": "route"},
            "spec": {"parentRefs": [{"name": "gw"}], "rules": [{"backendRefs": [{"name": "s", "port": 443}]}]}}),
        authorities(HOSTS),
    ];
    objects.extend(service(host, app_protocol));
    Declared::new(objects)
}

fn status(proxy: &Proxy) -> u16 {
    Client::connect(proxy.address()).get("/").status
}

#[test]
fn a_host_must_show_a_certificate_of_the_authorities_for_the_right_name() {
    let upstream = Upstream::echo("ok");
    let front = Front::start(HOST, &["http/1.1"], Wants::Nothing, upstream.address);
    let name = "host.example";
    for (authority, validation, expected) in [
        (HOSTS, json!({"hostname": name}), 200),
        (HOSTS, json!({"hostname": "HOST.example"}), 200),
        (HOSTS, json!({"hostname": "a.wild.example"}), 200),
        (HOSTS, json!({"hostname": "other.example"}), 503),
        (CLIENTS, json!({"hostname": name}), 503),
        (HOSTS, json!({"hostname": name, "subjectAltNames": [{"type": "Hostname", "hostname": name}]}), 200),
        (HOSTS, json!({"hostname": name, "subjectAltNames": [{"type": "Hostname", "hostname": "b.wild.example"}]}), 200),
        (HOSTS, json!({"hostname": name, "subjectAltNames": [{"type": "Hostname", "hostname": "*.wild.example"}]}), 200),
        (HOSTS, json!({"hostname": name, "subjectAltNames": [{"type": "Hostname", "hostname": "x.example"}]}), 503),
        (HOSTS, json!({"hostname": "other.example", "subjectAltNames": [{"type": "URI", "uri": "spiffe://example/host"}]}), 200),
        (HOSTS, json!({"hostname": name, "subjectAltNames": [{"type": "URI", "uri": "spiffe://example/hosts"}]}), 503),
        (
            HOSTS,
            json!({"hostname": name, "subjectAltNames": [{"type": "URI", "uri": "spiffe://x"}, {"type": "Hostname", "hostname": name}]}),
            200,
        ),
        (CLIENTS, json!({"hostname": name, "subjectAltNames": [{"type": "URI", "uri": "spiffe://example/host"}]}), 503),
    ] {
        let mut declared = declared(front.address, None, &json!({}));
        declared.apply(authorities(authority));
        declared.apply(policy(&validation));
        let proxy = Proxy::start(declared.snapshot());
        assert_eq!(status(&proxy), expected, "{validation}");
        if expected == 200 {
            let seen = front.seen().pop().unwrap();
            let asked = validation["hostname"].as_str().unwrap().to_ascii_lowercase();
            assert_eq!((seen.server_name, seen.alpn.as_deref(), seen.client), (Some(asked), Some("http/1.1"), None));
        }
    }
}

#[test]
fn without_a_policy_and_with_one_that_cannot_be_used_nothing_goes_in_tls_or_in_plain_text() {
    let upstream = Upstream::echo("ok");
    let front = Front::start(HOST, &[], Wants::Nothing, upstream.address);
    let mut declared = declared(upstream.address, None, &json!({}));
    let proxy = Proxy::start(declared.snapshot());
    assert_eq!(status(&proxy), 200);
    // The host does not speak TLS.
    declared.apply(policy(&json!({"hostname": "host.example"})));
    proxy.apply(declared.snapshot());
    assert_eq!(status(&proxy), 503);
    let before = upstream.requests().len();
    for wrong in [authorities(""), authorities("no PEM"), policy(&json!({"hostname": "192.0.2.1"}))] {
        declared.apply(wrong);
        proxy.apply(declared.snapshot());
        assert_eq!(status(&proxy), 500);
    }
    assert_eq!((upstream.requests().len(), front.seen().len()), (before, 0));
}

#[test]
fn a_connection_serves_many_requests_and_authorities_are_followed() {
    let upstream = Upstream::echo("ok");
    let front = Front::start(HOST, &["http/1.1"], Wants::Nothing, upstream.address);
    let mut declared = declared(front.address, Some("HTTPS"), &json!({}));
    declared.apply(policy(&json!({"hostname": "host.example"})));
    let proxy = Proxy::start(declared.snapshot());
    let mut client = Client::connect(proxy.address());
    for _ in 0..5 {
        assert_eq!(client.get("/").status, 200);
    }
    assert_eq!(front.seen().len(), 1);
    // Other authorities: what is open carries nothing more.
    declared.apply(authorities(CLIENTS));
    proxy.apply(declared.snapshot());
    assert_eq!(client.get("/").status, 503);
    declared.apply(authorities(HOSTS));
    proxy.apply(declared.snapshot());
    assert_eq!(client.get("/").status, 200);
    assert_eq!(front.seen().len(), 2);
}

#[test]
fn bodies_of_any_size_pass_both_ways() {
    const SIZE: usize = 3 << 20;
    let upstream = Upstream::start(|conversation| {
        while conversation.request_head().is_some() {
            let Some(body) = conversation.exactly(SIZE) else { return };
            conversation.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {SIZE}\r\n\r\n"));
            conversation.send(body);
        }
    });
    let front = Front::start(HOST, &["http/1.1"], Wants::Nothing, upstream.address);
    let mut declared = declared(front.address, None, &json!({}));
    declared.apply(policy(&json!({"hostname": "host.example"})));
    let proxy = Proxy::start(declared.snapshot());
    let mut client = Client::connect(proxy.address());
    let body: Vec<u8> = (0..SIZE).map(|index| (index % 251) as u8).collect();
    for _ in 0..2 {
        let mut sending = client.try_clone();
        let sent = body.clone();
        let sender = std::thread::spawn(move || {
            sending.send(format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {SIZE}\r\n\r\n"));
            sending.send(sent);
        });
        let response = client.response();
        sender.join().unwrap();
        assert_eq!((response.status, response.body == body), (200, true));
    }
    assert_eq!(front.seen().len(), 1);
}

#[test]
fn http_2_is_agreed_on_by_alpn() {
    let upstream = Http2Upstream::start(|mut seen| async move {
        seen.read().await;
        seen.respond_with(http::Response::builder().status(200).body(()).unwrap(), "ok");
    });
    let front = Front::start(HOST, &["h2", "http/1.1"], Wants::Nothing, upstream.address);
    let mut declared = declared(front.address, Some("kubernetes.io/h2c"), &json!({}));
    declared.apply(policy(&json!({"hostname": "host.example"})));
    let proxy = Proxy::start(declared.snapshot());
    let mut client = Client::connect(proxy.address());
    for _ in 0..3 {
        assert_eq!(client.get("/").status, 200);
    }
    let seen = front.seen();
    assert_eq!((seen.len(), seen[0].alpn.as_deref()), (1, Some("h2")));
    declared.apply(policy(&json!({"hostname": "other.example"})));
    proxy.apply(declared.snapshot());
    assert_eq!(client.get("/").status, 503);
}

fn secret(pem: Pem) -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "client"}, "type": "kubernetes.io/tls",
        "stringData": {"tls.crt": pem.0, "tls.key": pem.1}})
}

#[test]
fn a_gateway_shows_its_own_certificate_and_no_other_gateway_does() {
    let upstream = Upstream::echo("ok");
    let asking = Front::start(HOST, &["http/1.1"], Wants::Required, upstream.address);
    let shown = json!({"backend": {"clientCertificateRef": {"name": "client"}}});
    let mut declared = declared(asking.address, None, &shown);
    declared.apply(policy(&json!({"hostname": "host.example"})));
    declared.apply(secret(CLIENT));
    let proxy = Proxy::start(declared.snapshot());
    assert_eq!(status(&proxy), 200);
    assert_eq!(asking.seen()[0].client, Some(der(CLIENT.0)));
    // Of another authority, and then none: under TLS 1.3 the host tells only after its own handshake.
    for change in [secret(OTHER), gateway("gw", &json!({}))] {
        declared.apply(change);
        proxy.apply(declared.snapshot());
        assert_eq!(status(&proxy), 503);
    }
    declared.apply(gateway("gw", &shown));
    declared.apply(secret(CLIENT));
    proxy.apply(declared.snapshot());
    assert_eq!(status(&proxy), 200);
    // A Secret that turns bad leaves the last usable certificate.
    declared.apply(secret(("", "")));
    proxy.apply(declared.snapshot());
    assert_eq!(status(&proxy), 200);
}

#[test]
fn a_websocket_goes_on_in_tls() {
    let upstream = Upstream::start(|conversation| {
        conversation.request_head();
        conversation.send("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n");
        let bytes = conversation.at_least(4).unwrap();
        conversation.send(bytes);
    });
    let front = Front::start(HOST, &["http/1.1"], Wants::Nothing, upstream.address);
    let mut declared = declared(front.address, None, &json!({}));
    declared.apply(policy(&json!({"hostname": "host.example"})));
    let proxy = Proxy::start(declared.snapshot());
    let mut client = Client::connect(proxy.address());
    client.send("GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-key: x\r\n\r\n");
    assert!(client.head().starts_with("HTTP/1.1 101 "));
    client.send("ping");
    assert_eq!(client.exactly(4), b"ping");
}

#[test]
fn connections_whose_tls_ends_here_go_on_in_tls_and_those_that_are_passed_through_stay_as_they_are() {
    let upstream = Upstream::echo("ok");
    let front = Front::start(A, &[], Wants::Nothing, upstream.address);
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "tls"}, "type": "kubernetes.io/tls",
        "stringData": {"tls.crt": A.0, "tls.key": A.1}});
    for (mode, certificates) in [("Terminate", json!([{"name": "tls"}])), ("Passthrough", json!(null))] {
        let mut declared = declared(front.address, None, &json!({}));
        declared.apply(secret.clone());
        declared.apply(authorities(include_str!("../certificates/ca.crt")));
        declared.apply(policy(&json!({"hostname": "a.example"})));
        declared.apply(json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": "gw"},
            "spec": {"gatewayClassName": "clingfish", "listeners": [
                {"name": "tls", "port": 8443, "protocol": "TLS", "tls": {"mode": mode, "certificateRefs": certificates}}]}}));
        declared.apply(json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "TLSRoute", "metadata": {"name": "route"},
            "spec": {"parentRefs": [{"name": "gw"}], "hostnames": ["a.example"], "rules": [{"backendRefs": [{"name": "s", "port": 443}]}]}}));
        let proxy = Proxy::start(declared.snapshot());
        let mut client = Ask::named("a.example").connect(proxy.address()).unwrap();
        assert_eq!(client.get("a.example"), 200, "{mode}");
    }
    let names: Vec<_> = front.seen().into_iter().map(|seen| seen.server_name.unwrap()).collect();
    assert_eq!(names, ["a.example", "a.example"]);
}

#[test]
fn the_frontend_of_a_gateway_decides_which_clients_come_in() {
    let reference = json!([{"group": "", "kind": "ConfigMap", "name": "ca"}]);
    let frontend = |mode: &str| json!({"frontend": {"default": {"validation": {"mode": mode, "caCertificateRefs": reference}}}});
    let gateway = |tls: &Value| {
        json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": "gw"},
            "spec": {"gatewayClassName": "clingfish", "tls": tls, "listeners": [
                {"name": "https", "port": 8443, "protocol": "HTTPS", "tls": {"certificateRefs": [{"name": "tls"}]}}]}})
    };
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "tls"}, "type": "kubernetes.io/tls",
        "stringData": {"tls.crt": A.0, "tls.key": A.1}});
    let mut declared = crate::tls::declare("clingfish", &json!({}), secret);
    declared.apply(authorities(CLIENTS));
    declared.apply(gateway(&frontend("AllowValidOnly")));
    let proxy = Proxy::start(declared.snapshot());
    // None, a good one, one of another authority, one that has expired; `None`: the listener is not served at all.
    for (change, expected) in [
        (gateway(&frontend("AllowValidOnly")), Some([false, true, false, false])),
        (authorities(OTHER_CLIENTS), Some([false, false, true, false])),
        (gateway(&frontend("AllowInsecureFallback")), Some([true, true, true, true])),
        (gateway(&json!({})), Some([true, true, true, true])),
        (gateway(&frontend("AllowValidOnly")), Some([false, false, true, false])),
        (authorities("no PEM"), None),
        (authorities(CLIENTS), Some([false, true, false, false])),
    ] {
        declared.apply(change.clone());
        let snapshot = declared.snapshot();
        let is_served = !snapshot.binds.is_empty();
        proxy.apply(snapshot);
        let found = is_served.then(|| [None, Some(CLIENT), Some(OTHER), Some(EXPIRED)].map(|client| lets_in(&proxy, client)));
        assert_eq!(found, expected, "{change}");
    }
    eventually("the refused to be counted", || proxy.handshakes("client_certificate") > 0);
}
