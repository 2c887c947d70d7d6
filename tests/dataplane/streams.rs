//! Connections that are not looked at: TCP, and TLS that passes through or ends at the gateway.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    thread,
    time::Duration,
};

use clingfish::{
    base::{AccessLogFormat, Kind},
    lb::{MaglevConfig, Policy},
    proxy::ProxyConfig,
    snapshot::{
        Action, Bind, BindProtocol, CircuitBreakers, FixedReply, HashPolicy, HashSource, HostMapBuilder, HostRoutes, Hostname, Listener,
        Snapshot, Timeouts, TlsContent, TlsListener, TlsSettings, TlsTermination,
    },
};
use http::StatusCode;
use rustls::{ServerConfig, ServerConnection, StreamOwned, pki_types::PrivateKeyDer, pki_types::pem::PemObject};

use crate::access_log::Lines;
use crate::support::{Client, PATIENCE, Served, Upstream, World, eventually};
use crate::tls::{A, ALL, Ask, B, HTTP_1, HTTP_2, Pem, Proxy, certificate, der};

/// A listener: hostname, the first cluster or the second, and its certificate; without one it passes connections through.
type Tls = (&'static str, usize, Option<Pem>);

pub(crate) fn tcp_route(served: &mut Served) {
    served.kind = Kind::TcpRoute;
    served.policy.timeouts = Timeouts { request: None, idle: Some(Duration::from_secs(3600)), ..Timeouts::default() };
}

/// The world's routes on a port of TCP.
pub(crate) fn tcp(world: &World) -> Snapshot {
    with_protocol(world.snapshot(), |bind| Bind { protocol: BindProtocol::Tcp, ..bind.clone() })
}

/// The world's clusters behind listeners of a TLS port.
fn tls(world: &World, listeners: &[Tls]) -> Snapshot {
    let terminating = listeners.iter().filter_map(|(hostname, _, pem)| {
        let certificates = vec![certificate((*pem)?, &[hostname])];
        Some((
            Hostname::parse(hostname),
            Arc::new(TlsListener::new(*hostname, certificates, TlsSettings { content: TlsContent::Opaque, ..TlsSettings::default() })),
        ))
    });
    let termination = Arc::new(TlsTermination::new(terminating));
    with_protocol(world.snapshot(), |bind| {
        let routes = bind.listeners.get("").unwrap().hosts.get("").unwrap();
        let mut map = HostMapBuilder::new();
        for (name, cluster, _) in listeners {
            let hostname = Hostname::parse(name);
            let of_cluster = routes.entries().iter().filter(|entry| usize::from(entry.rule.index) == *cluster);
            let mut hosts = HostMapBuilder::new();
            hosts.insert(hostname.clone(), Arc::new(HostRoutes::build(hostname.clone(), of_cluster.cloned().collect())));
            map.insert(hostname.clone(), Arc::new(Listener { name: (*name).into(), hostname, refusal: None, hosts: hosts.build() }));
        }
        Bind { protocol: BindProtocol::Tls(Arc::clone(&termination)), listeners: map.build(), ..bind.clone() }
    })
}

pub(crate) fn with_protocol(snapshot: Snapshot, change: impl Fn(&Bind) -> Bind) -> Snapshot {
    let binds = snapshot.binds.values().map(|bind| change(bind)).map(|bind| (bind.bound_to(), Arc::new(bind))).collect();
    Snapshot { binds, ..snapshot }
}

/// A host that says a word and then repeats what it hears.
fn parrot(word: &'static str) -> Upstream {
    Upstream::start(move |conversation| {
        conversation.send(word);
        while let Some(bytes) = conversation.at_least(1) {
            conversation.send(bytes);
        }
    })
}

#[test]
fn bytes_go_both_ways_and_the_end_of_one_side_is_not_that_of_the_other() {
    let upstream = Upstream::start(|conversation| {
        conversation.send("hello ");
        let heard = conversation.until_closed();
        conversation.send(format!("heard {}", heard.len()));
    });
    let (lines, log) = Lines::start(AccessLogFormat::Json);
    let proxy = Proxy::start_all(ProxyConfig::default(), tcp(&World::to(&[upstream.address]).with(tcp_route)), Some(&log));
    let mut client = Client::connect(proxy.address());
    assert_eq!(client.exactly(6), b"hello ");
    assert_eq!(proxy.metric("clingfish_stream_connections_open"), 1.0);
    let large = vec![7; 3_000_000];
    client.send(&large);
    client.finish();
    assert_eq!(client.until_closed(), b"heard 3000000");
    let line = lines.json(1).remove(0);
    let sent = b"hello heard 3000000".len();
    assert_eq!((&line["bytes_received"], &line["bytes_sent"]), (&3_000_000.into(), &sent.into()), "{line}");
    assert_eq!(line["upstream_host"], upstream.address.to_string(), "{line}");
    assert_eq!(proxy.metric("clingfish_stream_connections_total{flag=\"-\"}"), 1.0);
    assert_eq!(proxy.metric("clingfish_stream_connections_open"), 0.0);
    assert_eq!(proxy.metric("clingfish_requests_in_flight"), 0.0);
}

#[test]
fn a_clients_address_keeps_its_host_and_the_next_one_takes_over() {
    let names = ["one", "two", "three"];
    let upstreams = names.map(parrot);
    let addresses = upstreams.each_ref().map(|upstream| upstream.address);
    let mut hosts = addresses.to_vec();
    let world = |hosts: &[SocketAddr]| {
        World::to(hosts).with(|served| {
            tcp_route(served);
            served.lb = Policy::Maglev(MaglevConfig::default());
            served.policy.hash = [HashPolicy { source: HashSource::SourceIp, terminal: false }].into();
        })
    };
    let proxy = Proxy::start(tcp(&world(&hosts)));
    let asked = |proxy: &Proxy| {
        let word = Client::connect(proxy.address()).exactly(3);
        names.iter().position(|name| name.as_bytes()[..3] == word[..]).unwrap()
    };
    let first = asked(&proxy);
    for _ in 0..20 {
        assert_eq!(asked(&proxy), first);
    }
    // Nobody listens there any more.
    hosts[first] = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    proxy.apply(tcp(&world(&hosts)));
    let second = asked(&proxy);
    assert_eq!(second, asked(&proxy));
}

#[test]
fn what_goes_nowhere_is_closed() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let refusing = World::to(&[nobody]).with(|served| {
        tcp_route(served);
        served.instead = Some(Action::Respond(FixedReply { status: StatusCode::INTERNAL_SERVER_ERROR, reason: "no backendRefs".into() }));
    });
    for (world, flag) in [(World::to(&[nobody]).with(tcp_route), "UF"), (World::to(&[]).with(tcp_route), "UH"), (refusing, "-")] {
        let proxy = Proxy::start(tcp(&world));
        assert!(Client::connect(proxy.address()).until_closed().is_empty());
        let series = format!("clingfish_stream_connections_total{{flag=\"{flag}\"}}");
        eventually("the connection to be counted", || proxy.metric(&series) == 1.0);
    }
}

#[test]
fn a_cluster_has_no_more_connections_than_it_may() {
    let upstream = parrot("hello");
    let world = World::to(&[upstream.address]).with(|served| {
        tcp_route(served);
        served.breakers = CircuitBreakers { max_connections: Some(1), ..CircuitBreakers::default() };
    });
    let proxy = Proxy::start(tcp(&world));
    let mut first = Client::connect(proxy.address());
    assert_eq!(first.exactly(5), b"hello");
    assert!(Client::connect(proxy.address()).until_closed().is_empty());
    drop(first);
    eventually("the first to be gone", || proxy.metric("clingfish_stream_connections_open") == 0.0);
    assert_eq!(Client::connect(proxy.address()).exactly(5), b"hello");
}

#[test]
fn a_connection_on_which_nothing_moves_ends() {
    let upstream = parrot("hello");
    let world = World::to(&[upstream.address]).with(|served| {
        tcp_route(served);
        served.policy.timeouts.idle = Some(Duration::from_millis(100));
    });
    let tick = Duration::from_millis(5);
    let proxy = Proxy::start_all(ProxyConfig { tick, idle_tick: tick, ..ProxyConfig::default() }, tcp(&world), None);
    assert_eq!(Client::connect(proxy.address()).until_closed(), b"hello");
    eventually("the connection to be counted", || proxy.metric("clingfish_stream_connections_total{flag=\"SI\"}") == 1.0);
}

/// A host that terminates TLS by itself and answers with a word.
fn tls_host(pem: Pem, word: &'static str) -> SocketAddr {
    let key = PrivateKeyDer::from_pem_slice(pem.1.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = Arc::new(builder.with_no_client_auth().with_single_cert(vec![der(pem)], key).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = StreamOwned::new(ServerConnection::new(Arc::clone(&config)).unwrap(), stream.unwrap());
            let _ = stream.write_all(word.as_bytes()).and_then(|()| stream.flush());
            stream.conn.send_close_notify();
            let _ = stream.flush();
        }
    });
    address
}

#[test]
fn the_server_name_decides_who_ends_tls() {
    let (encrypted, plain) = (tls_host(B, "behind"), parrot("inside"));
    let mut world = World::to(&[encrypted]).with(tcp_route);
    let mut second = Served::new("", &[plain.address]);
    tcp_route(&mut second);
    world.clusters.push(second);
    // The wider hostname is terminated here, the one within it is not, and the other way round.
    let listeners = [("*.example", 1, Some(ALL)), ("b.example", 0, None), ("a.example", 1, Some(A))];
    let proxy = Proxy::start(tls(&world, &listeners));
    for (name, shown, word) in [("b.example", B, "behind"), ("a.example", A, "inside"), ("c.example", ALL, "inside")] {
        let mut client = Ask { alpn: HTTP_2, ..Ask::named(name) }.connect(proxy.address()).unwrap();
        assert_eq!((client.certificate(), client.0.conn.alpn_protocol()), (der(shown), None), "{name}");
        let mut heard = [0; 6];
        client.0.read_exact(&mut heard).unwrap();
        assert_eq!(std::str::from_utf8(&heard).unwrap(), word, "{name}");
    }
    assert_eq!(proxy.handshakes("ok"), 2);
    let refused = Ask::named("elsewhere.test").connect(proxy.address()).err().unwrap();
    assert_eq!(refused.kind(), std::io::ErrorKind::UnexpectedEof, "closed, as the Gateway API's conformance tests ask");
    assert_eq!(proxy.handshakes("unknown_name"), 1);
}

#[test]
fn https_and_tls_share_a_port() {
    let (encrypted, http) = (tls_host(B, "behind"), Upstream::echo("page"));
    let mut world = World::to(&[encrypted]).with(tcp_route);
    world.clusters.push(Served::new("", &[http.address]));
    let mixed = tls(&world, &[("b.example", 0, None), ("a.example", 1, Some(A))]);
    let page = TlsListener::new("a.example", vec![certificate(A, &["a.example"])], TlsSettings::default());
    let termination = Arc::new(TlsTermination::new([(Hostname::parse("a.example"), Arc::new(page))]));
    let proxy = Proxy::start(with_protocol(mixed, |bind| Bind { protocol: BindProtocol::Tls(Arc::clone(&termination)), ..bind.clone() }));
    let mut client = Ask { alpn: HTTP_1, ..Ask::named("a.example") }.connect(proxy.address()).unwrap();
    assert_eq!(client.0.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
    assert_eq!(client.get("a.example"), 200);
    assert_eq!(client.get("b.example"), 421, "what is passed through is not had over HTTPS");
    let mut client = Ask::named("b.example").connect(proxy.address()).unwrap();
    let mut heard = [0; 6];
    client.0.read_exact(&mut heard).unwrap();
    assert_eq!((client.certificate(), &heard), (der(B), b"behind"));
}

#[test]
fn a_hello_that_comes_in_pieces_passes_through_whole() {
    let heard = Upstream::start(|conversation| {
        let hello = conversation.at_least(1).unwrap();
        conversation.note(format!("{} {}", hello[0], hello.len()));
        conversation.send("ok");
    });
    let proxy = Proxy::start(tls(&World::to(&[heard.address]).with(tcp_route), &[("", 0, None)]));
    let mut hello = Vec::new();
    let config = Arc::new(Ask::named("a.example").config());
    let mut session = rustls::ClientConnection::new(config, "a.example".try_into().unwrap()).unwrap();
    session.write_tls(&mut hello).unwrap();
    let mut client = TcpStream::connect(proxy.address()).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.set_nodelay(true).unwrap();
    for byte in &hello {
        client.write_all(&[*byte]).unwrap();
    }
    let mut answer = [0; 2];
    client.read_exact(&mut answer).unwrap();
    assert_eq!((&answer, heard.last()), (b"ok", format!("22 {}", hello.len())));
}

#[test]
fn what_is_no_hello_is_closed() {
    let upstream = parrot("hello");
    let proxy = Proxy::start(tls(&World::to(&[upstream.address]).with(tcp_route), &[("", 0, None)]));
    let mut client = Client::connect(proxy.address());
    client.send("GET / HTTP/1.1\r\nhost: a.example\r\n\r\n");
    client.until_closed();
    eventually("the handshake to be counted", || proxy.handshakes("malformed") == 1);
    assert_eq!(upstream.connections(), 0);
}
