//! Copies of requests for mirrors: what they get, and that nobody waits for them.

use std::{
    io::Write as _,
    net::{SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    time::Duration,
};

use clingfish::{
    base::{Kind, ObjectName},
    proxy::{Ceilings, Limits, ProxyConfig},
    snapshot::{BackendName, ClusterId, Filters, Fraction, HeaderOps, Mirror, Timeouts, TransportPort, UpstreamProtocol},
};
use http::{HeaderName, HeaderValue};

use crate::support::{Http2Upstream, PATIENCE, Served, Upstream, World, eventually};

fn mirror(cluster: u32, fraction: Fraction) -> Mirror {
    let name = BackendName {
        kind: Kind::Service,
        name: ObjectName::new("n", "mirror"),
        port: Some(TransportPort::tcp(80)),
        policy: None,
        is_persistent: false,
    };
    Mirror { name: Arc::new(name), cluster: ClusterId(cluster), fraction }
}

/// Requests go to the first host; the others, each a cluster of its own, get copies.
fn world(first: SocketAddr, mirrors: &[SocketAddr]) -> World {
    let mut world = World::to(&[first]);
    world.clusters.extend(mirrors.iter().map(|address| Served::new("/never-asked", &[*address])));
    let mirrors = (1..).zip(mirrors).map(|(cluster, _)| mirror(cluster, Fraction::ALL)).collect();
    world.clusters[0].filters = Some(Filters { mirrors, ..Filters::default() });
    world
}

const ANSWERED: &str = "clingfish_mirrored_requests_total{result=\"answered\"}";
const FAILED: &str = "clingfish_mirrored_requests_total{result=\"failed\"}";

#[test]
fn every_mirror_gets_the_request_as_the_backend_does() {
    let (first, one, other) =
        (Upstream::echo("first"), Upstream::echo("one"), Upstream::answering("HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n"));
    let mut world = world(first.address, &[one.address, other.address]);
    let set = [(HeaderName::from_static("x-set"), HeaderValue::from_static("1"))];
    world.clusters[0].filters.as_mut().unwrap().request_headers = [HeaderOps { set: set.into(), ..HeaderOps::default() }].into();
    let proxy = world.start();
    let mut client = proxy.client();
    assert_eq!(client.get("/a?q").text(), "first");
    for body in ["content-length: 5\r\n\r\nhello", "transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nx-sum: 1\r\n\r\n"] {
        // Each when the copies before it are answered: their connections are free again.
        let asked = first.requests().len() as f64;
        eventually("the copies are answered", || proxy.metric(ANSWERED) >= 2.0 * asked);
        client.send(format!("POST /b HTTP/1.1\r\nhost: a\r\ntrailer: x-sum\r\n{body}"));
        assert_eq!(client.response().text(), "first");
    }
    eventually("the copies are answered", || proxy.metric(ANSWERED) >= 6.0);
    let asked = first.requests();
    assert_eq!(asked.len(), 3);
    assert!(asked[0].starts_with("GET /a?q HTTP/1.1\r\n") && asked[0].contains("x-set: 1"), "{}", asked[0]);
    assert!(asked[1].contains("hello") && asked[2].contains("hello"), "{asked:?}");
    assert_eq!((one.requests(), other.requests()), (asked.clone(), asked));
    assert_eq!(one.connections(), 1, "its connection is used again");
    eventually("no request is in flight", || proxy.metric("clingfish_requests_in_flight") == 0.0);
    assert_eq!(proxy.metric("clingfish_requests_total{code=\"2xx\",flag=\"-\"}"), 3.0, "copies are no requests of clients");
}

#[test]
fn a_share_of_requests_is_copied() {
    let (first, copied) = (Upstream::echo("first"), Upstream::echo("copied"));
    let mut world = world(first.address, &[copied.address]);
    let mirrors = [mirror(1, Fraction { numerator: 1, denominator: 4 }), mirror(1, Fraction { numerator: 0, denominator: 100 })];
    world.clusters[0].filters = Some(Filters { mirrors: mirrors.into(), ..Filters::default() });
    let proxy = world.start();
    let mut client = proxy.client();
    for _ in 0..400 {
        assert_eq!(client.get("/").status, 200);
    }
    eventually("the copies are answered", || proxy.metric(ANSWERED) as usize == copied.requests().len());
    // Six standard deviations on either side.
    assert!((48..=152).contains(&copied.requests().len()), "{}", copied.requests().len());
}

#[test]
fn nobody_waits_for_a_mirror_that_is_slow_gone_or_never_reads() {
    let first = Upstream::echo("first");
    let silent = Upstream::start(|conversation| {
        conversation.request_head();
        conversation.until_closed();
    });
    let deaf = Upstream::start(|conversation| {
        conversation.request_head();
        std::thread::park_timeout(Duration::from_secs(2));
    });
    let closed = TcpListener::bind("127.0.0.5:0").unwrap().local_addr().unwrap();
    let mut world = world(first.address, &[silent.address, closed, deaf.address]);
    world.clusters[0].policy.timeouts = Timeouts { request: Some(Duration::from_secs(3)), ..Timeouts::default() };
    let tick = Duration::from_millis(10);
    let proxy = world.start_with(ProxyConfig { tick, idle_tick: tick, ..ProxyConfig::default() });
    let mut client = proxy.client();
    assert_eq!(client.get("/").text(), "first");
    // More than sockets and a copy's queue hold.
    let length = 24 << 20;
    client.send(format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n"));
    client.send(vec![b'x'; length]);
    assert_eq!(client.response().status, 200);
    eventually("the copies are given up", || proxy.metric(FAILED) >= 6.0);
    assert_eq!(proxy.metric(ANSWERED), 0.0);
    eventually("nothing is buffered for them", || proxy.metric("clingfish_buffered_bytes") == 0.0);
    assert_eq!(client.get("/").text(), "first");
}

#[test]
fn a_copy_breaks_off_with_its_request() {
    let first = Upstream::start(|conversation| {
        conversation.request_head();
        conversation.until_closed();
    });
    let copied = Upstream::start(|conversation| {
        if conversation.request_head().is_some() && conversation.exactly(4).is_some() {
            conversation.note("begun".to_owned());
            let rest = conversation.until_closed();
            conversation.note(format!("ended after {} bytes more", rest.len()));
        }
    });
    let proxy = world(first.address, &[copied.address]).start();
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nhalf");
    eventually("both have the request", || first.connections() == 1 && copied.requests().last().is_some_and(|seen| seen == "begun"));
    drop(client);
    eventually("the copy has ended", || copied.requests().last().is_some_and(|seen| seen == "ended after 0 bytes more"));
    eventually("it is counted", || proxy.metric(FAILED) >= 1.0);
}

#[test]
fn what_a_mirror_answers_is_read_and_thrown_away_and_interim_answers_too() {
    let first = Upstream::echo("first");
    let chatty = Upstream::answering(
        "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nset-cookie: a=b\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    );
    let proxy = world(first.address, &[chatty.address]).start();
    let mut client = proxy.client();
    for round in 1..=3 {
        let answer = client.get("/");
        assert_eq!((answer.text(), answer.header("set-cookie"), answer.header("link")), ("first", None, None));
        eventually("the copy is answered", || proxy.metric(ANSWERED) >= f64::from(round));
    }
    assert_eq!(chatty.connections(), 1);
}

#[test]
fn a_mirror_may_speak_another_protocol_and_a_websocket_has_none() {
    let first = Upstream::answering("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n");
    let copied = Upstream::echo("copied");
    let mut world = world(first.address, &[copied.address]);
    world.clusters[1].options.protocol = UpstreamProtocol::H2c;
    let proxy = world.start();
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n");
    assert!(client.head().starts_with("HTTP/1.1 101"));
    drop(client);
    assert_eq!(copied.connections(), 0);
    // It is spoken to in HTTP/2, and does not understand.
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    eventually("the copy is given up", || proxy.metric(FAILED) >= 1.0);
}

#[test]
fn a_drain_waits_for_a_copy_that_ends_last() {
    let first = Upstream::echo("first");
    let (release, released) = std::sync::mpsc::channel();
    let released = std::sync::Mutex::new(released);
    let slow = Upstream::start(move |conversation| {
        if conversation.request().is_some() {
            released.lock().unwrap().recv_timeout(PATIENCE).unwrap();
            conversation.reply("slow");
        }
    });
    let proxy = world(first.address, &[slow.address]).start();
    let address = proxy.address();
    let mut client = proxy.client();
    assert_eq!(client.get("/").text(), "first");
    eventually("the mirror has its copy", || slow.requests().len() == 1);
    let metrics = Arc::clone(&proxy.metrics);
    let draining = std::thread::spawn(move || proxy.drain(Duration::ZERO, PATIENCE));
    eventually("new connections to be refused", || TcpStream::connect(address).is_err());
    assert!(client.is_closed());
    eventually("no client to be left", || metrics.render().contains("\nclingfish_downstream_connections_open 0\n"));
    release.send(()).unwrap();
    assert!(draining.join().unwrap(), "the end of the copy is the end of the drain");
    assert!(metrics.render().contains(&format!("{ANSWERED} 1\n")), "it was not cut off");
}

#[test]
fn a_mirror_that_hangs_does_not_hold_up_a_drain() {
    let first = Upstream::echo("first");
    let silent = Upstream::start(|conversation| {
        conversation.request();
        conversation.until_closed();
    });
    let mut world = world(first.address, &[silent.address, silent.address]);
    world.clusters[0].policy.timeouts = Timeouts { request: None, idle: None, ..Timeouts::default() };
    let tick = Duration::from_millis(10);
    let limits = Limits { farewell: Duration::from_millis(100), ..Limits::default() };
    let proxy = world.start_with(ProxyConfig { limits, tick, idle_tick: tick, ..ProxyConfig::default() });
    let mut client = proxy.client();
    assert_eq!(client.get("/").text(), "first");
    eventually("the mirrors have their copies", || silent.requests().len() == 2);
    assert!(proxy.drain(Duration::ZERO, PATIENCE), "what no client waits for has its time, and no more");
}

#[test]
fn an_answer_of_a_mirror_that_never_ends_is_not_read_for_ever() {
    let first = Upstream::echo("first");
    let events = Upstream::start(|conversation| {
        if conversation.request_head().is_some() {
            conversation.send("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n");
            while conversation.stream.write_all(b"data: x\n\n").is_ok() {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    });
    let mut world = world(first.address, &[events.address]);
    world.clusters[0].policy.timeouts = Timeouts { request: None, idle: None, ..Timeouts::default() };
    let tick = Duration::from_millis(10);
    let limits = Limits { mirror_answer: Duration::from_millis(200), ..Limits::default() };
    let proxy = world.start_with(ProxyConfig { limits, tick, idle_tick: tick, ..ProxyConfig::default() });
    let mut client = proxy.client();
    assert_eq!(client.get("/").text(), "first");
    // The upload has not ended: its answer may go on.
    client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nx");
    eventually("the first copy to end", || proxy.metric(ANSWERED) >= 1.0 && events.connections() == 2);
    eventually("one to be left", || events.open() == 1);
    client.send("y");
    assert_eq!(client.response().text(), "first");
    eventually("the second copy to end", || proxy.metric(ANSWERED) >= 2.0 && events.open() == 0);
}

#[test]
fn a_copy_over_http_2_has_the_whole_body_and_one_that_is_refused_costs_nothing() {
    let first = Upstream::echo("first");
    let (seen, copies) = std::sync::mpsc::channel();
    let seen = std::sync::Mutex::new(seen);
    let reading = Http2Upstream::start(move |mut asked| {
        let seen = seen.lock().unwrap().clone();
        async move {
            let (body, trailers) = asked.read().await;
            seen.send((body, trailers.and_then(|trailers| trailers.get("x-sum").cloned()))).unwrap();
            asked.reply("copied").await;
        }
    });
    let refusing = Http2Upstream::start(|mut asked| async move { asked.respond.send_reset(h2::Reason::REFUSED_STREAM) });
    let mut world = world(first.address, &[reading.address, refusing.address]);
    for copied in &mut world.clusters[1..] {
        copied.options.protocol = UpstreamProtocol::H2c;
    }
    let proxy = world.start();
    let mut client = proxy.client();
    let body = "x".repeat(300_000);
    for round in 1..=3 {
        client.send("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n");
        client.send(format!("{:x}\r\n{body}\r\n0\r\nx-sum: {round}\r\n\r\n", body.len()));
        assert_eq!(client.response().text(), "first");
        let (copy, sum) = copies.recv_timeout(PATIENCE).unwrap();
        assert!(copy == body.as_bytes() && sum.is_some_and(|sum| sum == round.to_string()));
        eventually("the copies to end", || proxy.metric(ANSWERED) >= f64::from(round) && proxy.metric(FAILED) >= f64::from(round));
    }
    assert_eq!(reading.connections(), 1);
    eventually("no request is in flight", || proxy.metric("clingfish_requests_in_flight") == 0.0);
    eventually("nothing is buffered", || proxy.metric("clingfish_buffered_bytes") == 0.0);
    assert!(proxy.drain(Duration::ZERO, PATIENCE));
}

#[test]
fn nothing_is_buffered_for_a_mirror_that_is_gone_while_the_upload_goes_on() {
    let first = Upstream::start(|conversation| {
        let most = conversation.request_head().and_then(|_| conversation.exactly(900_000));
        conversation.note(format!("{} bytes", most.map_or(0, |most| most.len())));
        if conversation.exactly(1).is_some() {
            conversation.reply("first");
        }
    });
    let closed = TcpListener::bind("127.0.0.5:0").unwrap().local_addr().unwrap();
    let tick = Duration::from_millis(10);
    let proxy = world(first.address, &[closed]).start_with(ProxyConfig { tick, idle_tick: tick, ..ProxyConfig::default() });
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 900001\r\n\r\n");
    eventually("the copy is given up", || proxy.metric(FAILED) >= 1.0);
    client.send(vec![b'x'; 900_000]);
    eventually("most of it to be on its way", || first.requests() == ["900000 bytes"]);
    // What the request itself reads at a time may be held for it.
    eventually("no copy is buffered", || proxy.metric("clingfish_buffered_bytes") < 400_000.0);
    client.send("y");
    assert_eq!(client.response().text(), "first");
}

#[test]
fn large_heads_of_copies_that_hang_leave_room_for_requests() {
    let first = Upstream::echo("first");
    let silent = Upstream::start(|conversation| {
        conversation.request_head();
        conversation.until_closed();
    });
    let ceilings = Ceilings { buffered_bytes: 4 << 20, ..Ceilings::default() };
    let proxy = world(first.address, &[silent.address]).start_with(ProxyConfig { ceilings, ..ProxyConfig::default() });
    let mut client = proxy.client();
    let large = "x".repeat(20_000);
    for _ in 0..200 {
        client.send(format!("GET / HTTP/1.1\r\nhost: a\r\nx-large: {large}\r\n\r\n"));
        assert_eq!(client.response().status, 200);
    }
    assert!(proxy.metric(FAILED) > 100.0, "copies have a part of the room, and no more");
    assert!(silent.connections() >= 10, "{}", silent.connections());
}
