//! The connections of an admin port. There is always room for one more, and no client keeps one for ever.
//!
//! Probes come on connections of their own, so a port whose connections are all taken would silence them. Therefore every connection is
//! accepted, and where there are too many the client that has the most loses one.

use std::{
    collections::HashMap,
    future::Future,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use socket2::SockRef;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    time::{Instant, sleep, sleep_until},
};

use crate::base::is_out_of_descriptors;
use crate::telemetry::{AdminClose, DescriptorUse, ProcessMetrics};

/// Connections that may wait to be accepted: more than are accepted between two turns of the loop.
const BACKLOG: i32 = 1024;

/// How long clients are waited for.
#[derive(Clone, Copy, Debug)]
pub(super) struct ClientTimeouts {
    /// From the accepted connection to the end of its first request's head.
    pub(super) head: Duration,
    /// From an answer to the end of the next request's head: to read the answer, to think, and to ask.
    pub(super) next_head: Duration,
    /// More than that for each MiB of the answer.
    pub(super) per_mib: Duration,
}

/// The open connections of a port.
#[derive(Debug)]
pub(super) struct Connections {
    most: usize,
    timeouts: ClientTimeouts,
    metrics: Arc<ProcessMetrics>,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    places: HashMap<u64, Entry>,
    next: u64,
}

#[derive(Debug)]
struct Entry {
    client: IpAddr,
    state: watch::Sender<State>,
    /// When the state began.
    since: Instant,
}

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It waits for its client: to send a request, or to read an answer.
    Waiting {
        /// Until then.
        until: Instant,
    },
    /// A request is being answered.
    Answering,
    /// It has to make room.
    Evicted,
}

/// A connection's place among the others; it is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    connections: Arc<Connections>,
    number: u64,
}

/// Accepts for ever. `serve` serves a connection; it is dropped when the connection has to go.
pub(super) async fn accept<F>(listener: TcpListener, connections: Arc<Connections>, serve: impl Fn(TcpStream, Arc<Place>) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    // The standard library's own is too short for a crowd that comes at once.
    if let Err(error) = SockRef::from(&listener).listen(BACKLOG) {
        tracing::debug!(%error, "the queue of the admin port stays short");
    }
    loop {
        match listener.accept().await {
            Ok((stream, client)) => {
                let (place, state) = connections.enter(client);
                let serving = serve(stream, Arc::clone(&place));
                tokio::spawn(async move {
                    let reason = tokio::select! {
                        () = serving => return,
                        reason = overdue(state) => reason,
                    };
                    tracing::debug!(%client, reason = reason.as_str(), "a connection to the admin port is closed");
                    place.connections.metrics.admin_closed(reason);
                });
            }
            Err(error) => {
                let out_of_descriptors = is_out_of_descriptors(&error);
                if out_of_descriptors {
                    connections.metrics.out_of_descriptors(DescriptorUse::Admin);
                }
                // The place of one of ours is as good as any; else the client was quicker, or it must be tried again.
                if out_of_descriptors && connections.evict() {
                    tokio::task::yield_now().await;
                } else {
                    sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }
}

/// Ends when the connection has to be closed.
async fn overdue(mut state: watch::Receiver<State>) -> AdminClose {
    loop {
        let now = *state.borrow_and_update();
        let too_slow = async {
            match now {
                State::Waiting { until } => sleep_until(until).await,
                State::Answering | State::Evicted => std::future::pending().await,
            }
        };
        if now == State::Evicted {
            return AdminClose::TooMany;
        }
        tokio::select! {
            () = too_slow => return AdminClose::TooSlow,
            changed = state.changed() => if changed.is_err() { return AdminClose::TooMany },
        }
    }
}

// === impl Connections ===

impl Connections {
    /// None yet, and at most this many at a time.
    pub(super) fn new(most: usize, timeouts: ClientTimeouts, metrics: Arc<ProcessMetrics>) -> Arc<Self> {
        Arc::new(Self { most: most.max(1), timeouts, metrics, open: Mutex::default() })
    }

    /// A place for a connection that was just accepted; another one makes room where there are too many.
    fn enter(self: &Arc<Self>, client: SocketAddr) -> (Arc<Place>, watch::Receiver<State>) {
        if self.lock().places.len() >= self.most {
            self.evict();
        }
        let now = Instant::now();
        let (sender, state) = watch::channel(State::Waiting { until: now + self.timeouts.head });
        let mut open = self.lock();
        let number = open.next;
        open.next += 1;
        open.places.insert(number, Entry { client: client.ip().to_canonical(), state: sender, since: now });
        (Arc::new(Place { connections: Arc::clone(self), number }), state)
    }

    /// Closes one connection of the client that has the most: the one that has waited longest for it. Whether there was any.
    fn evict(&self) -> bool {
        let mut open = self.lock();
        let mut held: HashMap<IpAddr, usize> = HashMap::new();
        for entry in open.places.values() {
            *held.entry(entry.client).or_default() += 1;
        }
        let is_answering = |entry: &Entry| *entry.state.borrow() == State::Answering;
        let rank = |entry: &Entry| (held.get(&entry.client).copied(), !is_answering(entry), std::cmp::Reverse(entry.since));
        let Some(number) = open.places.iter().max_by_key(|(_, entry)| rank(entry)).map(|(number, _)| *number) else { return false };
        if let Some(entry) = open.places.remove(&number) {
            entry.state.send_replace(State::Evicted);
        }
        true
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Place ===

impl Place {
    /// A request's head is complete.
    pub(super) fn asked(&self) {
        self.enter(State::Answering);
    }

    /// The answer to it, of this many bytes, is about to be written.
    pub(super) fn answered(&self, bytes: u64) {
        let ClientTimeouts { next_head, per_mib, .. } = self.connections.timeouts;
        let mib = u32::try_from(bytes >> 20).unwrap_or(u32::MAX);
        self.enter(State::Waiting { until: Instant::now() + next_head + per_mib.saturating_mul(mib) });
    }

    fn enter(&self, state: State) {
        if let Some(entry) = self.connections.lock().places.get_mut(&self.number) {
            entry.since = Instant::now();
            entry.state.send_replace(state);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.lock().places.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    const CLIENT_TIMEOUTS: ClientTimeouts =
        ClientTimeouts { head: Duration::from_secs(5), next_head: Duration::from_secs(10), per_mib: Duration::from_secs(1) };

    fn connections(most: usize) -> Arc<Connections> {
        Connections::new(most, CLIENT_TIMEOUTS, Arc::default())
    }

    fn from(ip: &str) -> SocketAddr {
        SocketAddr::new(ip.parse().unwrap(), 1)
    }

    fn is_evicted(state: &watch::Receiver<State>) -> bool {
        *state.borrow() == State::Evicted
    }

    #[tokio::test(start_paused = true)]
    async fn the_client_with_the_most_makes_room_by_the_one_that_waited_longest() {
        let connections = connections(4);
        let mut places = Vec::new();
        for ip in ["10.0.0.9", "10.0.0.1", "::ffff:10.0.0.1", "10.0.0.1"] {
            places.push(connections.enter(from(ip)));
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        // It began first, but its request is being answered.
        places[1].0.asked();
        let evicted =
            |places: &[(Arc<Place>, watch::Receiver<State>)]| places.iter().map(|(_, state)| is_evicted(state)).collect::<Vec<_>>();
        places.push(connections.enter(from("10.0.0.2")));
        assert_eq!(evicted(&places), [false, false, true, false, false], "neither the oldest of all nor the newest");
        tokio::time::advance(Duration::from_secs(1)).await;
        places.push(connections.enter(from("10.0.0.2")));
        assert_eq!(evicted(&places), [false, false, true, true, false, false]);
        // Now each address has as many as the others, or one less.
        places.push(connections.enter(from("10.0.0.3")));
        assert!(evicted(&places)[4], "the older one of the client with two");
        assert_eq!(connections.lock().places.len(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn a_crowd_that_is_being_answered_makes_room_too() {
        let connections = connections(2);
        let places: Vec<_> = (0..2).map(|_| connections.enter(from("10.0.0.1"))).collect();
        places.iter().for_each(|(place, _)| place.asked());
        let (probe, state) = connections.enter(from("10.0.0.1"));
        assert!(!is_evicted(&state) && places.iter().filter(|(_, state)| is_evicted(state)).count() == 1);
        drop((places, probe));
        assert!(connections.lock().places.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn each_client_has_its_time() {
        let connections = connections(9);
        let begin = Instant::now();
        let (_silent, state) = connections.enter(from("10.0.0.1"));
        assert_eq!(overdue(state).await, AdminClose::TooSlow);
        assert_eq!(begin.elapsed().as_secs(), 5);
        let (place, state) = connections.enter(from("10.0.0.1"));
        let life = tokio::spawn(overdue(state));
        place.asked();
        // However long an answer takes, it is not the client's fault.
        sleep(Duration::from_secs(60)).await;
        assert!(!life.is_finished());
        let begin = Instant::now();
        place.answered(3 << 20);
        assert_eq!(life.await.unwrap(), AdminClose::TooSlow);
        assert_eq!(begin.elapsed().as_secs(), 13);
    }

    #[tokio::test]
    async fn a_slow_reader_and_a_silent_client_are_cut_off_while_others_are_served() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let metrics = Arc::<ProcessMetrics>::default();
        let timeouts = ClientTimeouts { head: Duration::from_millis(300), next_head: Duration::from_millis(50), per_mib: Duration::ZERO };
        let connections = Connections::new(8, timeouts, Arc::clone(&metrics));
        tokio::spawn(accept(listener, connections, |mut stream, place| async move {
            while let Ok(asked) = stream.read_u8().await {
                place.asked();
                let answer = vec![asked; if asked == b'L' { 64 << 20 } else { 1 }];
                place.answered(0);
                let _ = stream.write_all(&answer).await;
            }
        }));
        let mut silent = TcpStream::connect(address).await.unwrap();
        let mut slow = TcpStream::connect(address).await.unwrap();
        slow.write_all(b"L").await.unwrap();
        let mut quick = TcpStream::connect(address).await.unwrap();
        quick.write_all(b"q").await.unwrap();
        assert_eq!(quick.read_u8().await.unwrap(), b'q');
        assert!(silent.read_u8().await.is_err());
        let mut rest = Vec::new();
        let _ = slow.read_to_end(&mut rest).await;
        assert!(rest.len() < 64 << 20, "cut off within the answer");
        assert_eq!(metrics.closed(AdminClose::TooSlow), 3);
    }
}
