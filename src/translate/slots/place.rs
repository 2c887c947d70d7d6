//! What a map of slots makes of the hosts of a cluster: keys, places without a host, and the shares of hosts that warm up.

use std::collections::{BTreeMap, BTreeSet};

use crate::lb::Admits;
use crate::lb::slots::{Slot, SlotMap};
use crate::snapshot::VacantSlot;
use crate::translate::affinity::{Identity, TableSettings, WarmUp};
use crate::translate::backend::endpoints::Endpoint;

use super::pods::Pods;

/// What the map says beside the hosts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::translate) struct Placed {
    /// Slots without a host, by number.
    pub(in crate::translate) vacant: Box<[VacantSlot]>,
    /// When a host takes a larger share, in seconds since the epoch.
    pub(in crate::translate) due: Option<u64>,
}

/// The map as it is as soon as the pods are as they are now, before its writer has said so: who waits inherits what falls free, and nothing
/// else changes. Every replica finds the same, so that no session takes a way round through another host meanwhile. `served`: the map that
/// served last, where it is ahead of the stored one.
///
/// Whoever comes or goes now does so after everything that the map knows of, whatever this replica's clock says.
pub(in crate::translate) fn in_advance(stored: &SlotMap, served: Option<&SlotMap>, pods: &Pods, second: Option<u64>) -> SlotMap {
    let map = served.map_or_else(|| stored.clone(), |served| caught_up(stored, served, pods));
    let holders = map.slots.iter().filter_map(|slot| slot.holder.as_ref().map(|holder| holder.since));
    let times = holders.chain(map.slots.iter().filter_map(|slot| slot.vacant_since)).chain(map.spares.iter().map(|spare| spare.since));
    let after = times.max().map_or(0, |last| last.saturating_add(1));
    // No time passes here: nobody has waited for long enough.
    map.step(&pods.list(), after.max(second.unwrap_or(0)), u64::MAX).0
}

/// The stored map with what has been served since: heirs of slots whose holders it does not know to be gone, and the order of those who wait.
/// What the stored map says of pods that are there counts more.
fn caught_up(stored: &SlotMap, served: &SlotMap, pods: &Pods) -> SlotMap {
    let mut map = stored.clone();
    let staying = map.slots.iter().filter_map(|slot| slot.holder.as_ref()).filter(|holder| pods.stays(&holder.pod));
    let mut known: BTreeSet<Box<str>> = staying.map(|holder| holder.pod.clone()).collect();
    let by_number: BTreeMap<u32, &Slot> = served.slots.iter().map(|slot| (slot.number, slot)).collect();
    for slot in &mut map.slots {
        if slot.holder.as_ref().is_some_and(|holder| pods.stays(&holder.pod)) {
            continue;
        }
        let Some(since) = by_number.get(&slot.number) else { continue };
        let counts = match &since.holder {
            Some(heir) => pods.stays(&heir.pod) && known.insert(heir.pod.clone()),
            None => slot.holder.is_some(),
        };
        if counts {
            slot.clone_from(since);
        }
    }
    known.extend(map.spares.iter().map(|spare| spare.pod.clone()));
    map.spares.extend(served.spares.iter().filter(|spare| !known.contains(&spare.pod)).cloned());
    map
}

/// Lays a map over the hosts of a cluster. Without one they are hashed by their addresses.
pub(in crate::translate) fn place(
    endpoints: &mut [Endpoint],
    settings: &TableSettings,
    map: Option<(SlotMap, Option<&SlotMap>)>,
    pods: &Pods,
    second: Option<u64>,
) -> Placed {
    let Some((stored, served)) = map else { return Placed::default() };
    let map = in_advance(&stored, served, pods, second);
    let mut placed = Placed::default();
    match settings.identity {
        Identity::Slot { .. } => placed.vacant = number(endpoints, &map, pods),
        Identity::Address | Identity::Ordinal => {}
    }
    if let (Some(warm_up), Some(second)) = (settings.warm_up, second) {
        placed.due = warm(endpoints, warm_up, &map, pods, second);
    }
    placed
}

/// Gives hosts the numbers of their slots; those that have none get requests without a key. Returns the slots without a host.
fn number(endpoints: &mut [Endpoint], map: &SlotMap, pods: &Pods) -> Box<[VacantSlot]> {
    let held = |slot: &Slot| slot.holder.as_ref().map(|holder| (holder.pod.clone(), (slot.number, holder.since)));
    let held: BTreeMap<Box<str>, (u32, u64)> = map.slots.iter().filter_map(held).collect();
    let waiting: BTreeMap<&str, u64> = map.spares.iter().map(|spare| (&*spare.pod, spare.since)).collect();
    let mut present = BTreeSet::new();
    for endpoint in endpoints {
        let pod = pods.id(endpoint);
        match held.get(&pod).copied() {
            Some((number, since)) => {
                (endpoint.slot, endpoint.placed_since) = (Some(number), Some(since));
                endpoint.hash_key = Some(number.to_string().into());
                present.insert(number);
            }
            None => {
                endpoint.placed_since = waiting.get(&*pod).copied();
                endpoint.admits = Admits::Keyless;
            }
        }
    }
    let vacant = map.slots.iter().filter(|slot| !present.contains(&slot.number));
    vacant.map(|slot| VacantSlot { number: slot.number, since: slot.vacant_since }).collect()
}

/// Gives hosts that warm up their part. Returns when that changes.
///
/// A host warms up only beside one that had been there for a whole warm-up before it came: pods of a Service that starts begin with their
/// whole share, and no part ever falls while time passes.
fn warm(endpoints: &mut [Endpoint], warm_up: WarmUp, map: &SlotMap, pods: &Pods, second: u64) -> Option<u64> {
    let holders = map.slots.iter().filter_map(|slot| slot.holder.as_ref().map(|holder| (&*holder.pod, holder.since)));
    let since: BTreeMap<&str, u64> = map.spares.iter().map(|spare| (&*spare.pod, spare.since)).chain(holders).collect();
    // Who is not known yet has just come.
    let since = |endpoint: &Endpoint| since.get(&*pods.id(endpoint)).copied().unwrap_or(second).min(second);
    let first_warm = endpoints.iter().map(|endpoint| since(endpoint).saturating_add(warm_up.seconds())).min()?;
    let mut due = None;
    for endpoint in endpoints.iter_mut().filter(|endpoint| endpoint.admits == Admits::All) {
        let since = since(endpoint);
        if since < first_warm {
            continue;
        }
        let (part, next) = warm_up.part(second.saturating_sub(since));
        endpoint.admits = part;
        due = due.into_iter().chain(next.map(|next| since.saturating_add(next))).min();
    }
    due
}
