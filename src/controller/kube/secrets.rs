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

/// The same for one that does not exist yet or could not be read: somebody waits for it.
const MISSING_INTERVAL: Duration = Duration::from_secs(2);

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

/// Reads the wanted Secrets at once when they are first referred to, then every few seconds; never ends.
pub(super) async fn poll_secrets(client: Client, store: Arc<Secrets>, mut wanted: watch::Receiver<BTreeSet<ObjectName>>) {
    let mut told: BTreeMap<ObjectName, Message> = BTreeMap::new();
    let mut due: BTreeMap<ObjectName, Instant> = BTreeMap::new();
    loop {
        let names = wanted.borrow_and_update().clone();
        told.retain(|name, _| names.contains(name));
        due.retain(|name, _| names.contains(name));
        store.want(names.clone());
        for name in names {
            let at = due.entry(name.clone()).or_insert_with(Instant::now);
            if *at <= Instant::now() {
                let interval = read(&client, &store, name, &mut told).await;
                *at = Instant::now() + interval;
            }
        }
        let next = due.values().min().copied();
        tokio::select! {
            result = wanted.changed() => if result.is_err() { return },
            () = tokio::time::sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {}
        }
    }
}

/// Reads a Secret; the time until it is read again.
async fn read(client: &Client, store: &Secrets, name: ObjectName, told: &mut BTreeMap<ObjectName, Message>) -> Duration {
    let api: Api<RawObject> = Api::namespaced_with(client.clone(), &name.namespace, &resource(Kind::Secret, "v1"));
    match call(api.get_opt(&name.name)).await {
        Ok(secret) => {
            told.remove(&name);
            let interval = if secret.is_some() { INTERVAL } else { MISSING_INTERVAL };
            store.see(name, secret);
            interval
        }
        // The last one that was read keeps serving.
        Err(error) => {
            tell(name, &error, told);
            MISSING_INTERVAL
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
    fn only_what_is_referred_to_is_handed_on_and_only_when_it_differs() {
        let passed = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&passed);
        let gate = Gate::new(
            Box::new(move |event| {
                if let ClusterEvent::Changes(changes) = event {
                    sink.lock().unwrap().extend(changes.into_iter().map(|change| match change {
                        Change::Apply(object) => format!("apply {}", object.object_ref().name),
                        Change::Route(route) => format!("apply {}", route.name()),
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
