//! Streams whose session belongs to another pod by now: told to go where a policy says so, and no others.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use clingfish::{
    base::{Kind, ObjectName},
    lb::{MaglevConfig, Policy},
    snapshot::{Affinity, HashPolicy, HashSource, MissingKey, Split, Timeouts},
};
use http::{HeaderName, Request, Response};
use http_body_util::{BodyExt, Full};
use tokio::time::Instant;

use crate::http2::connect;
use crate::streams::{tcp, tcp_route};
use crate::support::{Client, Conversation, Http2Upstream, PATIENCE, Served, Upstream, World, eventually};
use crate::tls::Proxy as TlsProxy;

const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: a\r\n\r\n";
/// A Close frame of a server with the code 1001, and the one of a client.
const CLOSE: [u8; 4] = [0x88, 2, 0x03, 0xe9];
const MASKED_CLOSE: [u8; 8] = [0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe9];

/// Hashes by a source, with a policy that ends moved streams within this time; `None`: it keeps them.
fn follows(served: &mut Served, source: HashSource, ends_moved: Option<Duration>) {
    served.lb = Policy::Maglev(MaglevConfig::default());
    served.policy.hash = [HashPolicy { source, terminal: true }].into();
    let policy = ObjectName::new("test", "policy");
    let affinity = Affinity { policy, keys: None, missing: MissingKey::Random, split: Split::Random, hold: None, ends_moved };
    served.policy.affinity = Some(Arc::new(affinity));
}

fn by_user() -> HashSource {
    HashSource::Header(HeaderName::from_static("x-user"))
}

fn by_address() -> HashSource {
    HashSource::SourceIp
}

fn soon() -> Option<Duration> {
    Some(Duration::from_millis(50))
}

/// What hosts have heard on connections that have ended.
type Heard = Arc<Mutex<Vec<Vec<u8>>>>;

/// A host of WebSocket that sends its name in a frame, and remembers what it hears.
fn pod(name: &'static str, heard: &Heard) -> Upstream {
    let heard = Arc::clone(heard);
    Upstream::start(move |conversation: &mut Conversation| {
        if conversation.request().is_some() {
            conversation.send([SWITCH.as_bytes(), &[0x82, 1], name.as_bytes()].concat());
            let all = conversation.until_closed();
            heard.lock().unwrap().push(all);
        }
    })
}

fn open(proxy: &crate::support::Proxy, user: usize) -> (Client, u8) {
    let mut client = proxy.client();
    client.send(format!(
        "GET /ws HTTP/1.1\r\nhost: a\r\nx-user: {user}\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-key: k\r\n\r\n"
    ));
    assert_eq!(client.head_response().status, 101);
    let frame = client.exactly(3);
    (client, frame[2])
}

#[test]
fn websockets_whose_session_moves_are_told_and_no_others() {
    let heard = Heard::default();
    let pods = ["1", "2", "3"].map(|name| pod(name, &heard));
    let addresses = pods.each_ref().map(|pod| pod.address);
    let world = |hosts: &[SocketAddr]| World::to(hosts).with(|served| follows(served, by_user(), soon()));
    let proxy = world(&addresses[..2]).start();
    let mut before: Vec<_> = (0..20).map(|user| (user, open(&proxy, user))).collect();
    proxy.apply(&world(&addresses));
    let after: Vec<u8> = (0..20).map(|user| open(&proxy, user).1).collect();
    let mut moved = 0;
    for (user, (client, pod)) in &mut before {
        if after[*user] == *pod {
            client.send([0x82, 0x81, 0, 0, 0, 0, 7]);
        } else {
            assert_eq!(client.until_closed(), CLOSE, "user {user} hears that it has to go");
            moved += 1;
        }
    }
    assert!((1..20).contains(&moved), "{moved}");
    assert_eq!(proxy.metric("clingfish_affinity_streams_closed_total{kind=\"websocket\"}"), f64::from(moved));
    // Those that stay are still there after the time for all has passed.
    std::thread::sleep(Duration::from_millis(200));
    for (user, (client, pod)) in &mut before {
        assert!(after[*user] != *pod || client.try_send([0x82, 0x81, 0, 0, 0, 0, 7]));
    }
    assert_eq!(proxy.metric("clingfish_affinity_streams_closed_total{kind=\"websocket\"}"), f64::from(moved));
    let told = || heard.lock().unwrap().iter().filter(|heard| heard.ends_with(&MASKED_CLOSE)).count();
    eventually("the pods to be told too", || told() == usize::try_from(moved).unwrap());
}

#[test]
fn within_a_frame_the_connection_ends_without_another() {
    let half = Upstream::start(|conversation: &mut Conversation| {
        if conversation.request().is_some() {
            conversation.send([SWITCH.as_bytes(), &[0x82, 100], b"half"].concat());
            conversation.until_closed();
        }
    });
    let other = pod("2", &Heard::default());
    let world = |hosts: &[SocketAddr]| World::to(hosts).with(|served| follows(served, by_user(), soon()));
    let proxy = world(&[half.address]).start();
    let mut client = proxy.client();
    client.send("GET /ws HTTP/1.1\r\nhost: a\r\nx-user: 1\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-key: k\r\n\r\n");
    assert_eq!(client.head_response().status, 101);
    assert_eq!(client.exactly(6), b"\x82\x64half");
    proxy.apply(&world(&[other.address]));
    assert!(client.is_closed(), "a frame of ours would be taken for the rest of that one");
}

#[test]
fn a_policy_may_keep_them_and_a_session_that_comes_back_stays() {
    let pods = ["1", "2"].map(|name| pod(name, &Heard::default()));
    let addresses = pods.each_ref().map(|pod| pod.address);
    for (ends_moved, returns) in [(None, false), (Some(Duration::from_secs(600)), true)] {
        let world = |hosts: &[SocketAddr]| World::to(hosts).with(|served| follows(served, by_user(), ends_moved));
        let proxy = world(&addresses[..1]).start();
        let (mut client, _) = open(&proxy, 1);
        proxy.apply(&world(&addresses[1..]));
        if returns {
            proxy.apply(&world(&addresses[..1]));
        }
        std::thread::sleep(Duration::from_millis(200));
        assert!(client.try_send([0x82, 0x81, 0, 0, 0, 0, 7]));
        assert_eq!(proxy.metric("clingfish_affinity_streams_closed_total{kind=\"websocket\"}"), 0.0);
        assert_eq!(proxy.metric("clingfish_requests_in_flight"), 1.0);
    }
}

#[test]
fn a_connection_that_is_not_looked_at_ends_in_order() {
    let hosts = ["one", "two"].map(|word| {
        Upstream::start(move |conversation| {
            conversation.send(word);
            conversation.until_closed();
        })
    });
    let world = |host: SocketAddr| {
        tcp(&World::to(&[host]).with(|served| {
            tcp_route(served);
            follows(served, by_address(), soon());
        }))
    };
    let proxy = TlsProxy::start(world(hosts[0].address));
    let mut client = Client::connect(proxy.address());
    assert_eq!(client.exactly(3), b"one");
    proxy.apply(world(hosts[1].address));
    assert!(client.is_closed());
    assert_eq!(proxy.metric("clingfish_affinity_streams_closed_total{kind=\"tcp\"}"), 1.0);
    let mut again = Client::connect(proxy.address());
    assert_eq!(again.exactly(3), b"two");
}

#[tokio::test]
async fn a_call_is_told_to_call_again_before_and_after_its_answer_has_begun() {
    let call = |served: &mut Served| {
        served.kind = Kind::GrpcRoute;
        served.policy.timeouts = Timeouts { request: None, ..Timeouts::default() };
        follows(served, by_user(), soon());
    };
    let silent = Http2Upstream::start(|mut seen| async move {
        seen.read().await;
        if seen.parts.headers.contains_key("x-begin") {
            let head = Response::builder().header("content-type", "application/grpc").body(()).unwrap();
            let mut stream = seen.respond.send_response(head, false).unwrap();
            stream.send_data(Bytes::from_static(b"\0\0\0\0\0"), false).unwrap();
            std::future::pending::<()>().await;
        }
        std::future::pending::<()>().await;
    });
    let other = Http2Upstream::echo("other");
    let request = |begins: bool| {
        let builder = Request::post("http://grpc.example/a.B/C").header("content-type", "application/grpc").header("x-user", "1");
        let builder = if begins { builder.header("x-begin", "1") } else { builder };
        builder.body(Full::new(Bytes::from_static(b"\0\0\0\0\0")).boxed()).unwrap()
    };
    for begins in [false, true] {
        let proxy = World::to(&[silent.address]).with(call).start();
        let (mut sender, _) = connect(proxy.address()).await;
        let before = silent.requests();
        let sent = tokio::spawn(sender.send_request(request(begins)));
        let deadline = Instant::now() + PATIENCE;
        while silent.requests() == before {
            assert!(Instant::now() < deadline, "the call did not come to its pod");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let response = if begins {
            let begun = sent.await.unwrap().unwrap();
            proxy.publish(&World::to(&[other.address]).with(call));
            begun
        } else {
            proxy.publish(&World::to(&[other.address]).with(call));
            sent.await.unwrap().unwrap()
        };
        let of_head = response.headers().get("grpc-status").cloned();
        let of_trailers =
            response.into_body().collect().await.unwrap().trailers().and_then(|trailers| trailers.get("grpc-status").cloned());
        assert_eq!(of_head.or(of_trailers).unwrap(), "14", "begun: {begins}");
        eventually("the call to be counted", || proxy.metric("clingfish_affinity_streams_closed_total{kind=\"grpc\"}") == 1.0);
    }
}
