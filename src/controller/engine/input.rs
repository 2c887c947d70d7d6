//! Messages to the engine, and its answer.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::Duration};

use tokio::sync::oneshot;

use crate::base::{AffinityKeys, Message, ObjectName, ObjectRef};
use crate::snapshot::{Agreement, BackendName, BindAddress, BindState, GatewayPort, ObservedService, Snapshot};
use crate::translate::{BackendCluster, BuiltTable, Change, LastGood, Status};

use super::super::manifests::NoticeBlocks;

/// A message to the engine.
#[derive(Debug)]
pub enum Input {
    /// Changes from a source of resources. Its notices replace those that it gave before.
    Changes {
        /// Changes in order.
        changes: Vec<Change>,
        /// All current notices of the source.
        notices: NoticeBlocks,
    },
    /// What became of sockets; those that are not named are no longer bound.
    Bound(BTreeMap<BindAddress, BindState>),
    /// Addresses of DNS names, all of them.
    Names(BTreeMap<Box<str>, Arc<[IpAddr]>>),
    /// In a cluster: the internal ports, all of them.
    Ports(BTreeMap<GatewayPort, u16>),
    /// In a cluster: Services that may stand in front of Gateways; `None`: gone.
    Services(Vec<(ObjectName, Option<ObservedService>)>),
    /// In a cluster, in the leader: why Services could not be written, all of them.
    RefusedServices(BTreeMap<ObjectName, Message>),
    /// In a cluster, in the leader: why maps of slots could not be written, all of them.
    RefusedSlots(BTreeMap<ObjectName, Message>),
    /// In a cluster, in the leader: whether the other replicas have the same hash tables; `None`: nobody compares here.
    Agreement(Option<Agreement>),
    /// In a cluster: where NodePort Services are reached.
    NodeAddresses(Vec<IpAddr>),
    /// In a cluster: version of the Gateway API's CRDs, where it is known.
    GatewayApiVersion(Option<Box<str>>),
    /// What tags of hosts are made with.
    AffinityKeys(Arc<AffinityKeys>),
    /// Last good versions that an earlier process kept.
    LastGood(LastGood),
    /// Every object was seen once: a last good version that nobody needed so far is of an object that is gone.
    ForgetLastGood,
    /// A hash table that was asked for, and the time that it took.
    Table(Box<BuiltTable>, Duration),
    /// A request for the state that everything before this leads to, with all tables.
    Report(oneshot::Sender<Report>),
    /// A request for the state at hand, whatever is still being prepared.
    State(oneshot::Sender<Report>),
    /// A request for a backend's cluster, with its table if that has been asked for. A route need not use it.
    Cluster(BackendName, Option<Box<BuiltTable>>, oneshot::Sender<Result<BackendCluster, Message>>),
}

/// The state of the configuration at one moment.
#[derive(Clone, Debug)]
pub struct Report {
    /// Generation of the snapshot.
    pub generation: u64,
    /// What is served.
    pub snapshot: Arc<Snapshot>,
    /// Statuses of all objects that have one of ours.
    pub statuses: BTreeMap<ObjectRef, Arc<Status>>,
    /// Notices of the source, then of translation.
    pub notices: Vec<Message>,
}
