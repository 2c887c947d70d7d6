//! Which status is to be written next. Pure: the caller gives time and random numbers.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use serde_json::Value;
use tokio::time::Instant;

use crate::base::{Backoff, ObjectRef};
use crate::controller::kube::{discovery::Served, object::RawObject};
use crate::translate::Status;

/// Least time between two writes of one object: what many routes change one after the other is written once.
const COALESCE: Duration = Duration::from_millis(250);

/// Time for translation to speak of an object that is new here: until then no status of it does not mean that it has none.
const GRACE: Duration = Duration::from_secs(1);

/// Most time between two writes of one status over and over: somebody else writes another one into the same place.
const CONTEST_MOST: Duration = Duration::from_secs(60);

/// Waits after a refused write.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_MOST: Duration = Duration::from_secs(30);

/// Statuses of one translation; `None`: translation has no status for the object any more.
pub(in crate::controller::kube) type Statuses = Vec<(ObjectRef, Option<Arc<Status>>)>;

/// A status as it is in the cluster.
#[derive(Clone, Debug)]
pub(in crate::controller::kube) struct Seen {
    /// `metadata.resourceVersion` of the object.
    pub(in crate::controller::kube) resource_version: Box<str>,
    /// `status` as JSON text: compact, since every route has one.
    status: Box<[u8]>,
    /// How the object is written.
    pub(in crate::controller::kube) served: Arc<Served>,
}

/// A piece of work.
#[derive(Clone, Debug)]
pub(super) struct Job {
    /// The object.
    pub(super) object: ObjectRef,
    /// Its status as it ought to be.
    pub(super) desired: Option<Arc<Status>>,
    /// Its status as it ought to have been before it was no concern of ours any more.
    pub(super) released: Option<Arc<Status>>,
    /// Its status as it is.
    pub(super) seen: Seen,
}

/// What to do next.
#[derive(Clone, Debug)]
pub(super) enum Next {
    /// Look at this object.
    Work(Box<Job>),
    /// Nothing is due before this time.
    Wait(Instant),
    /// Nothing is to be done.
    Idle,
}

/// How a piece of work ended.
#[derive(Clone, Debug)]
pub(super) enum Outcome {
    /// The status said so already.
    Same,
    /// Written; what the API server answered.
    Answered(Seen),
    /// Somebody else was faster.
    Conflict,
    /// The object is gone.
    Gone,
    /// Refused, or no answer.
    Failed,
}

/// Statuses as they ought to be and as they are, and the order in which the differences are written.
#[derive(Debug, Default)]
pub(super) struct StatusQueue {
    /// Whether the first translation of everything is bound: before, no status of an object does not mean that it has none.
    armed: bool,
    /// Generation that all workers have bound.
    bound: u64,
    /// Statuses whose snapshot is not bound yet, oldest first.
    held: VecDeque<(u64, Statuses)>,
    entries: BTreeMap<ObjectRef, Entry>,
    /// Objects to look at.
    dirty: BTreeSet<ObjectRef>,
    /// Objects to look at later, each once, as `Entry::later` says.
    later: BTreeSet<(Instant, ObjectRef)>,
}

#[derive(Debug)]
struct Entry {
    desired: Option<Arc<Status>>,
    /// What was desired before there was no status of ours any more.
    released: Option<Arc<Status>>,
    seen: Option<Seen>,
    in_flight: bool,
    /// Something changed while it was in flight: it is looked at again.
    again: bool,
    /// Its place in `StatusQueue::later`.
    later: Option<Instant>,
    /// When an object without a status of ours may be looked at.
    grace: Option<Instant>,
    /// When a refused write may be tried again.
    retry: Option<Instant>,
    backoff: Backoff,
    /// What was last written, and when.
    written: Option<(Option<Arc<Status>>, Instant)>,
    /// How often the same was written again, because it did not stay.
    contests: u32,
}

// === impl Seen ===

impl Seen {
    /// The status of an object.
    pub(in crate::controller::kube) fn of(object: &RawObject, served: &Arc<Served>) -> Self {
        let status = object.document().get("status").map(|status| serde_json::to_vec(status).unwrap_or_default());
        Self { resource_version: object.resource_version().into(), status: status.unwrap_or_default().into(), served: Arc::clone(served) }
    }

    /// The status as JSON.
    pub(super) fn status(&self) -> Value {
        serde_json::from_slice(&self.status).unwrap_or_default()
    }

    /// Whether this is an older state than the other: versions of one resource grow.
    fn is_older_than(&self, other: &Self) -> bool {
        let number = |seen: &Self| seen.resource_version.parse::<u128>().ok();
        number(self).zip(number(other)).is_some_and(|(own, other)| own < other)
    }
}

// === impl StatusQueue ===

impl StatusQueue {
    /// A translation, published under this generation, changed these statuses.
    pub(super) fn desire(&mut self, generation: u64, statuses: Statuses) {
        self.held.push_back((generation, statuses));
        self.release();
    }

    /// All workers have bound this generation.
    pub(super) fn bind(&mut self, generation: u64) {
        self.bound = self.bound.max(generation);
        self.release();
    }

    fn release(&mut self) {
        while self.held.front().is_some_and(|(generation, _)| *generation <= self.bound) {
            let Some((_, statuses)) = self.held.pop_front() else { return };
            for (object, status) in statuses {
                let entry = self.entry(&object);
                let before = std::mem::replace(&mut entry.desired, status);
                entry.released = before.filter(|_| entry.desired.is_none());
                entry.contests = 0;
                self.dirty.insert(object);
            }
        }
    }

    /// The first translation of everything is bound.
    pub(super) fn arm(&mut self) {
        self.armed = true;
        self.look_at_all();
    }

    /// The status of an object in the cluster; `None`: the object is gone.
    pub(super) fn see(&mut self, object: ObjectRef, seen: Option<Seen>, now: Instant) {
        let Some(seen) = seen else {
            if let Some(entry) = self.entries.get_mut(&object) {
                entry.seen = None;
                if entry.desired.is_none() && !entry.in_flight {
                    self.entries.remove(&object);
                }
            }
            return;
        };
        if self.entry(&object).note(seen, now) {
            self.dirty.insert(object);
        }
    }

    /// Looks at everything again: a new leader writes what was missed.
    pub(super) fn look_at_all(&mut self) {
        self.dirty = self.entries.keys().cloned().collect();
    }

    /// The next job that is due. Its object is not given out again before `finish`.
    pub(super) fn next(&mut self, now: Instant) -> Next {
        if !self.armed {
            return Next::Idle;
        }
        self.wake(now);
        while let Some(object) = self.dirty.pop_first() {
            let Some(entry) = self.entries.get_mut(&object) else { continue };
            if entry.in_flight {
                entry.again = true;
                continue;
            }
            let Some(seen) = &entry.seen else { continue };
            let Some(later) = entry.due().filter(|due| *due > now) else {
                entry.in_flight = true;
                let (desired, released, seen) = (entry.desired.clone(), entry.released.clone(), seen.clone());
                return Next::Work(Box::new(Job { object, desired, released, seen }));
            };
            if let Some(before) = entry.later.replace(later) {
                self.later.remove(&(before, object.clone()));
            }
            self.later.insert((later, object));
        }
        self.later.first().map_or(Next::Idle, |(due, _)| Next::Wait(*due))
    }

    /// Takes those whose time has come.
    fn wake(&mut self, now: Instant) {
        while self.later.first().is_some_and(|(due, _)| *due <= now) {
            let Some((_, object)) = self.later.pop_first() else { return };
            if let Some(entry) = self.entries.get_mut(&object) {
                entry.later = None;
                self.dirty.insert(object);
            }
        }
    }

    /// How a job ended. `random` is uniform in 0..1.
    pub(super) fn finish(&mut self, job: &Job, outcome: Outcome, now: Instant, random: f64) {
        let object = &job.object;
        let Some(entry) = self.entries.get_mut(object) else { return };
        entry.in_flight = false;
        if std::mem::take(&mut entry.again) {
            self.dirty.insert(object.clone());
        }
        match outcome {
            Outcome::Same => entry.backoff.reset(),
            Outcome::Answered(seen) => {
                entry.backoff.reset();
                let again = entry.written.as_ref().is_some_and(|(written, _)| *written == job.desired);
                entry.contests = if again { entry.contests.saturating_add(1) } else { 0 };
                entry.written = Some((job.desired.clone(), now));
                // What the API server made of our words needs no second look: it would not make anything else of them.
                entry.note(seen, now);
            }
            // After a conflict the watch brings what somebody else wrote, most likely before the wait is over.
            Outcome::Conflict | Outcome::Failed => {
                entry.retry = Some(now + entry.backoff.next_wait(random));
                self.dirty.insert(object.clone());
            }
            Outcome::Gone => self.see(object.clone(), None, now),
        }
    }

    /// No job is in hand any more: the task that had them is gone.
    pub(super) fn take_all_back(&mut self) {
        self.entries.values_mut().for_each(|entry| entry.in_flight = false);
        self.look_at_all();
    }

    fn entry(&mut self, object: &ObjectRef) -> &mut Entry {
        self.entries.entry(object.clone()).or_insert_with(|| Entry {
            desired: None,
            released: None,
            seen: None,
            in_flight: false,
            again: false,
            later: None,
            grace: None,
            retry: None,
            backoff: Backoff::new(RETRY_FIRST, RETRY_MOST),
            written: None,
            contests: 0,
        })
    }
}

// === impl Entry ===

impl Entry {
    /// Takes in how the object is. Returns whether that is new.
    fn note(&mut self, seen: Seen, now: Instant) -> bool {
        let known = self.seen.as_ref();
        if known.is_some_and(|known| known.resource_version == seen.resource_version || seen.is_older_than(known)) {
            return false;
        }
        if self.seen.replace(seen).is_none() {
            self.grace = Some(now + GRACE);
        }
        true
    }

    /// When the object may be looked at.
    fn due(&self) -> Option<Instant> {
        let grace = self.grace.filter(|_| self.desired.is_none());
        let pause = COALESCE.saturating_mul(1_u32.checked_shl(self.contests).unwrap_or(u32::MAX)).min(CONTEST_MOST);
        let settled = self.written.as_ref().map(|(_, at)| *at + pause);
        self.retry.max(grace).max(settled)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::base::Kind;
    use crate::controller::kube::discovery;
    use crate::translate::GatewayStatus;

    fn route(name: &str) -> ObjectRef {
        ObjectRef::new(Kind::HttpRoute, "n", name)
    }

    fn seen(version: &str) -> Seen {
        let served = Arc::new(Served { resource: discovery::resource(Kind::HttpRoute, "v1"), has_status: true });
        Seen::of(&RawObject::from(json!({"metadata": {"resourceVersion": version}, "status": {"at": version}})), &served)
    }

    fn queue() -> StatusQueue {
        StatusQueue { armed: true, ..StatusQueue::default() }
    }

    /// Long enough ago for translation to have spoken.
    fn past() -> Instant {
        Instant::now().checked_sub(2 * GRACE).unwrap()
    }

    fn status() -> Option<Arc<Status>> {
        Some(Arc::new(Status::Gateway(GatewayStatus::default())))
    }

    fn work(queue: &mut StatusQueue, now: Instant) -> Option<Job> {
        match queue.next(now) {
            Next::Work(job) => Some(*job),
            Next::Wait(_) | Next::Idle => None,
        }
    }

    #[test]
    fn a_status_waits_until_its_snapshot_is_bound() {
        let now = Instant::now();
        let mut queue = queue();
        queue.bind(1);
        queue.desire(2, vec![(route("a"), status())]);
        queue.desire(3, vec![(route("b"), status())]);
        queue.see(route("a"), Some(seen("1")), past());
        queue.see(route("b"), Some(seen("1")), past());
        // Both are looked at because they were seen, without what is not bound.
        for _ in 0..2 {
            let job = work(&mut queue, now).unwrap();
            assert!(job.desired.is_none());
            queue.finish(&job, Outcome::Same, now, 0.0);
        }
        queue.bind(2);
        let job = work(&mut queue, now).unwrap();
        assert!(job.object == route("a") && job.desired.is_some());
        assert!(work(&mut queue, now).is_none());
        queue.bind(3);
        assert_eq!(work(&mut queue, now).unwrap().object, route("b"));
    }

    #[test]
    fn nothing_is_written_before_translation_has_spoken() {
        let now = Instant::now();
        let mut queue = StatusQueue::default();
        queue.see(route("a"), Some(seen("1")), past());
        queue.desire(0, vec![(route("a"), status())]);
        assert!(work(&mut queue, now).is_none(), "the first snapshot is not bound");
        queue.arm();
        assert!(work(&mut queue, now).is_some());

        queue.see(route("b"), Some(seen("1")), now);
        assert!(matches!(queue.next(now), Next::Wait(at) if at == now + GRACE), "it may have a status in a moment");
        queue.desire(0, vec![(route("b"), status())]);
        assert!(work(&mut queue, now).is_some());
    }

    #[test]
    fn one_object_is_written_at_most_four_times_a_second() {
        let now = Instant::now();
        let mut queue = queue();
        queue.see(route("a"), Some(seen("1")), past());
        queue.desire(0, vec![(route("a"), status())]);
        let job = work(&mut queue, now).unwrap();
        // What changes while it is in hand is looked at afterwards.
        queue.desire(0, vec![(route("a"), status())]);
        assert!(work(&mut queue, now).is_none());
        queue.finish(&job, Outcome::Answered(seen("2")), now, 0.0);
        assert!(matches!(queue.next(now), Next::Wait(at) if at == now + COALESCE));
        let job = work(&mut queue, now + COALESCE).unwrap();
        assert_eq!(&*job.seen.resource_version, "2");
        assert_eq!(job.seen.status(), json!({"at": "2"}));
    }

    #[test]
    fn what_does_not_stay_is_written_ever_more_seldom() {
        let now = Instant::now();
        let mut queue = queue();
        queue.desire(0, vec![(route("a"), status())]);
        let mut at = now;
        let mut waits = Vec::new();
        queue.see(route("a"), Some(seen("2")), past());
        for version in 1..12 {
            let Next::Work(job) = queue.next(at) else { panic!("due") };
            queue.finish(&job, Outcome::Answered(seen(&(2 * version + 1).to_string())), at, 0.0);
            assert!(matches!(queue.next(at), Next::Idle), "our own write stays");
            queue.see(route("a"), Some(seen(&(2 * version + 2).to_string())), past());
            let Next::Wait(next) = queue.next(at) else { panic!("later") };
            waits.push((next - at).as_millis());
            at = next;
        }
        assert_eq!(waits, [250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000, 60_000]);
        // What is new is written at once.
        queue.desire(0, vec![(route("a"), Some(Arc::new(Status::Route(crate::translate::RouteStatus::default()))))]);
        assert!(work(&mut queue, at - Duration::from_secs(59)).is_some());
    }

    #[test]
    fn a_conflict_backs_off() {
        let now = Instant::now();
        let mut queue = queue();
        queue.see(route("a"), Some(seen("1")), past());
        let mut at = now;
        for wait in [100, 200, 400] {
            let job = work(&mut queue, at).unwrap();
            queue.finish(&job, Outcome::Conflict, at, 1.0);
            assert!(work(&mut queue, at).is_none());
            at += Duration::from_millis(wait);
        }
        queue.see(route("a"), Some(seen("5")), past());
        let job = work(&mut queue, at).unwrap();
        assert_eq!(&*job.seen.resource_version, "5");
        queue.finish(&job, Outcome::Failed, at, 1.0);
        assert!(work(&mut queue, at + Duration::from_millis(799)).is_none());
        assert!(work(&mut queue, at + Duration::from_millis(800)).is_some());
    }

    #[test]
    fn an_older_event_does_not_undo_our_own_write() {
        let now = Instant::now();
        let mut queue = queue();
        queue.see(route("a"), Some(seen("9")), past());
        let job = work(&mut queue, now).unwrap();
        queue.finish(&job, Outcome::Answered(seen("10")), now, 0.0);
        for version in ["9", "10"] {
            queue.see(route("a"), Some(seen(version)), past());
            assert!(matches!(queue.next(now + COALESCE), Next::Idle), "nothing new");
        }
        queue.look_at_all();
        assert_eq!(&*work(&mut queue, now + COALESCE).unwrap().seen.resource_version, "10");
    }

    #[test]
    fn what_is_gone_is_forgotten_and_a_new_leader_looks_at_all_else() {
        let now = Instant::now();
        let mut queue = queue();
        for name in ["a", "b"] {
            queue.see(route(name), Some(seen("1")), past());
            let job = work(&mut queue, now).unwrap();
            queue.finish(&job, if name == "a" { Outcome::Gone } else { Outcome::Same }, now, 0.0);
        }
        queue.desire(0, vec![(route("never seen"), status())]);
        assert!(matches!(queue.next(now), Next::Idle));
        queue.look_at_all();
        assert_eq!(work(&mut queue, now).unwrap().object, route("b"));
        assert!(matches!(queue.next(now), Next::Idle));
        queue.take_all_back();
        assert_eq!(work(&mut queue, now).unwrap().object, route("b"));
    }
}
