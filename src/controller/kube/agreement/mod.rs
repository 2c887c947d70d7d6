//! The leader asks the other replicas for the digest of their tables, and says for how long they disagree, and about which tables.
//!
//! They are found by the name of the install's own Service without an address, so that no right is needed.

mod record;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::Deserialize;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, lookup_host},
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use crate::base::{Published, TableDigests};
use crate::snapshot::Agreement;
use crate::telemetry::Metrics;

use super::gate::{ClusterEvent, Gate};

use record::Record;

/// Time between two rounds of questions.
const INTERVAL: Duration = Duration::from_millis(500);

/// A replica that is ahead is looked at again after this time.
const SECOND_LOOK: Duration = Duration::from_millis(200);

/// Time between two questions for the replicas' addresses.
const NAMES: Duration = Duration::from_secs(5);

/// Most time for one answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// An answer is shorter, also one of 50,000 tables.
const MOST_BYTES: u64 = 1 << 21;

/// Where the replicas are.
#[derive(Clone, Debug)]
pub struct Replicas {
    /// DNS name of all replicas that are ready.
    pub name: Box<str>,
    /// Their admin port.
    pub port: u16,
    /// Addresses of this one.
    pub own: [Option<IpAddr>; 2],
}

/// What a replica says of itself.
#[derive(Debug, Deserialize)]
struct Said {
    /// In hexadecimal digits.
    digest: String,
    /// How many there are, or, where it was asked for them, the digest of each by the digest of its backend's name, in hexadecimal digits.
    tables: Value,
}

/// What a replica was heard to say.
#[derive(Debug, PartialEq, Eq)]
struct Heard {
    combined: u64,
    /// Empty unless it was asked for them.
    tables: BTreeMap<u64, u64>,
}

/// Compares while this process is the leader; never ends.
pub(super) async fn compare_replicas(
    replicas: Replicas,
    digests: Arc<Published<TableDigests>>,
    mut leader: watch::Receiver<bool>,
    gate: Arc<Gate>,
    metrics: Arc<Metrics>,
) {
    loop {
        metrics.affinity().set_agreement(None);
        gate.pass(ClusterEvent::Agreement(None));
        if leader.wait_for(|leads| *leads).await.is_err() {
            return std::future::pending().await;
        }
        let mut ends = leader.clone();
        tokio::select! {
            () = compare(&replicas, &digests, &gate, &metrics) => {}
            _ = ends.wait_for(|leads| !leads) => {}
        }
    }
}

async fn compare(replicas: &Replicas, digests: &Published<TableDigests>, gate: &Gate, metrics: &Metrics) {
    let (mut record, mut peers, mut named) = (Record::default(), None::<BTreeSet<SocketAddr>>, None::<Instant>);
    let mut told = None::<Agreement>;
    loop {
        if named.is_none_or(|named| named.elapsed() >= NAMES) {
            named = Some(Instant::now());
            // While there is no answer, the last one counts.
            if let Ok(Ok(found)) = timeout(PATIENCE, lookup_host((&*replicas.name, replicas.port))).await {
                peers = Some(found.filter(|address| !replicas.own.contains(&Some(address.ip()))).collect());
            }
        }
        if let Some(peers) = &peers {
            round(&mut record, peers, digests).await;
            metrics.affinity().set_agreement(Some((record.compared(), record.disagreeing(Instant::now()))));
            let agreement = record.agreement();
            // Where nobody answers, nothing is known.
            if agreement.compared != peers.is_empty() && told.as_ref() != Some(&agreement) {
                let replicas: BTreeSet<&IpAddr> = agreement.disagreements.values().flat_map(BTreeMap::keys).collect();
                if !replicas.is_empty() {
                    let tables = agreement.disagreements.len();
                    tracing::warn!(?replicas, tables, "replicas have had other hash tables than this one for more than a second");
                }
                gate.pass(ClusterEvent::Agreement(Some(agreement.clone())));
                told = Some(agreement);
            }
        }
        sleep(INTERVAL).await;
    }
}

/// Asks all replicas, and those that disagree once more: for their tables.
async fn round(record: &mut Record, peers: &BTreeSet<SocketAddr>, digests: &Published<TableDigests>) {
    let said = ask_all(peers, "/digest").await;
    record.retain(|peer| said.iter().any(|(address, _)| address.ip() == *peer));
    hear(record, &said, digests);
    let disagree = record.disagreeing_peers();
    if disagree.is_empty() {
        return;
    }
    // What they are ahead with may be here by then.
    sleep(SECOND_LOOK).await;
    let disagree = peers.iter().filter(|peer| disagree.contains(&peer.ip())).copied().collect();
    let said = ask_all(&disagree, "/digest?tables").await;
    hear(record, &said, digests);
    let (own, now) = (digests.load(), Instant::now());
    let second = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let still = record.disagreeing_peers();
    for (peer, heard) in said.iter().filter(|(peer, _)| still.contains(&peer.ip())) {
        record.hear_tables(peer.ip(), &heard.tables, &own.value, now, second);
    }
}

fn hear(record: &mut Record, said: &[(SocketAddr, Heard)], digests: &Published<TableDigests>) {
    let (own, now) = (digests.load(), Instant::now());
    for (peer, heard) in said {
        record.hear(peer.ip(), heard.combined, &own.value, now);
    }
}

/// What those say that answer.
async fn ask_all(peers: &BTreeSet<SocketAddr>, path: &'static str) -> Vec<(SocketAddr, Heard)> {
    let mut questions: JoinSet<_> = peers.iter().map(|peer| timeout(PATIENCE, ask(*peer, path))).collect();
    let mut said = Vec::new();
    while let Some(answer) = questions.join_next().await {
        match answer {
            Ok(Ok(Ok(heard))) => said.push(heard),
            Ok(Ok(Err(error))) => tracing::debug!(%error, "a replica does not say which tables it has"),
            Ok(Err(_)) | Err(_) => {}
        }
    }
    said
}

/// What one replica says.
async fn ask(peer: SocketAddr, path: &str) -> std::io::Result<(SocketAddr, Heard)> {
    let mut stream = TcpStream::connect(peer).await?;
    let question = format!("GET {path} HTTP/1.1\r\nhost: {peer}\r\nconnection: close\r\n\r\n");
    stream.write_all(question.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(MOST_BYTES).read_to_end(&mut answer).await?;
    let said = parse(&String::from_utf8_lossy(&answer)).ok_or_else(|| std::io::Error::other(format!("{peer}: no digest in its answer")))?;
    Ok((peer, said))
}

/// The digests in an answer.
fn parse(answer: &str) -> Option<Heard> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    head.starts_with("HTTP/1.1 200").then_some(())?;
    let said: Said = serde_json::from_str(body).ok()?;
    let number = |digits: &str| u64::from_str_radix(digits, 16).ok();
    let tables = match &said.tables {
        Value::Number(_) => Some(BTreeMap::new()),
        Value::Object(tables) => tables.iter().map(|(name, digest)| Some((number(name)?, number(digest.as_str()?)?))).collect(),
        _ => None,
    };
    Some(Heard { combined: number(&said.digest)?, tables: tables? })
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn an_answer_has_digests_or_none() {
        let heard = |combined, tables: &[(u64, u64)]| Some(Heard { combined, tables: tables.iter().copied().collect() });
        for (answer, expected) in [
            ("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{\"generation\":4,\"digest\":\"00ff\",\"tables\":3}\n", heard(255, &[])),
            ("HTTP/1.1 200 OK\r\n\r\n{\"digest\":\"1\",\"tables\":{\"0a\":\"0b\",\"0c\":\"0d\"}}", heard(1, &[(10, 11), (12, 13)])),
            ("HTTP/1.1 200 OK\r\n\r\n{\"digest\":\"1\",\"tables\":{\"0a\":\"no\"}}", None),
            ("HTTP/1.1 404 Not Found\r\n\r\n{\"digest\":\"ff\",\"tables\":3}", None),
            ("HTTP/1.1 200 OK\r\n\r\n{\"digest\":\"no\",\"tables\":3}", None),
            ("HTTP/1.1 200 OK\r\n\r\n", None),
            ("", None),
        ] {
            assert_eq!(parse(answer), expected, "{answer}");
        }
    }

    /// A replica that has another table 11 than the one here.
    async fn other_replica(listener: TcpListener) {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut question = Vec::new();
            while !question.ends_with(b"\r\n\r\n") {
                question.push(stream.read_u8().await.unwrap());
            }
            let tables = if question.starts_with(b"GET /digest?tables ") { "{\"0a\":\"01\",\"0b\":\"03\"}" } else { "2" };
            let answer = format!("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{{\"digest\":\"1\",\"generation\":7,\"tables\":{tables}}}\n");
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_replica_with_another_table_is_told_with_the_table_while_this_one_leads() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let replicas = Replicas { name: "127.0.0.1".into(), port: listener.local_addr().unwrap().port(), own: [None, None] };
        let server = tokio::spawn(other_replica(listener));
        let own = TableDigests::default().next(1, [(10, Some(1)), (11, Some(2))], Instant::now());
        let (told, mut hears) = tokio::sync::mpsc::unbounded_channel();
        let sink = move |event| {
            let ClusterEvent::Agreement(agreement) = event else { panic!("{event:?}") };
            told.send(agreement).unwrap();
        };
        let gate = Arc::new(Gate::new(Box::new(sink), []));
        let (lead, leader) = watch::channel(true);
        let metrics = Arc::new(Metrics::new(1));
        let comparing =
            tokio::spawn(compare_replicas(replicas, Arc::new(Published::new(Arc::new(own))), leader, gate, Arc::clone(&metrics)));
        let mut next = async || timeout(Duration::from_secs(20), hears.recv()).await.unwrap().unwrap();
        assert_eq!(next().await, None, "nobody has compared yet");
        assert_eq!(next().await, Some(Agreement { compared: true, ..Agreement::default() }), "a change takes its time");
        let found = next().await.unwrap();
        let peers = found.disagreements.get(&11).unwrap();
        assert!(found.disagreements.len() == 1 && peers.keys().eq([&IpAddr::from([127, 0, 0, 1])]), "{found:?}");
        assert!(metrics.render().contains("clingfish_affinity_replicas_compared 1\n"));
        lead.send_replace(false);
        assert_eq!(next().await, None, "whoever leads now looks for itself");
        comparing.abort();
        server.abort();
    }
}
