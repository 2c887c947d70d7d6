//! What ought to become of the map of slots of a Service or Upstream, and when to ask again.

use crate::api::{AffinitySlots, AffinitySlotsSpec, Uint};
use crate::base::{ObjectName, ObjectRef};
use crate::lb::slots::SlotMap;
use crate::translate::affinity::{AffinitySettings, Identity};

use super::{object, pods::Pods};

/// A map of slots that ought to be written.
#[derive(Clone, Debug, PartialEq)]
pub struct SlotWrite {
    /// Whose slots they are; its namespace is that of the object.
    pub target: ObjectRef,
    /// Version and uid of the target, for the reference to the owner; `None`: it has no uid, as in files.
    pub target_uid: Option<Box<str>>,
    /// Name of the object.
    pub name: ObjectName,
    /// What it ought to hold.
    pub spec: AffinitySlotsSpec,
    /// What it holds; `None`: it is not there.
    pub stored: Option<StoredSlots>,
}

/// An AffinitySlots as it was read.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredSlots {
    /// `metadata.resourceVersion`, where it has one.
    pub resource_version: Option<Box<str>>,
    /// Its content.
    pub spec: AffinitySlotsSpec,
}

/// What the policies that count for the clusters of a target ask for of its map.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::translate) struct Need {
    /// The longest time that one of them lets pods wait; none of them hashes slots if it is 0.
    spare_seconds: u64,
    /// Slots are numbered anew once for each value of this.
    renumber: Option<Box<str>>,
}

/// The next map of a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::translate) struct Next {
    pub(in crate::translate) map: SlotMap,
    /// By which wish it was numbered anew last.
    pub(in crate::translate) renumbered: Option<Box<str>>,
    /// When the first pods came, where they came after the map.
    pub(in crate::translate) started: Option<u64>,
    /// When to ask again if nothing happens before, in seconds since the epoch.
    pub(in crate::translate) due: Option<u64>,
}

// === impl Need ===

impl Need {
    /// What these settings ask for together; `None`: no map at all.
    pub(in crate::translate) fn of<'a>(settings: impl IntoIterator<Item = &'a AffinitySettings>) -> Option<Self> {
        let mut need: Option<Self> = None;
        for settings in settings {
            let spare_seconds = match settings.table.identity {
                Identity::Slot { spare_seconds } => Some(spare_seconds),
                Identity::Address | Identity::Ordinal => settings.table.warm_up.map(|_| 0),
            };
            let Some(spare_seconds) = spare_seconds else { continue };
            let need = need.get_or_insert_default();
            need.spare_seconds = need.spare_seconds.max(spare_seconds);
            need.renumber = need.renumber.take().max(settings.renumber.clone());
        }
        need
    }

    /// The map that follows what is stored; beside it the map as it serves by now.
    pub(in crate::translate) fn next(&self, stored: Option<(&AffinitySlotsSpec, &SlotMap)>, pods: &Pods, now: u64) -> Next {
        let Some((stored, before)) = stored else {
            let (mut map, due) = SlotMap::default().step(&pods.list(), now, self.spare_seconds);
            // They were there before anybody counted: nobody of them is new.
            map.slots.iter_mut().filter_map(|slot| slot.holder.as_mut()).for_each(|holder| holder.since = 0);
            return Next { map, renumbered: self.renumber.clone(), started: None, due };
        };
        let (mut map, mut due) = before.step(&pods.list(), now, self.spare_seconds);
        let starts = stored.slots.is_empty() && !map.slots.is_empty();
        let started = if starts { Some(now) } else { stored.started.map(|started| started.0) };
        let is_young = started.is_some_and(|started| started.saturating_add(self.spare_seconds) > now);
        if is_young && map.slots.iter().all(|slot| slot.holder.is_some()) {
            // The pods have just begun to come: nobody need wait, since there are no sessions that could move.
            (map, due) = map.step(&pods.list(), now, 0);
        }
        let asked = self.renumber.as_deref().filter(|asked| stored.renumbered.as_deref() != Some(*asked));
        match asked {
            Some(asked) => Next { map: map.renumbered(), renumbered: Some(asked.into()), started, due },
            None => Next { map, renumbered: stored.renumbered.as_deref().map(Into::into), started, due },
        }
    }
}

// === impl Next ===

impl Next {
    /// As the object has it.
    pub(in crate::translate) fn spec(&self, target: &ObjectRef) -> AffinitySlotsSpec {
        AffinitySlotsSpec {
            renumbered: self.renumbered.as_deref().map(Into::into),
            started: self.started.map(Uint),
            ..object::write(target, &self.map)
        }
    }
}

// === impl SlotWrite ===

impl SlotWrite {
    /// The object as it ought to be, without version and owner.
    pub fn object(&self) -> AffinitySlots {
        let mut object = AffinitySlots::new(&self.name.name, self.spec.clone());
        object.metadata.namespace = Some(self.name.namespace.to_string());
        object
    }
}
