//! The root of the model.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use super::{
    cluster::{Cluster, ClusterId},
    listener::Bind,
};

/// The whole routing configuration of one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// What to listen on, by the address bound.
    pub binds: BTreeMap<SocketAddr, Arc<Bind>>,
    /// Backends by `ClusterId`; a hole is an id that no route uses any more.
    pub clusters: Arc<[Option<Arc<Cluster>>]>,
}

impl Snapshot {
    /// The cluster with this id.
    pub fn cluster(&self, id: ClusterId) -> Option<&Arc<Cluster>> {
        self.clusters.get(id.index())?.as_ref()
    }
}
