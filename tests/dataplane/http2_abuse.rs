//! What an HTTP/2 client does to the gateway beside asking: it is bounded, counted and logged.

use std::time::Duration;

use clingfish::{
    base::AccessLogFormat,
    proxy::{Limits, ProxyConfig},
};

use crate::access_log::Lines;
use crate::support::{Client, Proxy, Upstream, World, eventually};

const ENHANCE_YOUR_CALM: u32 = 11;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A request's header block: the pseudo-headers of a GET, and more literal fields.
fn block(path: &str, fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = vec![0x82, 0x86, 0x41, 1, b'a', 0x44, u8::try_from(path.len()).unwrap()];
    block.extend(path.as_bytes());
    for (name, value) in fields {
        block.push(0x10);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).unwrap());
            block.extend(text.as_bytes());
        }
    }
    block
}

fn get(stream: u32, path: &str) -> Vec<u8> {
    frame(1, 5, stream, &block(path, &[]))
}

fn reset(stream: u32) -> Vec<u8> {
    frame(3, 0, stream, &8_u32.to_be_bytes())
}

fn begin(proxy: &Proxy) -> Client {
    let mut client = proxy.client();
    client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    client.send(frame(4, 0, 0, &[]));
    client
}

/// Reads to the end of the connection; the error code of its GOAWAY.
fn goaway(client: &mut Client) -> Option<u32> {
    let bytes = client.until_closed();
    let mut rest = &bytes[..];
    let mut code = None;
    while rest.len() >= 9 {
        let length = usize::from(rest[0]) << 16 | usize::from(rest[1]) << 8 | usize::from(rest[2]);
        if rest[3] == 7 {
            code = rest.get(13..17).map(|bytes| u32::from_be_bytes(bytes.try_into().unwrap()));
        }
        rest = rest.get(9 + length..).unwrap_or_default();
    }
    code
}

/// Never answers `/hang`, and everything else with `ok`.
fn hanging() -> Upstream {
    Upstream::start(|conversation| {
        while let Some(request) = conversation.request() {
            if request.starts_with("GET /hang") {
                conversation.until_closed();
                return;
            }
            conversation.reply("ok");
        }
    })
}

#[test]
fn a_client_that_resets_most_of_its_streams_is_sent_away() {
    let upstream = hanging();
    let proxy = World::to(&[upstream.address]).start();
    let mut neighbour = proxy.client();
    assert_eq!(neighbour.get("/").status, 200);
    let mut client = begin(&proxy);
    eventually("the connection to be there", || proxy.metric("clingfish_downstream_connections_open") == 2.0);
    let mut opened = 1;
    for stream in (1..2000).step_by(2) {
        if !client.try_send(get(stream, "/hang")) {
            break;
        }
        // Every one of them reaches its host before it is reset.
        eventually("the request to be served or refused", || {
            upstream.requests().len() > opened || proxy.metric("clingfish_downstream_connections_open") < 2.0
        });
        opened = upstream.requests().len();
        if !client.try_send(reset(stream)) {
            break;
        }
    }
    assert_eq!(goaway(&mut client), Some(ENHANCE_YOUR_CALM));
    // Half of two hundred; one more may have come with the last reset.
    assert!((100..=101).contains(&(opened - 1)), "{opened}");
    assert_eq!(proxy.metric("clingfish_downstream_http2_abuse_total{reason=\"premature_resets\"}"), 1.0);
    eventually("the resets to be counted", || proxy.metric("clingfish_requests_total{code=\"other\",flag=\"DR\"}") >= 100.0);
    eventually("the hosts' connections to be closed", || upstream.open() == 0);
    assert_eq!(neighbour.get("/").status, 200);
}

#[test]
fn a_client_that_makes_the_gateway_reset_its_streams_is_sent_away_too() {
    let upstream = hanging();
    let proxy = World::to(&[upstream.address]).start();
    let mut client = begin(&proxy);
    for stream in (1..2000).step_by(2) {
        // With so much more the window would be larger than any.
        let window = frame(8, 0, stream, &0x7fff_ffff_u32.to_be_bytes());
        if !client.try_send([get(stream, "/hang"), window].concat()) {
            break;
        }
    }
    assert_eq!(goaway(&mut client), Some(ENHANCE_YOUR_CALM));
    eventually("the hosts' connections to be closed", || upstream.open() == 0);
    assert!(upstream.connections() <= 200, "{}", upstream.connections());
}

#[test]
fn a_client_that_floods_with_frames_is_sent_away() {
    let upstream = hanging();
    let proxy = World::to(&[upstream.address]).start();
    let (ping, settings, unknown) = (frame(6, 0, 0, &[0; 8]), frame(4, 0, 0, &[]), frame(0x77, 0, 0, &[]));
    let (priority, window) = (frame(2, 0, 1, &[0, 0, 0, 0, 1]), frame(8, 0, 0, &[0, 0, 0, 1]));
    for (count, flood) in [ping, settings, unknown, priority, window].into_iter().enumerate() {
        let mut client = begin(&proxy);
        client.try_send(flood.repeat(5000));
        assert_eq!(goaway(&mut client), Some(ENHANCE_YOUR_CALM), "frames of type {}", flood[3]);
        let counted = proxy.metric("clingfish_downstream_http2_abuse_total{reason=\"control_frames\"}");
        assert_eq!(counted, (count + 1) as f64);
    }
}

#[test]
fn before_that_an_honest_client_is_told_to_come_back_and_loses_nothing() {
    let upstream = hanging();
    let proxy = World::to(&[upstream.address]).start();
    let mut client = begin(&proxy);
    client.send(get(1, "/"));
    client.send(frame(6, 0, 0, &[0; 8]).repeat(900));
    // It acknowledges the ping behind the first GOAWAY by closing.
    eventually("the request to be served", || proxy.metric("clingfish_requests_total{code=\"2xx\",flag=\"-\"}") == 1.0);
    client.finish();
    assert_eq!(goaway(&mut client), Some(0));
}

#[test]
fn a_head_that_does_not_end_is_not_waited_for() {
    let limits = Limits { request_head: Duration::from_millis(300), ..Limits::default() };
    let config = ProxyConfig { limits, idle_tick: Duration::from_millis(10), ..ProxyConfig::default() };
    let proxy = World::to(&[]).start_with(config);
    for begun in [frame(1, 1, 1, &block("/", &[])), get(1, "/")[..12].to_vec()] {
        let mut client = begin(&proxy);
        client.send(begun);
        client.until_closed();
    }
}

#[test]
fn what_the_library_refuses_is_logged_and_counted() {
    let (lines, log) = Lines::start(AccessLogFormat::Json);
    let upstream = hanging();
    let proxy = World::to(&[upstream.address]).start_logged(&log);
    let mut client = begin(&proxy);
    client.send(frame(1, 5, 1, &block("/", &[("connection", "close")])));
    client.send(frame(1, 5, 3, &block("/", &[("te", "gzip")])));
    client.send(get(5, "/"));
    let logged = lines.json(3);
    for line in logged.iter().filter(|line| line["path"] != "/") {
        assert_eq!((&line["flag"], &line["protocol"], &line["status"]), (&"DPE".into(), &"HTTP/2".into(), &0.into()), "{line}");
        assert!(line["reason"].is_string() && line["peer"].is_string(), "{line}");
    }
    assert_eq!(logged.iter().filter(|line| line["path"] == "/" && line["status"] == 200).count(), 1);
    assert_eq!(proxy.metric("clingfish_requests_total{code=\"other\",flag=\"DPE\"}"), 2.0);
    // What cannot be decoded ends the connection.
    let mut client = begin(&proxy);
    client.send(frame(1, 5, 1, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff]));
    client.until_closed();
    assert_eq!(lines.json(4)[3]["reason"], "an HTTP/2 header block that cannot be decoded");
}
