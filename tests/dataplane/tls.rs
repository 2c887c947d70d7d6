//! TLS in front: which certificate, which protocol, which listener; certificates that change under load.

use std::{
    convert::Infallible,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use clingfish::{
    api::{self, Document},
    base::{AccessLogFormat, Kind, ObjectName, ObjectRef, Published},
    proxy::{Ceilings, Limits, ProxyConfig, Running},
    snapshot::{
        Bind, BindAddress, BindProtocol, Certificate, HostMapBuilder, HostRoutes, Hostname, Listener, Observed, Snapshot, TlsListener,
        TlsSettings, TlsTermination,
    },
    telemetry::{AccessLog, Metrics},
    translate::{Change, Options, Resources, Translation, translate},
};
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{
    ClientConfig, ClientConnection, ProtocolVersion, RootCertStore, StreamOwned,
    crypto::aws_lc_rs::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    sign::CertifiedKey,
};
use serde_json::{Value, json};

use crate::access_log::Lines;
use crate::support::{PATIENCE, Upstream, World, any_port, eventually};

macro_rules! pem {
    ($name:literal) => {
        (include_str!(concat!("../certificates/", $name, ".crt")), include_str!(concat!("../certificates/", $name, ".key")))
    };
}

pub(crate) type Pem = (&'static str, &'static str);

pub(crate) const A: Pem = pem!("a");
pub(crate) const A_NEXT: Pem = pem!("a-next");
const A_RSA: Pem = pem!("a-rsa");
pub(crate) const B: Pem = pem!("b");
const WILD: Pem = pem!("wild");
pub(crate) const ALL: Pem = pem!("all");

pub(crate) fn der((chain, _): Pem) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(chain.as_bytes()).unwrap()
}

pub(crate) fn certificate(pem: Pem, names: &[&str]) -> Arc<Certificate> {
    let key = PrivateKeyDer::from_pem_slice(pem.1.as_bytes()).unwrap();
    Arc::new(Certificate {
        secret: ObjectName::new("test", "tls"),
        names: names.iter().map(|name| Hostname::parse(name)).collect(),
        fingerprint: "".into(),
        not_before: 0,
        not_after: i64::MAX,
        key: Arc::new(CertifiedKey::from_der(vec![der(pem)], key, &default_provider()).unwrap()),
    })
}

/// A listener: hostname and the certificates it has.
type Tls = (&'static str, Vec<Arc<Certificate>>);

/// The world's routes on listeners of one HTTPS port.
pub(crate) fn snapshot(world: &World, listeners: &[Tls]) -> Snapshot {
    let plain = world.snapshot();
    let certificates = listeners.iter().map(|(hostname, certificates)| {
        let listener = TlsListener::new(*hostname, certificates.clone(), TlsSettings::default());
        (Hostname::parse(hostname), Arc::new(listener))
    });
    let termination = Arc::new(TlsTermination::new(certificates));
    let binds = plain.binds.values().map(|bind| {
        let routes = Arc::clone(bind.listeners.get("").unwrap().hosts.get("").unwrap());
        let mut map = HostMapBuilder::new();
        for (hostname, _) in listeners {
            let hostname = Hostname::parse(hostname);
            let mut hosts = HostMapBuilder::new();
            hosts.insert(hostname.clone(), Arc::new(HostRoutes::build(hostname.clone(), routes.entries().to_vec())));
            map.insert(
                hostname.clone(),
                Arc::new(Listener { name: hostname.to_string().into(), hostname, refusal: None, hosts: hosts.build() }),
            );
        }
        let bind = Bind { protocol: BindProtocol::Https(Arc::clone(&termination)), listeners: map.build(), ..(**bind).clone() };
        (bind.bound_to(), Arc::new(bind))
    });
    Snapshot { binds: binds.collect(), clusters: Arc::clone(&plain.clusters) }
}

/// A running proxy.
pub(crate) struct Proxy {
    running: Running,
    published: Arc<Published<Snapshot>>,
    metrics: Arc<Metrics>,
    bind: BindAddress,
}

impl Proxy {
    pub(crate) fn start(snapshot: Snapshot) -> Self {
        Self::start_with(ProxyConfig::default(), snapshot)
    }

    pub(crate) fn start_with(config: ProxyConfig, snapshot: Snapshot) -> Self {
        Self::start_all(config, snapshot, None)
    }

    pub(crate) fn start_all(config: ProxyConfig, snapshot: Snapshot, log: Option<&AccessLog>) -> Self {
        let bind = *snapshot.binds.keys().next().unwrap();
        let metrics = Metrics::new(config.workers);
        let published = Arc::new(Published::new(Arc::new(snapshot)));
        let running = clingfish::proxy::start(config, &published, &metrics, log).unwrap();
        let proxy = Self { running, published, metrics, bind };
        proxy.wait_for(1);
        proxy
    }

    pub(crate) fn apply(&self, snapshot: Snapshot) {
        let generation = self.published.publish(Arc::new(snapshot));
        self.wait_for(generation);
    }

    fn wait_for(&self, generation: u64) {
        let bound = self.running.bound();
        eventually("the workers to follow the snapshot", || bound.borrow().generation() >= generation);
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.running.bound().borrow().local(self.bind).expect("bound")
    }

    /// The address really bound for one that was asked for.
    pub(crate) fn bound(&self, bind: BindAddress) -> Option<SocketAddr> {
        self.running.bound().borrow().local(bind)
    }

    /// The metrics, for when the proxy has gone elsewhere.
    pub(crate) fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.metrics)
    }

    /// Drains, and says whether everything was finished in time.
    pub(crate) fn drain(self, min: Duration, max: Duration) -> bool {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(self.running.drain(min, max))
    }

    /// The value of a series; 0 where there is none.
    pub(crate) fn metric(&self, series: &str) -> f64 {
        let text = self.metrics.render();
        text.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok()).unwrap_or(0.0)
    }

    pub(crate) fn handshakes(&self, result: &str) -> usize {
        self.metric(&format!("clingfish_tls_handshakes_total{{result=\"{result}\"}}")) as usize
    }
}

/// What a client asks for.
#[derive(Clone, Copy)]
pub(crate) struct Ask {
    pub(crate) server_name: Option<&'static str>,
    pub(crate) alpn: &'static [&'static [u8]],
    pub(crate) versions: &'static [&'static rustls::SupportedProtocolVersion],
}

pub(crate) const TLS_1_2: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS12];
pub(crate) const TLS_1_3: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13];
pub(crate) const HTTP_1: &[&[u8]] = &[b"http/1.1"];
pub(crate) const HTTP_2: &[&[u8]] = &[b"h2"];
const BOTH: &[&[u8]] = &[b"http/1.1", b"h2"];

pub(crate) const ASK: Ask = Ask { server_name: None, alpn: &[], versions: &[&rustls::version::TLS13, &rustls::version::TLS12] };

impl Ask {
    pub(crate) const fn named(name: &'static str) -> Self {
        Self { server_name: Some(name), ..ASK }
    }

    pub(crate) fn config(self) -> ClientConfig {
        self.config_of(None)
    }

    /// With the certificate that the client shows when it is asked for one.
    pub(crate) fn config_of(self, client: Option<Pem>) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(include_bytes!("../certificates/ca.crt")).unwrap()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(self.versions)
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match client {
            Some(pem) => builder.with_client_auth_cert(vec![der(pem)], PrivateKeyDer::from_pem_slice(pem.1.as_bytes()).unwrap()).unwrap(),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = self.alpn.iter().map(|protocol| protocol.to_vec()).collect();
        config.enable_sni = self.server_name.is_some();
        config
    }

    /// The name to verify. Without SNI the certificate must still be for a name: one that the catch-all's has.
    fn name(self) -> ServerName<'static> {
        ServerName::try_from(self.server_name.unwrap_or("fallback.example")).unwrap()
    }

    /// Connects and completes the handshake.
    pub(crate) fn connect(self, address: SocketAddr) -> Result<Client, std::io::Error> {
        self.connect_with(&Arc::new(self.config()), address)
    }

    pub(crate) fn connect_with(self, config: &Arc<ClientConfig>, address: SocketAddr) -> Result<Client, std::io::Error> {
        let socket = TcpStream::connect(address)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let session = ClientConnection::new(Arc::clone(config), self.name()).unwrap();
        let mut stream = StreamOwned::new(session, socket);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(Client(stream))
    }
}

/// A client whose handshake is done.
pub(crate) struct Client(pub(crate) StreamOwned<ClientConnection, TcpStream>);

impl Client {
    pub(crate) fn certificate(&self) -> CertificateDer<'static> {
        self.0.conn.peer_certificates().unwrap()[0].clone().into_owned()
    }

    /// Status of a GET for this host.
    pub(crate) fn get(&mut self, host: &str) -> u16 {
        let head = self.exchange(format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n").as_bytes());
        head.split(' ').nth(1).unwrap().parse().unwrap()
    }

    /// Sends, and reads until the head and a body by content-length are there.
    fn exchange(&mut self, request: &[u8]) -> String {
        self.0.write_all(request).unwrap();
        let mut seen = Vec::new();
        loop {
            let text = String::from_utf8_lossy(&seen).into_owned();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length =
                    head.lines().find_map(|line| line.strip_prefix("content-length: ")).map_or(0, |length| length.parse().unwrap());
                if body.len() >= length {
                    return text;
                }
            }
            let mut chunk = [0; 4096];
            let length = self.0.read(&mut chunk).unwrap();
            assert!(length > 0, "closed after {text:?}");
            seen.extend(&chunk[..length]);
        }
    }
}

fn alert(error: &std::io::Error) -> Option<rustls::AlertDescription> {
    match error.get_ref()?.downcast_ref::<rustls::Error>()? {
        rustls::Error::AlertReceived(alert) => Some(*alert),
        _ => None,
    }
}

#[test]
fn the_server_name_chooses_the_listener_and_the_listener_its_certificate() {
    let upstream = Upstream::echo("ok");
    let world = World::to(&[upstream.address]);
    let listeners = [
        ("", vec![certificate(ALL, &["fallback.example"])]),
        ("a.example", vec![certificate(B, &["b.example"]), certificate(A, &["a.example"])]),
        ("*.wild.example", vec![certificate(WILD, &["*.wild.example"])]),
    ];
    let proxy = Proxy::start(snapshot(&world, &listeners));
    for (server_name, expected) in
        [(Some("a.example"), A), (Some("A.Example"), A), (Some("x.wild.example"), WILD), (Some("c.example"), ALL), (None, ALL)]
    {
        for versions in [TLS_1_3, TLS_1_2] {
            let mut client = Ask { server_name, versions, ..ASK }.connect(proxy.address()).unwrap();
            assert_eq!(client.certificate(), der(expected), "{server_name:?}");
            assert_eq!(client.0.conn.protocol_version(), versions.first().map(|version| version.version));
            assert_eq!(client.get(server_name.unwrap_or("fallback.example")), 200);
        }
    }
    assert!(upstream.last().contains("x-forwarded-proto: https\r\n"), "{}", upstream.last());
    assert_eq!(proxy.handshakes("ok"), 10);
}

#[test]
fn the_certificate_with_the_longest_matching_name_is_shown_in_whatever_order() {
    let world = World::to(&[Upstream::echo("ok").address]);
    let (all, exact, wild) =
        (certificate(ALL, &["*.example", "*.wild.example"]), certificate(A, &["a.example"]), certificate(WILD, &["x.wild.example"]));
    for order in [[&all, &exact, &wild], [&wild, &all, &exact], [&exact, &wild, &all]] {
        let certificates: Vec<_> = order.into_iter().map(Arc::clone).collect();
        // The listener that serves is the one that the name belongs to, whatever another one's certificates are.
        let listeners = [
            ("*.example", certificates),
            ("b.example", vec![certificate(B, &["b.example"])]),
            ("", vec![certificate(ALL, &["b.example"])]),
        ];
        let proxy = Proxy::start(snapshot(&world, &listeners));
        for (name, expected) in [("a.example", A), ("b.example", B), ("c.example", ALL), ("x.wild.example", WILD), ("y.wild.example", ALL)]
        {
            for versions in [TLS_1_3, TLS_1_2] {
                let config = Arc::new(trusting(versions));
                assert_eq!(
                    Ask::named(name).connect_with(&config, proxy.address()).unwrap().certificate(),
                    der(expected),
                    "{name} of {order:?}"
                );
            }
        }
    }
}

/// A client that takes any certificate.
pub(crate) fn trusting(versions: &[&'static rustls::SupportedProtocolVersion]) -> ClientConfig {
    let provider = Arc::new(default_provider());
    ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Trusting(provider)))
        .with_no_client_auth()
}

#[test]
fn the_access_log_has_the_server_name_and_the_version() {
    let world = World::to(&[Upstream::echo("ok").address]);
    let (lines, log) = Lines::start(AccessLogFormat::Json);
    let listeners = [("", vec![certificate(ALL, &["fallback.example"])])];
    let proxy = Proxy::start_all(ProxyConfig::default(), snapshot(&world, &listeners), Some(&log));
    for (index, (server_name, versions, expected)) in
        [(Some("a.example"), TLS_1_3, "TLSv1.3"), (None, TLS_1_2, "TLSv1.2")].into_iter().enumerate()
    {
        let mut client = Ask { server_name, versions, ..ASK }.connect(proxy.address()).unwrap();
        assert_eq!(client.get("any.example"), 200);
        let line = lines.json(index + 1).remove(index);
        assert_eq!((line["tls_server_name"].as_str(), &line["tls_version"]), (server_name, &expected.into()), "{line}");
    }
}

#[test]
fn a_client_gets_a_certificate_that_it_can_verify() {
    let world = World::to(&[Upstream::echo("ok").address]);
    let listeners = [("a.example", vec![certificate(A, &["a.example"]), certificate(A_RSA, &["a.example"])])];
    let proxy = Proxy::start(snapshot(&world, &listeners));
    let ask = Ask { versions: TLS_1_2, ..Ask::named("a.example") };
    assert_eq!(ask.connect(proxy.address()).unwrap().certificate(), der(A));
    let mut provider = default_provider();
    provider.cipher_suites.retain(|suite| format!("{:?}", suite.suite()).contains("ECDHE_RSA"));
    provider.signature_verification_algorithms.mapping = provider
        .signature_verification_algorithms
        .mapping
        .iter()
        .filter(|(scheme, _)| format!("{scheme:?}").starts_with("RSA"))
        .copied()
        .collect::<Vec<_>>()
        .leak();
    let provider = Arc::new(provider);
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(ask.versions)
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Trusting(provider)))
        .with_no_client_auth();
    assert_eq!(ask.connect_with(&Arc::new(config), proxy.address()).unwrap().certificate(), der(A_RSA));
}

/// Accepts any certificate: what is looked at is which one was sent.
#[derive(Debug)]
struct Trusting(Arc<rustls::crypto::CryptoProvider>);

impl Trusting {
    /// Whether the server has the key of the certificate. What rustls has for it takes certificates of version 3 only.
    fn verify(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        let parsed = clingfish::base::x509::X509::parse(certificate).unwrap();
        let schemes = self.0.signature_verification_algorithms.mapping;
        let algorithms = schemes.iter().filter(|(scheme, _)| *scheme == signature.scheme).flat_map(|(_, algorithms)| *algorithms);
        let mut fitting = algorithms.filter(|algorithm| algorithm.public_key_alg_id().as_ref() == parsed.public_key_algorithm);
        let good = fitting.any(|algorithm| algorithm.verify_signature(parsed.public_key, message, signature.signature()).is_ok());
        assert!(good, "{:?}", signature.scheme);
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }
}

impl rustls::client::danger::ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        self.verify(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        self.verify(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[test]
fn a_name_without_listener_or_certificate_is_refused() {
    let world = World::to(&[Upstream::echo("ok").address]);
    let listeners = [("a.example", vec![certificate(A, &["a.example"])]), ("b.example", vec![])];
    let proxy = Proxy::start(snapshot(&world, &listeners));
    for ask in [Ask::named("c.example"), Ask::named("b.example"), ASK] {
        let error = ask.connect(proxy.address()).err().unwrap();
        assert_eq!(alert(&error), Some(rustls::AlertDescription::UnrecognisedName), "{error}");
    }
    let wide = [("", vec![certificate(ALL, &["b.example"])]), ("b.example", vec![])];
    proxy.apply(snapshot(&world, &wide));
    assert!(Ask::named("b.example").connect(proxy.address()).is_err(), "no other listener answers in its place");
    assert!(Ask::named("c.example").connect(proxy.address()).is_ok());
    eventually("all to be counted", || proxy.handshakes("unknown_name") == 4);
}

#[test]
fn alpn_decides_the_protocol() {
    let world = World::to(&[Upstream::echo("ok").address]);
    let proxy = Proxy::start(snapshot(&world, &[("", vec![certificate(A, &["a.example"])])]));
    for (alpn, agreed) in [(&[][..], None), (HTTP_1, Some("http/1.1")), (HTTP_2, Some("h2")), (BOTH, Some("h2"))] {
        let mut client = Ask { alpn, ..Ask::named("a.example") }.connect(proxy.address()).unwrap();
        assert_eq!(client.0.conn.alpn_protocol(), agreed.map(str::as_bytes));
        if agreed != Some("h2") {
            assert_eq!(client.get("a.example"), 200);
        }
    }
    let error = Ask { alpn: &[b"imap"], ..Ask::named("a.example") }.connect(proxy.address()).err().unwrap();
    assert_eq!(alert(&error), Some(rustls::AlertDescription::NoApplicationProtocol));
    eventually("it to be counted", || proxy.handshakes("incompatible") == 1);
}

/// The status of one request over HTTP/2, on a connection of its own.
async fn http2(proxy: &Proxy, server_name: &'static str, hosts: &[&str]) -> Vec<u16> {
    let config = Ask { alpn: HTTP_2, ..Ask::named(server_name) }.config();
    let socket = tokio::net::TcpStream::connect(proxy.address()).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let stream = connector.connect(ServerName::try_from(server_name).unwrap(), socket).await.unwrap();
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.unwrap();
    let connection = tokio::spawn(connection);
    let mut statuses = Vec::new();
    for host in hosts {
        let body = Empty::<Bytes>::new().map_err(|never: Infallible| match never {});
        let request = Request::get(format!("https://{host}/")).body(body).unwrap();
        let response = sender.send_request(request).await.unwrap();
        statuses.push(response.status().as_u16());
        response.into_body().collect().await.unwrap();
    }
    connection.abort();
    statuses
}

#[tokio::test]
async fn requests_for_another_listener_than_the_connections_are_misdirected() {
    let world = World::to(&[Upstream::echo("ok").address]);
    let all = || vec![certificate(ALL, &["a.example", "b.example", "c.example", "*.wild.example"])];
    let listeners = [("", all()), ("a.example", all()), ("b.example", all()), ("*.wild.example", all())];
    let proxy = Proxy::start(snapshot(&world, &listeners));
    for (server_name, hosts, statuses) in [
        ("a.example", &["a.example", "b.example", "A.EXAMPLE", "c.example"][..], &[200, 421, 200, 421]),
        ("c.example", &["c.example", "other.example", "a.example", "x.wild.example"], &[200, 200, 421, 421]),
        ("x.wild.example", &["y.wild.example", "x.wild.example", "a.example", "c.example"], &[200, 200, 421, 421]),
    ] {
        assert_eq!(http2(&proxy, server_name, hosts).await, statuses, "{server_name}");
    }
}

#[test]
fn certificates_change_under_load_without_a_failed_handshake() {
    let upstream = Upstream::echo("ok");
    let world = World::to(&[upstream.address]);
    let with = |pem| snapshot(&world, &[("a.example", vec![certificate(pem, &["a.example"])])]);
    let proxy = Proxy::start_with(ProxyConfig { workers: 2, ..ProxyConfig::default() }, with(A));
    let mut established = Ask::named("a.example").connect(proxy.address()).unwrap();
    let (stop, done) = (AtomicBool::new(false), AtomicUsize::new(0));
    let address = proxy.address();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                // One configuration, so that sessions are resumed: tickets of the certificate before must not break a handshake.
                let config = Arc::new(Ask::named("a.example").config());
                while !stop.load(SeqCst) {
                    let mut client = Ask::named("a.example").connect_with(&config, address).expect("a handshake");
                    assert_eq!(client.get("a.example"), 200);
                    done.fetch_add(1, SeqCst);
                }
            });
        }
        for turn in 0..200 {
            proxy.apply(with(if turn % 2 == 0 { A_NEXT } else { A }));
        }
        let seen = done.load(SeqCst);
        eventually("handshakes after the last change", || done.load(SeqCst) > seen + 20);
        stop.store(true, SeqCst);
    });
    assert_eq!(established.get("a.example"), 200, "connections go on");
    assert_eq!(proxy.handshakes("ok"), done.load(SeqCst) + 1);
    proxy.apply(with(A_NEXT));
    assert_eq!(Ask::named("a.example").connect(address).unwrap().certificate(), der(A_NEXT), "the next handshake has the new one");
}

#[test]
fn sessions_are_resumed_with_the_same_listener_only() {
    let world = World::to(&[Upstream::echo("ok").address]);
    let with = |pem| snapshot(&world, &[("a.example", vec![certificate(pem, &["a.example"])])]);
    let (one, other) = (Proxy::start(with(A)), Proxy::start(with(A)));
    let config = Arc::new(Ask::named("a.example").config());
    let resumed = |proxy: &Proxy| {
        let mut client = Ask::named("a.example").connect_with(&config, proxy.address()).unwrap();
        // The tickets come with the first answer.
        assert_eq!(client.get("a.example"), 200);
        client.0.conn.handshake_kind() == Some(rustls::HandshakeKind::Resumed)
    };
    assert_eq!((resumed(&one), resumed(&one)), (false, true));
    assert!(!resumed(&other), "a ticket is no word of another port");
}

#[test]
fn what_is_no_tls_and_who_does_not_go_on_is_turned_away() {
    let world = World::to(&[Upstream::echo("ok").address]);
    let limits = Limits { first_byte: Duration::from_millis(200), ..Limits::default() };
    let config = ProxyConfig { limits, idle_tick: Duration::from_millis(20), ..ProxyConfig::default() };
    let proxy = Proxy::start_with(config, snapshot(&world, &[("", vec![certificate(A, &["a.example"])])]));
    let mut plain = crate::support::Client::connect(proxy.address());
    plain.send("GET / HTTP/1.1\r\nhost: a.example\r\n\r\n");
    assert_eq!(plain.until_closed().first(), Some(&21), "an alert, and nothing of a response");
    let mut silent = crate::support::Client::connect(proxy.address());
    assert!(silent.is_closed());
    let mut stalled = crate::support::Client::connect(proxy.address());
    stalled.send([22, 3, 1, 2, 0, 1, 0]);
    assert!(stalled.is_closed());
    drop(crate::support::Client::connect(proxy.address()));
    eventually("all to be counted", || {
        (proxy.handshakes("malformed"), proxy.handshakes("timed_out"), proxy.handshakes("closed")) == (1, 2, 1)
    });
    let mut distrusting = Ask::named("a.example").config();
    distrusting = ClientConfig::builder_with_provider(distrusting.crypto_provider().clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    assert!(Ask::named("a.example").connect_with(&Arc::new(distrusting), proxy.address()).is_err());
    eventually("it to be counted", || proxy.handshakes("refused_by_client") == 1);
}

#[test]
fn a_handshake_waits_for_its_turn_and_who_keeps_silent_gives_way() {
    let world = World::to(&[Upstream::echo("ok").address]);
    let config = ProxyConfig { ceilings: Ceilings { tls_handshakes: 1, ..Ceilings::default() }, ..ProxyConfig::default() };
    let proxy = Proxy::start_with(config, snapshot(&world, &[("", vec![certificate(A, &["a.example"])])]));
    let metric = |name: &str| {
        let text = proxy.metrics.render();
        text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok()).unwrap_or(0)
    };
    let mut session = ClientConnection::new(Arc::new(Ask::named("a.example").config()), Ask::named("a.example").name()).unwrap();
    let mut silent = TcpStream::connect(proxy.address()).unwrap();
    // Says whom it wants, and does not answer what it is told.
    session.write_tls(&mut silent).unwrap();
    eventually("its turn to come", || metric("clingfish_tls_handshakes_in_progress") == 1);
    let halves: Vec<_> = (0..5).map(|_| crate::support::Client::connect(proxy.address())).collect();
    assert_eq!(Ask::named("a.example").connect(proxy.address()).unwrap().get("a.example"), 200);
    assert_eq!((metric("clingfish_tls_handshakes_waited_total"), metric("clingfish_tls_handshakes_in_progress")), (1, 0));
    assert_eq!((proxy.handshakes("timed_out"), proxy.handshakes("ok")), (1, 1));
    drop(halves);
}

#[test]
fn a_slow_request_head_is_told_so_over_tls() {
    let world = World::to(&[Upstream::echo("ok").address]);
    let limits = Limits { request_head: Duration::from_millis(100), ..Limits::default() };
    let config = ProxyConfig { limits, idle_tick: Duration::from_millis(20), ..ProxyConfig::default() };
    let proxy = Proxy::start_with(config, snapshot(&world, &[("", vec![certificate(A, &["a.example"])])]));
    let mut client = Ask::named("a.example").connect(proxy.address()).unwrap();
    assert!(client.exchange(b"GET / HTTP/1.1\r\n").starts_with("HTTP/1.1 408 "));
    let mut rest = Vec::new();
    client.0.read_to_end(&mut rest).expect("a proper end, not a cut");
}

#[test]
fn a_connection_over_tls_rests_and_serves_on() {
    let upstream = Upstream::echo("ok");
    let world = World::to(&[upstream.address]);
    let proxy = Proxy::start_with(crate::resting::soon(), snapshot(&world, &[("a.example", vec![certificate(A, &["a.example"])])]));
    for versions in [TLS_1_3, TLS_1_2] {
        let mut client = Ask { versions, ..Ask::named("a.example") }.connect(proxy.address()).unwrap();
        for _ in 0..3 {
            assert_eq!(client.get("a.example"), 200);
            eventually("the connection to rest", || proxy.metrics.render().contains("clingfish_downstream_connections_resting 1"));
        }
    }
}

#[test]
fn a_connection_without_tls_is_not_served_on_a_port_that_became_https() {
    let world = World::to(&[Upstream::echo("ok").address]);
    let proxy = Proxy::start(world.snapshot());
    let mut before = crate::support::Client::connect(proxy.address());
    assert_eq!(before.get("/").status, 200);
    proxy.apply(snapshot(&world, &[("", vec![certificate(A, &["a.example"])])]));
    assert_eq!(before.get("/").status, 404);
    assert!(before.is_closed());
    let mut client = Ask::named("a.example").connect(proxy.address()).unwrap();
    assert_eq!(client.get("a.example"), 200);
    proxy.apply(world.snapshot());
    assert_eq!(client.get("a.example"), 404);
}

#[test]
fn a_websocket_goes_through_tls() {
    let upstream = Upstream::start(|conversation| {
        conversation.request_head();
        conversation.send("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n");
        let bytes = conversation.at_least(4).unwrap();
        conversation.send(bytes);
    });
    let world = World::to(&[upstream.address]);
    let proxy = Proxy::start(snapshot(&world, &[("", vec![certificate(A, &["a.example"])])]));
    let mut client = Ask::named("a.example").connect(proxy.address()).unwrap();
    let head =
        client.exchange(b"GET / HTTP/1.1\r\nhost: a.example\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-key: x\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    client.0.write_all(b"ping").unwrap();
    let mut echoed = [0; 4];
    client.0.read_exact(&mut echoed).unwrap();
    assert_eq!(&echoed, b"ping");
}

// === from manifests to the wire ===

/// What `standalone` does without its files: resources, translation, publication.
pub(crate) struct Declared {
    resources: Resources,
    translation: Option<Translation>,
}

impl Declared {
    pub(crate) fn new(objects: Vec<Value>) -> Self {
        let mut declared = Self { resources: Resources::default(), translation: None };
        for object in objects {
            declared.apply(object);
        }
        declared
    }

    pub(crate) fn apply(&mut self, object: Value) {
        let Ok(Document::Object(object)) = api::decode(object.clone()) else { panic!("{object}") };
        self.resources.apply(Change::Apply(object));
    }

    pub(crate) fn snapshot(&mut self) -> Snapshot {
        let options = Options { bind: any_port().ip(), assume_bound: true, ..Options::default() };
        let translation = translate(&self.resources, &Observed::default(), &options, self.translation.take());
        self.resources.clear_changes();
        // Tests have only ports that the system chooses.
        let binds = translation.snapshot.binds.values().map(|bind| Bind { address: any_port(), ..(**bind).clone() });
        let binds = binds.map(|bind| (bind.bound_to(), Arc::new(bind)));
        let snapshot = Snapshot { binds: binds.collect(), clusters: Arc::clone(&translation.snapshot.clusters) };
        self.translation = Some(translation);
        snapshot
    }

    /// Status and message of the listener's ResolvedRefs.
    pub(crate) fn resolved_refs(&self) -> (String, String) {
        let gateway = ObjectRef { kind: Kind::Gateway, name: ObjectName::new("default", "gw") };
        let status = serde_json::to_value(&*self.translation.as_ref().unwrap().statuses[&gateway]).unwrap();
        let conditions = status["listeners"][0]["conditions"].as_array().unwrap();
        let found = conditions.iter().find(|condition| condition["type"] == "ResolvedRefs").unwrap();
        (found["status"].as_str().unwrap().to_owned(), found["message"].as_str().unwrap().to_owned())
    }
}

fn secret(pem: (&str, &str)) -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "tls"}, "type": "kubernetes.io/tls",
        "stringData": {"tls.crt": pem.0, "tls.key": pem.1}})
}

#[test]
fn a_bad_secret_keeps_the_last_good_certificate_on_the_wire() {
    let mut declared = declare("clingfish", &json!({}), secret(A));
    let proxy = Proxy::start(declared.snapshot());
    let mut client = Ask::named("a.example").connect(proxy.address()).unwrap();
    let answer = client.exchange(b"GET /x HTTP/1.1\r\nhost: a.example\r\n\r\n");
    assert!(answer.contains("location: https://elsewhere.example:8443/x\r\n"), "{answer}");
    for (secret, serving, resolved) in
        [(secret((A_NEXT.0, A.1)), A, "False"), (secret(A_NEXT), A_NEXT, "True"), (secret(("", "")), A_NEXT, "False")]
    {
        declared.apply(secret);
        proxy.apply(declared.snapshot());
        assert_eq!(Ask::named("a.example").connect(proxy.address()).unwrap().certificate(), der(serving));
        let (status, message) = declared.resolved_refs();
        assert_eq!((&*status, message.contains("keeps serving")), (resolved, resolved == "False"), "{message}");
    }
    assert_eq!(client.0.conn.protocol_version(), Some(ProtocolVersion::TLSv1_3));
}

/// What a Gateway of this class with one listener is made of.
pub(crate) fn declare(class: &str, options: &Value, secret: Value) -> Declared {
    Declared::new(vec![
        json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass", "metadata": {"name": class},
            "spec": {"controllerName": "clingfish.dev/gateway-controller"}}),
        json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": "gw"},
            "spec": {"gatewayClassName": class, "listeners": [
                {"name": "https", "port": 8443, "protocol": "HTTPS", "tls": {"certificateRefs": [{"name": "tls"}], "options": options}}]}}),
        json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": "route"},
            "spec": {"parentRefs": [{"name": "gw"}], "rules": [
                {"filters": [{"type": "RequestRedirect", "requestRedirect": {"hostname": "elsewhere.example"}}]}]}}),
        secret,
    ])
}

#[test]
fn certificates_of_all_kinds_serve() {
    let leaf = (concat!(include_str!("../certificates/leaf.crt"), include_str!("../certificates/intermediate.crt")), pem!("leaf").1);
    for pem in [pem!("v1"), pem!("common-name"), pem!("p521"), pem!("rsa8192"), pem!("expired"), A_RSA, B, leaf] {
        let mut declared = declare("clingfish", &json!({}), secret(pem));
        let proxy = Proxy::start(declared.snapshot());
        assert_eq!(declared.resolved_refs().0, "True", "{}", declared.resolved_refs().1);
        for versions in [TLS_1_3, TLS_1_2] {
            let mut client = Ask::named("a.example").connect_with(&Arc::new(trusting(versions)), proxy.address()).unwrap();
            assert_eq!((client.certificate(), client.get("a.example")), (der(pem), 302), "{}", pem.0);
        }
    }
}

#[test]
fn a_malformed_intermediate_leaves_the_last_good_chain_serving() {
    let garbage = format!("{}-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", A_NEXT.0);
    let mut declared = declare("clingfish", &json!({}), secret(A));
    let proxy = Proxy::start(declared.snapshot());
    declared.apply(secret((&garbage, A_NEXT.1)));
    proxy.apply(declared.snapshot());
    assert_eq!(Ask::named("a.example").connect(proxy.address()).unwrap().certificate(), der(A));
    let (status, message) = declared.resolved_refs();
    assert_eq!(status, "False");
    assert!(message.contains("Secret default/tls: tls.crt: certificate 2 of 2 is no X.509 certificate"), "{message}");
}

#[test]
fn a_client_that_offers_a_key_exchange_safe_from_quantum_computers_gets_it() {
    use rustls::NamedGroup::{X25519, X25519MLKEM768};
    let world = World::to(&[Upstream::echo("ok").address]);
    let proxy = Proxy::start(snapshot(&world, &[("", vec![certificate(A, &["a.example"])])]));
    for (groups, expected) in [(&[X25519MLKEM768, X25519][..], X25519MLKEM768), (&[X25519MLKEM768], X25519MLKEM768), (&[X25519], X25519)] {
        let mut provider = default_provider();
        let find = |wanted: &rustls::NamedGroup| default_provider().kx_groups.into_iter().find(|group| group.name() == *wanted).unwrap();
        provider.kx_groups = groups.iter().map(find).collect();
        let provider = Arc::new(provider);
        let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(TLS_1_3)
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Trusting(provider)))
            .with_no_client_auth();
        let mut client = Ask::named("a.example").connect_with(&Arc::new(config), proxy.address()).unwrap();
        assert_eq!(client.0.conn.negotiated_key_exchange_group().map(|group| group.name()), Some(expected), "{groups:?}");
        assert_eq!(client.get("a.example"), 200);
    }
}
