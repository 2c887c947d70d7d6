//! `GET /live`: where sessions were a moment ago, by the last requests that the workers remember, and the table of one backend as a picture.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
};

use serde::Serialize;

use crate::lb::TableKind;
use crate::snapshot::{Cluster, Snapshot};
use crate::telemetry::{Metrics, RecentRequest, host_number};

/// Places of a table that a picture shows.
const PLACES: u64 = 720;

/// Most keys that are told of one backend.
const MOST_KEYS: usize = 24;

/// The answer.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Live {
    /// Generation of the snapshot.
    generation: u64,
    /// Backends that had requests lately, by the names of their clusters: one may have several.
    backends: BTreeMap<String, Recent>,
    /// The backend that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    backend: Option<Portrait>,
}

/// What went to a backend lately.
#[derive(Debug, Default, PartialEq, Serialize)]
struct Recent {
    /// Requests that are remembered.
    requests: usize,
    /// Different keys among them.
    sessions: usize,
    /// Sessions that were seen on another host before.
    moved: usize,
    /// By address.
    hosts: BTreeMap<String, HostRecent>,
}

/// What went to a host lately.
#[derive(Debug, Default, PartialEq, Serialize)]
struct HostRecent {
    requests: usize,
    /// Sessions whose last request it got.
    sessions: usize,
}

/// A backend in detail.
#[derive(Debug, PartialEq, Serialize)]
struct Portrait {
    name: String,
    /// Addresses; `places` counts in them.
    hosts: Vec<String>,
    /// For each of some places of the ring, or of the Maglev table, whose it is; none where hosts are not chosen by hash.
    places: Vec<Option<u32>>,
    /// Keys with the most requests lately, the most first.
    hot: Vec<Key>,
    /// Sessions that were seen on another host before, the latest first.
    moved: Vec<Key>,
}

/// A key, by its hash.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Key {
    /// 16 hex digits.
    hash: String,
    requests: usize,
    /// Where its last request went; `None`: to a host that is gone.
    host: Option<String>,
    /// Where it was before that.
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    /// Milliseconds since it came to `host`, by the clock of the latest request of the backend.
    #[serde(skip_serializing_if = "Option::is_none")]
    ago: Option<u64>,
}

/// A session as the requests show it.
#[derive(Clone, Copy, Debug)]
struct Session {
    hash: u64,
    requests: usize,
    host: u64,
    /// The host before, and when the session came to this one.
    came: Option<(u64, u64)>,
}

/// The last requests of all workers, the oldest first.
pub(super) fn recent(metrics: &Metrics) -> Vec<RecentRequest> {
    let mut recent: Vec<_> = metrics.workers().iter().flat_map(|worker| worker.recent_requests()).collect();
    recent.sort_by_key(|request| request.at);
    recent
}

/// The answer for what is served, and the last requests, the oldest first. `backend`: the one to show in detail.
pub(super) fn live(generation: u64, snapshot: &Snapshot, recent: &[RecentRequest], backend: Option<&str>) -> Live {
    let mut by_cluster: HashMap<u32, Vec<RecentRequest>> = HashMap::new();
    for request in recent {
        by_cluster.entry(request.cluster).or_default().push(*request);
    }
    let mut backends = BTreeMap::new();
    let mut portrait = None;
    for cluster in snapshot.clusters.iter().flatten() {
        let requests = by_cluster.get(&cluster.id.0).map_or(&[][..], Vec::as_slice);
        let name = cluster.name.cluster_name();
        let is_asked = backend == Some(name.as_str());
        if requests.is_empty() && !is_asked {
            continue;
        }
        let sessions = sessions(requests);
        if is_asked {
            portrait = Some(draw(cluster, requests, &sessions));
        }
        backends.insert(name, summary(cluster, requests, &sessions));
    }
    Live { generation, backends, backend: portrait }
}

/// What a query asks for: `backend=NAME`, the name of a cluster, percent-encoded.
pub(super) fn asked_backend(query: Option<&str>) -> Option<String> {
    let text = query?.split('&').find_map(|pair| pair.strip_prefix("backend="))?;
    let mut bytes = text.bytes();
    let mut decoded = Vec::new();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [bytes.next()?, bytes.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            other => other,
        });
    }
    String::from_utf8(decoded).ok()
}

fn sessions(requests: &[RecentRequest]) -> Vec<Session> {
    let mut sessions: HashMap<u64, Session> = HashMap::new();
    for request in requests {
        let Some(hash) = request.hash else { continue };
        let session = sessions.entry(hash).or_insert(Session { hash, requests: 0, host: request.host, came: None });
        session.requests += 1;
        if session.host != request.host {
            session.came = Some((session.host, request.at));
            session.host = request.host;
        }
    }
    let mut sessions: Vec<_> = sessions.into_values().collect();
    sessions.sort_unstable_by_key(|session| (Reverse(session.requests), session.hash));
    sessions
}

fn summary(cluster: &Cluster, requests: &[RecentRequest], sessions: &[Session]) -> Recent {
    let of_host = |number: u64| HostRecent {
        requests: requests.iter().filter(|request| request.host == number).count(),
        sessions: sessions.iter().filter(|session| session.host == number).count(),
    };
    Recent {
        requests: requests.len(),
        sessions: sessions.len(),
        moved: sessions.iter().filter(|session| session.came.is_some()).count(),
        hosts: cluster.hosts.iter().map(|host| (host.text.to_string(), of_host(host_number(host.address)))).collect(),
    }
}

fn draw(cluster: &Cluster, requests: &[RecentRequest], sessions: &[Session]) -> Portrait {
    let names: HashMap<u64, String> = cluster.hosts.iter().map(|host| (host_number(host.address), host.text.to_string())).collect();
    let now = requests.last().map_or(0, |request| request.at);
    let key = |session: &Session| Key {
        hash: format!("{:016x}", session.hash),
        requests: session.requests,
        host: names.get(&session.host).cloned(),
        from: session.came.map(|(from, _)| names.get(&from).cloned().unwrap_or_else(|| "a pod that is gone".to_owned())),
        ago: session.came.map(|(_, at)| now.saturating_sub(at)),
    };
    let mut moved: Vec<&Session> = sessions.iter().filter(|session| session.came.is_some()).collect();
    moved.sort_by_key(|session| Reverse(session.came.map(|(_, at)| at)));
    Portrait {
        name: cluster.name.cluster_name(),
        hosts: cluster.hosts.iter().map(|host| host.text.to_string()).collect(),
        places: places(cluster),
        // A key with one request is not hot.
        hot: sessions.iter().filter(|session| session.requests > 1).take(MOST_KEYS).map(key).collect(),
        moved: moved.into_iter().take(MOST_KEYS).map(key).collect(),
    }
}

/// A ring is looked at in equal distances. In a Maglev table the hash counts modulo the size, so that numbers of slots are hashes that hit them.
fn places(cluster: &Cluster) -> Vec<Option<u32>> {
    let Some(table) = cluster.balancer.table() else { return Vec::new() };
    let hash = |place: u64| match table.kind {
        TableKind::Ring => (u64::MAX / PLACES) * place + u64::MAX / PLACES / 2,
        TableKind::Maglev => place * table.size / PLACES,
    };
    (0..PLACES).map(|place| cluster.balancer.choose_by_hash(hash(place), 0).map(|choice| choice.host)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(at: u64, host: u64, hash: Option<u64>) -> RecentRequest {
        RecentRequest { at, cluster: 0, host, hash }
    }

    #[test]
    fn the_backend_of_a_query() {
        for (query, expected) in [
            (None, None),
            (Some("shares"), None),
            (Some("backend=Service%20a/b:80"), Some("Service a/b:80")),
            (Some("x=1&backend=Service+a%2Fb:80"), Some("Service a/b:80")),
            (Some("backend=%2"), None),
            (Some("backend=%zz"), None),
            (Some("backend=%ff"), None),
        ] {
            assert_eq!(asked_backend(query).as_deref(), expected, "{query:?}");
        }
    }

    #[test]
    fn sessions_follow_from_requests() {
        let requests =
            [request(1, 10, Some(7)), request(2, 10, None), request(3, 10, Some(8)), request(4, 20, Some(7)), request(5, 20, Some(7))];
        let sessions = sessions(&requests);
        let shown: Vec<_> = sessions.iter().map(|session| (session.hash, session.requests, session.host, session.came)).collect();
        assert_eq!(shown, [(7, 3, 20, Some((10, 4))), (8, 1, 10, None)]);
    }
}
