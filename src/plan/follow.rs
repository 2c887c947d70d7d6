//! Streams that follow their session: whether a stream's key belongs to another host by now.

use std::{net::SocketAddr, time::Duration};

use crate::snapshot::{BackendName, ClusterId, Snapshot, TableState};

use super::decision::ForwardPlan;

/// What is remembered of a stream that ends when its session has moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Followed {
    cluster: ClusterId,
    backend: BackendName,
    hash: u64,
    host: SocketAddr,
    jitter: Duration,
}

impl ForwardPlan {
    /// What to remember of a stream to this host of the cluster; `None`: it stays, whatever the table says.
    pub fn followed(&self, host: u32) -> Option<Followed> {
        // A session that is held stays where it is, for as long as its host serves.
        let jitter = self.follows.filter(|_| self.session.is_none())?;
        let host = self.cluster.hosts.get(host as usize)?.address;
        Some(Followed { cluster: self.cluster.id, backend: self.cluster.name.clone(), hash: self.hash?, host, jitter })
    }
}

impl Followed {
    /// The longest time after which such a stream is told to go.
    pub fn jitter(&self) -> Duration {
        self.jitter
    }

    /// Whether the key belongs to another host. Where nobody can tell, it does not: without a host to go to, without a table yet, or where
    /// the load decides between hosts of the table.
    pub fn has_moved(&self, snapshot: &Snapshot) -> bool {
        let Some(cluster) = snapshot.cluster(self.cluster).filter(|cluster| cluster.name == self.backend) else { return false };
        let is_settled = cluster.balancer.uses_hash() && cluster.table_state == TableState::Built;
        if !is_settled || cluster.balanced().is_empty() {
            return false;
        }
        if cluster.balancer.is_bounded() {
            return !cluster.balanced().iter().any(|host| host.address == self.host);
        }
        let chosen = cluster.balancer.choose_by_hash(self.hash, 0).and_then(|choice| cluster.hosts.get(choice.host as usize));
        chosen.is_some_and(|host| host.address != self.host)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::lb::xxh64;
    use crate::plan::fixture;
    use crate::snapshot::Cluster;

    fn cluster(hosts: &[&str]) -> Arc<Cluster> {
        fixture::cluster(0, "httpbin", hosts, fixture::maglev())
    }

    fn snapshot(cluster: Arc<Cluster>) -> Snapshot {
        fixture::snapshot(Vec::new(), vec![cluster])
    }

    fn followed(cluster: &Cluster, key: u32) -> Followed {
        let hash = xxh64(&key.to_le_bytes(), 0);
        let host = cluster.balancer.choose_by_hash(hash, 0).unwrap().host as usize;
        let host = cluster.hosts[host].address;
        Followed { cluster: cluster.id, backend: cluster.name.clone(), hash, host, jitter: Duration::from_secs(30) }
    }

    #[test]
    fn a_stream_has_moved_when_the_table_gives_its_key_to_another_host() {
        let (two, three) = (cluster(&["10.0.0.1:80", "10.0.0.2:80"]), cluster(&["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"]));
        let (before, after) = (snapshot(Arc::clone(&two)), snapshot(Arc::clone(&three)));
        let mut moved = 0;
        for key in 0..300 {
            let stream = followed(&two, key);
            assert!(!stream.has_moved(&before), "nothing has changed");
            let goes = followed(&three, key).host != stream.host;
            assert_eq!(stream.has_moved(&after), goes, "{key}");
            moved += u32::from(goes);
        }
        assert!((60..140).contains(&moved), "{moved} of 300: about a third");
    }

    #[test]
    fn where_nobody_can_tell_a_stream_stays() {
        let two = cluster(&["10.0.0.1:80", "10.0.0.2:80"]);
        let stream = followed(&two, 1);
        assert!(!stream.has_moved(&Snapshot::default()), "no route uses the backend any more");
        assert!(!stream.has_moved(&snapshot(cluster(&[]))), "there is nobody to go to");
        let other = fixture::cluster(0, "other", &["10.0.0.9:80"], fixture::maglev());
        assert!(!stream.has_moved(&snapshot(other)), "the number is another backend's by now");
        let unsettled = Arc::try_unwrap(cluster(&["10.0.0.9:80"])).unwrap();
        let unsettled = Arc::new(Cluster { table_state: TableState::CarriedOver, ..unsettled });
        assert!(!stream.has_moved(&snapshot(unsettled)), "its table is being built");
        assert!(stream.has_moved(&snapshot(cluster(&["10.0.0.9:80"]))));
    }
}
