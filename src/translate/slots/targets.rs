//! Which Services and Upstreams have maps of slots: what one translation leaves to the next.

use std::collections::BTreeMap;

use crate::base::{ObjectName, ObjectRef};
use crate::lb::SlotMap;

/// The targets that have maps of slots.
#[derive(Debug, Default)]
pub(in crate::translate) struct SlotTargets {
    /// By the name of the object.
    pub(in crate::translate) names: BTreeMap<ObjectName, ObjectRef>,
    /// When a map is to be looked at again, in seconds since the epoch.
    pub(in crate::translate) due: BTreeMap<ObjectRef, u64>,
    /// Maps that serve and are ahead of the stored ones.
    pub(in crate::translate) advanced: BTreeMap<ObjectRef, SlotMap>,
}

// === impl SlotTargets ===

impl SlotTargets {
    /// When the first map is to be looked at again.
    pub(in crate::translate) fn due(&self) -> Option<u64> {
        self.due.values().copied().min()
    }
}
