//! HTTP of the admin server.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header, uri::Authority};
use http_body::Body as _;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use crate::plan::Explainer;
use crate::snapshot::{Snapshot, digest};
use crate::telemetry::Logging;

use super::{
    config::Document,
    connections::{ClientTimeouts, Connections, Place, accept},
    explain, live, logging, origin, page, probes,
    serial_queue::{NoResult, SerialQueue},
    sources::{Scope, Sources, StatusReport},
};

/// How long clients are waited for.
const CLIENT_TIMEOUTS: ClientTimeouts =
    ClientTimeouts { head: Duration::from_secs(5), next_head: Duration::from_secs(10), per_mib: Duration::from_secs(1) };
/// Time for the body of a question.
const BODY_PATIENCE: Duration = Duration::from_secs(10);
/// Time that a question waits for its turn, and a large answer for room.
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// Large answers in memory at a time, those that are being read included.
const LARGE_ANSWERS: usize = 2;
/// Questions whose bodies are read or answered at a time.
const QUESTIONS: usize = 32;
/// Most bytes of a request's head.
const HEAD_LIMIT: usize = 16 * 1024;
/// Most bytes of a question.
const BODY_LIMIT: usize = 1 << 20;
/// Most bytes kept from one question for the next.
const EXPLAINER_BYTES: usize = 16 << 20;

type Answer = Response<Full<Bytes>>;

/// What all connections share.
struct Server {
    address: SocketAddr,
    scope: Scope,
    sources: Sources,
    explainer: Mutex<Explainer>,
    /// Generation of the snapshot whose digest the metrics have.
    digested: Arc<AtomicU64>,
    questions: SerialQueue,
    /// A queue of their own: a scrape does not wait for questions.
    scrapes: SerialQueue,
    large_answers: Arc<Semaphore>,
    bodies: Semaphore,
}

/// An answer whose place is free again when it is written, or its reader is gone.
struct LargeAnswer {
    text: String,
    _place: OwnedSemaphorePermit,
}

/// How a question in the body is answered.
type Answerer = fn(&Server, &[u8], &Snapshot) -> (StatusCode, String);

/// Accepts until it is dropped; `most`: connections at a time.
pub(super) async fn serve(
    listener: std::net::TcpListener,
    address: SocketAddr,
    scope: Scope,
    sources: Sources,
    most: usize,
) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let connections = Connections::new(most, CLIENT_TIMEOUTS, Arc::clone(sources.metrics.process()));
    let server = Arc::new(Server {
        address,
        scope,
        sources,
        explainer: Mutex::new(Explainer::new(fastrand::Rng::new(), EXPLAINER_BYTES)),
        digested: Arc::default(),
        questions: SerialQueue::new(LONGEST_WAIT),
        scrapes: SerialQueue::new(LONGEST_WAIT),
        large_answers: Arc::new(Semaphore::new(LARGE_ANSWERS)),
        bodies: Semaphore::new(QUESTIONS),
    });
    accept(listener, connections, |stream, place| Arc::clone(&server).connection(stream, place)).await;
    Ok(())
}

// === impl Server ===

impl Server {
    /// Serves a connection until either side has had enough.
    async fn connection(self: Arc<Self>, stream: TcpStream, place: Arc<Place>) {
        let service = service_fn(|request| {
            let (server, place) = (Arc::clone(&self), Arc::clone(&place));
            async move {
                place.asked();
                let answer = server.answer(request).await;
                place.answered(answer.body().size_hint().lower());
                Ok::<_, Infallible>(answer)
            }
        });
        // No timer of hyper's: `place` has all the deadlines.
        if let Err(error) = http1::Builder::new().max_buf_size(HEAD_LIMIT).serve_connection(TokioIo::new(stream), service).await {
            tracing::debug!(%error, "connection to the admin server");
        }
    }

    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Answer {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        match (method, path.as_str()) {
            (Method::GET | Method::HEAD, "/metrics") => self.scrape().await,
            (Method::GET | Method::HEAD, "/livez") => plain(probes::livez(&self.dead_workers())),
            (Method::GET | Method::HEAD, "/readyz") => plain(probes::readyz(&self.sources.readiness.state(), &self.dead_workers())),
            (Method::GET | Method::HEAD, "/servingz") => plain(probes::servingz(&self.sources.readiness.state(), &self.dead_workers())),
            (Method::GET | Method::HEAD, "/digest") => {
                let each = request.uri().query() == Some("tables");
                json(StatusCode::OK, super::digest::document(&self.sources.digests.load().value, each))
            }
            (_, "/metrics" | "/livez" | "/readyz" | "/servingz" | "/digest") => method_not_allowed("GET"),
            _ if self.scope == Scope::Public => not_found("this port has /digest, /metrics, /livez, /readyz and /servingz"),
            _ if !self.is_for_us(&request) => plain((StatusCode::MISDIRECTED_REQUEST, "use an IP address or localhost as host\n".into())),
            (Method::GET | Method::HEAD, "/config") => self.config(request.uri().query() == Some("shares")).await,
            (Method::GET | Method::HEAD, "/live") => self.live(live::asked_backend(request.uri().query())).await,
            (Method::GET | Method::HEAD, path) if page::file(path).is_some() => page_file(path),
            (Method::GET | Method::HEAD, "/logging") => self.logging(logging::tell),
            (Method::POST, "/explain" | "/simulate" | "/logging") if origin::is_cross_site(request.headers()) => {
                plain((StatusCode::FORBIDDEN, origin::refusal()))
            }
            (Method::POST, "/explain") => self.ask(request, Self::explain).await,
            (Method::POST, "/simulate") => self.simulate(request).await,
            (Method::POST, "/logging") if !self.address.ip().is_loopback() => {
                plain((StatusCode::FORBIDDEN, "what is logged can be changed at a loopback address only; see --admin\n".into()))
            }
            (Method::POST, "/logging") => self.logging(|log| logging::change(log, request.uri().query())),
            (_, "/logging") => method_not_allowed("GET, POST"),
            (_, "/config" | "/live") => method_not_allowed("GET"),
            (_, path) if page::file(path).is_some() => method_not_allowed("GET"),
            (_, "/explain" | "/simulate") => method_not_allowed("POST"),
            _ => not_found("there are /, /config, /digest, /explain, /live, /livez, /logging, /metrics, /readyz, /servingz and /simulate"),
        }
    }

    fn dead_workers(&self) -> Vec<usize> {
        probes::dead_workers(&self.sources.metrics)
    }

    async fn scrape(&self) -> Answer {
        let metrics = Arc::clone(&self.sources.metrics);
        let (published, digested) = (Arc::clone(&self.sources.published), Arc::clone(&self.digested));
        let render = move || {
            let current = published.load();
            // Scrapes come one after the other, and seldom: a change costs nothing while nobody asks.
            if digested.swap(current.generation, Relaxed) != current.generation {
                metrics.control().set_snapshot_digest(digest(&current.value));
            }
            metrics.affinity().set_actual_shares(super::shares::actual_shares(&current.value, &live::recent(&metrics)));
            metrics.render()
        };
        match self.scrapes.take(|| render).await {
            Ok(rendered) => text(StatusCode::OK, prometheus::TEXT_FORMAT, rendered),
            Err(error) => no_result(error),
        }
    }

    async fn config(&self, with_shares: bool) -> Answer {
        let Ok(Ok(room)) = timeout(LONGEST_WAIT, Arc::clone(&self.large_answers).acquire_owned()).await else {
            return no_result(NoResult::Busy);
        };
        let report = (self.sources.statuses)().await;
        let answered = report.is_some();
        let report = report.unwrap_or_else(|| {
            let published = self.sources.published.load();
            let snapshot = Arc::clone(&published.value);
            StatusReport { generation: published.generation, snapshot, statuses: Default::default(), notices: Vec::new() }
        });
        let document = self.questions.take(|| {
            move || {
                let document = Document { report: &report, answered, with_shares };
                let mut text = serde_json::to_string_pretty(&document).unwrap_or_default();
                text.push('\n');
                text
            }
        });
        match document.await {
            Ok(text) => json(StatusCode::OK, Bytes::from_owner(LargeAnswer { text, _place: room })),
            Err(error) => no_result(error),
        }
    }

    fn logging(&self, answer: impl FnOnce(&Logging) -> (StatusCode, String)) -> Answer {
        match self.sources.logging.as_ref().map(answer) {
            Some((StatusCode::OK, text)) => json(StatusCode::OK, text),
            Some(refusal) => plain(refusal),
            None => not_found("the log of this process was not set up by it"),
        }
    }

    async fn live(&self, backend: Option<String>) -> Answer {
        let (metrics, published) = (Arc::clone(&self.sources.metrics), Arc::clone(&self.sources.published));
        let answer = self.questions.take(|| {
            move || {
                let current = published.load();
                let live = live::live(current.generation, &current.value, &live::recent(&metrics), backend.as_deref());
                serde_json::to_string(&live).unwrap_or_default() + "\n"
            }
        });
        match answer.await {
            Ok(text) => json(StatusCode::OK, text),
            Err(error) => no_result(error),
        }
    }

    /// Simulates a change of a backend: of one that a route uses, its cluster as it is served; of any other, what it would be.
    async fn simulate(self: Arc<Self>, request: Request<Incoming>) -> Answer {
        let Ok(Ok(_room)) = timeout(LONGEST_WAIT, self.bodies.acquire()).await else { return no_result(NoResult::Busy) };
        let question = match read_body(request).await {
            Ok(question) => question,
            Err(refusal) => return plain(refusal),
        };
        let refuse = |error: &str| {
            let (status, text) = explain::simulation_error(error);
            json(status, text)
        };
        let snapshot = Arc::clone(&self.sources.published.load().value);
        let (asked, of_split) = (question.clone(), Arc::clone(&snapshot));
        match self.questions.take(move || move || explain::simulate_split(&asked, &of_split)).await {
            Ok(Some((status, text))) => return json(status, text),
            Ok(None) => {}
            Err(error) => return no_result(error),
        }
        let (request, backend) = match explain::read_simulation(&question) {
            Ok(read) => read,
            Err(error) => return refuse(&error),
        };
        let cluster = match explain::cluster_in(&snapshot, &backend).map(Arc::clone) {
            Some(cluster) => cluster,
            None => match (self.sources.clusters)(backend).await {
                Some(Ok(cluster)) => cluster,
                Some(Err(why)) => return refuse(&why),
                None => return no_result(NoResult::Busy),
            },
        };
        match self.questions.take(move || move || explain::simulate(&request, &cluster)).await {
            Ok((status, text)) => json(status, text),
            Err(error) => no_result(error),
        }
    }

    /// Answers a question in the body by what is served at this moment.
    async fn ask(self: Arc<Self>, request: Request<Incoming>, answer: Answerer) -> Answer {
        let Ok(Ok(_room)) = timeout(LONGEST_WAIT, self.bodies.acquire()).await else { return no_result(NoResult::Busy) };
        let question = match read_body(request).await {
            Ok(question) => question,
            Err(refusal) => return plain(refusal),
        };
        let server = Arc::clone(&self);
        let answer = self.questions.take(move || {
            let snapshot = Arc::clone(&server.sources.published.load().value);
            move || answer(&server, &question, &snapshot)
        });
        match answer.await {
            Ok((status, text)) => json(status, text),
            Err(error) => no_result(error),
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

// === impl LargeAnswer ===

impl AsRef<[u8]> for LargeAnswer {
    fn as_ref(&self) -> &[u8] {
        self.text.as_bytes()
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

/// The body of a question.
///
/// # Errors
/// The answer that says what is wrong with it.
async fn read_body(request: Request<Incoming>) -> Result<Bytes, (StatusCode, String)> {
    match timeout(BODY_PATIENCE, Limited::new(request.into_body(), BODY_LIMIT).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            Err((StatusCode::PAYLOAD_TOO_LARGE, format!("the body is too large: expected at most {BODY_LIMIT} bytes\n")))
        }
        Ok(Err(error)) => Err((StatusCode::BAD_REQUEST, format!("the body cannot be read: {error}\n"))),
        Err(_) => Err((StatusCode::REQUEST_TIMEOUT, format!("the body did not come within {BODY_PATIENCE:?}\n"))),
    }
}

fn no_result(error: NoResult) -> Answer {
    plain(match error {
        NoResult::Busy => (StatusCode::SERVICE_UNAVAILABLE, "other requests are being answered; try again\n".into()),
        NoResult::Panicked => (StatusCode::INTERNAL_SERVER_ERROR, "the answer cannot be made; please report this\n".into()),
    })
}

fn page_file(path: &str) -> Answer {
    let Some(file) = page::file(path) else { return not_found("the page is at /") };
    let mut answer = text(StatusCode::OK, file.content_type, file.text);
    let policy = header::HeaderValue::from_static(page::CONTENT_SECURITY_POLICY);
    answer.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    answer
}

fn json(status: StatusCode, body: impl Into<Bytes>) -> Answer {
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

fn text(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
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
