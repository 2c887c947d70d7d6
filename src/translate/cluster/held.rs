//! The tags of a cluster's hosts.

use std::{borrow::Cow, sync::Arc};

use crate::snapshot::HeldHosts;
use crate::translate::backend::endpoints::Endpoint;

use super::inputs::ClusterInputs;

/// The tags, those of the last translation where nothing changed; `None`: the cluster holds no sessions.
pub(super) fn held(inputs: &ClusterInputs<'_>, endpoints: &[Endpoint], draining: &[Endpoint]) -> Option<Arc<HeldHosts>> {
    let keys = inputs.affinity_keys?;
    let before = inputs.previous.filter(|previous| previous.name == *inputs.name).and_then(|previous| previous.held.as_ref());
    let hosts = endpoints.iter().chain(draining).map(known_by);
    let held = HeldHosts::of_hosts(keys, hosts, draining.len(), before.map(|before| &**before));
    Some(match before {
        Some(before) if **before == held => Arc::clone(before),
        Some(_) | None => Arc::new(held),
    })
}

/// The pod's uid, so that another pod with its address is another one; the address where no pod is known.
fn known_by(endpoint: &Endpoint) -> Cow<'_, [u8]> {
    match endpoint.pod.as_ref().filter(|pod| !pod.uid.is_empty()) {
        Some(pod) => Cow::Borrowed(pod.uid.as_bytes()),
        None => Cow::Owned(endpoint.address.to_string().into_bytes()),
    }
}
