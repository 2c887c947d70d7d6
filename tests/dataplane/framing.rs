//! What must not get through: hop-by-hop headers, odd framing, smuggled requests.

use crate::support::{Upstream, World, eventually};

#[test]
fn hop_by_hop_headers_end_here_both_ways() {
    let upstream = Upstream::answering(
        "HTTP/1.1 200 OK\r\nconnection: keep-alive, x-hop\r\nkeep-alive: timeout=5\r\nx-hop: 1\r\nproxy-authenticate: x\r\nx-end: 1\r\ncontent-length: 2\r\n\r\nok",
    );
    let proxy = World::to(&[upstream.address]).start();
    let mut client = proxy.client();
    client.send(
        "GET / HTTP/1.1\r\nhost: a\r\nconnection: keep-alive, X-Secret, x-forwarded-for\r\nx-secret: 1\r\nkeep-alive: 5\r\n\
         proxy-connection: keep-alive\r\nupgrade: h2c\r\nhttp2-settings: AAMA\r\nte: gzip\r\nx-end: 1\r\n\r\n",
    );
    let response = client.response();
    assert_eq!(response.status, 200);
    for gone in ["x-hop", "keep-alive", "proxy-authenticate"] {
        assert_eq!(response.header(gone), None, "{}", response.head);
    }
    assert_eq!(response.header("x-end"), Some("1"));
    let seen = upstream.last();
    for gone in ["connection:", "x-secret", "keep-alive", "upgrade", "http2-settings", "te:"] {
        assert!(!seen.contains(gone), "{gone} in {seen}");
    }
    assert!(seen.contains("x-end: 1\r\n") && seen.contains("x-forwarded-for: 127.0.0.1\r\n"), "{seen}");
    assert_eq!(client.get("/").status, 200);
    assert_eq!(upstream.connections(), 1);
}

#[test]
fn a_client_that_closes_does_not_close_the_upstream_connection() {
    let upstream = Upstream::echo("ok");
    let proxy = World::to(&[upstream.address]).start();
    for _ in 0..3 {
        let mut client = proxy.client();
        client.send("GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        let response = client.response();
        assert_eq!((response.status, response.header("connection")), (200, Some("close")));
        assert!(client.is_closed());
    }
    assert_eq!(upstream.connections(), 1);
}

/// Requests that must be refused; none may reach the upstream.
const REFUSED: &[(&str, &str)] = &[
    ("no Host", "GET / HTTP/1.1\r\n\r\n"),
    ("two Hosts", "GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n"),
    ("a space in Host", "GET / HTTP/1.1\r\nhost: a b\r\n\r\n"),
    ("a slash in Host", "GET / HTTP/1.1\r\nhost: a/b\r\n\r\n"),
    ("user information in Host", "GET / HTTP/1.1\r\nhost: x@a\r\n\r\n"),
    ("chunked twice", "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, chunked\r\n\r\n0\r\n\r\n"),
    (
        "two transfer-encoding lines",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    ("identity, chunked", "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: identity, chunked\r\n\r\n0\r\n\r\n"),
    ("an empty coding", "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: ,chunked\r\n\r\n0\r\n\r\n"),
    ("gzip, chunked", "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    ("chunked not last", "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n"),
    ("an unknown coding", "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\n"),
    ("transfer-encoding in HTTP/1.0", "POST / HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("different lengths", "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello"),
    ("a length list", "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5, 6\r\n\r\nhello"),
    ("a signed length", "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: +5\r\n\r\nhello"),
    ("a negative length", "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: -5\r\n\r\nhello"),
    ("a space before the colon", "GET / HTTP/1.1\r\nhost: a\r\nx-a : b\r\n\r\n"),
    ("a folded header", "GET / HTTP/1.1\r\nhost: a\r\nx-a: b\r\n c\r\n\r\n"),
    ("a NUL in a value", "GET / HTTP/1.1\r\nhost: a\r\nx-a: b\0c\r\n\r\n"),
    ("a header without a name", "GET / HTTP/1.1\r\nhost: a\r\n: b\r\n\r\n"),
    ("a target without a slash", "GET index.html HTTP/1.1\r\nhost: a\r\n\r\n"),
    ("a target of * for GET", "GET * HTTP/1.1\r\nhost: a\r\n\r\n"),
    ("a fragment in the target", "GET /a?b#/../c HTTP/1.1\r\nhost: a\r\n\r\n"),
    ("a line feed alone", "GET / HTTP/1.1\nhost: a\r\n\r\n"),
    ("line feeds alone", "GET / HTTP/1.1\nhost: a\n\n"),
    ("a line feed alone within the headers", "GET / HTTP/1.1\r\nhost: a\nx-a: b\r\n\r\n"),
    ("a TLS handshake", "\u{16}\u{3}\u{1}\u{0}\u{5}hello"),
    ("an HTTP/2 preface that goes wrong", "PRI * HTTP/2.0\r\n\r\nSN\r\n\r\n"),
    ("a space in the target", "GET /a b HTTP/1.1\r\nhost: a\r\n\r\n"),
];

#[test]
fn malformed_requests_are_refused_and_end_their_connection() {
    let upstream = Upstream::echo("ok");
    let proxy = World::to(&[upstream.address]).start();
    for (what, request) in REFUSED {
        let mut client = proxy.client();
        client.send(request);
        // What follows on the connection must never be taken for a request.
        client.try_send("GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n");
        let answer = String::from_utf8(client.until_closed()).unwrap();
        assert!(answer.starts_with("HTTP/1.1 400 ") || answer.starts_with("HTTP/1.0 400 "), "{what}: {answer:?}");
        assert_eq!(answer.matches("HTTP/1.").count(), 1, "{what}: {answer:?}");
    }
    assert_eq!(upstream.requests(), Vec::<String>::new());
}

#[test]
fn connect_is_refused() {
    let upstream = Upstream::echo("ok");
    let proxy = World::to(&[upstream.address]).start();
    let mut client = proxy.client();
    client.send("CONNECT a:80 HTTP/1.1\r\nhost: a:80\r\n\r\n");
    assert_eq!(client.response().status, 405);
    assert_eq!(upstream.connections(), 0);
}

#[test]
fn both_a_length_and_a_coding_leave_one_framing_and_close_the_connection() {
    let upstream = Upstream::echo("ok");
    let proxy = World::to(&[upstream.address]).start();
    for request in [
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n",
    ] {
        let mut client = proxy.client();
        client.send(request);
        let answer = String::from_utf8(client.until_closed()).unwrap();
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
        assert!(!upstream.last().contains("content-length"), "{}", upstream.last());
    }
    assert!(upstream.requests().iter().all(|request| request.starts_with("POST")), "{:?}", upstream.requests());
}

#[test]
fn a_malformed_body_is_the_clients_fault_and_ends_both_connections() {
    for bad in ["zz\r\nabc\r\n", "3\r\nabcd\r\n", "3 \r\nabc\r\n0\r\n\r\n", "ffffffffffffffffff\r\n"] {
        let upstream = Upstream::start(|conversation| {
            conversation.request_head();
            conversation.until_closed();
        });
        let proxy = World::to(&[upstream.address]).start();
        let mut client = proxy.client();
        client.send("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n");
        eventually("the head to arrive", || upstream.connections() == 1);
        client.send(bad);
        if bad.starts_with("3 ") {
            // A space after the size is tolerated by the parser, and not passed on.
            drop(client);
        } else {
            let answer = String::from_utf8(client.until_closed()).unwrap();
            assert!(answer.starts_with("HTTP/1.1 400 "), "{bad:?}: {answer:?}");
        }
        eventually("the upstream connection to be aborted", || upstream.open() == 0);
    }
}

#[test]
fn a_body_that_is_malformed_before_the_upstream_is_there_is_not_sent_without_it() {
    let upstream = Upstream::start(|conversation| {
        conversation.until_closed();
    });
    let proxy = World::to(&[upstream.address]).start();
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n");
    let answer = String::from_utf8(client.until_closed()).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer:?}");
    eventually("the upstream connection to be aborted", || upstream.open() == 0);
}

#[test]
fn absolute_form_is_rewritten_and_its_authority_wins() {
    let upstream = Upstream::echo("ok");
    let proxy = World::to(&[upstream.address]).start();
    let mut client = proxy.client();
    client.send("GET http://b.example/p?q HTTP/1.1\r\nhost: a.example\r\n\r\n");
    assert_eq!(client.response().status, 200);
    let seen = upstream.last();
    assert!(seen.starts_with("GET /p?q HTTP/1.1\r\n") && seen.contains("host: b.example\r\n") && !seen.contains("a.example"), "{seen}");
    client.send("OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n");
    client.response();
}

#[test]
fn a_host_that_is_not_http_is_a_502() {
    for nonsense in ["SSH-2.0-OpenSSH_9.6\r\n", "HTTP/1.1 200 OK\r\nx y: z\r\n\r\n", "HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n"] {
        let upstream = Upstream::answering(nonsense);
        let proxy = World::to(&[upstream.address]).start();
        assert_eq!(proxy.client().get("/").status, 502, "{nonsense:?}");
        eventually("the connection to be given up", || upstream.open() == 0);
    }
}

#[test]
fn bytes_after_an_answer_poison_nobody() {
    let upstream = Upstream::start(|conversation| {
        while conversation.request().is_some() {
            conversation.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil");
        }
    });
    let proxy = World::to(&[upstream.address]).start();
    let mut client = proxy.client();
    for _ in 0..10 {
        assert_eq!(client.get("/").text(), "ok");
    }
}

/// Answers whose head announces a body that their status does not have (RFC 9112 section 6.3).
const BODIES_THAT_CANNOT_BE: &[(&str, &str)] = &[
    ("204 with a length, its bytes in the same write", "HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\nhello"),
    ("204 with a length, its bytes still to come", "HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\n"),
    (
        "204 with a coding, its bytes in the same write",
        "HTTP/1.1 204 No Content\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    ),
    ("204 with a coding, its bytes still to come", "HTTP/1.1 204 No Content\r\ntransfer-encoding: chunked\r\n\r\n"),
    ("204 with stray bytes", "HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil"),
];

#[test]
fn a_body_that_a_204_cannot_have_reaches_nobody() {
    for (what, answer) in BODIES_THAT_CANNOT_BE {
        let upstream = Upstream::start(move |conversation| {
            while conversation.request().is_some() {
                if conversation.number == 0 {
                    conversation.send(answer);
                } else {
                    conversation.reply("ok");
                }
            }
        });
        let proxy = World::to(&[upstream.address]).start();
        let mut client = proxy.client();
        let response = client.get("/");
        assert_eq!((response.status, response.header("content-length"), response.header("transfer-encoding")), (204, None, None), "{what}");
        assert_eq!(client.get("/").text(), "ok", "{what}");
        assert_eq!(upstream.connections(), 2, "the connection must not be used again: {what}");
    }
}

#[test]
fn an_empty_length_beside_a_204_is_removed_and_does_no_harm() {
    let upstream = Upstream::answering("HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n");
    let proxy = World::to(&[upstream.address]).start();
    let mut client = proxy.client();
    for _ in 0..2 {
        let response = client.get("/");
        assert_eq!((response.status, response.header("content-length")), (204, None), "{}", response.head);
    }
    assert_eq!(upstream.connections(), 1);
}

#[test]
fn bytes_after_a_304_or_an_answer_to_head_reach_nobody() {
    let upstream = Upstream::start(|conversation| {
        while let Some(request) = conversation.request() {
            match request.split(' ').nth(1).unwrap() {
                "/304" => conversation.send("HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\nhello"),
                "/head" => conversation.send("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"),
                _ => conversation.reply("ok"),
            }
        }
    });
    let proxy = World::to(&[upstream.address]).start();
    let mut client = proxy.client();
    assert_eq!(client.get("/304").status, 304);
    assert_eq!(client.get("/").text(), "ok");
    client.send("HEAD /head HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!(client.head_response().header("content-length"), Some("5"));
    assert_eq!(client.get("/").text(), "ok");
    assert_eq!(upstream.connections(), 3);
}

#[test]
fn a_flood_of_interim_answers_is_cut_off() {
    let upstream = Upstream::start(|conversation| {
        conversation.request();
        let heads = "HTTP/1.1 103 Early Hints\r\nlink: </style.css>\r\n\r\n".repeat(1000);
        while std::io::Write::write_all(&mut conversation.stream, heads.as_bytes()).is_ok() {}
    });
    let proxy = World::to(&[upstream.address]).start();
    let mut client = proxy.client();
    let mut response = client.get("/");
    let mut interim = 0;
    while response.status == 103 {
        interim += 1;
        response = client.response();
    }
    assert_eq!(response.status, 502);
    assert!(interim <= 64, "{interim} interim responses reached the client");
    eventually("the connection to be given up", || upstream.open() == 0);
    eventually("the flag", || proxy.metric("clingfish_requests_total{code=\"5xx\",flag=\"UPE\"}") == 1.0);
}

/// What a host sends before it closes, and the answer's status and flag; each as from Envoy 1.40.0.
const CLOSES: [(&str, &str, u16, &str); 14] = [
    ("at once", "", 503, "UC"),
    ("after one byte", "H", 502, "UPE"),
    ("within the status line", "HTTP/1.1 20", 502, "UPE"),
    ("after the status line", "HTTP/1.1 200 OK\r\n", 502, "UPE"),
    ("within a header", "HTTP/1.1 200 OK\r\ncontent-le", 502, "UPE"),
    ("before the last line feed", "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r", 502, "UPE"),
    ("after an interim head", "HTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\n", 503, "UC"),
    ("after 100", "HTTP/1.1 100 Continue\r\n\r\n", 503, "UC"),
    ("within the head after an interim one", "HTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\nHTTP/1.1 2", 502, "UPE"),
    ("within a body of known length", "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nab", 200, "UPE"),
    ("before a chunk's size", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", 200, "UPE"),
    ("within a chunk's size", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5", 200, "UPE"),
    ("within a chunk", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab", 200, "UPE"),
    ("before the last line of chunks", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n", 200, "UPE"),
];

#[test]
fn a_host_that_closes_within_its_answer_gets_envoys_status_and_flag() {
    for (when, sent, status, flag) in CLOSES {
        let upstream = Upstream::start(move |conversation| {
            if conversation.request().is_some() {
                conversation.send(sent);
            }
        });
        let proxy = World::to(&[upstream.address]).start();
        let mut client = proxy.client();
        client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc");
        let mut head = client.head();
        if head.starts_with("HTTP/1.1 103") {
            head = client.head();
        }
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{when}: {head}");
        let series = format!("clingfish_requests_total{{code=\"{}xx\",flag=\"{flag}\"}}", status / 100);
        eventually(&format!("{when}: {flag}"), || proxy.metric(&series) == 1.0);
    }
}

#[test]
fn a_connection_that_is_reset_within_a_head_is_502_as_from_envoy() {
    for (sent, status) in [("", 503), ("HTTP/1.1 200 OK\r\nx", 502)] {
        let upstream = Upstream::start(move |conversation| {
            if conversation.request().is_some() {
                conversation.send(sent);
                // What is sent shall arrive before the reset.
                std::thread::sleep(std::time::Duration::from_millis(50));
                socket2::SockRef::from(&conversation.stream).set_linger(Some(std::time::Duration::ZERO)).unwrap();
                let again = conversation.stream.try_clone().unwrap();
                conversation.stream = std::net::TcpStream::connect(again.local_addr().unwrap()).unwrap();
            }
        });
        let proxy = World::to(&[upstream.address]).start();
        let mut client = proxy.client();
        client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc");
        assert_eq!(client.response().status, status, "{sent:?}");
    }
}
