//! HTTP/2 frame by frame: windows, header blocks, and what a client must not send.

use std::net::SocketAddr;

use bytes::Bytes;
use h2::{Reason, client::SendRequest};
use http::{Request, StatusCode};

use crate::support::{Client, Proxy, Upstream, World};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

struct Frame {
    kind: u8,
    stream: u32,
    payload: Vec<u8>,
}

// === impl Frame ===

impl Frame {
    fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// The header block of a request to `a`.
fn block(method: u8, path: &str) -> Vec<u8> {
    let mut block = vec![0x80 | method, 0x86, 0x41, 1, b'a', 0x44, u8::try_from(path.len()).unwrap()];
    block.extend(path.as_bytes());
    block
}

const GET: u8 = 2;
const POST: u8 = 3;

fn begin(proxy: &Proxy) -> Client {
    let mut client = proxy.client();
    client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    client.send(frame(SETTINGS, 0, 0, &[]));
    client
}

/// Reads frames until one is what is looked for.
fn until(client: &mut Client, mut is_it: impl FnMut(&Frame) -> bool) -> Frame {
    loop {
        let head = client.exactly(9);
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let stream = u32::from_be_bytes(head[5..9].try_into().unwrap());
        let frame = Frame { kind: head[3], stream, payload: client.exactly(length) };
        if is_it(&frame) {
            return frame;
        }
    }
}

async fn connect(address: SocketAddr, build: impl FnOnce(&mut h2::client::Builder)) -> SendRequest<Bytes> {
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let mut builder = h2::client::Builder::new();
    build(&mut builder);
    let (sender, connection) = builder.handshake(stream).await.unwrap();
    tokio::spawn(connection);
    sender.ready().await.unwrap()
}

#[test]
fn a_fragment_in_the_path_is_refused_as_in_http_1_1_and_its_neighbours_go_on() {
    let upstream = Upstream::echo("ok");
    let proxy = World::to(&[upstream.address]).start();
    let mut client = begin(&proxy);
    let (ok, bad_request) = (0x88, 0x8c);
    for (stream, path, status) in [(1, "/a#b", bad_request), (3, "/a", ok), (5, "/#", bad_request), (7, "/a?b", ok)] {
        client.send(frame(HEADERS, 5, stream, &block(GET, path)));
        let answer = until(&mut client, |frame| frame.kind == HEADERS);
        assert_eq!((answer.stream, answer.payload[0]), (stream, status), "{path}");
    }
    assert_eq!(upstream.requests().len(), 2, "{:?}", upstream.requests());
}

#[test]
fn a_client_may_send_no_more_than_its_windows_let_pass() {
    let proxy = World::to(&[Upstream::start(|conversation| drop(conversation.until_closed())).address]).start();
    // 65,536 of a stream, which nobody reads on, and one byte more.
    let mut client = begin(&proxy);
    client.send(frame(HEADERS, 4, 1, &block(POST, "/")));
    let piece = vec![0; 16 * 1024];
    for _ in 0..64 {
        client.send(frame(DATA, 0, 1, &piece));
    }
    let fault = until(&mut client, |frame| matches!(frame.kind, RST_STREAM | GOAWAY));
    assert_eq!((fault.kind, fault.stream, fault.code()), (RST_STREAM, 1, u32::from(Reason::FLOW_CONTROL_ERROR)));
}

/// What nobody reads, since its answer was there before, must not use up the window of the connection.
#[test]
fn uploads_that_nobody_reads_leave_the_connection_its_window() {
    let proxy = World::to(&[]).start();
    let mut client = begin(&proxy);
    let (mut granted, mut sent) = (65_535_u64, 0_u64);
    let piece = vec![0; 16 * 1024];
    for stream in (1..400).step_by(2) {
        client.send(frame(HEADERS, 4, stream, &block(POST, "/missing")));
        client.send(frame(DATA, 8, stream, &[&[200][..], &piece[..16_383]].concat()));
        sent += 16 * 1024;
        until(&mut client, |frame| {
            if frame.kind == WINDOW_UPDATE && frame.stream == 0 {
                granted += u64::from(frame.code());
            }
            frame.kind == RST_STREAM && frame.stream == stream
        });
    }
    assert!(sent > 3_000_000 && granted > sent, "{sent} sent, {granted} granted");
}

#[tokio::test]
async fn bodies_pass_both_ways_whatever_the_windows_are() {
    let upstream = Upstream::start(|conversation| {
        while let Some(request) = conversation.request() {
            conversation.reply(request.split_once("\r\n\r\n").unwrap().1);
        }
    });
    let proxy = World::to(&[upstream.address]).start();
    let body = "0123456789".repeat(30_000);
    for (window, frame_size) in [(1, 16 * 1024), (1000, 16 * 1024), (65_535, 16 * 1024), (1024 * 1024, 1024 * 1024)] {
        let body = if window == 1 { &body[..500] } else { &body };
        let mut sender = connect(proxy.address(), |builder| {
            builder.initial_window_size(window).max_frame_size(frame_size);
        })
        .await;
        let (response, mut sending) =
            sender.send_request(Request::post("http://a/").header("content-length", body.len()).body(()).unwrap(), false).unwrap();
        sending.send_data(Bytes::copy_from_slice(body.as_bytes()), true).unwrap();
        let mut received = Vec::new();
        let mut stream = response.await.unwrap().into_body();
        while let Some(data) = stream.data().await {
            let data = data.unwrap();
            stream.flow_control().release_capacity(data.len()).unwrap();
            received.extend(data);
        }
        assert!(received == body.as_bytes(), "a window of {window}: {} of {} bytes", received.len(), body.len());
    }
}

#[tokio::test]
async fn a_response_is_understood_whatever_table_the_client_allows() {
    let upstream = Upstream::start(|conversation| {
        while conversation.request().is_some() {
            let long = "y".repeat(20_000);
            conversation.send(format!("HTTP/1.1 200 OK\r\nx-a: 1\r\nx-long: {long}\r\ncontent-length: 2\r\n\r\nok"));
        }
    });
    let proxy = World::to(&[upstream.address]).start();
    for table in [0, 50, 4096, 65_536] {
        let mut sender = connect(proxy.address(), |builder| {
            builder.header_table_size(table).max_header_list_size(64 * 1024);
        })
        .await;
        for round in 0..5 {
            let (response, _) = sender.send_request(Request::get("http://a/").body(()).unwrap(), true).unwrap();
            let response = response.await.unwrap();
            assert_eq!((response.status(), response.headers()["x-a"].to_str().unwrap()), (StatusCode::OK, "1"), "{table}, {round}");
            assert_eq!(response.headers()["x-long"].len(), 20_000);
        }
    }
}

#[test]
fn a_header_block_may_come_in_pieces_but_not_without_end() {
    let upstream = Upstream::echo("ok");
    let proxy = World::to(&[upstream.address]).start();
    let mut client = begin(&proxy);
    let block = block(GET, "/pieces");
    client.send(frame(HEADERS, 1, 1, &block[..3]));
    client.send(frame(CONTINUATION, 0, 1, &block[3..5]));
    client.send(frame(CONTINUATION, 0, 1, &[]));
    client.send(frame(CONTINUATION, 4, 1, &block[5..]));
    assert_eq!(until(&mut client, |frame| frame.kind == HEADERS).payload[0], 0x88);
    client.send(frame(HEADERS, 1, 3, &block));
    let literal = [&[0x10, 1, b'x', 0x7f, 0x81, 0x7d][..], &[b'y'; 16_000]].concat();
    for _ in 0..10 {
        if !client.try_send(frame(CONTINUATION, 0, 3, &literal)) {
            break;
        }
    }
    let fault = until(&mut client, |frame| frame.kind == GOAWAY);
    assert_eq!(fault.code(), u32::from(Reason::ENHANCE_YOUR_CALM));
}
