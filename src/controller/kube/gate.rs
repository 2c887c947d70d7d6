//! Holds everything back until every first list is in: half a picture must become neither traffic nor status.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

use crate::base::{AffinityKeys, Kind, Message, ObjectName};
use crate::snapshot::{Agreement, GatewayPort, ObservedService};
use crate::translate::{Change, LastGood};

/// What the cluster tells the engine.
#[derive(Debug)]
pub enum ClusterEvent {
    /// Changes of objects.
    Changes(Vec<Change>),
    /// The internal ports, all of them.
    Ports(BTreeMap<GatewayPort, u16>),
    /// Services that may stand in front of Gateways, as they are; `None`: gone.
    Services(Vec<(ObjectName, Option<ObservedService>)>),
    /// Why Services could not be written, all of them.
    RefusedServices(BTreeMap<ObjectName, Message>),
    /// Why maps of slots could not be written, all of them.
    RefusedSlots(BTreeMap<ObjectName, Message>),
    /// Whether the other replicas have the same hash tables; `None`: nobody compares here.
    Agreement(Option<Agreement>),
    /// Where NodePort Services are reached.
    NodeAddresses(Vec<IpAddr>),
    /// Version of the Gateway API's CRDs, where it is known.
    GatewayApiVersion(Option<Box<str>>),
    /// Last good versions that an earlier leader kept.
    LastGood(LastGood),
    /// What tags of hosts are made with.
    AffinityKeys(Arc<AffinityKeys>),
}

/// Takes what comes from the cluster.
pub type Sink = Box<dyn Fn(ClusterEvent) + Send + Sync>;

/// What has to be listed once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum First {
    /// All objects of a kind.
    Kind(Kind),
    /// The ConfigMap of ports.
    Ports,
    /// The version of the Gateway API's CRDs.
    GatewayApiVersion,
    /// The ConfigMap of last good versions.
    LastGood,
    /// The Secret of keys.
    AffinityKeys,
    /// All nodes.
    Nodes,
}

/// The way to the engine. It outlives the watches.
pub(super) struct Gate {
    sink: Sink,
    state: Mutex<State>,
    open: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct State {
    missing: BTreeSet<First>,
    changes: Vec<Change>,
    services: Vec<(ObjectName, Option<ObservedService>)>,
    ports: Option<BTreeMap<GatewayPort, u16>>,
    version: Option<Box<str>>,
    last_good: LastGood,
    node_addresses: Vec<IpAddr>,
    affinity_keys: Option<Arc<AffinityKeys>>,
}

// === impl Gate ===

impl Gate {
    /// Opens when all of these are listed.
    pub(super) fn new(sink: Sink, missing: impl IntoIterator<Item = First>) -> Self {
        let state = State { missing: missing.into_iter().collect(), ..State::default() };
        Self { sink, state: Mutex::new(state), open: watch::Sender::new(false) }
    }

    /// Becomes true once, when it opens.
    pub(super) fn is_open(&self) -> watch::Receiver<bool> {
        self.open.subscribe()
    }

    /// Passes an event on, or keeps it until the gate opens.
    pub(super) fn pass(&self, event: ClusterEvent) {
        let mut state = self.lock();
        // In the lock: what is held must not come after what follows it.
        if state.missing.is_empty() {
            (self.sink)(event);
            return;
        }
        match event {
            ClusterEvent::Changes(changes) => state.changes.extend(changes),
            ClusterEvent::Services(services) => state.services.extend(services),
            ClusterEvent::Ports(ports) => state.ports = Some(ports),
            ClusterEvent::GatewayApiVersion(version) => state.version = version,
            ClusterEvent::LastGood(versions) => state.last_good = versions,
            ClusterEvent::NodeAddresses(addresses) => state.node_addresses = addresses,
            ClusterEvent::AffinityKeys(keys) => state.affinity_keys = Some(keys),
            // Nothing is written before the gate is open; tables are compared again after it.
            ClusterEvent::RefusedServices(_) | ClusterEvent::RefusedSlots(_) | ClusterEvent::Agreement(_) => {}
        }
    }

    /// This was listed, or is known not to exist; the last one opens the gate.
    pub(super) fn listed(&self, first: First) {
        let mut state = self.lock();
        if !state.missing.remove(&first) || !state.missing.is_empty() {
            return;
        }
        let State { changes, services, ports, version, last_good, node_addresses, affinity_keys, .. } = std::mem::take(&mut *state);
        // The changes last: a translation that sees objects then knows ports and Services too.
        (self.sink)(ClusterEvent::Ports(ports.unwrap_or_default()));
        (self.sink)(ClusterEvent::Services(services));
        (self.sink)(ClusterEvent::NodeAddresses(node_addresses));
        (self.sink)(ClusterEvent::GatewayApiVersion(version));
        (self.sink)(ClusterEvent::LastGood(last_good));
        if let Some(keys) = affinity_keys {
            (self.sink)(ClusterEvent::AffinityKeys(keys));
        }
        (self.sink)(ClusterEvent::Changes(changes));
        drop(state);
        self.open.send_replace(true);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gate").field("missing", &self.lock().missing).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ObjectRef;

    #[test]
    fn nothing_passes_before_all_is_listed_and_then_all_at_once() {
        let passed = Arc::new(Mutex::new(Vec::new()));
        let sink = {
            let passed = Arc::clone(&passed);
            Box::new(move |event: ClusterEvent| {
                passed.lock().unwrap().push(match event {
                    ClusterEvent::Changes(changes) => changes.len(),
                    ClusterEvent::Ports(ports) => 100 + ports.len(),
                    ClusterEvent::Services(services) => 200 + services.len(),
                    ClusterEvent::RefusedServices(refused) => 250 + refused.len(),
                    ClusterEvent::RefusedSlots(refused) => 260 + refused.len(),
                    ClusterEvent::Agreement(_) => 270,
                    ClusterEvent::NodeAddresses(addresses) => 280 + addresses.len(),
                    ClusterEvent::GatewayApiVersion(_) => 300,
                    ClusterEvent::LastGood(versions) => 400 + versions.len(),
                    ClusterEvent::AffinityKeys(_) => 500,
                });
            })
        };
        let gate = Gate::new(sink, [First::Ports, First::Kind(Kind::Gateway), First::Kind(Kind::Service)]);
        let change = || ClusterEvent::Changes(vec![Change::Delete(ObjectRef::new(Kind::Gateway, "n", "g"))]);
        gate.pass(change());
        gate.listed(First::Kind(Kind::Gateway));
        gate.pass(ClusterEvent::Services(vec![(ObjectName::new("n", "s"), None)]));
        gate.listed(First::Kind(Kind::Service));
        gate.listed(First::Kind(Kind::Service));
        gate.pass(change());
        assert!(passed.lock().unwrap().is_empty() && !*gate.is_open().borrow());
        gate.pass(ClusterEvent::Ports(BTreeMap::from([(
            GatewayPort { uid: "u".into(), port: crate::snapshot::TransportPort::tcp(80) },
            8080,
        )])));
        gate.listed(First::Ports);
        assert!(*gate.is_open().borrow());
        gate.pass(change());
        assert_eq!(*passed.lock().unwrap(), [101, 201, 280, 300, 400, 2, 1]);
    }
}
