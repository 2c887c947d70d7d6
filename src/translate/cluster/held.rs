//! The tags of a cluster's hosts.

use std::sync::Arc;

use crate::base::{AffinityKeys, Tag};
use crate::snapshot::HeldHosts;
use crate::translate::backend::endpoints::Endpoint;

use super::inputs::ClusterInputs;

/// The tags, those of the last translation where nothing changed; `None`: the cluster holds no sessions.
pub(super) fn held(inputs: &ClusterInputs<'_>, endpoints: &[Endpoint], draining: &[Endpoint]) -> Option<Arc<HeldHosts>> {
    let keys = inputs.affinity_keys?;
    let tags: Vec<_> = endpoints.iter().chain(draining).map(|endpoint| tags(keys, endpoint)).collect();
    let before = inputs.previous.filter(|previous| previous.name == *inputs.name).and_then(|previous| previous.held.as_ref());
    let held = HeldHosts::new(&tags, draining.len(), before.map(|before| &**before));
    Some(match before {
        Some(before) if **before == held => Arc::clone(before),
        Some(_) | None => Arc::new(held),
    })
}

/// Of the pod's uid, so that another pod with its address is another one; of the address where no pod is known.
fn tags(keys: &AffinityKeys, endpoint: &Endpoint) -> (Tag, Option<Tag>) {
    match endpoint.pod.as_ref().filter(|pod| !pod.uid.is_empty()) {
        Some(pod) => keys.tags(pod.uid.as_bytes()),
        None => keys.tags(endpoint.address.to_string().as_bytes()),
    }
}
