//! Where requests go whose host has failed: to the host that the table without the failed host gives.
//!
//! A pod that ends stops listening before the cluster says so. Its sessions move at once to the host that they will keep. The next host of
//! Envoy's retry sequence is mostly another one than that of the next table under Maglev, and often under ring hash. Such sessions would
//! move twice.

use std::{
    cell::RefCell,
    rc::Rc,
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::{sync::OnceCell, time::Instant};

use crate::snapshot::{Cluster, Reduced};

/// How long a host that failed is left out of the tables of others.
const FAILED_FOR: Duration = Duration::from_secs(10);

/// Clusters for which a table is kept.
const MOST: usize = 8;

/// A worker's tables without the hosts that failed, for the clusters that have some.
#[derive(Debug, Default)]
pub(in crate::proxy) struct Detours(RefCell<Vec<Detour>>);

#[derive(Debug)]
struct Detour {
    /// Hosts are indexes into this version of the cluster. Weak: a table must not keep an old cluster alive.
    version: Weak<Cluster>,
    /// Hosts that failed, and when they did last.
    failed: Vec<(u32, Instant)>,
    table: Table,
}

/// Built once, for the request that asks first; the others wait for it.
type Table = Rc<OnceCell<Option<Reduced>>>;

// === impl Detours ===

impl Detours {
    /// The host for a hash after these have failed. `None`: the retry sequence says.
    pub(in crate::proxy) async fn host(&self, cluster: &Arc<Cluster>, hash: u64, failed: &[u32], now: Instant) -> Option<u32> {
        if !cluster.leaves_by_table() {
            return None;
        }
        // Of a host that only served the sessions it had the table knows nothing.
        let is_balanced = |host: &u32| (*host as usize) < cluster.balanced().len();
        if !failed.iter().any(is_balanced) {
            return cluster.balancer.choose_by_hash(hash, 0).map(|choice| choice.host);
        }
        let (table, gone) = self.table(cluster, failed, now)?;
        let reduced = table.get_or_init(|| build(Arc::clone(cluster), gone)).await;
        reduced.as_ref()?.host(hash)
    }

    /// Forgets clusters that are no longer served, and those whose hosts have not failed for a while.
    pub(in crate::proxy) fn prune(&self, now: Instant) {
        self.0
            .borrow_mut()
            .retain(|detour| detour.version.strong_count() > 0 && detour.failed.iter().any(|(_, last)| is_fresh(*last, now)));
    }

    fn table(&self, cluster: &Arc<Cluster>, failed: &[u32], now: Instant) -> Option<(Table, Vec<u32>)> {
        let mut detours = self.0.borrow_mut();
        let index = match detours.iter().position(|detour| detour.version.as_ptr() == Arc::as_ptr(cluster)) {
            Some(index) => index,
            None => {
                if detours.len() >= MOST {
                    detours.remove(0);
                }
                detours.push(Detour { version: Arc::downgrade(cluster), failed: Vec::new(), table: Table::default() });
                detours.len() - 1
            }
        };
        let detour = detours.get_mut(index)?;
        detour.note(failed, now);
        Some((Rc::clone(&detour.table), detour.failed.iter().map(|(host, _)| *host).collect()))
    }
}

// === impl Detour ===

impl Detour {
    /// Takes these hosts out of the table. What failed long ago comes back when the table has to be built anew anyway.
    fn note(&mut self, failed: &[u32], now: Instant) {
        for host in failed {
            match self.failed.iter_mut().find(|(known, _)| known == host) {
                Some((_, last)) => *last = now,
                None => {
                    self.failed.retain(|(_, last)| is_fresh(*last, now));
                    self.failed.push((*host, now));
                    self.table = Table::default();
                }
            }
        }
    }
}

fn is_fresh(last: Instant, now: Instant) -> bool {
    now.saturating_duration_since(last) < FAILED_FOR
}

/// On a thread of its own: a table takes a millisecond or more, which the worker's other requests do not have to wait.
async fn build(cluster: Arc<Cluster>, gone: Vec<u32>) -> Option<Reduced> {
    tokio::task::spawn_blocking(move || cluster.without(&gone)).await.ok().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_stay_out_while_they_fail_and_come_back_with_the_next_table() {
        let start = Instant::now();
        let mut detour = Detour { version: Weak::new(), failed: Vec::new(), table: Table::default() };
        detour.note(&[1], start);
        let first = Rc::clone(&detour.table);
        detour.note(&[1], start + Duration::from_secs(8));
        assert!(Rc::ptr_eq(&first, &detour.table), "nothing new");
        detour.note(&[1, 2], start + Duration::from_secs(9));
        assert!(!Rc::ptr_eq(&first, &detour.table));
        detour.note(&[3], start + Duration::from_secs(20));
        assert_eq!(detour.failed, [(3, start + Duration::from_secs(20))]);
        let detours = Detours(RefCell::new(vec![detour]));
        detours.prune(start + Duration::from_secs(21));
        assert!(detours.0.borrow().is_empty(), "its cluster is gone");
    }
}
