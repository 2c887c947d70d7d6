//! Changes that wait until what takes long to make of them is made. Where a pod is must not wait for that: changes of endpoints go past.

use std::{
    collections::{BTreeSet, VecDeque},
    panic::{AssertUnwindSafe, catch_unwind},
};

use tokio::sync::oneshot;

use crate::api::Object;
use crate::base::{Kind, ObjectName};
use crate::translate::{Change, Limits, Preparation, Translation};

use super::input::Report;

/// Changes in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// The first one is being prepared; whatever else came since is in the second.
    batches: VecDeque<Batch>,
}

/// Changes that become one snapshot.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) changes: Vec<Change>,
    /// Those who asked for the state after these changes.
    pub(super) reports: Vec<oneshot::Sender<Report>>,
    preparation: Option<Preparation>,
}

// === impl Held ===

impl Held {
    /// Whether nothing is held.
    pub(super) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// Takes changes in; those that have to wait for nothing come back.
    pub(super) fn offer(&mut self, changes: Vec<Change>, last: Option<&Translation>, limits: &Limits) -> Vec<Change> {
        if !self.is_empty() {
            if let Some(endpoints) = endpoints(&changes) {
                self.forget(&endpoints);
                return changes;
            }
            if self.batches.len() < 2 {
                self.batches.push_back(Batch::default());
            }
            if let Some(batch) = self.batches.back_mut() {
                batch.changes.extend(changes);
            }
            return Vec::new();
        }
        let Some(last) = last else { return changes };
        let preparation = Preparation::of(&changes, last, limits);
        if preparation.is_done() {
            return changes;
        }
        self.batches.push_back(Batch { changes, reports: Vec::new(), preparation: Some(preparation) });
        Vec::new()
    }

    /// Somebody wants to see the state after everything that came before; comes back if that is the state at hand.
    pub(super) fn ask(&mut self, reply: oneshot::Sender<Report>) -> Option<oneshot::Sender<Report>> {
        let Some(batch) = self.batches.back_mut() else { return Some(reply) };
        batch.reports.push(reply);
        None
    }

    /// Does a piece of the work; the first batch once it is prepared.
    pub(super) fn step(&mut self, last: Option<&Translation>, limits: &Limits) -> Option<Batch> {
        let batch = self.batches.front_mut()?;
        // After a panic nothing is known, and everything is translated anew: what is prepared would be prepared for nobody.
        if let Some(last) = last {
            let preparation = batch.preparation.get_or_insert_with(|| Preparation::of(&batch.changes, last, limits));
            // What panics here panics again where it is counted.
            if !preparation.is_done() && catch_unwind(AssertUnwindSafe(|| preparation.step(last))).is_ok() {
                return None;
            }
        }
        self.batches.pop_front()
    }

    /// Newer versions of these EndpointSlices have gone past.
    fn forget(&mut self, endpoints: &BTreeSet<ObjectName>) {
        for batch in &mut self.batches {
            batch.changes.retain(|change| !endpoint(change).is_some_and(|slice| endpoints.contains(&slice)));
        }
    }
}

/// The EndpointSlices that are changed, if nothing else is.
fn endpoints(changes: &[Change]) -> Option<BTreeSet<ObjectName>> {
    changes.iter().map(endpoint).collect()
}

/// The EndpointSlice that a change is about.
fn endpoint(change: &Change) -> Option<ObjectName> {
    let object = match change {
        Change::Apply(object) if matches!(**object, Object::EndpointSlice(_)) => object.object_ref(),
        Change::Apply(_) | Change::Route(_) | Change::Unparsed(_) => return None,
        Change::Delete(object) => object.clone(),
        Change::Undecodable(error) => error.object.clone()?,
    };
    (object.kind == Kind::EndpointSlice).then_some(object.name)
}
