//! Pods that left a backend although they are there still: they are not ready.

use std::sync::Arc;

use crate::base::{Kind, ObjectName};
use crate::snapshot::{Cluster, Pods, pods_that_left};
use crate::translate::Resources;

/// Of the pods that `new` has not and `old` had, those that an EndpointSlice still has: neither ready nor on their way out.
pub fn unready_pods(resources: &Resources, old: &Cluster, new: &Cluster) -> Pods {
    let mut left = pods_that_left(old, new);
    if left.is_empty() {
        return left;
    }
    let Some(service) = service_of(resources, new) else { return Pods::new() };
    let mut unready = Pods::new();
    for endpoint in resources.slices_of(&service).flat_map(|slice| &slice.endpoints) {
        let conditions = endpoint.conditions.as_ref();
        let fails = conditions.is_some_and(|conditions| conditions.ready == Some(false) && conditions.terminating != Some(true));
        let Some(target) = endpoint.target_ref.as_ref().filter(|_| fails) else { continue };
        let (name, uid) = (target.name.as_deref().unwrap_or_default(), target.uid.as_deref().unwrap_or_default());
        let found = left.iter().find(|pod| *pod.name == *name && *pod.uid == *uid).map(Arc::clone);
        unready.extend(found.and_then(|pod| left.take(&pod)));
    }
    unready
}

/// The Service behind a backend.
fn service_of(resources: &Resources, cluster: &Cluster) -> Option<ObjectName> {
    if cluster.name.kind != Kind::Upstream {
        return Some(cluster.name.name.clone());
    }
    let kube = resources.upstream(&cluster.name.name)?.spec.kube.as_ref()?;
    Some(ObjectName::new(kube.service_namespace.as_str(), kube.service_name.as_str()))
}
