//! Writes statuses into the cluster. Only the leader writes, only what differs, and only after the snapshot in question is bound.

mod events;
mod merge;
mod moves;
mod queue;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::api::core::v1::Event;
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;
use tokio::{sync::Notify, sync::watch, task::JoinSet, time::Instant};

use crate::base::{ObjectRef, TokenBucket};
use crate::telemetry::{Metrics, StatusWrite};

use super::{
    client::{CallError, FIELD_MANAGER, call, chain},
    object::RawObject,
};

pub(super) use moves::{SharedMoves, write_moves};
pub(super) use queue::{Seen, Statuses};

pub(super) use merge::{MergeContext, status_patch, waiting};

use merge::release_patch;
use queue::{Job, Next, Outcome, StatusQueue};

/// Writes that may go out at once, and then per second.
const BURST: u32 = 200;
const PER_SECOND: u32 = 20;
/// Events that may go out at once, and then per second.
pub(super) const EVENTS_BURST: u32 = 50;
pub(super) const EVENTS_PER_SECOND: u32 = 1;
/// When more statuses wait than may be written at once, they are written in lots: every half second.
const LOT: u32 = 10;

/// Most writes on their way at one time.
const CONCURRENCY: usize = 4;

/// The queue between those who report statuses and the writer. It outlives the writer.
#[derive(Debug, Default)]
pub(super) struct SharedStatusQueue {
    queue: Mutex<StatusQueue>,
    changed: Notify,
}

/// What the writer is told once.
#[derive(Clone, Debug)]
pub(super) struct StatusContext {
    /// Our controllerName.
    pub(super) controller_name: Arc<str>,
    /// Name of this process: the pod's.
    pub(super) identity: Arc<str>,
    /// How many events may be written.
    pub(super) events: Arc<Mutex<TokenBucket>>,
    /// Where writes are counted.
    pub(super) metrics: Arc<Metrics>,
}

// === impl SharedStatusQueue ===

impl SharedStatusQueue {
    /// A translation, published under this generation, changed these statuses.
    pub(super) fn desire(&self, generation: u64, statuses: Statuses) {
        if !statuses.is_empty() {
            self.lock().desire(generation, statuses);
            self.changed.notify_one();
        }
    }

    /// All workers have bound this generation.
    pub(super) fn bind(&self, generation: u64) {
        self.lock().bind(generation);
        self.changed.notify_one();
    }

    /// The first translation of everything is bound: statuses may be written.
    pub(super) fn arm(&self) {
        self.lock().arm();
        self.changed.notify_one();
    }

    /// Statuses as they are in the cluster.
    pub(super) fn see(&self, statuses: Vec<(ObjectRef, Option<Seen>)>) {
        if !statuses.is_empty() {
            let mut queue = self.lock();
            let now = Instant::now();
            statuses.into_iter().for_each(|(object, seen)| queue.see(object, seen, now));
            drop(queue);
            self.changed.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, StatusQueue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes statuses while this process is the leader; never ends.
pub(super) async fn write_statuses(
    client: Client,
    queue: Arc<SharedStatusQueue>,
    mut leader: watch::Receiver<bool>,
    context: StatusContext,
) {
    let mut bucket = TokenBucket::new(BURST, PER_SECOND, Instant::now()).in_lots_of(LOT);
    let mut jobs: JoinSet<(Job, Outcome)> = JoinSet::new();
    queue.lock().take_all_back();
    let mut led = false;
    loop {
        let leads = *leader.borrow_and_update();
        if leads && !led {
            queue.lock().look_at_all();
        }
        led = leads;
        let now = Instant::now();
        // Without a token nothing is looked at: while many objects come, the writer is woken far more often than it may write.
        let next = match bucket.check(now) {
            _ if !leads || jobs.len() >= CONCURRENCY => Next::Idle,
            Ok(()) => queue.lock().next(now),
            Err(wait) => Next::Wait(now + wait),
        };
        let mut pause = None;
        match next {
            Next::Work(job) => match plan(&job, &context) {
                Plan::Nothing => queue.lock().finish(&job, Outcome::Same, now, fastrand::f64()),
                plan => {
                    bucket.take();
                    jobs.spawn(act(client.clone(), *job, plan, context.clone()));
                }
            },
            Next::Wait(until) => pause = Some(until),
            Next::Idle => pause = Some(now + std::time::Duration::from_secs(3600)),
        }
        let Some(until) = pause else { continue };
        tokio::select! {
            () = queue.changed.notified() => {}
            result = leader.changed() => if result.is_err() { return },
            Some(result) = jobs.join_next() => finish(&queue, result),
            () = tokio::time::sleep_until(until) => {}
        }
    }
}

fn finish(queue: &SharedStatusQueue, result: Result<(Job, Outcome), tokio::task::JoinError>) {
    match result {
        Ok((job, outcome)) => queue.lock().finish(&job, outcome, Instant::now(), fastrand::f64()),
        // A job that panicked has not said whose it was.
        Err(_) => queue.lock().take_all_back(),
    }
}

/// What has to go to the API server.
#[derive(Debug)]
enum Plan {
    Nothing,
    Patch(serde_json::Value),
}

fn plan(job: &Job, context: &StatusContext) -> Plan {
    let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let merge = MergeContext { controller_name: &context.controller_name, namespace: &job.object.name.namespace, now: &now };
    let seen = job.seen.status();
    status_patch(job.object.kind, job.desired.as_deref(), &seen, merge)
        .or_else(|| release_patch(job.object.kind, job.released.as_deref()?, &seen, merge))
        .map_or(Plan::Nothing, |status| Plan::Patch(json!({"metadata": {"resourceVersion": job.seen.resource_version}, "status": status})))
}

async fn act(client: Client, job: Job, plan: Plan, context: StatusContext) -> (Job, Outcome) {
    let Job { object, seen, .. } = &job;
    let (namespace, name) = (&*object.name.namespace, &*object.name.name);
    let api: Api<RawObject> = if object.kind.is_namespaced() {
        Api::namespaced_with(client.clone(), namespace, &seen.served.resource)
    } else {
        Api::all_with(client.clone(), &seen.served.resource)
    };
    let change = match &plan {
        Plan::Nothing => None,
        Plan::Patch(patch) => events::change(object.kind, &seen.status(), &patch["status"], &context.controller_name),
    };
    let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    let answer = match plan {
        Plan::Nothing => return (job, Outcome::Same),
        Plan::Patch(patch) if seen.served.has_status => call(api.patch_status(name, &parameters, &Patch::Merge(patch))).await,
        Plan::Patch(patch) => call(api.patch(name, &parameters, &Patch::Merge(patch))).await,
    };
    let count = |result| context.metrics.cluster().status_written(result);
    let outcome = match answer {
        Ok(answer) => {
            count(StatusWrite::Written);
            if let Some(change) = change {
                write_event(client, object, answer.document(), &change, &context).await;
            }
            Outcome::Answered(Seen::of(&answer, &seen.served))
        }
        Err(error) => match error.code() {
            Some(404) => Outcome::Gone,
            Some(409) => {
                count(StatusWrite::Conflict);
                Outcome::Conflict
            }
            _ => {
                count(StatusWrite::Failed);
                tell(object, &error);
                Outcome::Failed
            }
        },
    };
    (job, outcome)
}

/// Writes an event, unless there were too many of late: they are for people, and the status says the same.
async fn write_event(client: Client, object: &ObjectRef, written: &serde_json::Value, change: &events::Change, context: &StatusContext) {
    {
        let mut bucket = context.events.lock().unwrap_or_else(PoisonError::into_inner);
        if bucket.check(Instant::now()).is_err() {
            return;
        }
        bucket.take();
    }
    let event = events::document(object, written, change, &context.controller_name, &context.identity);
    let api: Api<Event> = Api::namespaced(client, &object.name.namespace);
    let parameters = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
    if let Err(error) = call(api.create(&parameters, &event)).await {
        tracing::debug!(%object, error = &*chain(&error), "the event could not be written");
    }
}

fn tell(object: &ObjectRef, error: &CallError) {
    tracing::warn!(%object, error = &*chain(error), "the status could not be written; it will be tried again");
}
