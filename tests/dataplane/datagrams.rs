//! Datagrams of UDP: flows between clients and hosts.

use std::{
    net::{SocketAddr, UdpSocket},
    thread,
    time::Duration,
};

use clingfish::{
    base::{AccessLogFormat, Kind},
    lb::{MaglevConfig, Policy},
    proxy::{Ceilings, ProxyConfig},
    snapshot::{Bind, BindAddress, BindProtocol, CircuitBreakers, HashPolicy, HashSource, Snapshot, Timeouts},
};

use crate::access_log::Lines;
use crate::streams::with_protocol;
use crate::support::{PATIENCE, Served, Upstream, World, eventually};
use crate::tls::Proxy;

const TICK: Duration = Duration::from_millis(5);

fn udp_route(served: &mut Served) {
    served.kind = Kind::UdpRoute;
    served.policy.timeouts = Timeouts { request: None, idle: Some(Duration::from_secs(60)), ..Timeouts::default() };
}

/// The world's routes on a port of UDP.
fn udp(world: &World) -> Snapshot {
    with_protocol(world.snapshot(), |bind| Bind { protocol: BindProtocol::Udp, ..bind.clone() })
}

/// The same at another address.
fn udp_at(world: &World, address: &str) -> Snapshot {
    with_protocol(world.snapshot(), |bind| Bind { protocol: BindProtocol::Udp, address: address.parse().unwrap(), ..bind.clone() })
}

/// With affinity by the client's address.
fn sticky(hosts: &[SocketAddr]) -> World {
    World::to(hosts).with(|served| {
        udp_route(served);
        served.lb = Policy::Maglev(MaglevConfig::default());
        served.policy.hash = [HashPolicy { source: HashSource::SourceIp, terminal: false }].into();
    })
}

fn quick() -> ProxyConfig {
    ProxyConfig { tick: TICK, idle_tick: TICK, ..ProxyConfig::default() }
}

/// A host that says its name before what it hears.
fn named(name: &'static str) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    thread::spawn(move || {
        let mut buffer = vec![0; 70_000];
        while let Ok((length, client)) = socket.recv_from(&mut buffer) {
            let said: Vec<u8> = name.bytes().chain(buffer[..length].iter().copied()).collect();
            let _ = socket.send_to(&said, client);
        }
    });
    address
}

/// An address where nobody listens.
fn nobody() -> SocketAddr {
    UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn client_at(address: &str, proxy: SocketAddr) -> UdpSocket {
    let client = UdpSocket::bind(address).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.connect(proxy).unwrap();
    client
}

fn client(proxy: &Proxy) -> UdpSocket {
    client_at("127.0.0.1:0", proxy.address())
}

fn ask(client: &UdpSocket, datagram: &[u8]) -> Vec<u8> {
    client.send(datagram).unwrap();
    hear(client)
}

fn hear(client: &UdpSocket) -> Vec<u8> {
    let mut buffer = vec![0; 70_000];
    let length = client.recv(&mut buffer).expect("an answer");
    buffer.truncate(length);
    buffer
}

#[test]
fn datagrams_go_both_ways_and_a_flow_has_a_line_in_the_log() {
    let host = named("a");
    let (lines, log) = Lines::start(AccessLogFormat::Json);
    let world = World::to(&[host]).with(|served| {
        udp_route(served);
        served.policy.timeouts.idle = Some(Duration::from_millis(200));
    });
    let proxy = Proxy::start_all(quick(), udp(&world), Some(&log));
    let one = client(&proxy);
    let two = client(&proxy);
    for round in 0..3 {
        assert_eq!(ask(&one, b"one"), b"aone", "{round}");
        assert_eq!(ask(&two, b""), b"a", "{round}: an empty datagram is one, too");
    }
    assert_eq!(proxy.metric("clingfish_udp_flows_open"), 2.0);
    assert_eq!(proxy.metric("clingfish_udp_datagrams_total{to=\"host\"}"), 6.0);
    // Counted when it is on its way.
    eventually("all answers to be counted", || proxy.metric("clingfish_udp_datagrams_total{to=\"client\"}") == 6.0);
    let mut told = lines.json(2);
    told.sort_by_key(|line| line["bytes_received"].as_u64());
    assert_eq!((&told[1]["bytes_received"], &told[1]["bytes_sent"]), (&9.into(), &12.into()), "{told:?}");
    assert_eq!(told[1]["upstream_host"], host.to_string());
    assert_eq!(told[1]["route"], "UDPRoute test/route");
    assert_eq!(told[1]["peer"], one.local_addr().unwrap().to_string());
    assert_eq!((&told[1]["listener"], &told[1]["flag"]), (&"http".into(), &"-".into()));
    assert_eq!(proxy.metric("clingfish_udp_flows_open"), 0.0);
    assert_eq!(proxy.metric("clingfish_udp_flows_total{flag=\"-\"}"), 2.0);
    assert_eq!(proxy.metric("clingfish_requests_in_flight"), 0.0);
}

#[test]
fn the_largest_datagram_passes_whole() {
    let proxy = Proxy::start(udp(&World::to(&[named("")]).with(udp_route)));
    let largest: Vec<u8> = (0..65_507_u32).map(|index| index as u8).collect();
    assert_eq!(ask(&client(&proxy), &largest), largest);
}

#[test]
fn the_answer_comes_from_the_address_that_was_asked() {
    let proxy = Proxy::start(udp_at(&World::to(&[named("a")]).with(udp_route), "0.0.0.0:0"));
    let port = proxy.address().port();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    for asked in ["127.0.0.2", "127.0.0.3", "127.0.0.2"] {
        let asked = SocketAddr::new(asked.parse().unwrap(), port);
        client.send_to(b"x", asked).unwrap();
        let mut buffer = [0; 16];
        let (length, from) = client.recv_from(&mut buffer).unwrap();
        assert_eq!((&buffer[..length], from), (&b"ax"[..], asked));
    }
    assert_eq!(proxy.metric("clingfish_udp_flows_open"), 2.0, "a flow for each address that a client asks");
}

#[test]
fn a_clients_address_keeps_its_host_over_all_workers_and_the_next_one_takes_over() {
    let names = ["a", "b", "c"];
    let mut hosts = names.map(named);
    let proxy = Proxy::start_with(ProxyConfig { workers: 3, ..quick() }, udp(&sticky(&hosts)));
    let host_of = |socket: &UdpSocket| usize::from(ask(socket, b"")[0] - b'a');
    let mut seen = [false; 3];
    let mut of_first = 0;
    for number in 1..=20_u8 {
        let sockets: Vec<_> = (0..6).map(|_| client_at(&format!("127.0.0.{number}:0"), proxy.address())).collect();
        let chosen = host_of(&sockets[0]);
        assert!(sockets.iter().all(|socket| host_of(socket) == chosen), "every port of an address has the same host");
        seen[chosen] = true;
        of_first = if number == 1 { chosen } else { of_first };
    }
    assert_eq!(seen, [true; 3], "the hosts share the clients");
    // Its pod is replaced: this flow chooses anew, those of the other hosts stay.
    let others: Vec<_> = (1..=20_u8).map(|number| client_at(&format!("127.0.0.{number}:0"), proxy.address())).collect();
    let before: Vec<_> = others.iter().map(host_of).collect();
    hosts[of_first] = named("d");
    proxy.apply(udp(&sticky(&hosts)));
    for (socket, before) in others.iter().zip(before) {
        let now = host_of(socket);
        assert_eq!(now == before, before != of_first, "{before} {now}");
    }
    eventually("the flows of the host that is gone to end", || proxy.metric("clingfish_udp_flows_total{flag=\"UC\"}") > 1.0);
}

#[test]
fn a_flow_keeps_its_host_when_the_route_changes() {
    let (first, second) = (named("a"), named("b"));
    let mut world = World::to(&[first]).with(udp_route);
    let mut other = Served::new("/other", &[second]);
    udp_route(&mut other);
    world.clusters.push(other);
    let proxy = Proxy::start(udp(&world));
    let old = client(&proxy);
    assert_eq!(ask(&old, b""), b"a");
    (world.clusters[0].prefix, world.clusters[1].prefix) = ("/other", "");
    proxy.apply(udp(&world));
    assert_eq!(ask(&old, b""), b"a", "its host is still one of its cluster's");
    assert_eq!(ask(&client(&proxy), b""), b"b");
}

#[test]
fn flows_end_with_their_port_and_tcp_stays() {
    let (udp_host, tcp_host) = (named("a"), Upstream::echo("tcp"));
    let world = World::to(&[udp_host]).with(udp_route);
    // An address of its own: connections of other tests have ports of TCP.
    let of_udp = udp_at(&world, "127.0.0.77:0");
    let proxy = Proxy::start(Snapshot { binds: of_udp.binds.clone(), clusters: of_udp.clusters.clone() });
    let address = proxy.address();
    let of_tcp = World { binds: vec![address], ..World::to(&[tcp_host.address]) }.snapshot();
    // A port of TCP with the number of the one of UDP.
    let mut both = Snapshot { binds: of_udp.binds.clone(), clusters: of_udp.clusters };
    both.binds.extend(of_tcp.binds.clone());
    proxy.apply(both);
    let client = client(&proxy);
    assert_eq!(ask(&client, b""), b"a");
    assert_eq!(proxy.bound(BindAddress::tcp(address)), Some(address));
    proxy.apply(of_tcp);
    eventually("the flow to end", || proxy.metric("clingfish_udp_flows_open") == 0.0);
    assert_eq!(proxy.bound(BindAddress::udp(address)), None);
    assert_eq!(crate::support::Client::connect(address).get("/").status, 200);
    eventually("the port of UDP to be free", || UdpSocket::bind(address).is_ok());
}

#[test]
fn a_host_that_refuses_ends_the_flow_and_the_next_datagram_begins_another() {
    let (lines, log) = Lines::start(AccessLogFormat::Json);
    let proxy = Proxy::start_all(quick(), udp(&World::to(&[nobody()]).with(udp_route)), Some(&log));
    let client = client(&proxy);
    for expected in [1.0, 2.0] {
        client.send(b"x").unwrap();
        eventually("the flow to end", || proxy.metric("clingfish_udp_flows_total{flag=\"UF\"}") == expected);
    }
    assert_eq!(lines.json(2)[0]["flag"], "UF");
    let proxy = Proxy::start(udp(&World::to(&[]).with(udp_route)));
    self::client(&proxy).send(b"x").unwrap();
    eventually("it to be counted", || proxy.metric("clingfish_udp_flows_total{flag=\"UH\"}") == 1.0);
    assert_eq!(proxy.metric("clingfish_udp_flows_open"), 0.0);
}

#[test]
fn a_flood_of_new_flows_does_not_drive_out_those_in_use() {
    let config = ProxyConfig { ceilings: Ceilings { flows: 20, flows_per_listener: 16, ..Ceilings::default() }, ..quick() };
    let proxy = Proxy::start_with(config, udp(&World::to(&[named("a")]).with(udp_route)));
    let friend = client(&proxy);
    for _ in 0..3 {
        ask(&friend, b"");
    }
    let flood: Vec<_> = (0..100).map(|_| client(&proxy)).collect();
    for socket in &flood {
        socket.send(b"x").unwrap();
    }
    eventually("the flood to be refused", || proxy.metric("clingfish_udp_flows_refused_total{reason=\"max_flows_per_listener\"}") == 85.0);
    assert_eq!(proxy.metric("clingfish_udp_flows_open"), 16.0);
    assert_eq!(ask(&friend, b"y"), b"ay");
    thread::sleep(Duration::from_millis(1_050));
    // Whoever sent one datagram and has been quiet since makes room.
    assert_eq!(ask(&client(&proxy), b"z"), b"az");
    assert_eq!(proxy.metric("clingfish_udp_flows_total{flag=\"OM\"}"), 1.0);
    assert_eq!(proxy.metric("clingfish_udp_flows_open"), 16.0);
    assert_eq!(ask(&friend, b"y"), b"ay");
}

#[test]
fn a_backend_has_no_more_flows_than_it_asks_for_connections() {
    let breakers = CircuitBreakers { max_connections: Some(1), ..CircuitBreakers::default() };
    let world = World::to(&[named("a")]).with(|served| {
        udp_route(served);
        served.breakers = breakers;
    });
    let proxy = Proxy::start(udp(&world));
    let first = client(&proxy);
    assert_eq!(ask(&first, b""), b"a");
    client(&proxy).send(b"x").unwrap();
    eventually("the second to be refused", || proxy.metric("clingfish_udp_flows_total{flag=\"UO\"}") == 1.0);
    assert_eq!(ask(&first, b""), b"a");
}

#[test]
fn a_drain_lets_flows_go_on_and_begins_none() {
    let world = World::to(&[named("a")]).with(udp_route);
    let config = ProxyConfig { limits: clingfish::proxy::Limits { farewell: Duration::from_millis(600), ..Default::default() }, ..quick() };
    let proxy = Proxy::start_with(config, udp(&world));
    let old = client(&proxy);
    assert_eq!(ask(&old, b""), b"a");
    let (address, metrics) = (proxy.address(), proxy.metrics());
    let draining = thread::spawn(move || proxy.drain(Duration::ZERO, PATIENCE));
    eventually("new flows to be refused", || {
        assert_eq!(ask(&old, b""), b"a");
        client_at("127.0.0.1:0", address).send(b"x").unwrap();
        let text = metrics.render();
        text.lines().any(|line| line.starts_with("clingfish_udp_flows_refused_total{reason=\"draining\"}") && !line.ends_with(" 0"))
    });
    assert!(draining.join().unwrap(), "it ends once the flow has been quiet for a while");
}

#[test]
fn flows_stay_where_they_are_while_workers_without_any_have_drained() {
    let config = ProxyConfig {
        workers: 6,
        limits: clingfish::proxy::Limits { farewell: Duration::from_millis(600), ..Default::default() },
        ..quick()
    };
    let proxy = Proxy::start_with(config, udp(&World::to(&[named("a")]).with(udp_route)));
    let old: Vec<_> = (0..3).map(|_| client(&proxy)).collect();
    let all_go_on = || old.iter().for_each(|client| assert_eq!(ask(client, b""), b"a"));
    all_go_on();
    let (address, metrics) = (proxy.address(), proxy.metrics());
    let draining = thread::spawn(move || proxy.drain(Duration::ZERO, PATIENCE));
    eventually("new flows to be refused", || {
        all_go_on();
        client_at("127.0.0.1:0", address).send(b"x").unwrap();
        let text = metrics.render();
        text.lines().any(|line| line.starts_with("clingfish_udp_flows_refused_total{reason=\"draining\"}") && !line.ends_with(" 0"))
    });
    let begun = tokio::time::Instant::now();
    while begun.elapsed() < Duration::from_millis(500) {
        all_go_on();
    }
    assert!(draining.join().unwrap(), "it ends once the flows have been quiet for a while");
}
