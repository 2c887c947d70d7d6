//! The root of the model.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    cluster::{Cluster, ClusterId},
    listener::Bind,
    transport::BindAddress,
};

/// The whole routing configuration of one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// What to listen on, by what is bound.
    pub binds: BTreeMap<BindAddress, Arc<Bind>>,
    /// Backends by `ClusterId`; a hole is an id that no route uses any more.
    pub clusters: Arc<[Option<Arc<Cluster>>]>,
}

impl Snapshot {
    /// The cluster with this id.
    pub fn cluster(&self, id: ClusterId) -> Option<&Arc<Cluster>> {
        self.clusters.get(id.index())?.as_ref()
    }
}
