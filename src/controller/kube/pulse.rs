//! Whether the API server lives. Every answer is a sign of life, whoever asked; only after seconds without one is it asked for nothing but
//! that. One verdict stands for all watches: silence ends them, and an answer after it wakes whoever waits to try again.
//!
//! A single connection that leads nowhere, while others work, is found by the operating system: see `client::connector`.

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::stream;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use kube::{Client, client::Body};
use tokio::{
    sync::{Notify, watch},
    time::{sleep, timeout},
};

use crate::base::{Backoff, Heartbeat};

use super::{
    client::{CALL_DEADLINE, CallError},
    outage::Outage,
};

/// Without an answer for this long the API server is asked for a sign of life. The Lease is asked for more often, so that this is seldom.
const ASK_AFTER: Duration = Duration::from_secs(4);

/// Most time for a sign of life.
const SIGN_DEADLINE: Duration = Duration::from_secs(2);

/// Time between two such questions while there is no answer.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// Questions without an answer, one after the other, that are silence: one may be lost.
const SILENT_AFTER: u32 = 2;

/// Most time without a byte of an answer that is no watch.
const STALL: Duration = Duration::from_secs(15);

/// The same of a watch: the API server ends each after `client::WATCH_SECONDS`, and tells how far it is in between.
const WATCH_STALL: Duration = Duration::from_secs(super::client::WATCH_SECONDS as u64 + 4);

/// What is known of the API server's life. It outlives the tasks that ask.
#[derive(Debug)]
pub(super) struct Pulse {
    last: Heartbeat,
    is_silent: AtomicBool,
    /// How often it fell silent, and how often it answered again.
    silences: watch::Sender<u64>,
    returns: watch::Sender<u64>,
    /// Somebody got no answer.
    doubt: Notify,
    /// The signs of life of watches that are as good as the last answer.
    open: Mutex<BTreeMap<u64, Arc<Heartbeat>>>,
    next: AtomicU64,
}

/// A watch that is open, or that waits until its kind exists: while it lives, every answer of the API server is a sign of life of it.
#[derive(Debug)]
pub(super) struct Open {
    pulse: Arc<Pulse>,
    number: u64,
}

/// Waits between attempts, cut short when the API server answers again.
#[derive(Debug)]
pub(super) struct Waits {
    backoff: Backoff,
    returns: watch::Receiver<u64>,
}

// === impl Pulse ===

impl Default for Pulse {
    fn default() -> Self {
        Self {
            last: Heartbeat::default(),
            is_silent: AtomicBool::new(false),
            silences: watch::Sender::new(0),
            returns: watch::Sender::new(0),
            doubt: Notify::new(),
            open: Mutex::default(),
            next: AtomicU64::new(0),
        }
    }
}

impl Pulse {
    /// The same client; each of its answers is a sign of life.
    pub(super) fn attend(self: &Arc<Self>, client: &Client) -> Client {
        let namespace = client.default_namespace().to_owned();
        let (pulse, client) = (Arc::clone(self), client.clone());
        let service = tower::service_fn(move |request: Request<Body>| {
            let (pulse, client) = (Arc::clone(&pulse), client.clone());
            async move {
                let response = client.send(request).await;
                match &response {
                    Ok(response) if is_sign_of_life(response) => pulse.answered(),
                    Ok(_) | Err(_) => pulse.doubt.notify_one(),
                }
                response
            }
        });
        Client::new(service, namespace)
    }

    /// The same client for one watch: each answer begins within a deadline and goes on while the API server lives. `what` is the watch in the log, and
    /// `heartbeat` beats at each sign of life.
    pub(super) fn watching(self: &Arc<Self>, client: &Client, what: &str, outage: &Arc<Outage>, heartbeat: Arc<Heartbeat>) -> Client {
        let namespace = client.default_namespace().to_owned();
        let (pulse, client, outage, what) = (Arc::clone(self), client.clone(), Arc::clone(outage), Arc::<str>::from(what));
        let service = tower::service_fn(move |request: Request<Body>| {
            let (pulse, client, heartbeat) = (Arc::clone(&pulse), client.clone(), Arc::clone(&heartbeat));
            let (outage, what) = (Arc::clone(&outage), Arc::clone(&what));
            async move {
                let is_watch = request.uri().query().is_some_and(|query| query.contains("watch=true"));
                let (silences, mut returns) = (pulse.silences.subscribe(), pulse.returns.subscribe());
                let response = tokio::select! {
                    response = timeout(CALL_DEADLINE, client.send(request)) => response.map_err(|_| CallError::Deadline)??,
                    // It was asked while there was silence: asked anew it answers at once.
                    Ok(()) = returns.changed() => return Err(CallError::Deadline),
                };
                heartbeat.beat();
                // Of a quiet kind nothing more may come for hours.
                if is_sign_of_life(&response) {
                    outage.answered(&what);
                }
                Ok::<_, CallError>(response.map(|body| {
                    let open = is_watch.then(|| pulse.open(Arc::clone(&heartbeat)));
                    living(body, silences, if is_watch { WATCH_STALL } else { STALL }, heartbeat, open)
                }))
            }
        });
        Client::new(service, namespace)
    }

    /// Every answer is a sign of life of this watch too, while the value lives.
    pub(super) fn open(self: &Arc<Self>, heartbeat: Arc<Heartbeat>) -> Open {
        let number = self.next.fetch_add(1, Relaxed);
        self.lock().insert(number, heartbeat);
        Open { pulse: Arc::clone(self), number }
    }

    /// Waits of a task that tries again.
    pub(super) fn waits(&self, first: Duration, most: Duration) -> Waits {
        Waits { backoff: Backoff::new(first, most), returns: self.returns.subscribe() }
    }

    /// The API server has answered.
    fn answered(&self) {
        self.last.beat();
        self.lock().values().for_each(|heartbeat| heartbeat.beat());
        if self.is_silent.swap(false, Relaxed) {
            self.returns.send_modify(|returns| *returns = returns.wrapping_add(1));
        }
    }

    fn fell_silent(&self) {
        if !self.is_silent.swap(true, Relaxed) {
            self.silences.send_modify(|silences| *silences = silences.wrapping_add(1));
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Heartbeat>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks for a sign of life when there was none for a while, or when somebody doubts. Never ends. `client` is one that `attend` made.
pub(super) async fn feel(client: Client, pulse: Arc<Pulse>) {
    let mut unanswered = 0;
    loop {
        let quiet = pulse.last.age();
        if unanswered == 0 && quiet < ASK_AFTER {
            tokio::select! {
                () = sleep(ASK_AFTER - quiet) => continue,
                () = pulse.doubt.notified() => {}
            }
        }
        let asked = pulse.last.age();
        let sign = match Request::get("/readyz").body(Body::empty()) {
            Ok(request) => timeout(SIGN_DEADLINE, client.send(request)).await,
            Err(_) => return std::future::pending().await,
        };
        let lives = matches!(&sign, Ok(Ok(response)) if is_sign_of_life(response));
        // Whatever came meanwhile counts as well.
        if lives {
            pulse.answered();
        }
        if lives || pulse.last.age() < asked {
            unanswered = 0;
            // Who asks in vain while others are answered does not make this a loop.
            sleep(ASK_AGAIN).await;
            continue;
        }
        unanswered += 1;
        if unanswered >= SILENT_AFTER {
            pulse.fell_silent();
        }
        // Pods that lost it together do not come back in one instant.
        sleep(ASK_AGAIN.mul_f64(fastrand::f64().mul_add(0.5, 0.5))).await;
    }
}

/// Whether the API server itself has answered: it may refuse. What stands before it says 502, 503 and 504; and a server that starts or ends
/// says 500 to what it is asked for a sign of life.
fn is_sign_of_life<T>(response: &Response<T>) -> bool {
    !response.status().is_server_error()
}

/// The body, until silence is noticed or too long nothing of it comes.
fn living(
    body: Body,
    silences: watch::Receiver<u64>,
    stall: Duration,
    heartbeat: Arc<Heartbeat>,
    open: Option<Open>,
) -> StreamBody<impl stream::Stream<Item = io::Result<Frame<Bytes>>> + Send> {
    let state = Some((body, silences, heartbeat, open));
    StreamBody::new(stream::unfold(state, move |state| async move {
        let (mut body, mut silences, heartbeat, open) = state?;
        let frame = tokio::select! {
            biased;
            frame = body.frame() => frame?,
            Ok(()) = silences.changed() => return Some((Err(silent("the API server is silent")), None)),
            () = sleep(stall) => return Some((Err(silent("nothing more of the answer comes")), None)),
        };
        heartbeat.beat();
        match frame {
            Ok(frame) => Some((Ok(frame), Some((body, silences, heartbeat, open)))),
            Err(error) => Some((Err(io::Error::other(error)), None)),
        }
    }))
}

/// Not `TimedOut`: the crate `kube` makes that a quiet end.
fn silent(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, why)
}

// === impl Open ===

impl Drop for Open {
    fn drop(&mut self) {
        self.pulse.lock().remove(&self.number);
    }
}

// === impl Waits ===

impl Waits {
    /// Until it is time to try again. It is, where the API server has answered again since the last wait.
    pub(super) async fn wait(&mut self) {
        let wait = self.backoff.next_wait(fastrand::f64());
        tokio::select! {
            () = sleep(wait) => {}
            Ok(()) = self.returns.changed() => self.backoff.reset(),
        }
    }

    /// It worked.
    pub(super) fn reset(&mut self) {
        self.backoff.reset();
    }
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, sync::atomic::AtomicUsize};

    use http::StatusCode;
    use tokio::time::Instant;

    use super::*;

    /// Answers at once or never; a watch stays open, and nothing comes of it.
    #[derive(Default)]
    struct Server {
        is_away: AtomicBool,
        /// Questions that get no answer although it is there.
        loses: AtomicUsize,
        signs: AtomicUsize,
    }

    impl Server {
        fn client(self: &Arc<Self>) -> Client {
            let server = Arc::clone(self);
            let service = tower::service_fn(move |request: Request<Body>| {
                let server = Arc::clone(&server);
                let path = request.uri().path().to_owned();
                async move { Ok::<_, Infallible>(server.answer(&path).await) }
            });
            Client::new(service, "default")
        }

        async fn answer(&self, path: &str) -> Response<StreamBody<stream::Pending<Result<Frame<Bytes>, Infallible>>>> {
            if path == "/readyz" {
                self.signs.fetch_add(1, Relaxed);
            }
            let lost = self.loses.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok();
            if lost || self.is_away.load(Relaxed) {
                std::future::pending::<()>().await;
            }
            let mut response = Response::new(StreamBody::new(stream::pending()));
            *response.status_mut() = StatusCode::OK;
            response
        }
    }

    fn watched(server: &Arc<Server>) -> (Arc<Pulse>, Client, Client, Arc<Heartbeat>) {
        let pulse = Arc::<Pulse>::default();
        let client = pulse.attend(&server.client());
        let heartbeat = Arc::<Heartbeat>::default();
        let watching = pulse.watching(&client, "Gateway", &Arc::default(), Arc::clone(&heartbeat));
        tokio::spawn(feel(client.clone(), Arc::clone(&pulse)));
        (pulse, client, watching, heartbeat)
    }

    fn get(path: &str) -> Request<Body> {
        Request::get(path).body(Body::empty()).unwrap()
    }

    async fn open(client: &Client) -> Body {
        client.send(get("/gateways?watch=true")).await.unwrap().into_body()
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_a_watch_within_15_s_and_a_return_wakes_who_waits() {
        for away in [2_000, 9_500, 12_345, 60_000] {
            let server = Arc::<Server>::default();
            let (pulse, _, watching, heartbeat) = watched(&server);
            let mut body = open(&watching).await;
            sleep(Duration::from_secs(30)).await;
            assert!(heartbeat.age() < Duration::from_secs(6), "the watch is as alive as the API server");
            server.is_away.store(true, Relaxed);
            let gone = Instant::now();
            tokio::spawn({
                let server = Arc::clone(&server);
                async move {
                    sleep(Duration::from_millis(away)).await;
                    server.is_away.store(false, Relaxed);
                }
            });
            let mut waits = pulse.waits(Duration::from_secs(5), Duration::from_secs(5));
            if away > 9_000 {
                assert!(body.frame().await.unwrap().is_err());
                assert!(gone.elapsed() < Duration::from_secs(15), "noticed after {:?}", gone.elapsed());
                while watching.send(get("/gateways?watch=true")).await.is_err() {
                    waits.wait().await;
                }
                let back = gone.elapsed().saturating_sub(Duration::from_millis(away));
                assert!(back < Duration::from_secs(5), "back {back:?} after the return");
            } else {
                assert!(timeout(Duration::from_secs(40), body.frame()).await.is_err(), "it was back before it was missed");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_asks_for_a_sign_of_life_while_there_are_answers_and_one_lost_is_no_silence() {
        let server = Arc::<Server>::default();
        let (_, client, watching, _) = watched(&server);
        for _ in 0..200 {
            client.send(get("/lease")).await.unwrap();
            sleep(Duration::from_secs(3)).await;
        }
        assert_eq!(server.signs.load(Relaxed), 0);
        let mut body = open(&watching).await;
        server.loses.store(1, Relaxed);
        assert!(timeout(Duration::from_secs(60), body.frame()).await.is_err());
        assert!(server.signs.load(Relaxed) > 1, "it was asked");
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_stalls_while_others_are_answered_ends_too() {
        let server = Arc::<Server>::default();
        let (_, _, watching, _) = watched(&server);
        let mut body = open(&watching).await;
        let begun = Instant::now();
        assert!(body.frame().await.unwrap().is_err() && begun.elapsed() <= WATCH_STALL + Duration::from_secs(1));
        assert!(body.frame().await.is_none());
        let mut answer = watching.send(get("/gateways")).await.unwrap().into_body();
        let begun = Instant::now();
        assert!(answer.frame().await.unwrap().is_err() && begun.elapsed() <= STALL + Duration::from_secs(1));
    }
}
