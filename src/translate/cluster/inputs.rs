//! What a cluster is built from, and what it asks for of the points of all rings.

use std::sync::Arc;

use crate::base::{AffinityKeys, Message};
use crate::lb::{LbHost, Policy, host_key};
use crate::snapshot::{BackendName, Cluster, ClusterId, VacantSlot, vacant_slot};
use crate::translate::backend::{endpoints::Endpoint, upstream::ClusterSettings};

/// What a cluster is built from.
#[derive(Clone, Debug)]
pub struct ClusterInputs<'a> {
    /// The id under which routes name it.
    pub id: ClusterId,
    /// The backend it stands for.
    pub name: &'a BackendName,
    /// How hosts are chosen and reached.
    pub settings: &'a ClusterSettings,
    /// Requests are answered 500; why.
    pub refused: Option<&'a str>,
    /// The hosts, in order.
    pub endpoints: &'a [Endpoint],
    /// Hosts behind them that are for sessions that they have.
    pub draining: &'a [Endpoint],
    /// What tags of hosts are made with; `None`: the cluster holds no sessions.
    pub affinity_keys: Option<&'a Arc<AffinityKeys>>,
    /// Slots without a host, in order.
    pub vacant: &'a [VacantSlot],
    /// Why there are none, where there are none.
    pub no_hosts: Option<Message>,
    /// The cluster of the last translation: returned as it is if nothing changed, else a source of counters.
    pub previous: Option<&'a Arc<Cluster>>,
}

/// How many points a cluster's ring may have.
#[derive(Clone, Copy, Debug)]
pub struct RingLimits {
    /// Any ring.
    pub one: u64,
    /// What all other rings leave.
    pub available: u64,
}

/// What a cluster asks for of the points that all rings may have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RingDemand {
    /// Points; 0: it has no ring, or one that no cluster may have.
    pub points: u64,
    /// Why it has no ring, though it asks for one.
    pub refusal: Option<Message>,
}

// === impl ClusterInputs ===

impl ClusterInputs<'_> {
    /// The hosts as a balancer sees them.
    pub(super) fn balanced(&self) -> Vec<LbHost> {
        let key = |endpoint: &Endpoint| {
            endpoint.hash_key.as_ref().map_or_else(|| host_key(endpoint.address).into_boxed_str(), |key| (**key).into())
        };
        let host = |endpoint: &Endpoint| LbHost {
            weight: endpoint.weight,
            admits: endpoint.admits,
            place: endpoint.slot.unwrap_or_default(),
            ..LbHost::new(key(endpoint))
        };
        // Without hosts there is nobody to take over.
        let vacant = if self.endpoints.is_empty() { &[] } else { self.vacant };
        self.endpoints.iter().map(host).chain(vacant.iter().map(|slot| vacant_slot(slot.number))).collect()
    }

    /// What the ring takes, before it is built: a large one takes seconds.
    pub(super) fn ring(&self, limits: RingLimits) -> RingDemand {
        let Policy::RingHash(config) = &self.settings.balancer.policy else { return RingDemand::default() };
        if self.refused.is_some() {
            return RingDemand::default();
        }
        let points = config.points(&self.balanced());
        if points > limits.one {
            let refusal = format!(
                "its ring has {points} points, by ringHashConfig and the weights of its hosts: expected at most {}, an eighth of what all rings \
                 may have together",
                limits.one
            );
            return RingDemand { points: 0, refusal: Some(refusal.into()) };
        }
        let refusal = (points > limits.available).then(|| {
            format!("its ring has {points} points, and the smaller and older rings leave no room for it: expected a smaller one").into()
        });
        RingDemand { points, refusal }
    }
}
