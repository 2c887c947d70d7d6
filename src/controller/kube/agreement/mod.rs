//! The leader asks the other replicas for the digest of their tables, and says for how long they disagree.
//!
//! They are found by the name of the install's own Service without an address, so that no right is needed.

mod record;

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use serde::Deserialize;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, lookup_host},
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use crate::base::{Published, TableDigests};
use crate::telemetry::Metrics;

use record::Record;

/// Time between two rounds of questions.
const INTERVAL: Duration = Duration::from_millis(500);

/// A replica that is ahead is looked at again after this time.
const SECOND_LOOK: Duration = Duration::from_millis(200);

/// Time between two questions for the replicas' addresses.
const NAMES: Duration = Duration::from_secs(5);

/// Most time for one answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// An answer is shorter.
const MOST_BYTES: u64 = 4096;

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
}

/// Compares while this process is the leader; never ends.
pub(super) async fn compare_replicas(
    replicas: Replicas,
    digests: Arc<Published<TableDigests>>,
    mut leader: watch::Receiver<bool>,
    metrics: Arc<Metrics>,
) {
    loop {
        metrics.affinity().set_agreement(None);
        if leader.wait_for(|leads| *leads).await.is_err() {
            return std::future::pending().await;
        }
        let mut ends = leader.clone();
        tokio::select! {
            () = compare(&replicas, &digests, &metrics) => {}
            _ = ends.wait_for(|leads| !leads) => {}
        }
    }
}

async fn compare(replicas: &Replicas, digests: &Published<TableDigests>, metrics: &Metrics) {
    let (mut record, mut peers, mut named) = (Record::default(), BTreeSet::new(), None::<Instant>);
    loop {
        if named.is_none_or(|named| named.elapsed() >= NAMES) {
            named = Some(Instant::now());
            // While there is no answer, the last one counts.
            if let Ok(Ok(found)) = timeout(PATIENCE, lookup_host((&*replicas.name, replicas.port))).await {
                peers = found.filter(|address| !replicas.own.contains(&Some(address.ip()))).collect();
            }
        }
        let said = ask_all(&peers).await;
        record.retain(|peer| said.iter().any(|(address, _)| address.ip() == *peer));
        let mut hear = |said: &[(SocketAddr, u64)]| {
            let (own, now) = (digests.load(), Instant::now());
            // All are heard, whoever disagrees.
            said.iter().filter(|(peer, digest)| !record.hear(peer.ip(), *digest, &own.value, now)).count() == 0
        };
        if !hear(&said) {
            // What it is ahead with may be here by then.
            sleep(SECOND_LOOK).await;
            hear(&said);
        }
        metrics.affinity().set_agreement(Some((record.compared(), record.disagreeing(Instant::now()))));
        sleep(INTERVAL).await;
    }
}

/// The digests of those that answer.
async fn ask_all(peers: &BTreeSet<SocketAddr>) -> Vec<(SocketAddr, u64)> {
    let mut questions: JoinSet<_> = peers.iter().map(|peer| timeout(PATIENCE, ask(*peer))).collect();
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

/// The digest of one replica.
async fn ask(peer: SocketAddr) -> std::io::Result<(SocketAddr, u64)> {
    let mut stream = TcpStream::connect(peer).await?;
    let question = format!("GET /digest HTTP/1.1\r\nhost: {peer}\r\nconnection: close\r\n\r\n");
    stream.write_all(question.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(MOST_BYTES).read_to_end(&mut answer).await?;
    let said = parse(&String::from_utf8_lossy(&answer)).ok_or_else(|| std::io::Error::other(format!("{peer}: no digest in its answer")))?;
    Ok((peer, said))
}

/// The digest in an answer.
fn parse(answer: &str) -> Option<u64> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    head.starts_with("HTTP/1.1 200").then_some(())?;
    let said: Said = serde_json::from_str(body).ok()?;
    u64::from_str_radix(&said.digest, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_a_digest_or_none() {
        for (answer, digest) in [
            ("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{\"generation\":4,\"digest\":\"00ff\",\"tables\":3}\n", Some(255)),
            ("HTTP/1.1 404 Not Found\r\n\r\n{\"digest\":\"ff\"}", None),
            ("HTTP/1.1 200 OK\r\n\r\n{\"digest\":\"no\"}", None),
            ("HTTP/1.1 200 OK\r\n\r\n", None),
            ("", None),
        ] {
            assert_eq!(parse(answer), digest, "{answer}");
        }
    }
}
