//! Targets that backends read in different ways: refused, redirected or made one, as the settings say.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
};

use clingfish::snapshot::{EscapedSlashesAction, PathNormalization};
use http::Request;

use crate::http2::{connect, empty};
use crate::support::{Upstream, World};

/// The head of the answer to a request with this target.
fn ask(address: SocketAddr, target: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(format!("GET {target} HTTP/1.1\r\nhost: a.example\r\nconnection: close\r\n\r\n").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split("\r\n\r\n").next().unwrap_or_default().to_ascii_lowercase()
}

/// The target of the last request that an upstream received.
fn last_target(upstream: &Upstream) -> String {
    let requests = upstream.requests();
    requests.last().unwrap().split(' ').nth(1).unwrap().to_owned()
}

#[tokio::test]
async fn slashes_are_treated_as_the_settings_say() {
    let upstream = Upstream::echo("ok");
    let world = |merge_slashes, escaped_slashes| World {
        path: PathNormalization { merge_slashes, escaped_slashes },
        ..World::to(&[upstream.address])
    };
    let proxy = world(false, EscapedSlashesAction::KeepUnchanged).start();
    assert!(ask(proxy.address(), "/a%2fb//c").starts_with("http/1.1 200 "));
    assert_eq!(last_target(&upstream), "/a%2fb//c");
    proxy.apply(&world(true, EscapedSlashesAction::UnescapeAndForward));
    assert!(ask(proxy.address(), "/a%2fb//c?x=%2f").starts_with("http/1.1 200 "));
    assert_eq!(last_target(&upstream), "/a/b/c?x=%2f");
    proxy.apply(&world(true, EscapedSlashesAction::UnescapeAndRedirect));
    let redirect = ask(proxy.address(), "/a%2fb//c?x=%2f");
    assert!(redirect.starts_with("http/1.1 307 ") && redirect.contains("\r\nlocation: /a/b/c?x=%2f\r\n"), "{redirect}");
    proxy.apply(&world(false, EscapedSlashesAction::RejectRequest));
    assert!(ask(proxy.address(), "/a%5Cb").starts_with("http/1.1 400 "));
    assert!(ask(proxy.address(), "/a/b").starts_with("http/1.1 200 "));
}

#[tokio::test]
async fn fragments_and_other_schemes_are_refused() {
    let upstream = Upstream::echo("ok");
    let proxy = World::to(&[upstream.address]).start();
    for target in ["/a#b", "ftp://a.example/x", "javascript://a.example/x"] {
        assert!(ask(proxy.address(), target).starts_with("http/1.1 400 "), "{target}");
    }
    let (mut sender, _connection) = connect(proxy.address()).await;
    for (scheme, status) in [("javascript", 400), ("ftp", 400), ("https", 200), ("http", 200)] {
        let request = Request::get(format!("{scheme}://a.example/x")).body(empty()).unwrap();
        assert_eq!(sender.send_request(request).await.unwrap().status(), status, "{scheme}");
    }
}

/// Backends that read underscores as dashes would believe them.
#[tokio::test]
async fn headers_with_underscores_say_nothing_that_the_edge_alone_may_say() {
    let upstream = Upstream::echo("ok");
    let proxy = World::to(&[upstream.address]).start();
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nhost: a\r\nx_forwarded_for: 6.6.6.6\r\ntransfer_encoding: chunked\r\nx_user: u\r\n\r\n");
    assert_eq!(client.response().status, 200);
    let seen = upstream.last();
    assert!(seen.contains("\r\nx_user: u\r\n") && !seen.contains("6.6.6.6") && !seen.contains("chunked"), "{seen}");
}
