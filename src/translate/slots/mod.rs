//! Slots: which pod of a Service or Upstream has which place in its tables, and since when its pods are there.
//!
//! `object` is the map as somebody keeps it, `pods` who is there, `place` what the map makes of the hosts of a cluster, and `desired` what
//! ought to become of the map.

pub(in crate::translate) mod desired;
pub(in crate::translate) mod object;
pub(in crate::translate) mod place;
pub(in crate::translate) mod pods;
pub(in crate::translate) mod targets;
#[cfg(test)]
mod tests;

pub use desired::SlotWrite;
