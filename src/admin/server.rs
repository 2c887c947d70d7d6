//! HTTP of the admin server.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header, uri::Authority};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpListener, sync::Semaphore};

use crate::plan::Explainer;
use crate::snapshot::Snapshot;

use super::{Scope, Sources, StatusReport, config, explain, page, probes};

/// Connections at a time; more wait.
const CONNECTIONS: usize = 128;
/// Most bytes of a question.
const BODY_LIMIT: usize = 1 << 20;
/// Most bytes kept from one question for the next.
const EXPLAINER_BYTES: usize = 16 << 20;
/// Time for the head of a request, also on an idle connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

type Answer = Response<Full<Bytes>>;

/// What all connections share.
struct Server {
    address: SocketAddr,
    scope: Scope,
    sources: Sources,
    explainer: Mutex<Explainer>,
    turns: Turns,
}

/// What takes its time: one after the other, and not on the thread that answers probes.
struct Turns(Arc<Semaphore>);

/// How a question in the body is answered.
type Answerer = fn(&Server, &[u8], &Snapshot) -> (StatusCode, String);

/// Accepts until it is dropped.
pub(super) async fn serve(listener: std::net::TcpListener, address: SocketAddr, scope: Scope, sources: Sources) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let server = Arc::new(Server {
        address,
        scope,
        sources,
        explainer: Mutex::new(Explainer::new(fastrand::Rng::new(), EXPLAINER_BYTES)),
        turns: Turns::default(),
    });
    let connections = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(permit) = Arc::clone(&connections).acquire_owned().await else { return Ok(()) };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of file descriptors, or the client was quicker; neither ends the server.
                tracing::debug!(%error, "the admin server cannot accept");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let server = Arc::clone(&server);
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let server = Arc::clone(&server);
                async move { Ok::<_, Infallible>(server.answer(request).await) }
            });
            let mut http = http1::Builder::new();
            http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(64 * 1024);
            if let Err(error) = http.serve_connection(TokioIo::new(stream), service).await {
                tracing::debug!(%error, "connection to the admin server");
            }
            drop(permit);
        });
    }
}

// === impl Server ===

impl Server {
    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Answer {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        match (method, path.as_str()) {
            (Method::GET | Method::HEAD, "/metrics") => text(StatusCode::OK, prometheus::TEXT_FORMAT, self.sources.metrics.render()),
            (Method::GET | Method::HEAD, "/livez") => plain(probes::livez(&self.dead_workers())),
            (Method::GET | Method::HEAD, "/readyz") => plain(probes::readyz(&self.sources.readiness.state(), &self.dead_workers())),
            (_, "/metrics" | "/livez" | "/readyz") => method_not_allowed("GET"),
            _ if self.scope == Scope::Public => not_found("this port has /metrics, /livez and /readyz"),
            _ if !self.is_for_us(&request) => plain((StatusCode::MISDIRECTED_REQUEST, "use an IP address or localhost as host\n".into())),
            (Method::GET | Method::HEAD, "/config") => self.config(request.uri().query() == Some("shares")).await,
            (Method::GET | Method::HEAD, "/") => self.page(),
            (Method::POST, "/explain") => self.ask(request, Self::explain).await,
            (Method::POST, "/simulate") => self.ask(request, |_, question, snapshot| explain::simulate(question, snapshot)).await,
            (_, "/config" | "/") => method_not_allowed("GET"),
            (_, "/explain" | "/simulate") => method_not_allowed("POST"),
            _ => not_found("there are /, /config, /explain, /livez, /metrics, /readyz and /simulate"),
        }
    }

    fn dead_workers(&self) -> Vec<usize> {
        probes::dead_workers(&self.sources.metrics)
    }

    async fn config(&self, with_shares: bool) -> Answer {
        let report = (self.sources.statuses)().await;
        let answered = report.is_some();
        let report = report.unwrap_or_else(|| {
            let published = self.sources.published.load();
            let snapshot = Arc::clone(&published.value);
            StatusReport { generation: published.generation, snapshot, statuses: Default::default(), notices: Vec::new() }
        });
        let document = self.turns.take(|| {
            move || {
                let mut text = serde_json::to_string_pretty(&config::document(&report, answered, with_shares)).unwrap_or_default();
                text.push('\n');
                text
            }
        });
        match document.await {
            Some(text) => json(StatusCode::OK, text),
            None => plain((StatusCode::INTERNAL_SERVER_ERROR, "the configuration cannot be shown\n".into())),
        }
    }

    fn page(&self) -> Answer {
        let mut answer = text(StatusCode::OK, "text/html; charset=utf-8", page::HTML.to_owned());
        let policy = header::HeaderValue::from_static(page::CONTENT_SECURITY_POLICY);
        answer.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
        answer
    }

    /// Answers a question in the body by what is served at this moment.
    async fn ask(self: Arc<Self>, request: Request<Incoming>, answer: Answerer) -> Answer {
        let question = match Limited::new(request.into_body(), BODY_LIMIT).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) => return plain((StatusCode::BAD_REQUEST, format!("the body cannot be read: {error}\n"))),
        };
        let server = Arc::clone(&self);
        let answer = self.turns.take(move || {
            let snapshot = Arc::clone(&server.sources.published.load().value);
            move || answer(&server, &question, &snapshot)
        });
        match answer.await {
            Some((status, text)) => json(status, text),
            None => plain((StatusCode::INTERNAL_SERVER_ERROR, "the question cannot be answered\n".into())),
        }
    }

    fn explain(&self, question: &[u8], snapshot: &Snapshot) -> (StatusCode, String) {
        let mut explainer = self.explainer.lock().unwrap_or_else(PoisonError::into_inner);
        explain::explain(question, snapshot, &mut explainer)
    }

    /// A page elsewhere must not read the configuration by a name of its own that leads here (DNS rebinding).
    fn is_for_us(&self, request: &Request<Incoming>) -> bool {
        !self.address.ip().is_loopback() || request.headers().get(header::HOST).is_none_or(|host| is_local_name(host.as_bytes()))
    }
}

// === impl Turns ===

impl Default for Turns {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }
}

impl Turns {
    /// Prepares and does a piece of work when its turn has come; `None` where it panicked. Who stops waiting before has not prepared it.
    async fn take<T, W>(&self, prepare: impl FnOnce() -> W) -> Option<T>
    where
        T: Send + 'static,
        W: FnOnce() -> T + Send + 'static,
    {
        let turn = Arc::clone(&self.0).acquire_owned().await.ok()?;
        let work = prepare();
        let work = move || {
            let _turn = turn;
            work()
        };
        tokio::task::spawn_blocking(work).await.ok()
    }
}

/// `localhost` or an IP address, with or without a port.
fn is_local_name(host: &[u8]) -> bool {
    let Ok(authority) = Authority::try_from(host) else { return false };
    let name = authority.host().trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || name.parse::<std::net::IpAddr>().is_ok()
}

fn plain((status, body): (StatusCode, String)) -> Answer {
    text(status, "text/plain; charset=utf-8", body)
}

fn json(status: StatusCode, body: String) -> Answer {
    text(status, "application/json", body)
}

fn not_found(hint: &str) -> Answer {
    plain((StatusCode::NOT_FOUND, format!("not found; {hint}\n")))
}

fn method_not_allowed(allowed: &'static str) -> Answer {
    let mut answer = plain((StatusCode::METHOD_NOT_ALLOWED, format!("method not allowed; use {allowed}\n")));
    answer.headers_mut().insert(header::ALLOW, header::HeaderValue::from_static(allowed));
    answer
}

fn text(status: StatusCode, content_type: &'static str, body: String) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, header::HeaderValue::from_static("nosniff"));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_waits_its_turn_while_the_thread_goes_on() {
        let turns = Arc::new(Turns::default());
        let (finish, finished) = std::sync::mpsc::channel::<u8>();
        let (begin, begun) = tokio::sync::oneshot::channel();
        let first = {
            let turns = Arc::clone(&turns);
            let work = move || {
                let _ = begin.send(());
                finished.recv_timeout(Duration::from_secs(20))
            };
            tokio::spawn(async move { turns.take(|| work).await })
        };
        begun.await.unwrap();
        let second = turns.take(|| || panic!("nobody waits for it any more"));
        assert!(tokio::time::timeout(Duration::ZERO, second).await.is_err(), "the first one is at work");
        finish.send(5).unwrap();
        assert_eq!(first.await.unwrap(), Some(Ok(5)));
        assert_eq!(turns.take(|| || -> u8 { panic!("the next one gets its turn all the same") }).await, None);
        assert_eq!(turns.take(|| || 7).await, Some(7));
    }

    #[test]
    fn only_local_names_are_ours() {
        for (host, expected) in [
            ("localhost:9901", true),
            ("LOCALHOST", true),
            ("127.0.0.1:9901", true),
            ("[::1]:9901", true),
            ("evil.example:9901", false),
            ("localhost.evil.example", false),
            ("", false),
        ] {
            assert_eq!(is_local_name(host.as_bytes()), expected, "{host}");
        }
    }
}
