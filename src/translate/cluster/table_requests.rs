//! Hash tables that take long to build: they are asked for here, built by somebody else, and handed in.
//!
//! A translation builds small tables itself, and no more than some entries of them. A cluster whose table is not built meanwhile serves
//! with what it has: see `TableState`.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use crate::lb::{Balancer, BalancerConfig, LbHost, Remapped, TableError};
use crate::snapshot::{BackendName, Cluster};

/// What a table is built from.
#[derive(Clone, Debug, PartialEq)]
pub struct TableInputs {
    /// Addresses of the hosts.
    pub addresses: Box<[SocketAddr]>,
    /// The same hosts as the table sees them.
    pub hosts: Box<[LbHost]>,
    /// Whether slots are hashed: behind the hosts with addresses are slots without one.
    pub has_slots: bool,
    /// How the table is built.
    pub config: BalancerConfig,
}

/// What the hosts of a table are known by.
#[derive(Debug)]
pub(super) struct Known {
    addresses: Vec<SocketAddr>,
    /// Keys of all entries, where slots are hashed.
    keys: Option<Vec<Box<str>>>,
}

/// A table to be built.
#[derive(Clone, Debug)]
pub struct TableRequest {
    /// Whose it is.
    pub backend: BackendName,
    /// Counts the requests of a process: a later one has a larger number.
    pub number: u64,
    /// Number of the request with which this backend's wait began. The least is to be built first.
    pub since: u64,
    /// No snapshot has had a cluster of this backend so far: routes to it can wait for its table.
    pub fresh: bool,
    /// What to build.
    pub inputs: Arc<TableInputs>,
    /// The last cluster with a table of its own: what it moves keys from.
    pub before: Option<Arc<Cluster>>,
}

/// A table that was asked for.
#[derive(Debug)]
pub struct BuiltTable {
    /// What asked for it.
    pub request: TableRequest,
    /// The table; `None`: nobody could build it, the translation has to try by itself.
    pub table: Option<Result<Arc<Balancer>, TableError>>,
    /// What it does to the keys, where there was a table before.
    pub remapped: Option<Remapped>,
}

/// Which tables are asked for, and which have been handed in.
#[derive(Debug, Default)]
pub struct Tables {
    wanted: BTreeMap<BackendName, TableRequest>,
    built: BTreeMap<BackendName, BuiltTable>,
    requests: u64,
    /// Entries that this translation may still build at once; `None`: any number.
    left: Option<u64>,
}

/// What a cluster has while its table is built.
#[derive(Clone, Copy, Debug)]
pub(in crate::translate) enum Serves<'a> {
    /// Nothing, and there was no such cluster.
    First,
    /// Nothing, as before.
    Awaited,
    /// Another table, or no hosts; with the cluster whose own table serves, or served last.
    Something(Option<&'a Arc<Cluster>>),
}

// === impl TableInputs ===

impl TableInputs {
    /// Builds the table.
    ///
    /// # Errors
    /// Envoy would refuse it too.
    pub fn build(&self) -> Result<Balancer, TableError> {
        Balancer::build(&self.hosts, &self.config)
    }

    /// How many points or slots the table has. 0: hosts are not chosen by hash.
    pub(in crate::translate) fn entries(&self) -> u64 {
        self.config.entries(&self.hosts)
    }

    /// What the hosts of the table are known by when others take their places.
    pub(super) fn known(&self) -> Known {
        Known { addresses: self.addresses.to_vec(), keys: self.has_slots.then(|| self.hosts.iter().map(|host| host.key.clone()).collect()) }
    }

    /// A table of these hosts that a table of others becomes; `None`: it has none of these hosts.
    pub(super) fn carry_over(&self, table: &Balancer, before: &Known) -> Option<Balancer> {
        let now = self.known();
        let indexes = match (&before.keys, &now.keys) {
            // An heir has the place of the one that it inherits from.
            (Some(before), Some(now)) => indexes(before, now)?,
            (_, _) => indexes(&before.addresses, &now.addresses)?,
        };
        table.carried_over(&self.hosts, &self.config, |host| indexes.get(host as usize).copied().flatten()).ok().flatten()
    }
}

/// Where each of some names stands among others.
fn indexes<T: Ord>(names: &[T], among: &[T]) -> Option<Vec<Option<u32>>> {
    let mut places = BTreeMap::new();
    for (index, name) in among.iter().enumerate() {
        places.entry(name).or_insert(u32::try_from(index).ok()?);
    }
    Some(names.iter().map(|name| places.get(name).copied()).collect())
}

// === impl Known ===

impl Known {
    /// The hosts of a cluster's table.
    pub(super) fn of(cluster: &Cluster) -> Self {
        let addresses = cluster.hosts.iter().map(|host| host.address).collect();
        Self { addresses, keys: cluster.has_slots().then(|| cluster.table_hosts().map(|host| host.key).collect()) }
    }
}

// === impl TableRequest ===

impl TableRequest {
    /// Builds the table, and finds out what it does to the keys.
    pub fn build(self) -> BuiltTable {
        let table = self.inputs.build().map(Arc::new);
        let remapped = match (&self.before, &table) {
            (Some(before), Ok(table)) => {
                let address = |host: u32| self.inputs.addresses.get(host as usize).copied();
                Some(before.balancer.remapped(table, |host| before.hosts.get(host as usize).map(|host| host.address), address))
            }
            (None, _) | (_, Err(_)) => None,
        };
        BuiltTable { table: Some(table), remapped, request: self }
    }
}

// === impl Tables ===

impl Tables {
    /// For somebody who waits: every table is built at once.
    pub(in crate::translate) fn unlimited() -> Self {
        Self::default()
    }

    /// For somebody who waits for so many entries, and has built a table.
    pub(in crate::translate) fn limited(entries: u64, built: Option<BuiltTable>) -> Self {
        let built = built.into_iter().map(|built| (built.request.backend.clone(), built)).collect();
        Self { left: Some(entries), built, ..Self::default() }
    }

    /// A translation begins, and may build so many entries at once; `None`: any number.
    pub(in crate::translate) fn begin(&mut self, left: Option<u64>) {
        self.left = left;
    }

    /// Whether tables were handed in that no translation has taken yet.
    pub(in crate::translate) fn has_built(&self) -> bool {
        !self.built.is_empty()
    }

    /// Backends whose tables were handed in.
    pub(in crate::translate) fn built(&self) -> impl Iterator<Item = &BackendName> {
        self.built.keys()
    }

    /// What is asked for.
    pub(in crate::translate) fn wanted(&self) -> impl Iterator<Item = &TableRequest> {
        self.wanted.values()
    }

    /// Whether routes wait for the table of a new backend.
    pub(in crate::translate) fn holds_routes(&self) -> bool {
        self.wanted.values().any(|request| request.fresh)
    }

    /// No route waits for the table of this backend any more.
    pub(in crate::translate) fn release_routes(&mut self, backend: &BackendName) {
        if let Some(request) = self.wanted.get_mut(backend) {
            request.fresh = false;
        }
    }

    /// The number of the last request.
    pub(in crate::translate) fn last_request(&self) -> u64 {
        self.requests
    }

    /// Takes a table in. It may be of hosts that have changed since: it serves then until the next one is there.
    pub(in crate::translate) fn hand_in(&mut self, built: BuiltTable) {
        let Some(wanted) = self.wanted.get_mut(&built.request.backend) else { return };
        if wanted.number != built.request.number {
            // Others come first now.
            self.requests += 1;
            wanted.since = self.requests;
        }
        self.built.insert(built.request.backend.clone(), built);
    }

    /// The table that was handed in for this backend.
    pub(in crate::translate) fn take(&mut self, backend: &BackendName) -> Option<BuiltTable> {
        self.built.remove(backend)
    }

    /// Whether a table of so many entries may be built at once.
    pub(in crate::translate) fn spend(&mut self, entries: u64) -> bool {
        match &mut self.left {
            None => true,
            Some(left) if entries <= *left => {
                *left -= entries;
                true
            }
            Some(_) => false,
        }
    }

    /// Asks for a table. A backend has one request at most, which keeps its place.
    pub(in crate::translate) fn want(&mut self, backend: &BackendName, inputs: TableInputs, serves: &Serves<'_>) {
        let old = self.wanted.get_mut(backend);
        let fresh = match serves {
            Serves::First => true,
            Serves::Awaited => old.as_ref().is_some_and(|old| old.fresh),
            Serves::Something(_) => false,
        };
        if let Some(old) = old.filter(|old| *old.inputs == inputs) {
            old.fresh = fresh;
            return;
        }
        let old = self.wanted.get(backend);
        let before = match serves {
            Serves::Something(Some(before)) => Some(Arc::clone(before)),
            Serves::Something(None) | Serves::First | Serves::Awaited => old.and_then(|old| old.before.clone()),
        };
        self.requests += 1;
        let request = TableRequest {
            backend: backend.clone(),
            number: self.requests,
            since: old.map_or(self.requests, |old| old.since),
            fresh,
            inputs: Arc::new(inputs),
            before,
        };
        self.wanted.insert(backend.clone(), request);
    }

    /// Nothing is asked for this backend any more.
    pub(in crate::translate) fn forget(&mut self, backend: &BackendName) {
        self.wanted.remove(backend);
        self.built.remove(backend);
    }
}
