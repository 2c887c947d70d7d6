//! AffinitySlots: a map of slots as an object.

use crate::api::{AffinitySlotsSpec, SlotEntry, SlotHolder, SlotsTargetRef, Uint};
use crate::base::{Kind, ObjectName, ObjectRef};
use crate::lb::slots::{Holder, Slot, SlotMap, Spare};

/// Longest name of an object.
const LONGEST_NAME: usize = 253;

/// The name of the AffinitySlots of a Service or Upstream: `service-cart`. One that would be too long ends with its hash.
pub(in crate::translate) fn name_of(target: &ObjectRef) -> ObjectName {
    let whole = format!("{}-{}", target.kind.as_str().to_ascii_lowercase(), target.name.name);
    let name = if whole.len() <= LONGEST_NAME {
        whole
    } else {
        let hash = format!("-{:016x}", crate::lb::xxh64(whole.as_bytes(), 0));
        whole.chars().take(LONGEST_NAME - hash.len()).chain(hash.chars()).collect()
    };
    ObjectName::new(target.name.namespace.clone(), name)
}

/// Whose slots they are; `None`: of nothing that has any.
pub(in crate::translate) fn target_of(name: &ObjectName, spec: &AffinitySlotsSpec) -> Option<ObjectRef> {
    let written = spec.target_ref.as_ref()?;
    let kind = Kind::from_group_kind(&written.group, &written.kind).filter(|kind| matches!(kind, Kind::Service | Kind::Upstream))?;
    let target = ObjectRef::new(kind, name.namespace.clone(), written.name.as_str());
    (name_of(&target) == *name).then_some(target)
}

/// The map. Numbers beyond 32 bits are left out; what else is odd about a map is put in order with its next step.
pub(in crate::translate) fn read(spec: &AffinitySlotsSpec) -> SlotMap {
    let holder = |written: &SlotHolder| (written.pod.as_str().into(), written.since.0);
    let slot = |entry: &SlotEntry| {
        let held = entry.holder.as_ref().map(holder);
        Some(Slot {
            number: u32::try_from(entry.number.0).ok()?,
            holder: held.map(|(pod, since)| Holder { pod, since }),
            vacant_since: entry.vacant_since.map(|since| since.0),
            left_by: entry.left_by.as_deref().map(Into::into),
        })
    };
    let spare = |written: &SlotHolder| {
        let (pod, since) = holder(written);
        Spare { pod, since }
    };
    SlotMap { slots: spec.slots.iter().filter_map(slot).collect(), spares: spec.spares.iter().map(spare).collect() }
}

/// The map as the object has it.
pub(in crate::translate) fn write(target: &ObjectRef, map: &SlotMap) -> AffinitySlotsSpec {
    let holder = |pod: &str, since| SlotHolder { pod: pod.to_owned(), since: Uint(since), ..SlotHolder::default() };
    let slot = |slot: &Slot| SlotEntry {
        number: Uint(u64::from(slot.number)),
        holder: slot.holder.as_ref().map(|held| holder(&held.pod, held.since)),
        vacant_since: slot.vacant_since.map(Uint),
        left_by: slot.left_by.as_deref().map(Into::into),
        ..SlotEntry::default()
    };
    AffinitySlotsSpec {
        target_ref: Some(SlotsTargetRef {
            group: target.kind.group().to_owned(),
            kind: target.kind.as_str().to_owned(),
            name: target.name.name.to_string(),
            ..SlotsTargetRef::default()
        }),
        slots: map.slots.iter().map(slot).collect(),
        spares: map.spares.iter().map(|spare| holder(&spare.pod, spare.since)).collect(),
        ..AffinitySlotsSpec::default()
    }
}
