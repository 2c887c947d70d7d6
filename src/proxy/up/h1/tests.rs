//! The leg against scripted peers on loopback sockets.

use std::{cell::RefCell, collections::VecDeque, convert::Infallible, pin::Pin, rc::Rc, task};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, header};
use http_body::{Body, Frame};
use http_body_util::{BodyExt as _, Empty};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use crate::base::head::{HeaderMap, response};
use crate::proxy::up::outbound::Outbound;

use super::*;

#[derive(Clone, Default)]
struct Idle(Rc<RefCell<Vec<H1Connection>>>);

impl Recycle for Idle {
    fn recycle(self, connection: H1Connection) {
        self.0.borrow_mut().push(connection);
    }
}

/// A body of given frames.
struct Frames(VecDeque<Result<Frame<Bytes>, io::Error>>);

impl Outbound for Frames {}

impl Outbound for Empty<Bytes> {}

impl Body for Frames {
    type Data = Bytes;
    type Error = io::Error;
    fn poll_frame(self: Pin<&mut Self>, _: &mut task::Context<'_>) -> task::Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        task::Poll::Ready(self.get_mut().0.pop_front())
    }
}

async fn pair() -> (H1Connection, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (H1Connection::new(HostStream::plain(client), None), listener.accept().await.unwrap().0)
}

fn head(method: &Method, framing: RequestFraming) -> Vec<u8> {
    let mut headers = HeaderMap::new();
    let fields = [(header::HOST, "a.example"), (HeaderName::from_static("x-a"), "1"), (header::CONTENT_LENGTH, "77")];
    for (name, value) in fields.into_iter().chain([(header::CONNECTION, "close"), (header::TE, "trailers")]) {
        headers.insert(name, HeaderValue::from_static(value));
    }
    let mut out = Vec::new();
    encode_head(&mut out, method, "/p?q", &headers, framing, None);
    out
}

type Got = (response::Parts, Result<(Bytes, Option<http::HeaderMap>), ExchangeError>);

/// Sends a GET (or `method`), lets the peer answer `answer` in pieces and close if `close`; returns the answer and the idle connections.
async fn get(method: Method, answer: &[&str], close: bool) -> (Result<Got, Failed<Empty<Bytes>>>, Vec<H1Connection>) {
    let (connection, mut peer) = pair().await;
    let idle = Idle::default();
    let script = async {
        let mut request = vec![0; 4096];
        let _ = peer.read(&mut request).await.unwrap();
        for piece in answer {
            peer.write_all(piece.as_bytes()).await.unwrap();
            tokio::task::yield_now().await;
        }
        if close {
            drop(peer);
            None
        } else {
            Some(peer)
        }
    };
    let bytes = head(&method, RequestFraming::None);
    let exchange =
        Exchange::start(connection, idle.clone(), &bytes, None::<Empty<Bytes>>, RequestFraming::None, method == Method::HEAD, false);
    let client = async {
        match exchange.answer(&mut |_, _| {}).await? {
            Answer::Response(parts, body) => {
                let collected = body.collect().await;
                Ok((
                    parts,
                    collected.map(|body| {
                        let trailers = body.trailers().cloned();
                        (body.to_bytes(), trailers)
                    }),
                ))
            }
            Answer::Upgraded(..) => panic!("not asked for"),
        }
    };
    let (got, _peer) = tokio::join!(client, script);
    (got, idle.0.take())
}

#[tokio::test]
async fn a_response_with_a_length_is_read_and_its_connection_kept() {
    let (got, idle) = get(Method::GET, &["HTTP/1.1 200 OK\r\ncontent-le", "ngth: 5\r\nx-b: 2\r\n\r\nhe", "llo"], false).await;
    let (parts, body) = got.unwrap();
    assert_eq!((parts.status.as_u16(), parts.headers.get("x-b").unwrap().as_bytes()), (200, &b"2"[..]));
    assert_eq!(&body.unwrap().0[..], b"hello");
    assert_eq!((idle.len(), idle[0].served()), (1, 1));
}

async fn readable(connection: &H1Connection) {
    connection.io.readable().await.unwrap();
}

#[tokio::test]
async fn an_idle_connection_is_reusable_until_the_peer_speaks_or_closes() {
    let (mut connection, peer) = pair().await;
    assert!(connection.is_reusable());
    drop(peer);
    readable(&connection).await;
    assert!(!connection.is_reusable());
    let (mut connection, mut peer) = pair().await;
    peer.write_all(b"HTTP/1.1 408 Request Timeout\r\n\r\n").await.unwrap();
    readable(&connection).await;
    assert!(!connection.is_reusable());
}

#[tokio::test]
async fn a_chunked_response_is_read_with_extensions_and_trailers() {
    let answer = [
        "HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\ntrailer: x-t\r\n\r\n5;a=b\r\nhel",
        "lo\r",
        "\n1\r\n!\r\n0\r\nx-t: 1\r",
        "\n\r\n",
    ];
    let (got, idle) = get(Method::GET, &answer, false).await;
    let (parts, body) = got.unwrap();
    let (data, trailers) = body.unwrap();
    assert_eq!(&data[..], b"hello!");
    assert_eq!(trailers.unwrap()["x-t"], "1");
    assert!(!parts.headers.contains_key(header::TRANSFER_ENCODING) && parts.headers.contains_key(header::TRAILER));
    assert_eq!(idle.len(), 1);
}

#[tokio::test]
async fn answers_without_a_body_end_with_their_head() {
    for (method, answer, length) in [
        (Method::HEAD, "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", Some("5")),
        (Method::HEAD, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", None),
        (Method::GET, "HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n", Some("5")),
        (Method::GET, "HTTP/1.1 304 Not Modified\r\ntransfer-encoding: chunked\r\n\r\n", None),
        (Method::GET, "HTTP/1.1 204 No Content\r\n\r\n", None),
        (Method::GET, "HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n", None),
        (Method::GET, "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", Some("0")),
    ] {
        let (got, idle) = get(method, &[answer], false).await;
        let (parts, body) = got.unwrap();
        assert_eq!(parts.headers.get(header::CONTENT_LENGTH).map(|length| length.to_str().unwrap()), length, "{answer}");
        assert!(!parts.headers.contains_key(header::TRANSFER_ENCODING), "{answer}");
        assert_eq!((body.unwrap().0.len(), idle.len()), (0, 1), "{answer}");
    }
}

#[tokio::test]
async fn a_connection_is_not_kept_when_the_upstream_may_close_it_or_said_too_much() {
    for (answer, close, data) in [
        ("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok", false, "ok"),
        ("HTTP/1.1 200 OK\r\n\r\nok", true, "ok"),
        ("HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok", false, "ok"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n\r\n", false, "ok"),
        ("HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\n", false, ""),
        ("HTTP/1.1 204 No Content\r\ntransfer-encoding: chunked\r\n\r\n", false, ""),
        ("HTTP/1.1 204 No Content\r\n\r\nhello", false, ""),
        ("HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\nhello", false, ""),
        ("HTTP/1.1 103 Early Hints\r\ncontent-length: 5\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", false, "ok"),
        ("HTTP/1.1 102 Processing\r\nconnection: close\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", false, "ok"),
    ] {
        let (got, idle) = get(Method::GET, &[answer], close).await;
        assert_eq!(got.unwrap().1.unwrap().0, data, "{answer}");
        assert_eq!(idle.len(), 0, "{answer}");
    }
}

#[tokio::test]
async fn a_truncated_body_is_an_error() {
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\nok",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n",
    ] {
        let (got, idle) = get(Method::GET, &[answer], true).await;
        assert!(matches!(got.unwrap().1, Err(ExchangeError::Closed)), "{answer}");
        assert_eq!(idle.len(), 0);
    }
}

#[tokio::test]
async fn ambiguous_answers_are_refused() {
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok!",
        "HTTP/1.1 200 OK\r\ncontent-length: +2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\ncontent-length: 5\r\n\r\nhelloHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
        "nonsense\r\n\r\n",
        "\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
    ] {
        let (got, idle) = get(Method::GET, &[answer], false).await;
        let failed = got.err().unwrap_or_else(|| panic!("accepted: {answer}"));
        assert!(matches!(failed.error, ExchangeError::Invalid(_)), "{answer}: {:?}", failed.error);
        assert_eq!((failed.progress, idle.len()), (Progress::AnswerBegun, 0));
    }
    for chunk in ["zz\r\n", "-2\r\nok\r\n", "2\r\nokay\r\n", "2 x\r\nok\r\n", "2\nok\r\n", "11111111111111111\r\nok\r\n"] {
        let answer = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{chunk}");
        let (got, idle) = get(Method::GET, &[&answer], false).await;
        assert!(matches!(got.unwrap().1, Err(ExchangeError::Invalid(_))), "{chunk}");
        assert_eq!(idle.len(), 0);
    }
}

/// Sends a GET; the peer sends these bytes and no more. Returns the interim heads that were told of, and the answer's status or error.
async fn interim(answer: &str) -> (Vec<(u16, HeaderMap)>, Result<u16, String>) {
    let (connection, mut peer) = pair().await;
    let bytes = head(&Method::GET, RequestFraming::None);
    let exchange = Exchange::start(connection, Idle::default(), &bytes, None::<Empty<Bytes>>, RequestFraming::None, false, false);
    let mut told = Vec::new();
    let mut on_interim = |status: http::StatusCode, headers| told.push((status.as_u16(), headers));
    let script = async {
        let _ = peer.write_all(answer.as_bytes()).await;
        let _ = peer.shutdown().await;
    };
    let (answered, ()) = tokio::join!(exchange.answer(&mut on_interim), script);
    let status = match answered {
        Ok(Answer::Response(parts, _)) => Ok(parts.status.as_u16()),
        Ok(Answer::Upgraded(..)) => panic!("not asked for"),
        Err(failed) => Err(failed.error.to_string()),
    };
    (told, status)
}

const ANSWER: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

#[tokio::test]
async fn interim_heads_are_told_of_without_what_concerns_the_connection() {
    let answer = [
        "HTTP/1.1 100 Continue\r\n\r\n",
        "HTTP/1.1 102 Processing\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\nlink: a\r\nlink: b\r\nkeep-alive: 5\r\nconnection: x-hop\r\nx-hop: 1\r\nupgrade: h2c\r\n\
         content-length: 0\r\ntransfer-encoding: chunked\r\n\r\n",
        ANSWER,
    ];
    let (told, status) = interim(&answer[..2].concat()).await;
    assert_eq!((told.len(), status.is_err()), (1, true), "the heads are told of before the answer is there");
    let (_, status) = interim(&answer.concat()).await;
    assert!(status.unwrap_err().contains("transfer-encoding beside"), "two framings");
    let (told, status) = interim(&answer.concat().replace("content-length: 0\r\ntransfer", "transfer")).await;
    assert_eq!(status, Ok(200));
    assert_eq!(told.iter().map(|(status, _)| *status).collect::<Vec<_>>(), [102, 103]);
    assert!(told[0].1.is_empty());
    let lines: Vec<_> = told[1].1.iter().map(|(name, value)| (name, value.to_str().unwrap())).collect();
    assert_eq!(lines, [(&b"link"[..], "a"), (b"link", "b")]);
}

#[tokio::test]
async fn interim_heads_are_limited_in_number_and_in_bytes() {
    let short = "HTTP/1.1 103 Early Hints\r\n\r\n";
    let (told, status) = interim(&(short.repeat(64) + ANSWER)).await;
    assert_eq!((told.len(), status), (64, Ok(200)));
    let (told, status) = interim(&(short.repeat(65) + ANSWER)).await;
    assert_eq!(told.len(), 64);
    assert!(status.unwrap_err().contains("64 interim answers"));
    let long = format!("HTTP/1.1 103 Early Hints\r\nlink: {}\r\n\r\n", "x".repeat(25 * 1024));
    assert_eq!(interim(&(long.repeat(2) + ANSWER)).await.1, Ok(200));
    assert!(interim(&(long.repeat(3) + ANSWER)).await.1.unwrap_err().contains("60 KiB"));
}

#[tokio::test]
async fn small_chunks_are_gathered_and_large_ones_are_not_copied() {
    let small = "1\r\nx\r\n".repeat(100);
    let large = format!("{:x}\r\n{}\r\n", 20_000, "y".repeat(20_000));
    let answer = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{small}{large}{small}0\r\nx-t: 1\r\n\r\n");
    let (connection, mut peer) = pair().await;
    peer.write_all(answer.as_bytes()).await.unwrap();
    let bytes = head(&Method::GET, RequestFraming::None);
    let idle = Idle::default();
    let exchange = Exchange::start(connection, idle.clone(), &bytes, None::<Empty<Bytes>>, RequestFraming::None, false, false);
    let Ok(Answer::Response(_, mut body)) = exchange.answer(&mut |_, _| {}).await else { panic!("no answer") };
    let mut pieces = Vec::new();
    let mut trailers = None;
    while let Some(frame) = body.frame().await {
        match frame.unwrap().into_data() {
            Ok(data) => pieces.push(data),
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
    assert_eq!(pieces[0], "x".repeat(100));
    assert!(pieces.len() < 10, "{} pieces", pieces.len());
    assert_eq!(pieces.concat(), format!("{0}{1}{0}", "x".repeat(100), "y".repeat(20_000)).as_bytes());
    assert_eq!((trailers.unwrap()["x-t"].as_bytes(), idle.0.take().len()), (&b"1"[..], 1));
}

/// Polls once, and counts what came without a pause.
async fn one_turn<B: Body<Data = Bytes> + Unpin>(body: &mut B) -> (usize, usize) {
    std::future::poll_fn(|cx| {
        let (mut pieces, mut bytes) = (0, 0);
        while let task::Poll::Ready(frame) = Pin::new(&mut *body).poll_frame(cx) {
            let Some(Ok(frame)) = frame else { panic!("the body never ends") };
            pieces += 1;
            bytes += frame.data_ref().map_or(0, Bytes::len);
        }
        task::Poll::Ready((pieces, bytes))
    })
    .await
}

#[tokio::test]
async fn a_flood_of_data_gives_way_to_others() {
    let chunks = "1\r\nx\r\n".repeat(1000);
    let bulk = "x".repeat(64 * 1024);
    for (head_line, piece) in [("transfer-encoding: chunked", chunks), ("content-length: 99999999999", bulk)] {
        let (connection, peer) = pair().await;
        let mut peer = peer.into_std().unwrap();
        peer.set_nonblocking(false).unwrap();
        let answer = format!("HTTP/1.1 200 OK\r\n{head_line}\r\n\r\n");
        let flood = std::thread::spawn(move || {
            use std::io::Write as _;
            let _ = peer.write_all(answer.as_bytes());
            while peer.write_all(piece.as_bytes()).is_ok() {}
        });
        let bytes = head(&Method::GET, RequestFraming::None);
        let exchange = Exchange::start(connection, Idle::default(), &bytes, None::<Empty<Bytes>>, RequestFraming::None, false, false);
        let Ok(Answer::Response(_, mut body)) = exchange.answer(&mut |_, _| {}).await else { panic!("no answer") };
        for _ in 0..50 {
            let (pieces, bytes) = one_turn(&mut body).await;
            assert!(pieces <= 64 && bytes <= 512 * 1024, "{head_line}: {pieces} pieces, {bytes} bytes in one turn");
            tokio::task::yield_now().await;
        }
        drop(body);
        flood.join().unwrap();
    }
}

#[tokio::test]
async fn a_closed_connection_tells_that_nothing_was_answered() {
    let (got, _) = get(Method::GET, &[], true).await;
    let failed = got.err().unwrap();
    assert_eq!(failed.progress, Progress::Written);
}

#[tokio::test]
async fn headers_of_the_connection_are_left_out_both_ways() {
    let text = String::from_utf8(head(&Method::GET, RequestFraming::None)).unwrap();
    assert_eq!(text, "GET /p?q HTTP/1.1\r\nhost: a.example\r\nx-a: 1\r\nte: trailers\r\n\r\n");
    let answer = "HTTP/1.1 200 OK\r\nconnection: x-c, set-cookie\r\nkeep-alive: 5\r\nupgrade: h2c\r\nx-c: 1\r\nset-cookie: a\r\ncontent-length: 0\r\n\r\n";
    let (got, _) = get(Method::GET, &[answer], false).await;
    let headers = got.unwrap().0.headers;
    let names: Vec<_> = headers.keys().collect();
    assert_eq!(names, [&b"set-cookie"[..], b"content-length"]);
}

/// Sends a POST of `frames`; the peer reads `read` bytes, then answers.
async fn post(
    framing: RequestFraming,
    frames: Vec<Result<Frame<Bytes>, io::Error>>,
    answer_after: usize,
) -> (String, Option<String>, usize) {
    let (connection, mut peer) = pair().await;
    let idle = Idle::default();
    let script = async {
        let mut seen = Vec::new();
        while seen.len() < answer_after {
            let mut piece = [0; 4096];
            match peer.read(&mut piece).await.unwrap() {
                0 => break,
                read => seen.extend_from_slice(&piece[..read]),
            }
        }
        let _ = peer.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
        (String::from_utf8(seen).unwrap(), peer)
    };
    let bytes = head(&Method::POST, framing);
    let exchange = Exchange::start(connection, idle.clone(), &bytes, Some(Frames(frames.into())), framing, false, false);
    let client = async {
        match exchange.answer(&mut |_, _| {}).await {
            Ok(Answer::Response(_, body)) => body.collect().await.err().map(|error| error.to_string()),
            Ok(Answer::Upgraded(..)) => panic!("not asked for"),
            Err(failed) => Some(failed.error.to_string()),
        }
    };
    let (error, (seen, _peer)) = tokio::join!(client, script);
    (seen, error, idle.0.take().len())
}

fn data(text: &'static str) -> Result<Frame<Bytes>, io::Error> {
    Ok(Frame::data(Bytes::from_static(text.as_bytes())))
}

#[tokio::test]
async fn a_request_body_is_framed_by_its_length() {
    let whole = head(&Method::POST, RequestFraming::Length(4)).len() + 4;
    let (seen, error, idle) = post(RequestFraming::Length(4), vec![data("ab"), data("cd")], whole).await;
    assert!(seen.ends_with("content-length: 4\r\n\r\nabcd"), "{seen}");
    assert_eq!((error, idle), (None, 1));
}

#[tokio::test]
async fn a_chunked_request_body_keeps_its_trailers() {
    let mut trailers = http::HeaderMap::new();
    trailers.insert("x-t", "1".parse().unwrap());
    let tail = "4\r\nabcd\r\n0\r\nx-t: 1\r\n\r\n";
    let whole = head(&Method::POST, RequestFraming::Chunked).len() + tail.len();
    let (seen, error, idle) = post(RequestFraming::Chunked, vec![data("abcd"), Ok(Frame::trailers(trailers))], whole).await;
    assert!(seen.ends_with(tail), "{seen}");
    assert_eq!((error, idle), (None, 1));
}

#[tokio::test]
async fn request_trailers_that_may_not_follow_a_body_are_dropped() {
    let mut trailers = http::HeaderMap::new();
    for name in ["x-forwarded-for", "content-length", "cookie"] {
        trailers.insert(name, "1".parse().unwrap());
    }
    let tail = "4\r\nabcd\r\n0\r\n\r\n";
    let whole = head(&Method::POST, RequestFraming::Chunked).len() + tail.len();
    let (seen, error, idle) = post(RequestFraming::Chunked, vec![data("abcd"), Ok(Frame::trailers(trailers))], whole).await;
    assert!(seen.ends_with(tail), "{seen}");
    assert_eq!((error, idle), (None, 1));
}

/// A body that has a byte whenever it is asked; it counts how often that was.
struct Bytewise(Rc<std::cell::Cell<usize>>);

impl Outbound for Bytewise {}

impl Body for Bytewise {
    type Data = Bytes;
    type Error = Infallible;
    fn poll_frame(self: Pin<&mut Self>, _: &mut task::Context<'_>) -> task::Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.set(self.0.get() + 1);
        task::Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"x")))))
    }
}

#[tokio::test]
async fn a_client_that_floods_gives_way_to_others() {
    let (connection, _peer) = pair().await;
    let asked = Rc::new(std::cell::Cell::new(0));
    let bytes = head(&Method::POST, RequestFraming::Chunked);
    let exchange =
        Exchange::start(connection, Idle::default(), &bytes, Some(Bytewise(Rc::clone(&asked))), RequestFraming::Chunked, false, false);
    let mut on_interim = |_, _: HeaderMap| {};
    let mut answer = std::pin::pin!(exchange.answer(&mut on_interim));
    for turn in 1..20 {
        assert!(std::future::poll_fn(|cx| task::Poll::Ready(answer.as_mut().poll(cx).is_pending())).await);
        assert!(asked.get() <= turn * 64, "{} frames in {turn} turns", asked.get());
    }
    assert!(asked.get() > 64, "each turn goes on where the last one stopped");
}

#[tokio::test]
async fn a_request_body_that_lies_about_its_length_or_fails_is_the_clients_fault() {
    for frames in [vec![data("abcdef")], vec![data("ab")], vec![Err(io::ErrorKind::ConnectionReset.into())]] {
        let (_, error, idle) = post(RequestFraming::Length(4), frames, usize::MAX).await;
        assert!(error.unwrap().contains("request body"));
        assert_eq!(idle, 0);
    }
}

/// A body that never ends and never has anything.
struct Stalled;

impl Outbound for Stalled {}

impl Body for Stalled {
    type Data = Bytes;
    type Error = Infallible;
    fn poll_frame(self: Pin<&mut Self>, _: &mut task::Context<'_>) -> task::Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        task::Poll::Pending
    }
}

#[tokio::test]
async fn an_early_answer_comes_through_and_its_connection_is_not_kept() {
    let (connection, mut peer) = pair().await;
    let idle = Idle::default();
    let bytes = head(&Method::POST, RequestFraming::Chunked);
    let exchange = Exchange::start(connection, idle.clone(), &bytes, Some(Stalled), RequestFraming::Chunked, false, false);
    peer.write_all(b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nno").await.unwrap();
    let Ok(Answer::Response(parts, body)) = exchange.answer(&mut |_, _| {}).await else { panic!("no answer") };
    assert_eq!(parts.status.as_u16(), 413);
    assert_eq!(&body.collect().await.unwrap().to_bytes()[..], b"no");
    assert_eq!(idle.0.take().len(), 0);
}

#[tokio::test]
async fn a_switch_of_protocols_hands_the_connection_over_with_what_was_read() {
    let (connection, mut peer) = pair().await;
    let mut bytes = Vec::new();
    encode_head(&mut bytes, &Method::GET, "/", &HeaderMap::new(), RequestFraming::None, Some(b"websocket"));
    assert!(String::from_utf8_lossy(&bytes).ends_with("upgrade: websocket\r\nconnection: Upgrade\r\n\r\n"));
    let exchange = Exchange::start(connection, Idle::default(), &bytes, None::<Empty<Bytes>>, RequestFraming::None, false, true);
    peer.write_all(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nfirst").await.unwrap();
    let Ok(Answer::Upgraded(upgraded)) = exchange.answer(&mut |_, _| {}).await else { panic!("no upgrade") };
    assert_eq!((upgraded.parts.headers.get(header::UPGRADE).unwrap().as_bytes(), &upgraded.read[..]), (&b"websocket"[..], &b"first"[..]));
}
