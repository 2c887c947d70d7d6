//! Hosts that speak HTTP/2 wrongly: an answer of the gateway's own, with Envoy's flag, never a hang, and nothing that others notice.

use std::time::Duration;

use clingfish::{
    proxy::{BackendLimits, Http2Ping, Limits, ProxyConfig},
    snapshot::{RoutePolicy, Timeouts},
};

use crate::http2_hosts::{http2, world};
use crate::support::{
    Frames, Http2Upstream, Served, Upstream, World, eventually,
    frames::{
        self, ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PING, SETTINGS, WINDOW_UPDATE, answer, block, frame, head, reset,
    },
};

/// What a host does with the stream of a request, and what the client gets: status and flag.
type Case = (&'static str, fn(&mut Frames<'_>, u32), u16, &'static str);

const OK: (&str, &str) = (":status", "200");

fn flood(frames: &mut Frames<'_>, piece: &[u8]) {
    let pieces = piece.repeat(200);
    for _ in 0..200 {
        frames.send(&pieces);
    }
}

const CASES: &[Case] = &[
    ("data before the head", |frames, stream| frames.send(frame(DATA, 0, stream, b"x")), 502, "UPE"),
    ("a head of a stream that nobody opened", |frames, stream| frames.send(head(stream + 100, &[OK], true)), 502, "UPE"),
    ("a head of a stream of the host's own", |frames, _| frames.send(head(2, &[OK], true)), 502, "UPE"),
    ("data of stream 0", |frames, _| frames.send(frame(DATA, 0, 0, b"x")), 502, "UPE"),
    ("a frame that is larger than allowed", |frames, stream| frames.send(frame(DATA, 0, stream, &[0; 20_000])), 502, "UPE"),
    ("a PING of a wrong size", |frames, _| frames.send(frame(PING, 0, 0, b"x")), 502, "UPE"),
    ("a WINDOW_UPDATE of nothing", |frames, _| frames.send(frame(WINDOW_UPDATE, 0, 0, &[0; 4])), 502, "UPE"),
    ("CONTINUATION without a head", |frames, stream| frames.send(frame(CONTINUATION, END_HEADERS, stream, &block(&[OK]))), 502, "UPE"),
    (
        "another frame within a head",
        |frames, stream| frames.send([frame(HEADERS, 0, stream, &block(&[OK])), frame(PING, 0, 0, &[0; 8])].concat()),
        502,
        "UPE",
    ),
    ("a head without a status", |frames, stream| frames.send(head(stream, &[("x-a", "1")], true)), 502, "UPE"),
    ("a status that is none", |frames, stream| frames.send(head(stream, &[(":status", "abc")], true)), 502, "UPE"),
    ("an unknown pseudo header", |frames, stream| frames.send(head(stream, &[OK, (":x", "/")], true)), 502, "UPE"),
    ("a pseudo header behind a field", |frames, stream| frames.send(head(stream, &[("x-a", "1"), OK], true)), 502, "UPE"),
    ("two statuses", |frames, stream| frames.send(head(stream, &[OK, OK], true)), 502, "UPE"),
    ("a field of the connection", |frames, stream| frames.send(head(stream, &[OK, ("connection", "close")], true)), 502, "UPE"),
    ("a name in upper case", |frames, stream| frames.send(head(stream, &[OK, ("X-A", "1")], true)), 502, "UPE"),
    ("a name with a quote", |frames, stream| frames.send(head(stream, &[OK, ("x\"a", "1")], true)), 502, "UPE"),
    ("101, which HTTP/2 does not have", |frames, stream| frames.send(head(stream, &[(":status", "101")], false)), 502, "UPE"),
    ("content-length without a body", |frames, stream| frames.send(head(stream, &[OK, ("content-length", "5")], true)), 502, "UPE"),
    (
        "content-length of another body",
        |frames, stream| {
            let data = frame(DATA, END_STREAM, stream, b"ok");
            frames.send([head(stream, &[OK, ("content-length", "5")], false), data].concat());
        },
        502,
        "UPE",
    ),
    ("two lengths", |frames, stream| frames.send(head(stream, &[OK, ("content-length", "0"), ("content-length", "1")], true)), 502, "UPE"),
    (
        "more than 100 headers",
        |frames, stream| {
            let names: Vec<String> = (0..101).map(|number| format!("x-{number}")).collect();
            let fields: Vec<(&str, &str)> = std::iter::once(OK).chain(names.iter().map(|name| (&**name, "1"))).collect();
            frames.send(head(stream, &fields, true));
        },
        502,
        "UPE",
    ),
    (
        "a head that is too large",
        |frames, stream| {
            let value = "x".repeat(16_000);
            frames.send(frame(HEADERS, 0, stream, &block(&[OK])));
            for _ in 0..4 {
                frames.send(frame(CONTINUATION, 0, stream, &block(&[("x-a", &value)])));
            }
            frames.send(frame(CONTINUATION, END_HEADERS, stream, &block(&[("x-a", "1")])));
        },
        502,
        "UPE",
    ),
    (
        "a head that is far too large",
        |frames, stream| {
            frames.send(frame(HEADERS, 0, stream, &block(&[OK])));
            let piece = frame(CONTINUATION, 0, stream, &block(&[("x-a", &"x".repeat(16_000))]));
            (0..1000).for_each(|_| frames.send(&piece));
        },
        502,
        "UPE",
    ),
    (
        "a bomb: one large field, and thousands of references to it",
        |frames, stream| {
            // RFC 7541 section 6.2.1: kept in the table as its first entry, 62.
            let value = "x".repeat(4000);
            let mut bomb = block(&[OK]);
            let mut kept = block(&[("x-a", &value)]);
            kept[0] = 0x40;
            bomb.extend(kept);
            bomb.extend([0xbe; 4000]);
            frames.send(frame(HEADERS, END_HEADERS | END_STREAM, stream, &bomb));
        },
        502,
        "UPE",
    ),
    ("a head block of nonsense", |frames, stream| frames.send(frame(HEADERS, END_HEADERS | END_STREAM, stream, &[0xff; 40])), 502, "UPE"),
    (
        "empty CONTINUATIONs without end",
        |frames, stream| {
            frames.send(frame(HEADERS, 0, stream, &block(&[OK])));
            flood(frames, &frame(CONTINUATION, 0, stream, b""));
        },
        502,
        "UPE",
    ),
    ("interim heads without end", |frames, stream| flood(frames, &head(stream, &[(":status", "103"), ("link", "a")], false)), 502, "UPE"),
    ("a flood of SETTINGS", |frames, _| flood(frames, &frames::settings(&[(4, 65_535)])), 502, "UPE"),
    ("a flood of PINGs", |frames, _| flood(frames, &frame(PING, 0, 0, &[0; 8])), 502, "UPE"),
    ("a flood of acknowledgements", |frames, _| flood(frames, &frame(PING, ACK, 0, &[0; 8])), 502, "UPE"),
    ("a flood of window updates", |frames, stream| flood(frames, &frame(WINDOW_UPDATE, 0, stream, &[0, 0, 0, 1])), 502, "UPE"),
    ("a flood of unknown frames", |frames, _| flood(frames, &frame(0xee, 0, 0, b"")), 502, "UPE"),
    ("an acknowledgement that nobody asked for", |frames, _| frames.send(frame(SETTINGS, ACK, 0, b"").repeat(3)), 502, "UPE"),
    ("a window that overflows", |frames, _| frames.send(frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff]).repeat(2)), 502, "UPE"),
    ("a close without an answer", |_, _| {}, 503, "UC"),
    ("a close within a head", |frames, stream| frames.send(&head(stream, &[OK], true)[..12]), 503, "UC"),
    ("a close within the frame's own head", |frames, stream| frames.send(&head(stream, &[OK], true)[..5]), 503, "UC"),
    ("a close after a GOAWAY that lets the stream end", |frames, stream| frames.send(frames::goaway(stream, 0)), 503, "UC"),
    ("a reset", |frames, stream| frames.send(reset(stream, 8)), 503, "UR"),
    ("a reset for malformed HTTP/2", |frames, stream| frames.send(reset(stream, 1)), 502, "UPE"),
    (
        "a promise to push",
        |frames, stream| frames.send(frame(5, END_HEADERS, stream, &[&[0, 0, 0, 2], &block(&[(":method", "GET")])[..]].concat())),
        502,
        "UPE",
    ),
    ("a reset with NO_ERROR", |frames, stream| frames.send(reset(stream, 0)), 503, "UR"),
    ("a refused stream, and nobody else to ask", |frames, stream| frames.send(reset(stream, 7)), 503, "UR"),
    ("a GOAWAY that leaves the stream out, again and again", |frames, _| frames.send(frames::goaway(0, 0)), 503, "UR"),
    ("interim heads and a close", |frames, stream| frames.send(head(stream, &[(":status", "103")], false)), 503, "UC"),
];

/// How a host begins, and what the client gets.
type Beginning = (&'static str, fn(&mut Frames<'_>), u16, &'static str);

const BEGINNINGS: &[Beginning] = &[
    (
        "an answer of HTTP/1.1",
        |frames| frames.send("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"),
        502,
        "UPE",
    ),
    ("a TLS alert", |frames| frames.send([21, 3, 1, 0, 2, 2, 70]), 502, "UPE"),
    ("a banner", |frames| frames.send("SSH-2.0-OpenSSH_9.6\r\n"), 502, "UPE"),
    ("another frame than SETTINGS", |frames| frames.send(frame(PING, 0, 0, &[0; 8])), 502, "UPE"),
    ("an acknowledgement first", |frames| frames.send(frame(SETTINGS, ACK, 0, b"")), 502, "UPE"),
    ("SETTINGS that are none", |frames| frames.send(frame(SETTINGS, 0, 0, b"x")), 502, "UPE"),
    ("a window that is too large", |frames| frames.send(frames::settings(&[(4, 0x8000_0000)])), 502, "UPE"),
    ("a GOAWAY first", |frames| frames.send(frames::goaway(0, 1)), 502, "UPE"),
    ("nothing, and a close", |_| {}, 503, "UC"),
    ("half a SETTINGS frame, and a close", |frames| frames.send(&frames::settings(&[(3, 100)])[..11]), 503, "UC"),
];

fn patient() -> ProxyConfig {
    ProxyConfig { tick: Duration::from_millis(10), idle_tick: Duration::from_millis(20), ..ProxyConfig::default() }
}

/// Sends one request to a host that does this, and others beside it.
fn check(what: &str, upstream: &Upstream, status: u16, flag: &str) {
    let good = Http2Upstream::echo("good");
    let mut world = world(&[upstream.address]);
    let mut other = Served::new("/good", &[good.address]);
    http2(&mut other);
    world.clusters[0].prefix = "/bad";
    world.clusters.push(other);
    let proxy = world.start_with(patient());
    let mut client = proxy.client();
    client.send("POST /bad HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc");
    assert_eq!(proxy.client().get("/good").text(), "good", "{what}: others");
    let mut response = client.response();
    while response.status < 200 {
        response = client.response();
    }
    assert_eq!(response.status, status, "{what}");
    let counted = || {
        let text = proxy.metrics.render();
        let line = text.lines().find(|line| line.starts_with("clingfish_requests_total{code=\"5xx\"") && line.ends_with(" 1"));
        line.map(str::to_owned)
    };
    eventually(&format!("{what}: to be counted"), || counted().is_some());
    assert_eq!(counted(), Some(format!("clingfish_requests_total{{code=\"5xx\",flag=\"{flag}\"}} 1")), "{what}");
    assert_eq!(proxy.client().get("/good").text(), "good", "{what}: afterwards");
    eventually(&format!("{what}: nothing is left"), || proxy.metric("clingfish_upstream_connections{state=\"active\"}") == 0.0);
}

#[test]
fn an_answer_that_is_wrong_is_502_or_503() {
    for (what, misbehave, status, flag) in CASES {
        let upstream = Upstream::start(|conversation| {
            let mut frames = Frames(conversation);
            if !frames.greet(&[]) {
                return;
            }
            while let Some(stream) = frames.request() {
                // The body is read: the host's close shall be a clean one.
                frames.until(|frame| frame.kind == DATA && frame.flags & END_STREAM != 0);
                misbehave(&mut frames, stream);
                // A close right behind a reset would be what the gateway hears of first, at times.
                if *flag != "UR" {
                    break;
                }
            }
        });
        check(what, &upstream, *status, flag);
    }
}

#[test]
fn a_beginning_that_is_wrong_is_502_or_503() {
    for (what, begin, status, flag) in BEGINNINGS {
        let upstream = Upstream::start(|conversation| {
            if conversation.exactly(24 + 9).is_some() {
                let mut frames = Frames(conversation);
                begin(&mut frames);
                if *what == "nothing, and a close" || what.starts_with("half") {
                    // A close while something is unread would be a reset.
                    frames.0.stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
                }
                frames.0.until_closed();
            }
        });
        check(what, &upstream, *status, flag);
    }
}

#[test]
fn a_host_that_says_nothing_is_left_for_the_next_one() {
    let silent = Upstream::start(|conversation| {
        conversation.until_closed();
    });
    let proxy = world(&[silent.address]).start_with(patient());
    let begun = tokio::time::Instant::now();
    assert_eq!(proxy.client().get("/").status, 503);
    assert!(begun.elapsed() < Duration::from_secs(10));
    eventually("the flag", || proxy.metric("clingfish_requests_total{code=\"5xx\",flag=\"UF\"}") == 1.0);
    let good = Http2Upstream::echo("good");
    let proxy = world(&[silent.address, good.address]).start_with(patient());
    assert!((0..2).all(|_| proxy.client().get("/").text() == "good"));
}

/// A world where heads and frames may take this long, and requests longer.
fn hasty(upstream: &Upstream, within: Duration) -> (World, ProxyConfig) {
    let world = world(&[upstream.address]).with(|served| {
        served.policy = RoutePolicy { timeouts: Timeouts { request: None, ..Timeouts::default() }, ..RoutePolicy::default() };
    });
    let limits = Limits { request_head: within, write_stall: within, ..Limits::default() };
    (world, ProxyConfig { limits, ..patient() })
}

#[test]
fn a_head_or_a_frame_that_does_not_end_costs_its_connection_alone() {
    let beginnings: [fn(u32) -> Vec<u8>; 3] = [
        |stream| frame(HEADERS, 0, stream, &block(&[OK])),
        |stream| head(stream, &[OK], true)[..15].to_vec(),
        |stream| head(stream, &[OK], true)[..4].to_vec(),
    ];
    for begin in beginnings {
        let upstream = Upstream::start(move |conversation| {
            let number = conversation.number;
            let mut frames = Frames(conversation);
            frames.greet(&[]);
            while let Some(stream) = frames.request() {
                if number > 0 {
                    frames.send(answer(stream, "ok"));
                } else {
                    frames.send(begin(stream));
                    frames.0.until_closed();
                    return;
                }
            }
        });
        let (world, config) = hasty(&upstream, Duration::from_millis(200));
        let proxy = world.start_with(config);
        let mut client = proxy.client();
        client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n");
        assert_eq!(client.response().status, 502);
        assert_eq!(proxy.client().get("/").text(), "ok");
    }
}

#[test]
fn a_head_that_drips_does_not_go_on_for_ever() {
    let upstream = Upstream::start(|conversation| {
        let mut frames = Frames(conversation);
        frames.greet(&[]);
        let Some(stream) = frames.request() else { return };
        frames.send(frame(HEADERS, 0, stream, &block(&[OK])));
        frames.0.stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        // Until the gateway closes.
        for _ in 0..500 {
            frames.send(frame(CONTINUATION, 0, stream, &block(&[("x", "y")])));
            frames.frame();
        }
    });
    let (world, config) = hasty(&upstream, Duration::from_millis(300));
    let proxy = world.start_with(config);
    assert_eq!(proxy.client().get("/").status, 502);
}

#[test]
fn a_host_that_does_not_read_is_given_up() {
    let upstream = Upstream::start(|conversation| {
        let mut frames = Frames(conversation);
        frames.greet(&[(4, 0x7fff_ffff)]);
        let Some(_) = frames.request() else { return };
        frames.send(frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xf0, 0, 0]));
        std::thread::sleep(Duration::from_secs(3));
    });
    let (world, config) = hasty(&upstream, Duration::from_millis(300));
    let proxy = world.start_with(config);
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 100000000\r\n\r\n");
    let mut other = client.try_clone();
    std::thread::spawn(move || while other.try_send([0; 65_536]) {});
    assert_eq!(client.response().status, 503);
}

#[test]
fn a_host_that_is_silent_is_asked_whether_it_is_there() {
    let answers = Upstream::start(|conversation| {
        let mut frames = Frames(conversation);
        frames.greet(&[]);
        let Some(stream) = frames.request() else { return };
        // Three times, and each is answered.
        for _ in 0..3 {
            let asked = frames.until(|frame| frame.kind == PING && frame.flags & ACK == 0).unwrap();
            frames.send(frame(PING, ACK, 0, &asked.payload));
        }
        frames.send(answer(stream, "ok"));
        frames.request();
    });
    let silent = Upstream::start(|conversation| {
        let mut frames = Frames(conversation);
        frames.greet(&[]);
        frames.request();
        conversation_ends(&mut frames);
    });
    let ping = Http2Ping { interval: Duration::from_millis(50), timeout: Duration::from_millis(200) };
    let backends = BackendLimits { http2_ping: Some(ping), ..BackendLimits::default() };
    let ask = |upstream: &Upstream| {
        let proxy = world(&[upstream.address]).start_with(ProxyConfig { backends: backends.clone(), ..patient() });
        let mut client = proxy.client();
        client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n");
        client.response().status
    };
    assert_eq!((ask(&answers), ask(&silent)), (200, 503));
}

/// Reads until the gateway closes.
fn conversation_ends(frames: &mut Frames<'_>) {
    while frames.frame().is_some() {}
}
