//! The result of a translation.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::base::{ObjectName, ObjectRef};
use crate::lb::SlotMap;
use crate::snapshot::Snapshot;
use crate::translate::{
    LastGood, Notices, SlotWrite, Status,
    cluster::table_requests::{BuiltTable, TableRequest},
    gateway::infrastructure::Infrastructure,
};

use super::memo::Memo;

/// The result of a translation. The next translation takes it by value and changes what has to change.
#[derive(Debug, Default)]
pub struct Translation {
    /// What the data plane serves; the same `Arc` as before if it did not change.
    pub snapshot: Arc<Snapshot>,
    /// Status of every object that has a status of ours.
    pub statuses: BTreeMap<ObjectRef, Arc<Status>>,
    /// Objects whose status this translation added, changed or removed.
    pub changed_statuses: Vec<ObjectRef>,
    /// What an operator should read once.
    pub notices: Notices,
    /// DNS names that Upstreams name: their addresses are wanted in `Observed::dns`.
    pub dns_names: BTreeSet<Box<str>>,
    /// In a cluster: the Services and ports that ought to exist; the same `Arc` as before if they did not change.
    pub infrastructure: Arc<Infrastructure>,
    /// Hostnames of listeners that routes of several namespaces claim.
    pub hostname_conflicts: usize,
    /// Secrets and ConfigMaps that are referred to and may be used: their contents are wanted in `Resources`.
    pub wanted: BTreeSet<ObjectRef>,
    /// Versions that ought to be kept beyond the process, where the options say that they are; the same `Arc` as before where nothing changed.
    pub last_good: Arc<LastGood>,
    /// Maps of slots that ought to become others, by the names of their objects, where the time is told; the same `Arc` as before where
    /// nothing changed.
    pub slots: Arc<BTreeMap<ObjectName, SlotWrite>>,
    /// Maps of slots that serve and are ahead of the stored ones, for `Observed` of the next translation.
    pub advanced_slots: Arc<BTreeMap<ObjectRef, SlotMap>>,
    /// When to translate again though nothing else changes, in seconds since the epoch.
    pub due: Option<u64>,
    pub(super) memo: Box<Memo>,
}

// === impl Translation ===

impl Translation {
    /// Hash tables that are asked for. Clusters whose table is missing serve with what they have.
    pub fn wanted_tables(&self) -> impl Iterator<Item = &TableRequest> {
        self.memo.tables.wanted()
    }

    /// The number of the last table that was asked for.
    pub fn last_table_request(&self) -> u64 {
        self.memo.tables.last_request()
    }

    /// Hands in a table that was asked for: the next translation puts it in its place.
    pub fn hand_in(&mut self, table: BuiltTable) {
        self.memo.tables.hand_in(table);
    }
}
