//! The digest of a table: equal where every key has the same pod.

use xxhash_rust::xxh64::{Xxh64, xxh64};

use crate::base::name_digest;
use crate::lb::TableKind;

use super::{BackendName, Cluster};

/// Hashes for which a ring is asked; spread evenly. Of a Maglev table every slot is asked for.
const PROBES: u64 = 1 << 16;

/// The number that stands for a cluster of a backend.
pub fn backend_digest(name: &BackendName) -> u64 {
    name_digest(&name.cluster_name())
}

/// The digest of a cluster's table: of its hosts, and of the host of every slot of a Maglev table or of 65,536 hashes of a ring. `None`: it
/// has none.
pub fn table_digest(cluster: &Cluster) -> Option<u64> {
    let table = cluster.balancer.table()?;
    let probes = match table.kind {
        TableKind::Maglev => table.size,
        TableKind::Ring => PROBES,
    };
    let hash_of = |probe: u64| match table.kind {
        // Falls on the slot of this number. What else a hash decides, such as whether a pod that warms up takes it, its other bits do.
        TableKind::Maglev => {
            let rounds = u64::MAX.checked_div(table.size).unwrap_or(1).max(1);
            probe + table.size * (xxh64(&probe.to_le_bytes(), 0) % rounds)
        }
        TableKind::Ring => probe * (u64::MAX / PROBES),
    };
    let mut hash = Xxh64::new(table.size);
    for host in &cluster.hosts {
        hash.update(host.text.as_bytes());
        hash.update(&[0]);
        hash.update(host.hash_key.as_deref().unwrap_or_default().as_bytes());
        hash.update(&[0]);
        hash.update(&host.weight.to_le_bytes());
    }
    for probe in 0..probes {
        let choice = cluster.balancer.choose_by_hash(hash_of(probe), 0);
        hash.update(&choice.map_or(u32::MAX, |choice| choice.host).to_le_bytes());
    }
    Some(hash.digest())
}
