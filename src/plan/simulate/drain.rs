//! A pod that is asked to end: which one it is, and what its sessions do meanwhile.

use std::net::SocketAddr;

use crate::snapshot::{Cluster, Host};

/// The address of a pod of a cluster, by its address, its name, or its namespace and name.
pub(super) fn address(cluster: &Cluster, pod: &str) -> Option<SocketAddr> {
    let is_asked = |host: &&Host| {
        let named = host.pod.as_ref().is_some_and(|known| *known.name == *pod || format!("{}/{}", known.namespace, known.name) == pod);
        named || *host.text == *pod || host.address.to_string() == pod || host.address.ip().to_string() == pod
    };
    cluster.balanced().iter().find(is_asked).map(|host| host.address)
}

/// The pods that there are, in words.
pub(super) fn known(cluster: &Cluster) -> String {
    let name = |host: &Host| host.pod.as_ref().map_or_else(|| host.text.to_string(), |pod| format!("{}/{}", pod.namespace, pod.name));
    cluster.balanced().iter().map(name).collect::<Vec<_>>().join(", ")
}

/// What becomes of its sessions, and when.
pub(super) fn notes(cluster: &Cluster, pod: &str) -> Vec<String> {
    let holds = cluster.affinity.as_ref().is_some_and(|affinity| affinity.hold.is_some()) || cluster.name.is_persistent;
    let held = if holds {
        format!(
            "sessions are held: those of {pod} stay there for as long as it serves, none moves before its end; the figures are those of that \
             moment, new sessions go there already, and sessions of other pods do not move"
        )
    } else {
        format!(
            "sessions are not held: those of {pod} move at once, though it may still serve; hold: WhileAlive of an AffinityPolicy keeps them"
        )
    };
    let slots = cluster.has_slots().then(|| {
        format!("the slot of {pod} waits for the pod that replaces it: a spare takes it over at once, and the sessions with it; these figures are without one")
    });
    [held].into_iter().chain(slots).collect()
}
