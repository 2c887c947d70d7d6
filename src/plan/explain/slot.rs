//! Which slot a request falls on, who has it, and who stands in.

use serde::{Deserialize, Serialize};

use crate::lb::Admits;
use crate::plan::{ForwardPlan, KeySource};
use crate::snapshot::Host;

/// The slot of a request, where a backend's slots are hashed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotAnswer {
    /// Its number; none where the session is bound to a pod that has no slot.
    pub number: Option<u32>,
    /// How things are with it.
    pub state: SlotState,
    /// The pod that has it: `NAMESPACE/NAME`, or its address where that is all that is known.
    pub pod: Option<String>,
    /// Since when the pod has the slot or waits for one, or the slot is vacant, in seconds since the epoch.
    pub since: Option<u64>,
    /// The host that gets the request in the pod's place: the slot is vacant, the pod warms up and leaves this key, or has its share of requests.
    pub fallback: Option<String>,
    /// Slots of the backend that wait for an heir.
    pub vacant: usize,
    /// Pods of the backend that wait for a slot.
    pub spares: usize,
}

/// How things are with a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SlotState {
    /// A pod has it.
    Held,
    /// A pod has it, warms up and takes some of the keys.
    Warming,
    /// It waits for an heir, or its pod is no host at the moment.
    Vacant,
    /// There is none: the pod waits for one, or is about to end.
    Spare,
}

/// The slot of a request that has a key or is bound.
pub(super) fn slot(forward: &ForwardPlan) -> Option<SlotAnswer> {
    let cluster = &*forward.cluster;
    if !cluster.has_slots() {
        return None;
    }
    let is_bound = forward.key_source == KeySource::Bound;
    let owner = if is_bound { forward.host } else { cluster.balancer.owner(forward.selection)? };
    let spares = cluster.balanced().iter().filter(|host| host.admits == Admits::Keyless).count();
    let counted =
        |number, state, pod, since, fallback| SlotAnswer { number, state, pod, since, fallback, vacant: cluster.vacant.len(), spares };
    let chosen = || cluster.hosts.get(forward.host as usize).map(|host| host.text.to_string());
    if let (false, Some(vacant)) = (is_bound, cluster.vacant_at(owner)) {
        return Some(counted(Some(vacant.number), SlotState::Vacant, None, vacant.since, chosen()));
    }
    let host = cluster.hosts.get(owner as usize)?;
    let fallback = chosen().filter(|_| owner != forward.host);
    Some(counted(host.slot, state(host), Some(name(host)), host.placed_since, fallback))
}

fn state(host: &Host) -> SlotState {
    match (host.slot, host.admits) {
        (None, _) => SlotState::Spare,
        (Some(_), Admits::Part(_)) => SlotState::Warming,
        (Some(_), Admits::All | Admits::None | Admits::Keyless) => SlotState::Held,
    }
}

fn name(host: &Host) -> String {
    host.pod.as_ref().map_or_else(|| host.text.to_string(), |pod| pod.to_string())
}

/// The slot in words.
pub(super) fn words(slot: &SlotAnswer) -> String {
    let number = slot.number.map(|number| number.to_string()).unwrap_or_default();
    let pod = slot.pod.as_deref().unwrap_or_default();
    let since = slot.since.map(|since| format!(" since {since}")).unwrap_or_default();
    let place = match slot.state {
        SlotState::Held => format!("{number}, held by {pod}{since}"),
        SlotState::Warming => format!("{number}, held by {pod}{since}, which warms up"),
        SlotState::Vacant => format!("{number}, vacant{since}"),
        SlotState::Spare => format!("none: {pod} has no slot{since}"),
    };
    let fallback = slot.fallback.as_ref().map(|host| format!("; {host} takes its place")).unwrap_or_default();
    let others = match (slot.vacant, slot.spares) {
        (0, 0) => String::new(),
        (vacant, spares) => format!(" (of the backend: {vacant} vacant, {spares} spare)"),
    };
    place + &fallback + &others
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::lb::{Balancer, LbHost};
    use crate::plan::fixture;
    use crate::snapshot::{Cluster, VacantSlot};

    /// Slot 0 is held, slot 1 is held by a pod that takes nothing yet, slot 2 is vacant, and a pod waits.
    fn cluster() -> Arc<Cluster> {
        let addresses = ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"];
        let mut cluster = Arc::try_unwrap(fixture::cluster(0, "cart", &addresses, fixture::maglev())).unwrap();
        let places = [(Some(0), Admits::All), (Some(1), Admits::Part(0)), (None, Admits::Keyless)];
        for (host, (slot, admits)) in cluster.hosts.iter_mut().zip(places) {
            (host.slot, host.admits, host.placed_since) = (slot, admits, Some(100 + u64::from(host.address.port())));
            host.hash_key = slot.map(|slot: u32| slot.to_string().into());
        }
        cluster.vacant = [VacantSlot { number: 2, since: Some(990) }].into();
        let hosts: Vec<LbHost> = cluster.table_hosts().collect();
        cluster.balancer = Arc::new(Balancer::build(&hosts, &cluster.balancer_config).unwrap());
        Arc::new(cluster)
    }

    fn forward(cluster: &Arc<Cluster>, selection: u64, host: u32, key_source: KeySource) -> ForwardPlan {
        ForwardPlan { host, key_source, ..fixture::forward_plan(cluster, selection) }
    }

    #[test]
    fn a_key_falls_on_a_slot_and_another_pod_stands_in_where_nobody_takes_it() {
        let cluster = cluster();
        let mut seen = [0; 3];
        for hash in (0..300_u64).map(|key| key.wrapping_mul(0x9e37_79b9_7f4a_7c15)) {
            let host = cluster.balancer.choose_by_hash(hash, 0).unwrap().host;
            assert_eq!(host, 0, "nobody else takes anything");
            let told = slot(&forward(&cluster, hash, host, KeySource::Header)).unwrap();
            let number = told.number.unwrap();
            seen[number as usize] += 1;
            let fallback = Some("10.0.0.1:80".to_owned());
            let expected = match number {
                0 => (SlotState::Held, Some("10.0.0.1:80"), Some(180), None),
                1 => (SlotState::Warming, Some("10.0.0.2:80"), Some(180), fallback),
                _ => (SlotState::Vacant, None, Some(990), fallback),
            };
            assert_eq!((told.state, told.pod.as_deref(), told.since, told.fallback.clone()), expected);
            assert_eq!((told.vacant, told.spares), (1, 1));
        }
        assert!(seen.iter().all(|count| *count > 50), "{seen:?}");
    }

    #[test]
    fn a_session_that_is_bound_to_a_pod_that_waits_has_no_slot() {
        let told = slot(&forward(&cluster(), 7, 2, KeySource::Bound)).unwrap();
        assert_eq!((told.number, told.state, told.since, told.fallback.clone()), (None, SlotState::Spare, Some(180), None));
        assert_eq!(words(&told), "none: 10.0.0.3:80 has no slot since 180 (of the backend: 1 vacant, 1 spare)");
    }

    #[test]
    fn words_name_who_takes_the_place() {
        let vacant = SlotAnswer {
            number: Some(2),
            state: SlotState::Vacant,
            pod: None,
            since: Some(990),
            fallback: Some("10.0.0.1:80".to_owned()),
            vacant: 1,
            spares: 0,
        };
        assert_eq!(words(&vacant), "2, vacant since 990; 10.0.0.1:80 takes its place (of the backend: 1 vacant, 0 spare)");
        let held = SlotAnswer { state: SlotState::Held, pod: Some("shop/cart-a".into()), fallback: None, vacant: 0, ..vacant };
        assert_eq!(words(&held), "2, held by shop/cart-a since 990");
    }

    #[test]
    fn addresses_that_are_hashed_have_no_slots() {
        let cluster = fixture::cluster(0, "cart", &["10.0.0.1:80"], fixture::maglev());
        assert_eq!(slot(&forward(&cluster, 7, 0, KeySource::Header)), None);
    }
}
