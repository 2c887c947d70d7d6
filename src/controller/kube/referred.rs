//! Secrets and ConfigMaps: only those that are referred to, each by its name, so that nobody need grant the reading of all.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use kube::{Api, Client};
use tokio::{sync::watch, time::Instant};

use crate::base::{Kind, Message, ObjectRef};
use crate::translate::Change;

use super::{
    client::{CallError, call, chain},
    discovery::{Served, resource},
    gate::{ClusterEvent, Gate},
    intake::Intake,
    object::RawObject,
};

/// Time between two readings of an object that is referred to.
const INTERVAL: Duration = Duration::from_secs(10);

/// The same for one that may be watched too: the watch tells what changes.
const WATCHED_INTERVAL: Duration = Duration::from_secs(60);

/// The same for one that does not exist yet or could not be read: somebody waits for it.
const MISSING_INTERVAL: Duration = Duration::from_secs(2);

/// Readings after which nobody is thought to wait any more.
const MISSING_READINGS: u32 = 30;

/// All of them together are read once in so much time, since an idle process asks little: more of them are each read less often, down to once
/// in `LONGEST_INTERVAL`.
const TURN: Duration = Duration::from_secs(5);
const LONGEST_INTERVAL: Duration = Duration::from_secs(300);

/// Objects that are referred to, as they were handed on.
pub(super) struct Referred {
    gate: Arc<Gate>,
    state: Mutex<State>,
}

struct State {
    stores: Vec<Store>,
    wanted: BTreeSet<ObjectRef>,
}

/// What was handed on of a kind.
struct Store {
    kind: Kind,
    served: Arc<Served>,
    intake: Intake,
}

// === impl Referred ===

impl Referred {
    /// None yet.
    pub(super) fn new(gate: Arc<Gate>) -> Self {
        let kinds = Kind::ALL.iter().copied().filter(|kind| kind.is_read_by_name());
        let state = State { stores: kinds.map(Store::new).collect(), wanted: BTreeSet::new() };
        Self { gate, state: Mutex::new(state) }
    }

    /// The receiver may have lost some: the next reading hands all on again.
    pub(super) fn forget_contents(&self) {
        self.lock().stores.iter_mut().for_each(|store| store.intake.forget_contents());
    }

    /// An object is now this, or gone. One that nobody refers to is not kept.
    pub(super) fn see(&self, object: &ObjectRef, content: Option<RawObject>) {
        let mut state = self.lock();
        let is_wanted = state.wanted.contains(object);
        let Some(store) = state.stores.iter_mut().find(|store| store.kind == object.kind) else { return };
        let changes = match content {
            Some(content) if is_wanted => store.intake.apply(content, &store.served).changes,
            Some(_) => return,
            None => store.intake.delete(object.name.clone()).changes,
        };
        self.pass(changes);
    }

    /// These are referred to; lets go of what is not.
    fn want(&self, wanted: BTreeSet<ObjectRef>) {
        let mut state = self.lock();
        let before = std::mem::replace(&mut state.wanted, wanted);
        let State { stores, wanted } = &mut *state;
        let gone = before.difference(wanted);
        let changes = gone.flat_map(|object| {
            let store = stores.iter_mut().find(|store| store.kind == object.kind);
            store.map(|store| store.intake.delete(object.name.clone()).changes).unwrap_or_default()
        });
        self.pass(changes.collect());
    }

    fn pass(&self, changes: Vec<Change>) {
        if !changes.is_empty() {
            self.gate.pass(ClusterEvent::Changes(changes));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Store ===

impl Store {
    fn new(kind: Kind) -> Self {
        Self { kind, served: Arc::new(Served { resource: resource(kind, "v1"), has_status: false }), intake: Intake::new(kind) }
    }
}

impl std::fmt::Debug for Referred {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Referred").field("wanted", &self.lock().wanted).finish_non_exhaustive()
    }
}

/// When an object is read next, and how often in a row it could not be had.
#[derive(Clone, Copy, Debug)]
struct Due {
    at: Instant,
    missing: u32,
}

/// Reads the wanted objects at once when they are first referred to, then from time to time; never ends. Secrets of the namespaces `watched`
/// are watched too.
pub(super) async fn poll_referred(
    client: Client,
    store: Arc<Referred>,
    watched: Vec<Box<str>>,
    mut wanted: watch::Receiver<BTreeSet<ObjectRef>>,
) {
    let mut told: BTreeMap<ObjectRef, Message> = BTreeMap::new();
    let mut due: BTreeMap<ObjectRef, Due> = BTreeMap::new();
    loop {
        let objects = wanted.borrow_and_update().clone();
        told.retain(|object, _| objects.contains(object));
        due.retain(|object, _| objects.contains(object));
        store.want(objects.clone());
        let count = objects.len();
        for object in objects {
            let next = due.entry(object.clone()).or_insert_with(|| Due { at: Instant::now(), missing: 0 });
            if next.at <= Instant::now() {
                let is_watched = object.kind == Kind::Secret && watched.contains(&object.name.namespace);
                let found = read(&client, &store, object, &mut told).await;
                next.missing = if found { 0 } else { next.missing.saturating_add(1) };
                next.at = Instant::now() + interval(next.missing, is_watched, count);
            }
        }
        let next = due.values().map(|due| due.at).min();
        tokio::select! {
            result = wanted.changed() => if result.is_err() { return },
            () = tokio::time::sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {}
        }
    }
}

/// Time until an object is read again that could not be had `missing` times in a row, where `count` are referred to. Pure.
fn interval(missing: u32, is_watched: bool, count: usize) -> Duration {
    if (1..=MISSING_READINGS).contains(&missing) {
        return MISSING_INTERVAL;
    }
    let least = if is_watched { WATCHED_INTERVAL } else { INTERVAL };
    TURN.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX)).clamp(least, LONGEST_INTERVAL)
}

/// Reads an object; whether there is one.
async fn read(client: &Client, store: &Referred, object: ObjectRef, told: &mut BTreeMap<ObjectRef, Message>) -> bool {
    let ObjectRef { kind, name } = &object;
    let api: Api<RawObject> = Api::namespaced_with(client.clone(), &name.namespace, &resource(*kind, "v1"));
    match call(api.get_opt(&name.name)).await {
        Ok(content) => {
            told.remove(&object);
            let found = content.is_some();
            store.see(&object, content);
            found
        }
        // The last one that was read keeps serving.
        Err(error) => {
            tell(object, &error, told);
            false
        }
    }
}

fn tell(object: ObjectRef, error: &CallError, told: &mut BTreeMap<ObjectRef, Message>) {
    let text = chain(error);
    if told.get(&object) != Some(&text) {
        tracing::warn!(%object, error = &*text, "cannot be read; it is tried again");
        told.insert(object, text);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn secret(name: &str, data: &str) -> (ObjectRef, Option<RawObject>) {
        let document = json!({"metadata": {"name": name, "namespace": "n", "resourceVersion": data}, "data": {"tls.crt": data}});
        (ObjectRef::new(Kind::Secret, "n", name), Some(RawObject::from(document)))
    }

    #[test]
    fn many_objects_are_each_read_less_often_and_one_that_is_awaited_more_often_for_a_while() {
        let seconds = |missing: u32, is_watched: bool, count: usize| interval(missing, is_watched, count).as_secs();
        for (missing, is_watched, count, expected) in [
            (0, false, 1, 10),
            (0, false, 2, 10),
            (0, false, 20, 100),
            (0, false, 1_000, 300),
            (0, true, 1, 60),
            (0, true, 20, 100),
            (1, false, 20, 2),
            (MISSING_READINGS, true, 20, 2),
            (MISSING_READINGS + 1, false, 1, 10),
            (u32::MAX, false, 20, 100),
        ] {
            assert_eq!(seconds(missing, is_watched, count), expected, "{missing} {is_watched} {count}");
        }
    }

    #[test]
    fn only_what_is_referred_to_is_handed_on_and_only_when_it_differs() {
        let passed = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&passed);
        let gate = Gate::new(
            Box::new(move |event| {
                if let ClusterEvent::Changes(changes) = event {
                    sink.lock().unwrap().extend(changes.into_iter().map(|change| match change {
                        Change::Apply(object) => format!("apply {}", object.object_ref()),
                        Change::Route(route) => format!("apply {}", route.object()),
                        Change::Delete(object) => format!("delete {object}"),
                        Change::Undecodable(error) => error.to_string(),
                        Change::Unparsed(_) => "a cluster has no files".to_owned(),
                    }));
                }
            }),
            [],
        );
        let store = Referred::new(Arc::new(gate));
        let see = |(object, content): (ObjectRef, _)| store.see(&object, content);
        let secrets = |names: &[&str]| names.iter().map(|name| ObjectRef::new(Kind::Secret, "n", *name)).collect::<BTreeSet<_>>();
        let passed = || std::mem::take(&mut *passed.lock().unwrap());

        see(secret("a", "YQ=="));
        assert!(passed().is_empty());
        store.want(secrets(&["a", "b"]));
        see(secret("a", "YQ=="));
        see(secret("a", "YQ=="));
        see(secret("c", "YQ=="));
        assert_eq!(passed(), ["apply Secret n/a"]);
        see(secret("a", "Yg=="));
        see((ObjectRef::new(Kind::Secret, "n", "b"), None));
        assert_eq!(passed(), ["apply Secret n/a"]);
        store.want(secrets(&["b"]));
        assert_eq!(passed(), ["delete Secret n/a"]);

        // A ConfigMap of the same name is something else.
        let map = ObjectRef::new(Kind::ConfigMap, "n", "b");
        let content =
            || RawObject::from(json!({"metadata": {"name": "b", "namespace": "n", "resourceVersion": "1"}, "data": {"ca.crt": "x"}}));
        store.see(&map, Some(content()));
        assert!(passed().is_empty());
        store.want(BTreeSet::from([map.clone()]));
        store.see(&map, Some(content()));
        assert_eq!(passed(), ["apply ConfigMap n/b"]);
        store.want(BTreeSet::new());
        assert_eq!(passed(), ["delete ConfigMap n/b"]);
    }
}
