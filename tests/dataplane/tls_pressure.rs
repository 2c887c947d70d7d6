//! Clients over TLS that cost much: what the TLS library buffers for them is counted and bounded, and many small records hold up nobody.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use clingfish::proxy::{Ceilings, Limits, ProxyConfig};

use crate::support::{Upstream, World, eventually};
use crate::tls::{A, Ask, Client, HTTP_2, Proxy, TLS_1_2, TLS_1_3, certificate, snapshot};

const UPGRADE: &[u8] = b"GET /ws HTTP/1.1\r\nhost: a.example\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-key: k\r\n\r\n";
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
const BUFFERED: &str = "clingfish_buffered_bytes";
const REFUSED: &str = "clingfish_requests_refused_total{reason=\"buffers\"}";
const STALLED: &str = "clingfish_requests_refused_total{reason=\"stalled\"}";

/// How many connections press on the budget.
const CROWD: usize = 24;

/// A budget with room for a part of a crowd only.
const BUDGET: usize = 256 * 1024;

fn start(upstream: &Upstream, config: ProxyConfig) -> Proxy {
    let world = World::to(&[upstream.address]);
    Proxy::start_with(config, snapshot(&world, &[("", vec![certificate(A, &["a.example"])])]))
}

fn bounded() -> ProxyConfig {
    ProxyConfig { ceilings: Ceilings { buffered_bytes: BUDGET, ..Ceilings::default() }, ..ProxyConfig::default() }
}

fn client(proxy: &Proxy) -> Client {
    Ask::named("a.example").connect_with(&Arc::new(Ask::named("a.example").config()), proxy.address()).unwrap()
}

fn tunnel(proxy: &Proxy, versions: &'static [&'static rustls::SupportedProtocolVersion]) -> Client {
    let ask = Ask { versions, ..Ask::named("a.example") };
    let mut client = ask.connect_with(&Arc::new(ask.config()), proxy.address()).unwrap();
    client.0.write_all(UPGRADE).unwrap();
    let mut head = vec![0; SWITCH.len()];
    client.0.read_exact(&mut head).unwrap();
    assert!(head.starts_with(b"HTTP/1.1 101 "));
    client
}

/// Sends without end into a tunnel, and answers requests.
fn pour(conversation: &mut crate::support::Conversation) {
    while let Some(request) = conversation.request() {
        if request.starts_with("GET /ws ") {
            conversation.send(SWITCH);
            while conversation.stream.write_all(&[b'x'; 65536]).is_ok() {}
            return;
        }
        conversation.reply("ok");
    }
}

#[test]
fn what_waits_to_be_sent_to_a_client_is_counted() {
    let upstream = Upstream::start(pour);
    let proxy = start(&upstream, ProxyConfig::default());
    for versions in [TLS_1_3, TLS_1_2] {
        let tunnel = tunnel(&proxy, versions);
        eventually("records to be gathered and counted", || proxy.metric(BUFFERED) > 48.0 * 1024.0);
        assert!(proxy.metric(BUFFERED) <= 96.0 * 1024.0, "64 KiB of records, and the tunnel's own buffers");
        drop(tunnel);
        eventually("the buffers to be free", || proxy.metric(BUFFERED) == 0.0);
    }
}

#[test]
fn tunnels_that_nobody_reads_hold_no_more_than_the_budget_and_make_room() {
    let upstream = Upstream::start(pour);
    let proxy = start(&upstream, bounded());
    let mut tunnels = Vec::new();
    for _ in 0..CROWD {
        let Ok(mut client) = Ask::named("a.example").connect_with(&Arc::new(Ask::named("a.example").config()), proxy.address()) else {
            continue;
        };
        client.0.write_all(UPGRADE).unwrap();
        tunnels.push(client);
        let buffered = proxy.metric(BUFFERED);
        assert!(buffered < (BUDGET + CROWD * 32 * 1024) as f64, "{buffered} bytes");
    }
    eventually("tunnels to be ended", || proxy.metric(STALLED) > 0.0);
    eventually("an ordinary request to be served", || client(&proxy).get("a.example") == 200);
    drop(tunnels);
    eventually("the buffers to be free", || proxy.metric(BUFFERED) == 0.0);
}

/// The beginning of a ClientHello of 60 KiB, in records of at most `size` bytes.
fn endless_hello(bytes: usize, size: usize) -> Vec<u8> {
    let mut hello = vec![1, 0, 0xea, 0x60, 3, 3];
    hello.resize(bytes, 0);
    hello.chunks(size).flat_map(|part| [&[22, 3, 1], &(part.len() as u16).to_be_bytes()[..], part].concat()).collect()
}

#[test]
fn hellos_that_do_not_end_hold_no_more_than_the_budget() {
    let upstream = Upstream::echo("ok");
    for size in [16 * 1024, 4] {
        let proxy = start(&upstream, bounded());
        let hello = endless_hello(40 * 1024 * size / (size + 5), size);
        let crowd: Vec<_> = (0..CROWD)
            .map(|_| {
                let mut socket = TcpStream::connect(proxy.address()).unwrap();
                // Who is turned away may not get all of it out.
                let _ = socket.write_all(&hello);
                socket
            })
            .collect();
        eventually("some to be turned away", || proxy.metric(REFUSED) > 0.0);
        eventually("the others to be counted", || proxy.metric(BUFFERED) > 100_000.0);
        let buffered = proxy.metric(BUFFERED);
        assert!(buffered < (BUDGET + CROWD * 8 * 1024) as f64, "{buffered} bytes");
        drop(crowd);
        eventually("the buffers to be free", || proxy.metric(BUFFERED) == 0.0);
        assert_eq!(client(&proxy).get("a.example"), 200);
    }
}

#[test]
fn a_record_that_does_not_end_is_counted_and_not_waited_for() {
    let upstream = Upstream::echo("ok");
    let limits = Limits { request_head: Duration::from_millis(200), ..Limits::default() };
    let proxy = start(&upstream, ProxyConfig { limits, idle_tick: Duration::from_millis(20), ..ProxyConfig::default() });
    for alpn in [&[][..], HTTP_2] {
        let ask = Ask { alpn, ..Ask::named("a.example") };
        let mut client = ask.connect_with(&Arc::new(ask.config()), proxy.address()).unwrap();
        if alpn.is_empty() {
            assert_eq!(client.get("a.example"), 200);
        } else {
            client.0.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").unwrap();
        }
        client.0.sock.write_all(&[&[23, 3, 3, 0x40, 0x11][..], &[0; 12_000]].concat()).unwrap();
        eventually("it to be counted", || proxy.metric(BUFFERED) >= 12_000.0);
        eventually("the connection to end", || proxy.metric("clingfish_downstream_connections_open") == 0.0);
        eventually("the buffers to be free", || proxy.metric(BUFFERED) == 0.0);
    }
}

/// What small records carry.
#[derive(Clone, Copy, PartialEq)]
enum Small {
    /// A byte of data.
    Data,
    /// A byte of data after new keys, which cost more.
    Keys,
    /// New keys only.
    KeysAlone,
}

/// What a client sends, so many of these.
fn small_records(client: &mut Client, what: Small, records: usize) -> Vec<u8> {
    let session = &mut client.0.conn;
    session.set_buffer_limit(None);
    let mut bytes = Vec::new();
    for _ in 0..records {
        if what != Small::Data {
            session.refresh_traffic_keys().unwrap();
        }
        if what != Small::KeysAlone {
            session.writer().write_all(b"x").unwrap();
        }
        while session.wants_write() {
            session.write_tls(&mut bytes).unwrap();
        }
    }
    bytes
}

#[test]
fn new_keys_without_data_end_the_connection() {
    let upstream = Upstream::echo("ok");
    let proxy = start(&upstream, ProxyConfig::default());
    let ask = Ask { versions: TLS_1_3, ..Ask::named("a.example") };
    for (count, stays) in [(32, true), (33, false)] {
        let mut client = ask.connect_with(&Arc::new(ask.config()), proxy.address()).unwrap();
        let records = small_records(&mut client, Small::KeysAlone, count);
        client.0.sock.write_all(&records).unwrap();
        client.0.write_all(b"GET / HTTP/1.1\r\nhost: a.example\r\n\r\n").unwrap();
        let mut head = [0; 12];
        assert_eq!(client.0.read_exact(&mut head).is_ok(), stays, "{count}");
    }
}

/// The least number of bytes that go through while an honest client waits for its answer, of some tries. By what the worker did meanwhile a
/// turn is measured, and not by time, which on a busy machine says little.
fn meanwhile(proxy: &Proxy, passed: impl Fn() -> usize) -> usize {
    let mut honest = client(proxy);
    (0..8)
        .map(|_| {
            let before = passed();
            assert_eq!(honest.get("a.example"), 200);
            passed() - before
        })
        .min()
        .unwrap()
}

#[test]
fn records_of_one_byte_hold_up_nobody() {
    const FLOODS: usize = 4;
    const UPLOAD: &[u8] = b"POST / HTTP/1.1\r\nhost: a.example\r\ncontent-length: 1000000\r\n\r\n";
    let passed = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&passed);
    let upstream = Upstream::start(move |conversation| {
        while let Some(head) = conversation.request_head() {
            if head.starts_with("GET / ") {
                conversation.reply("ok");
                continue;
            }
            if head.starts_with("GET /ws ") {
                conversation.send(SWITCH);
            }
            let mut bytes = [0; 65536];
            while let Ok(length @ 1..) = conversation.stream.read(&mut bytes) {
                count.fetch_add(length, Relaxed);
            }
            return;
        }
    });
    let proxy = start(&upstream, ProxyConfig { workers: 1, ..ProxyConfig::default() });
    for (head, what, records) in [(UPGRADE, Small::Data, 60_000), (UPGRADE, Small::Keys, 12_000), (UPLOAD, Small::Data, 60_000)] {
        let floods: Vec<_> = (0..FLOODS)
            .map(|_| {
                let mut client = client(&proxy);
                client.0.write_all(head).unwrap();
                if head == UPGRADE {
                    let mut head = vec![0; SWITCH.len()];
                    client.0.read_exact(&mut head).unwrap();
                }
                let bytes = small_records(&mut client, what, records);
                (client, bytes)
            })
            .collect();
        let start = passed.load(Relaxed);
        let floods: Vec<_> = floods
            .into_iter()
            .map(|(client, bytes)| {
                let mut socket = client.0.sock.try_clone().unwrap();
                let thread = std::thread::spawn(move || socket.write_all(&bytes));
                (client, thread)
            })
            .collect();
        eventually("the flood to begin", || passed.load(Relaxed) > start);
        let bytes = meanwhile(&proxy, || passed.load(Relaxed));
        assert!(bytes < FLOODS * records / 8, "{bytes} bytes passed while a client waited");
        for (client, thread) in floods {
            let _ = client.0.sock.shutdown(std::net::Shutdown::Both);
            let _ = thread.join().unwrap();
        }
    }
}
