//! Secrets: only those that are referred to, each by its name, so that nobody need grant the reading of all.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use kube::{Api, Client};
use tokio::{sync::watch, time::Instant};

use crate::base::{Kind, Message, ObjectName, ObjectRef};
use crate::translate::Change;

use super::{
    client::{CallError, call, chain},
    discovery::{Served, resource},
    gate::{ClusterEvent, Gate},
    intake::Intake,
    object::RawObject,
};

/// Time between two readings of a Secret that is referred to.
const INTERVAL: Duration = Duration::from_secs(10);

/// The same for one that may be watched too: the watch tells what changes.
const WATCHED_INTERVAL: Duration = Duration::from_secs(60);

/// The same for one that does not exist yet or could not be read: somebody waits for it.
const MISSING_INTERVAL: Duration = Duration::from_secs(2);

/// Readings after which nobody is thought to wait any more.
const MISSING_READINGS: u32 = 30;

/// All Secrets together are read once in so much time, since an idle process asks little: more of them are each read less often, down to once
/// in `LONGEST_INTERVAL`.
const TURN: Duration = Duration::from_secs(5);
const LONGEST_INTERVAL: Duration = Duration::from_secs(300);

/// Secrets that were handed on.
pub(super) struct Secrets {
    gate: Arc<Gate>,
    served: Arc<Served>,
    state: Mutex<State>,
}

struct State {
    intake: Intake,
    wanted: BTreeSet<ObjectName>,
}

// === impl Secrets ===

impl Secrets {
    /// None yet.
    pub(super) fn new(gate: Arc<Gate>) -> Self {
        let served = Arc::new(Served { resource: resource(Kind::Secret, "v1"), has_status: false });
        let state = State { intake: Intake::new(Kind::Secret), wanted: BTreeSet::new() };
        Self { gate, served, state: Mutex::new(state) }
    }

    /// The receiver may have lost some: the next reading hands all on again.
    pub(super) fn forget_contents(&self) {
        self.lock().intake.forget_contents();
    }

    /// A Secret is now this, or gone. One that nobody refers to is not kept.
    pub(super) fn see(&self, name: ObjectName, secret: Option<RawObject>) {
        let mut state = self.lock();
        let delta = match secret {
            Some(secret) if state.wanted.contains(&name) => state.intake.apply(secret, &self.served),
            Some(_) => return,
            None => state.intake.delete(name),
        };
        self.pass(delta.changes);
    }

    /// These are referred to; lets go of what is not.
    fn want(&self, wanted: BTreeSet<ObjectName>) {
        let mut state = self.lock();
        let gone: Vec<ObjectName> = state.wanted.difference(&wanted).cloned().collect();
        state.wanted = wanted;
        let changes = gone.into_iter().flat_map(|name| state.intake.delete(name).changes).collect();
        self.pass(changes);
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

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Secrets").field("wanted", &self.lock().wanted).finish_non_exhaustive()
    }
}

/// When a Secret is read next, and how often in a row it could not be had.
#[derive(Clone, Copy, Debug)]
struct Due {
    at: Instant,
    missing: u32,
}

/// Reads the wanted Secrets at once when they are first referred to, then from time to time; never ends. Those of the namespaces `watched` are
/// watched too.
pub(super) async fn poll_secrets(
    client: Client,
    store: Arc<Secrets>,
    watched: Vec<Box<str>>,
    mut wanted: watch::Receiver<BTreeSet<ObjectName>>,
) {
    let mut told: BTreeMap<ObjectName, Message> = BTreeMap::new();
    let mut due: BTreeMap<ObjectName, Due> = BTreeMap::new();
    loop {
        let names = wanted.borrow_and_update().clone();
        told.retain(|name, _| names.contains(name));
        due.retain(|name, _| names.contains(name));
        store.want(names.clone());
        let count = names.len();
        for name in names {
            let next = due.entry(name.clone()).or_insert_with(|| Due { at: Instant::now(), missing: 0 });
            if next.at <= Instant::now() {
                let is_watched = watched.contains(&name.namespace);
                let found = read(&client, &store, name, &mut told).await;
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

/// Time until a Secret is read again that could not be had `missing` times in a row, where `count` are referred to. Pure.
fn interval(missing: u32, is_watched: bool, count: usize) -> Duration {
    if (1..=MISSING_READINGS).contains(&missing) {
        return MISSING_INTERVAL;
    }
    let least = if is_watched { WATCHED_INTERVAL } else { INTERVAL };
    TURN.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX)).clamp(least, LONGEST_INTERVAL)
}

/// Reads a Secret; whether there is one.
async fn read(client: &Client, store: &Secrets, name: ObjectName, told: &mut BTreeMap<ObjectName, Message>) -> bool {
    let api: Api<RawObject> = Api::namespaced_with(client.clone(), &name.namespace, &resource(Kind::Secret, "v1"));
    match call(api.get_opt(&name.name)).await {
        Ok(secret) => {
            told.remove(&name);
            let found = secret.is_some();
            store.see(name, secret);
            found
        }
        // The last one that was read keeps serving.
        Err(error) => {
            tell(name, &error, told);
            false
        }
    }
}

fn tell(name: ObjectName, error: &CallError, told: &mut BTreeMap<ObjectName, Message>) {
    let text = chain(error);
    if told.get(&name) != Some(&text) {
        let object = ObjectRef { kind: Kind::Secret, name: name.clone() };
        tracing::warn!(%object, error = &*text, "cannot be read; it is tried again");
        told.insert(name, text);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn secret(name: &str, data: &str) -> (ObjectName, Option<RawObject>) {
        let document = json!({"metadata": {"name": name, "namespace": "n", "resourceVersion": data}, "data": {"tls.crt": data}});
        (ObjectName::new("n", name), Some(RawObject::from(document)))
    }

    #[test]
    fn many_secrets_are_each_read_less_often_and_one_that_is_awaited_more_often_for_a_while() {
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
                        Change::Apply(object) => format!("apply {}", object.object_ref().name),
                        Change::Route(route) => format!("apply {}", route.object().name),
                        Change::Delete(object) => format!("delete {}", object.name),
                        Change::Undecodable(error) => error.to_string(),
                        Change::Unparsed(_) => "a cluster has no files".to_owned(),
                    }));
                }
            }),
            [],
        );
        let store = Secrets::new(Arc::new(gate));
        let see = |(name, secret)| store.see(name, secret);
        let names = |names: &[&str]| names.iter().map(|name| ObjectName::new("n", *name)).collect::<BTreeSet<_>>();
        let passed = || std::mem::take(&mut *passed.lock().unwrap());

        see(secret("a", "YQ=="));
        assert!(passed().is_empty());
        store.want(names(&["a", "b"]));
        see(secret("a", "YQ=="));
        see(secret("a", "YQ=="));
        see(secret("c", "YQ=="));
        assert_eq!(passed(), ["apply n/a"]);
        see(secret("a", "Yg=="));
        store.see(ObjectName::new("n", "b"), None);
        assert_eq!(passed(), ["apply n/a"]);
        store.want(names(&["b"]));
        assert_eq!(passed(), ["delete n/a"]);
    }
}
