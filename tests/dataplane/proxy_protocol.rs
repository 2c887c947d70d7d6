//! Load balancers that say who the client is.

use std::{sync::Arc, time::Duration};

use clingfish::{
    base::{AccessLogFormat, LogTemplate},
    proxy::{Limits, ProxyConfig},
    snapshot::ProxyProtocolVersion,
};

use crate::{
    access_log::Lines,
    support::{Upstream, World, eventually},
};

const CLIENT: &str = "clingfish_proxy_protocol_headers_total{result=\"client\"}";
const MALFORMED: &str = "clingfish_proxy_protocol_headers_total{result=\"malformed\"}";

fn trusting(networks: &[&str]) -> ProxyConfig {
    ProxyConfig { proxy_protocol: networks.iter().map(|network| network.parse().unwrap()).collect(), ..ProxyConfig::default() }
}

fn version_2(rest: &[u8], family: u8, command: u8) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [b"\r\n\r\n\0\r\nQUIT\n", &[command, family][..], &length, rest].concat()
}

#[test]
fn the_client_is_who_the_header_says() {
    let upstream = Upstream::echo("ok");
    let template = "%DOWNSTREAM_REMOTE_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS%";
    let (lines, log) = Lines::start(AccessLogFormat::Template(Arc::new(LogTemplate::parse(template).unwrap())));
    let proxy = World::to(&[upstream.address]).start_all(trusting(&["127.0.0.0/8"]), Some(&log));
    let ipv4 = [192, 0, 2, 7, 198, 51, 100, 1, 0x30, 0x39, 0x01, 0xbb];
    for header in [b"PROXY TCP4 192.0.2.7 198.51.100.1 12345 443\r\n".to_vec(), version_2(&ipv4, 0x11, 0x21)] {
        let mut client = proxy.client();
        client.send([&header[..], b"GET /1 HTTP/1.1\r\nhost: a\r\n\r\n"].concat());
        assert_eq!(client.response().status, 200);
        assert_eq!(client.get("/2").status, 200, "one header a connection");
        // Byte for byte, and the request later.
        let mut slow = proxy.client();
        for byte in header.chunks(1) {
            slow.send(byte);
        }
        assert_eq!(slow.get("/3").status, 200);
    }
    let mut own = proxy.client();
    own.send(version_2(&[], 0, 0x20));
    assert_eq!(own.get("/4").status, 200);
    assert_eq!((proxy.metric(CLIENT), proxy.metric("clingfish_proxy_protocol_headers_total{result=\"local\"}")), (4.0, 1.0));
    let mut seen = lines.wait_for(7);
    assert!(seen.pop().unwrap().starts_with("127.0.0.1:"), "a load balancer's own connection is its own");
    assert!(seen.iter().all(|line| line == "192.0.2.7:12345 198.51.100.1:443"), "{seen:?}");
}

#[test]
fn a_trusted_load_balancer_must_say_it_and_nobody_else_may() {
    let upstream = Upstream::echo("ok");
    let limits = Limits { first_byte: Duration::from_millis(300), ..Limits::default() };
    let tick = Duration::from_millis(10);
    let proxy = World::to(&[upstream.address]).start_with(ProxyConfig {
        limits,
        tick,
        idle_tick: tick,
        ..trusting(&["10.0.0.0/8", "127.0.0.1/32"])
    });
    let mut without = proxy.client();
    without.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    assert!(without.is_closed());
    eventually("it is counted", || proxy.metric(MALFORMED) >= 1.0);
    let mut silent = proxy.client();
    assert!(silent.is_closed());
    let mut half = proxy.client();
    half.send("PROXY TCP4 192.0.2.7");
    assert!(half.is_closed());
    eventually("they are counted", || proxy.metric("clingfish_proxy_protocol_headers_total{result=\"timed_out\"}") >= 2.0);
    drop(proxy.client());
    eventually("it is counted", || proxy.metric("clingfish_proxy_protocol_headers_total{result=\"closed\"}") >= 1.0);
    assert_eq!(upstream.requests().len(), 0);

    let others = World::to(&[upstream.address]).start_with(trusting(&["10.0.0.0/8"]));
    let mut client = others.client();
    client.send("PROXY TCP4 192.0.2.7 198.51.100.1 12345 443\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!(client.response().status, 400, "it is no request");
    assert_eq!(others.client().get("/").status, 200);
    assert_eq!(others.metric(CLIENT), 0.0);
}

#[test]
fn a_host_is_told_who_its_client_is_and_has_a_connection_for_each_request() {
    for (version, start) in [(ProxyProtocolVersion::V1, &b"PROXY TCP4 "[..]), (ProxyProtocolVersion::V2, &b"\r\n\r\n\0\r\nQUIT\n"[..])] {
        let upstream = Upstream::start(move |conversation| {
            let seen = conversation.exactly(start.len()).unwrap();
            assert!(seen.starts_with(start), "{seen:?}");
            // The rest of the header: its line, or its 16 bytes with two addresses.
            let (mut header, most) = (seen, if version == ProxyProtocolVersion::V1 { 107 } else { 28 });
            while header.len() < most && !(version == ProxyProtocolVersion::V1 && header.ends_with(b"\r\n")) {
                header.extend(conversation.exactly(1).unwrap());
            }
            conversation.note(String::from_utf8_lossy(&header).into_owned());
            while conversation.request().is_some() {
                conversation.reply("ok");
            }
        });
        let told = World::to(&[upstream.address]).with(|served| {
            served.options.proxy_protocol = Some(version);
            served.options.max_requests_per_connection = Some(1);
        });
        let proxy = told.start_with(trusting(&["127.0.0.0/8"]));
        for client in ["192.0.2.7", "192.0.2.8"] {
            let mut connection = proxy.client();
            connection.send(format!("PROXY TCP4 {client} 198.51.100.1 12345 443\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n"));
            assert_eq!(connection.response().status, 200);
            assert_eq!(connection.get("/").status, 200);
        }
        assert_eq!(upstream.connections(), 4);
        if version == ProxyProtocolVersion::V1 {
            let headers: Vec<_> = upstream.requests().into_iter().filter(|seen| seen.starts_with("PROXY")).collect();
            let line = |client| format!("PROXY TCP4 {client} 198.51.100.1 12345 443\r\n");
            assert_eq!(headers, [line("192.0.2.7"), line("192.0.2.7"), line("192.0.2.8"), line("192.0.2.8")]);
        }
    }
}
