//! What is refused when there is too much: connections, requests, keep-alive. And what counts as a connection.

use std::{io::Write as _, net::SocketAddr, sync::Arc, time::Duration};

use clingfish::{
    base::{Overload, OverloadLevel},
    proxy::{Ceilings, Limits, ProxyConfig},
};

use crate::support::{Client, Conversation, Proxy, Upstream, World, any_port, eventually};

const ASK: &str = "GET /ws HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-key: k\r\n\r\n";
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";

const OPEN: &str = "clingfish_downstream_connections_open";
const ACTIVE: &str = "clingfish_upstream_connections{state=\"active\"}";
const BUFFERED: &str = "clingfish_buffered_bytes";

fn refused(reason: &str) -> String {
    format!("clingfish_downstream_connections_refused_total{{reason=\"{reason}\"}}")
}

fn with(ceilings: Ceilings) -> ProxyConfig {
    ProxyConfig { ceilings, ..ProxyConfig::default() }
}

/// Becomes a tunnel if asked to, answers else.
fn tunnel_or_ok(conversation: &mut Conversation) {
    while let Some(request) = conversation.request() {
        if request.starts_with("GET /ws ") {
            conversation.send(SWITCH);
            conversation.until_closed();
            return;
        }
        conversation.reply("ok");
    }
}

fn tunnel(address: SocketAddr) -> Client {
    let mut client = Client::connect(address);
    client.send(ASK);
    assert_eq!(client.head_response().status, 101);
    client
}

#[test]
fn one_connection_more_than_the_process_may_have_is_closed_at_once() {
    let upstream = Upstream::echo("ok");
    let proxy = World::to(&[upstream.address]).start_with(with(Ceilings { connections: 2, ..Ceilings::default() }));
    let mut clients = [proxy.client(), proxy.client()];
    for client in &mut clients {
        assert_eq!(client.get("/").status, 200);
    }
    for count in 1..=20 {
        assert!(proxy.client().is_closed());
        assert_eq!(proxy.metric(&refused("max_connections")), f64::from(count));
    }
    let [mut stays, leaves] = clients;
    assert_eq!(stays.get("/").status, 200, "who was there first does not notice");
    assert_eq!((proxy.metric(OPEN), proxy.metric("clingfish_downstream_connections_total")), (2.0, 2.0));
    drop(leaves);
    eventually("the place to be free", || proxy.metric(OPEN) == 1.0);
    assert_eq!(proxy.client().get("/").status, 200);
}

#[test]
fn a_port_that_is_full_leaves_room_on_the_others() {
    let upstream = Upstream::echo("ok");
    let second: SocketAddr = "127.0.0.2:0".parse().unwrap();
    let world = World { binds: vec![any_port(), second], ..World::to(&[upstream.address]) };
    let proxy = world.start_with(with(Ceilings { connections_per_listener: 1, ..Ceilings::default() }));
    let mut first = proxy.client();
    assert_eq!(first.get("/").status, 200);
    assert!(proxy.client().is_closed());
    assert_eq!(proxy.metric(&refused("max_connections_per_listener")), 1.0);
    assert_eq!(Client::connect(proxy.address_of(second)).get("/").status, 200);
    assert_eq!(first.get("/").status, 200);
}

#[test]
fn all_workers_share_one_ceiling() {
    let upstream = Upstream::echo("ok");
    let config = ProxyConfig { workers: 4, ..with(Ceilings { connections: 5, ..Ceilings::default() }) };
    let proxy = World::to(&[upstream.address]).start_with(config);
    let clients: Vec<_> = (0..40).map(|_| proxy.client()).collect();
    eventually("all to be accepted or refused", || proxy.metric(OPEN) + proxy.metric(&refused("max_connections")) == 40.0);
    assert_eq!(proxy.metric(OPEN), 5.0);
    drop(clients);
    eventually("all to be gone", || proxy.metric(OPEN) == 0.0);
}

#[test]
fn near_the_memory_limit_each_response_ends_its_connection() {
    let upstream = Upstream::echo("ok");
    let overload = Arc::new(Overload::default());
    let config = ProxyConfig { overload: Arc::clone(&overload), ..ProxyConfig::default() };
    let proxy = World::to(&[upstream.address]).start_with(config);
    let mut client = proxy.client();
    assert_eq!(client.get("/").header("connection"), None);
    overload.publish(OverloadLevel::DisableKeepAlive);
    let response = client.get("/");
    assert_eq!((response.status, response.text(), response.header("connection")), (200, "ok", Some("close")));
    assert!(client.is_closed());
    assert_eq!(proxy.client().get("/").status, 200, "new ones are welcome");
}

#[test]
fn nearer_to_it_requests_are_refused_and_then_connections() {
    let upstream = Upstream::start(tunnel_or_ok);
    let overload = Arc::new(Overload::default());
    let config = ProxyConfig { overload: Arc::clone(&overload), ..ProxyConfig::default() };
    let proxy = World::to(&[upstream.address]).start_with(config);
    overload.publish(OverloadLevel::StopAcceptingRequests);
    let mut client = proxy.client();
    let response = client.get("/");
    assert_eq!((response.status, response.text(), response.header("connection")), (503, "overload", Some("close")));
    assert!(client.is_closed());
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\n");
    assert_eq!(client.response().status, 503, "without waiting for the body");
    eventually("the answers to be counted", || proxy.metric("clingfish_requests_total{code=\"5xx\",flag=\"OM\"}") == 2.0);
    assert_eq!(proxy.metric("clingfish_requests_refused_total{reason=\"overload\"}"), 2.0);
    overload.publish(OverloadLevel::RejectIncomingConnections);
    assert!(proxy.client().is_closed());
    assert_eq!(proxy.metric(&refused("overload")), 1.0);
    assert_eq!(upstream.connections(), 0);
    overload.publish(OverloadLevel::None);
    let mut client = proxy.client();
    for _ in 0..2 {
        assert_eq!(client.get("/").status, 200, "as if nothing had been");
    }
}

#[test]
fn a_tunnel_counts_as_a_connection_on_both_sides_until_it_ends() {
    let upstream = Upstream::start(tunnel_or_ok);
    let proxy = World::to(&[upstream.address]).start_with(with(Ceilings { connections: 2, ..Ceilings::default() }));
    let tunnels = [tunnel(proxy.address()), tunnel(proxy.address())];
    assert_eq!((proxy.metric(OPEN), proxy.metric(ACTIVE)), (2.0, 2.0));
    assert!(proxy.client().is_closed(), "their sockets are open");
    drop(tunnels);
    eventually("both to be gone", || proxy.metric(OPEN) == 0.0 && proxy.metric(ACTIVE) == 0.0);
    assert_eq!(proxy.client().get("/").status, 200);
}

#[test]
fn a_connection_to_a_host_is_active_while_it_serves_a_request() {
    let upstream = Upstream::start(|conversation| {
        while let Some(request) = conversation.request() {
            conversation.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n");
            if request.starts_with("GET /break ") {
                return;
            }
            conversation.send("ok");
        }
    });
    let held = Upstream::start(|conversation| {
        conversation.request();
        conversation.until_closed();
    });
    let proxy = World::to(&[upstream.address]).start();
    let mut client = proxy.client();
    assert_eq!((client.get("/").status, proxy.metric(ACTIVE)), (200, 0.0));
    client.send("GET /break HTTP/1.1\r\nhost: a\r\n\r\n");
    client.head();
    client.until_closed();
    eventually("the broken connection not to count", || proxy.metric(ACTIVE) == 0.0);
    let proxy = World::to(&[held.address]).start();
    let mut clients = [proxy.client(), proxy.client(), proxy.client()];
    clients.iter_mut().for_each(|client| client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n"));
    eventually("three connections to be active", || proxy.metric(ACTIVE) == 3.0);
    drop(clients);
    eventually("none to be active", || proxy.metric(ACTIVE) == 0.0);
}

/// A budget of 1 MiB, and a proxy that has it.
const BUDGET: usize = 1 << 20;

fn with_budget() -> ProxyConfig {
    let limits = Limits { buffers_stall: Duration::from_secs(3600), ..Limits::default() };
    ProxyConfig { limits, ..with(Ceilings { buffered_bytes: BUDGET, ..Ceilings::default() }) }
}

/// How many connections, and how many streams of one connection, press on the budget.
const CROWD: usize = 24;
const STREAMS: usize = 90;

/// Waits until reads are cut, then looks for a while whether the bound holds: the least pieces come on top of the budget.
fn press(proxy: &Proxy, bodies: usize) {
    let bound = (BUDGET + bodies * 32 * 1024) as f64;
    eventually("reads to be cut", || proxy.metric("clingfish_reads_shortened_total") > 0.0);
    let mut looks = 0;
    eventually("buffers to stay within their budget", || {
        let buffered = proxy.metric(BUFFERED);
        assert!(buffered < bound, "{buffered} bytes");
        looks += 1;
        looks > 100
    });
}

#[test]
fn clients_that_do_not_read_hold_no_more_than_the_budget() {
    let upstream = Upstream::start(|conversation| {
        conversation.request();
        conversation.send("HTTP/1.1 200 OK\r\ncontent-length: 1000000000000\r\n\r\n");
        while conversation.stream.write_all(&[b'x'; 65536]).is_ok() {}
    });
    let proxy = World::to(&[upstream.address]).start_with(with_budget());
    let mut clients: Vec<_> = (0..CROWD).map(|_| proxy.client()).collect();
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
        client.head();
    }
    press(&proxy, CROWD);
    let mut reader = clients.pop().unwrap();
    assert!(reader.exactly(16 << 20).iter().all(|byte| *byte == b'x'), "who reads goes on");
    drop((reader, clients));
    eventually("the buffers to be free", || proxy.metric(BUFFERED) == 0.0);
}

#[test]
fn uploads_that_nobody_takes_hold_no_more_than_the_budget() {
    let upstream = Upstream::start(|conversation| {
        conversation.request_head();
        std::thread::park();
    });
    let proxy = World::to(&[upstream.address]).start_with(with_budget());
    let clients: Vec<_> = (0..CROWD).map(|_| proxy.client()).collect();
    let uploads: Vec<_> = clients
        .into_iter()
        .map(|mut client| {
            std::thread::spawn(move || {
                client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000000000\r\n\r\n");
                client.try_send(vec![b'x'; 32 << 20])
            })
        })
        .collect();
    press(&proxy, CROWD);
    drop(proxy);
    assert!(uploads.into_iter().all(|upload| !upload.join().unwrap()), "nothing took all of it");
}

#[test]
fn where_too_much_is_buffered_new_requests_are_refused() {
    let upstream = Upstream::start(tunnel_or_ok);
    let proxy = World::to(&[upstream.address]).start_with(with(Ceilings { buffered_bytes: 40 * 1024, ..Ceilings::default() }));
    let mut client = proxy.client();
    let tunnels = [(); 3].map(|()| {
        assert_eq!(client.get("/").status, 200);
        tunnel(proxy.address())
    });
    eventually("the tunnels' buffers to be counted", || proxy.metric(BUFFERED) == 48.0 * 1024.0);
    let response = client.get("/");
    assert_eq!((response.status, response.text()), (503, "overload"));
    assert_eq!(proxy.metric("clingfish_requests_refused_total{reason=\"buffers\"}"), 1.0);
    drop(tunnels);
    eventually("the buffers to be free", || proxy.metric(BUFFERED) == 0.0);
    assert_eq!(client.get("/").status, 200, "the connection went on");
}

#[test]
fn what_does_not_move_makes_room_for_new_requests() {
    let upstream = Upstream::start(|conversation| {
        while conversation.request_head().is_some_and(|head| head.starts_with("GET ")) {
            conversation.reply("ok");
        }
        std::thread::park();
    });
    let proxy = World::to(&[upstream.address]).start_with(with_small_budget());
    let uploads: Vec<_> = (0..CROWD)
        .map(|_| {
            let mut client = proxy.client();
            std::thread::spawn(move || {
                client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000000000\r\n\r\n");
                while client.try_send([b'x'; 65536]) {}
                client.until_closed()
            })
        })
        .collect();
    let stalled = || proxy.metric("clingfish_requests_refused_total{reason=\"stalled\"}");
    eventually("those that do not move to be ended", || stalled() > 0.0);
    eventually("an ordinary request to be served", || proxy.client().get("/").status == 200);
    assert!(stalled() < CROWD as f64, "the others stay");
    drop(proxy);
    let answers: Vec<_> = uploads.into_iter().map(|upload| upload.join().unwrap()).collect();
    let refused = answers.iter().filter(|answer| answer.starts_with(b"HTTP/1.1 503 ") && answer.ends_with(b"overload")).count();
    assert!(refused > 0, "none of {} was told", answers.len());
}

/// What is left for the least pieces of a crowd, beyond the budget.
const SMALL_BUDGET: usize = 128 * 1024;

fn with_small_budget() -> ProxyConfig {
    with(Ceilings { buffered_bytes: SMALL_BUDGET, ..Ceilings::default() })
}

/// Each of a crowd sends this, which is 40 KiB or so, and never ends it or is never answered. The first ones are held, the others are
/// refused; answers those that were.
fn crowd_of_heads(proxy: &Proxy, bytes: &[u8]) -> Vec<Client> {
    let mut clients: Vec<_> = (0..CROWD).map(|_| proxy.client()).collect();
    for client in &mut clients {
        client.try_send(bytes);
    }
    eventually("heads to be refused", || proxy.metric("clingfish_requests_refused_total{reason=\"buffers\"}") >= 15.0);
    eventually("what is held to be told", || proxy.metric(BUFFERED) > 0.0);
    let buffered = proxy.metric(BUFFERED);
    assert!(buffered < (SMALL_BUDGET + 4 * 128 * 1024) as f64, "{buffered} bytes");
    clients
}

#[test]
fn heads_that_do_not_end_hold_no_more_than_the_budget() {
    let proxy = World::to(&[Upstream::echo("ok").address]).start_with(with_small_budget());
    let head = format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}", "y".repeat(40 * 1024));
    let mut clients = crowd_of_heads(&proxy, head.as_bytes());
    let last = clients.last_mut().unwrap();
    assert!(last.until_closed().starts_with(b"HTTP/1.1 503 "), "the last one found no room");
    drop(clients);
    eventually("the buffers to be free", || proxy.metric(BUFFERED) == 0.0);
    assert_eq!(proxy.client().get("/").status, 200);
}

#[test]
fn header_blocks_that_do_not_end_hold_no_more_than_the_budget() {
    let proxy = World::to(&[Upstream::echo("ok").address]).start_with(with_small_budget());
    let frame = |kind: u8, payload: &[u8]| {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&[length[1], length[2], length[3], kind, 0, 0, 0, 0, u8::from(kind != 4)][..], payload].concat()
    };
    // A field with a name of its own and a value of 13,000 bytes, neither Huffman-coded nor indexed (RFC 7541 section 6.2.2).
    let field = [&[0, 1, b'x', 0x7f, 0xc9, 0x64][..], &[b'y'; 13_000]].concat();
    let block = [frame(1, b"\x82\x86\x84\x41\x01a"), frame(9, &field), frame(9, &field), frame(9, &field)].concat();
    let flight = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &frame(4, b""), &block].concat();
    let mut clients = crowd_of_heads(&proxy, &flight);
    clients.last_mut().unwrap().until_closed();
    drop(clients);
    eventually("the buffers to be free", || proxy.metric(BUFFERED) == 0.0);
}

#[test]
fn heads_of_requests_in_flight_hold_no_more_than_the_budget() {
    let upstream = Upstream::start(|conversation| {
        conversation.request();
        conversation.until_closed();
    });
    let proxy = World::to(&[upstream.address]).start_with(with_small_budget());
    let head = format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "y".repeat(40 * 1024));
    let mut clients = crowd_of_heads(&proxy, head.as_bytes());
    assert_eq!(clients.last_mut().unwrap().response().status, 503);
    drop(clients);
    eventually("the buffers to be free", || proxy.metric(BUFFERED) == 0.0);
}

#[tokio::test]
async fn http2_streams_that_nobody_reads_hold_no_more_than_the_budget() {
    let upstream = Upstream::start(|conversation| {
        conversation.request();
        conversation.send("HTTP/1.1 200 OK\r\ncontent-length: 1000000000000\r\n\r\n");
        while conversation.stream.write_all(&[b'x'; 65536]).is_ok() {}
    });
    let proxy = World::to(&[upstream.address]).start_with(with_budget());
    let stream = tokio::net::TcpStream::connect(proxy.address()).await.unwrap();
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(1 << 30).initial_connection_window_size(1 << 30);
    let (sender, connection) = builder.handshake::<_, bytes::Bytes>(stream).await.unwrap();
    let mut sender = sender.ready().await.unwrap();
    let (asked, open) = tokio::sync::oneshot::channel::<()>();
    // Carries frames until all is asked for, and then reads nothing any more until it is told to.
    let mut connection = Box::pin(connection);
    let mut responses = Vec::new();
    for _ in 0..STREAMS {
        let request = http::Request::get("http://a/").body(()).unwrap();
        let (response, _) = sender.send_request(request, true).unwrap();
        responses.push(response);
    }
    let first = responses.remove(0);
    let first = tokio::select! { first = first => first.unwrap(), _ = connection.as_mut() => panic!("the connection ended") };
    let looks = tokio::task::spawn_blocking(move || {
        press(&proxy, STREAMS);
        drop(asked);
        proxy
    });
    let _ = open.await;
    let proxy = looks.await.unwrap();
    let carried = tokio::spawn(connection);
    let mut body = first.into_body();
    let mut read = 0;
    // All streams of the connection go on with it, each with as much.
    while read < 2 << 20 {
        let data = body.data().await.unwrap().unwrap();
        read += data.len();
        let _ = body.flow_control().release_capacity(data.len());
    }
    carried.abort();
    drop((body, responses, sender));
    let _ = carried.await;
    tokio::task::spawn_blocking(move || eventually("the buffers to be free", || proxy.metric(BUFFERED) == 0.0)).await.unwrap();
}
