//! Writes maps of slots into the cluster while this process is the leader. What ought to be written is translation's to say; who leads next
//! goes on from the object, so that nothing is remembered here but what is on its way.

mod progress;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use kube::{
    Api, Client,
    api::{ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use crate::api::AffinitySlots;
use crate::base::{Kind, ObjectName};
use crate::telemetry::Metrics;
use crate::translate::SlotWrite;

use super::{
    client::{CallError, FIELD_MANAGER, call, chain},
    gate::{ClusterEvent, Gate},
};

use progress::{Outcome, Progress};

/// Pods that come and go together become one write.
const DEBOUNCE: Duration = Duration::from_millis(20);

/// What ought to be written. It outlives the writer.
#[derive(Debug, Default)]
pub(super) struct SlotsState {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Whether `desired` speaks of everything: before, a pod that is missing may only not be known yet.
    armed: bool,
    desired: Arc<BTreeMap<ObjectName, SlotWrite>>,
}

// === impl SlotsState ===

impl SlotsState {
    /// The first translation of everything is bound: who is missing now is gone.
    pub(super) fn arm(&self) {
        self.lock().armed = true;
        self.changed.notify_one();
    }

    /// What ought to be written.
    pub(super) fn desire(&self, desired: &Arc<BTreeMap<ObjectName, SlotWrite>>) {
        let mut state = self.lock();
        if !Arc::ptr_eq(&state.desired, desired) {
            state.desired = Arc::clone(desired);
            drop(state);
            self.changed.notify_one();
        }
    }

    fn desired(&self) -> Arc<BTreeMap<ObjectName, SlotWrite>> {
        let state = self.lock();
        if state.armed { Arc::clone(&state.desired) } else { Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes maps of slots while this process is the leader, and tells which of them are refused; never ends.
pub(super) async fn write_slots(
    client: Client,
    slots: Arc<SlotsState>,
    mut leader: watch::Receiver<bool>,
    gate: Arc<Gate>,
    metrics: Arc<Metrics>,
) {
    let (mut progress, mut told) = (Progress::default(), None);
    loop {
        let mut until = Instant::now() + Duration::from_secs(3600);
        if *leader.borrow_and_update() {
            let desired = slots.desired();
            progress.retain(|name| desired.contains_key(name));
            for write in desired.values() {
                until = until.min(turn(&client, write, &mut progress).await);
            }
        } else {
            progress.clear();
        }
        let refusals = progress.refusals();
        if told.as_ref() != Some(&refusals) {
            metrics.affinity().set_refused_slots(refusals.len());
            gate.pass(ClusterEvent::RefusedSlots(refusals.clone()));
            told = Some(refusals);
        }
        tokio::select! {
            () = slots.changed.notified() => tokio::time::sleep(DEBOUNCE).await,
            result = leader.changed() => if result.is_err() { return },
            () = tokio::time::sleep_until(until) => {}
        }
    }
}

/// Writes a map if that is due; when to look again.
async fn turn(client: &Client, write: &SlotWrite, progress: &mut Progress) -> Instant {
    if let Some(later) = progress.due(write, Instant::now()) {
        return later;
    }
    let outcome = match send(client, write).await {
        Ok(()) => Outcome::Written,
        Err(error) => outcome(write, &error),
    };
    progress.end(write, outcome, Instant::now(), fastrand::f64())
}

/// What a failed write says of the map.
fn outcome(write: &SlotWrite, error: &CallError) -> Outcome {
    let name = &write.name;
    if error.code() == Some(409) {
        // It is settled by what the watch brings.
        tracing::debug!("AffinitySlots {name} was changed by somebody else in the meantime");
        return Outcome::Conflict;
    }
    if error.is_for_a_terminating_namespace() {
        tracing::debug!("AffinitySlots {name} is not written: its namespace is being deleted");
        return Outcome::Failed;
    }
    tracing::warn!(error = &*chain(error), "AffinitySlots {name} could not be written; it will be tried again");
    if error.is_refusal() { Outcome::Refused(chain(error)) } else { Outcome::Failed }
}

async fn send(client: &Client, write: &SlotWrite) -> Result<(), CallError> {
    let api: Api<AffinitySlots> = Api::namespaced(client.clone(), &write.name.namespace);
    let Some(stored) = &write.stored else {
        let mut object = write.object();
        object.metadata.owner_references = owner(write).map(|owner| vec![owner]);
        let parameters = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        return call(api.create(&parameters, &object)).await.map(drop);
    };
    let parameters = PatchParams::apply(FIELD_MANAGER).force();
    let apply = |version: &str| Patch::Apply(document(write, version));
    let version = stored.resource_version.as_deref().unwrap_or_default();
    let Err(refused) = call(api.patch(&write.name.name, &parameters, &apply(version))).await else { return Ok(()) };
    if refused.code() != Some(409) {
        return Err(refused);
    }
    // What nobody reads may have changed, such as a manager of fields: then no event tells the new version.
    let named = ListParams::default().fields(&format!("metadata.name={}", write.name.name));
    let found = call(api.list(&named)).await?.items.into_iter().next().filter(|found| found.spec == stored.spec);
    let Some(now) = found.and_then(|found| found.metadata.resource_version).filter(|now| now != version) else { return Err(refused) };
    call(api.patch(&write.name.name, &parameters, &apply(&now))).await.map(drop)
}

/// The object as it is applied: with empty lists, since what is left out would stay where somebody else has written it.
fn document(write: &SlotWrite, version: &str) -> Value {
    let mut spec = json!(write.spec);
    for list in ["slots", "spares"] {
        if let Some(members) = spec.as_object_mut() {
            members.entry(list).or_insert_with(|| json!([]));
        }
    }
    let owners: Vec<_> = owner(write).into_iter().collect();
    json!({
        "apiVersion": "clingfish.dev/v1alpha1",
        "kind": Kind::AffinitySlots.as_str(),
        "metadata": {
            "name": write.name.name, "namespace": write.name.namespace, "resourceVersion": version, "ownerReferences": owners,
        },
        "spec": spec,
    })
}

/// With its target the map goes.
fn owner(write: &SlotWrite) -> Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference> {
    let facts = write.target.kind.facts();
    let version = facts.versions.first().copied().unwrap_or_default();
    Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference {
        api_version: if facts.group.is_empty() { version.to_owned() } else { format!("{}/{version}", facts.group) },
        kind: facts.name.to_owned(),
        name: write.target.name.name.to_string(),
        uid: write.target_uid.as_deref()?.to_owned(),
        ..Default::default()
    })
}
