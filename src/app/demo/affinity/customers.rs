//! Customers of the scene: each is a session with a cookie jar, and notes which pod answers it.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    rc::Rc,
    time::Duration,
};

use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{net::TcpStream, time::sleep};

/// Time between two clicks of a customer.
const PAUSE: Duration = Duration::from_millis(250);

/// What customers have seen since somebody asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// The pod that answered each customer last.
    pub(super) pods: Vec<Option<String>>,
    /// Customers that changed pods.
    pub(super) moved: Vec<bool>,
    /// Requests without a good answer.
    pub(super) failed: usize,
    /// Requests.
    pub(super) requests: usize,
}

/// What all customers note; they run on one thread.
pub(super) type Book = Rc<RefCell<Seen>>;

// === impl Seen ===

impl Seen {
    fn note(&mut self, customer: usize, answer: Option<String>) {
        self.requests += 1;
        let Some(pod) = answer else {
            self.failed += 1;
            return;
        };
        if let (Some(last), Some(moved)) = (self.pods.get_mut(customer), self.moved.get_mut(customer)) {
            *moved |= last.as_ref().is_some_and(|last| *last != pod);
            *last = Some(pod);
        }
    }

    /// What was seen, for the next time to begin anew. Where customers are is kept.
    pub(super) fn take(&mut self) -> Self {
        let seen = self.clone();
        (self.failed, self.requests) = (0, 0);
        self.moved.fill(false);
        seen
    }

    /// Sessions by pod.
    pub(super) fn by_pod(&self) -> BTreeMap<&str, usize> {
        let mut sessions = BTreeMap::new();
        for pod in self.pods.iter().flatten() {
            *sessions.entry(pod.as_str()).or_default() += 1;
        }
        sessions
    }
}

/// Lets so many customers go shopping, for ever. Must be called within a `LocalSet`.
pub(super) fn start(customers: usize, port: u16) -> Book {
    let book = Rc::new(RefCell::new(Seen { pods: vec![None; customers], moved: vec![false; customers], ..Seen::default() }));
    for customer in 0..customers {
        tokio::task::spawn_local(shop(customer, SocketAddr::from((Ipv4Addr::LOCALHOST, port)), Rc::clone(&book)));
    }
    book
}

async fn shop(customer: usize, gateway: SocketAddr, book: Book) {
    // They do not all click at once.
    sleep(PAUSE.mul_f64(customer as f64 / 24.0)).await;
    let (mut connection, mut cookie) = (None, None);
    loop {
        let answer = click(&mut connection, gateway, &mut cookie).await;
        if answer.is_none() {
            connection = None;
        }
        book.borrow_mut().note(customer, answer);
        sleep(PAUSE).await;
    }
}

/// One request; the name of the pod that answered.
async fn click(connection: &mut Option<SendRequest<Empty<Bytes>>>, gateway: SocketAddr, cookie: &mut Option<String>) -> Option<String> {
    let usable = match connection {
        Some(sender) => sender.ready().await.is_ok(),
        None => false,
    };
    if !usable {
        let (sender, driver) = handshake(TokioIo::new(TcpStream::connect(gateway).await.ok()?)).await.ok()?;
        tokio::task::spawn_local(driver);
        *connection = Some(sender);
    }
    let sender = connection.as_mut()?;
    let request = Request::get("/cart").header(header::HOST, "shop.example");
    let request = cookie.iter().fold(request, |request, cookie| request.header(header::COOKIE, cookie));
    let response = sender.send_request(request.body(Empty::new()).ok()?).await.ok()?;
    if let Some(set) = response.headers().get(header::SET_COOKIE).and_then(|value| value.to_str().ok()) {
        *cookie = set.split(';').next().map(str::to_owned);
    }
    let is_good = response.status().is_success();
    let body = response.into_body().collect().await.ok()?.to_bytes();
    let document: Value = serde_json::from_slice(&body).ok()?;
    document.get("pod").and_then(Value::as_str).filter(|_| is_good).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_moved_and_who_failed() {
        let mut seen = Seen { pods: vec![None; 3], moved: vec![false; 3], ..Seen::default() };
        for (customer, pod) in [(0, Some("a")), (1, Some("a")), (2, None), (1, Some("b")), (1, Some("a")), (0, Some("a"))] {
            seen.note(customer, pod.map(str::to_owned));
        }
        let first = seen.take();
        assert_eq!((first.moved, first.failed, first.requests), (vec![false, true, false], 1, 6));
        assert_eq!(seen.by_pod(), BTreeMap::from([("a", 2)]));
        seen.note(0, Some("b".to_owned()));
        assert_eq!(seen.take().moved, [true, false, false]);
    }
}
