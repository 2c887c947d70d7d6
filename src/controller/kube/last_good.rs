//! Last good versions in a ConfigMap of the install: read once at the start, by every replica; written by the leader.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Client;
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};
use xxhash_rust::xxh64::xxh64;

use crate::base::{Backoff, ObjectName};
use crate::translate::{LastGood, LastGoodVersion, infrastructure::InfrastructureOptions};

use super::{
    client::chain,
    config_map::{MapWrite, StoredMap},
};

/// Waits after a refused write.
const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_MOST: Duration = Duration::from_secs(30);

/// What is kept and what ought to be. It outlives the writer.
#[derive(Debug, Default)]
pub(super) struct LastGoodState {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Whether `desired` speaks of everything: before, what is not wanted may only not be known yet.
    armed: bool,
    desired: Arc<LastGood>,
    /// The ConfigMap; `None` inside: it does not exist. `None` outside: it was not read yet.
    stored: Option<Option<StoredMap>>,
}

/// The ConfigMap of last good versions.
pub(super) fn map_name(options: &InfrastructureOptions) -> ObjectName {
    ObjectName::new(options.install_namespace.clone(), format!("{}-last-good", options.instance))
}

/// The versions in a ConfigMap; what this version of Clingfish cannot read is left out.
pub(super) fn versions(data: &BTreeMap<String, String>) -> LastGood {
    data.values().filter_map(|document| LastGoodVersion::parse(document, None)).collect()
}

/// The ConfigMap's data. A name may be longer than a key, so that a key holds its hash; everything else is in the value.
fn data(versions: &LastGood) -> BTreeMap<String, String> {
    let entry = |version: &LastGoodVersion| {
        let object = &version.object;
        let hash = xxh64(format!("{object} {}", version.uid.as_deref().unwrap_or_default()).as_bytes(), 0);
        (format!("{}-{hash:016x}.json", object.kind), version.document.to_string())
    };
    versions.iter().map(entry).collect()
}

/// The write that is due, if any. Pure.
fn due(state: &State, owner: Option<&OwnerReference>) -> Option<MapWrite> {
    let stored = state.stored.as_ref().filter(|_| state.armed)?;
    let wanted = data(&state.desired);
    let unchanged = match stored {
        Some(stored) => stored.data == wanted && stored.missing_owner(owner).is_none(),
        None => wanted.is_empty(),
    };
    (!unchanged).then(|| MapWrite::new(wanted, stored.as_ref(), owner))
}

// === impl LastGoodState ===

impl LastGoodState {
    /// The first translation of everything is bound: what is not wanted now is not wanted.
    pub(super) fn arm(&self) {
        self.lock().armed = true;
        self.changed.notify_one();
    }

    /// What ought to be kept.
    pub(super) fn desire(&self, desired: &Arc<LastGood>) {
        let mut state = self.lock();
        if !Arc::ptr_eq(&state.desired, desired) {
            state.desired = Arc::clone(desired);
            drop(state);
            self.changed.notify_one();
        }
    }

    /// The ConfigMap as it is; `None`: there is none.
    pub(super) fn see(&self, stored: Option<StoredMap>) {
        self.lock().stored = Some(stored);
        self.changed.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes last good versions while this process is the leader; never ends.
pub(super) async fn write_last_good(
    client: Client,
    last_good: Arc<LastGoodState>,
    mut leader: watch::Receiver<bool>,
    options: Arc<InfrastructureOptions>,
    owner: Option<OwnerReference>,
) {
    let name = map_name(&options);
    let mut backoff = Backoff::new(RETRY_FIRST, RETRY_MOST);
    let mut not_before = Instant::now();
    loop {
        let leads = *leader.borrow_and_update();
        let mut until = Instant::now() + Duration::from_secs(3600);
        let write = if leads { due(&last_good.lock(), owner.as_ref()) } else { None };
        if let Some(write) = write {
            if Instant::now() >= not_before {
                match write.send(&client, &name, owner.as_ref()).await {
                    Ok(stored) => {
                        backoff.reset();
                        last_good.see(Some(stored));
                        continue;
                    }
                    Err(error) => {
                        not_before = Instant::now() + backoff.next_wait(fastrand::f64());
                        // A conflict is settled by what the watch brings.
                        if error.code() == Some(409) {
                            tracing::debug!("ConfigMap {name} was changed by somebody else in the meantime");
                        } else {
                            tracing::warn!(error = &*chain(&error), "ConfigMap {name} could not be written; it will be tried again");
                        }
                    }
                }
            }
            until = not_before;
        }
        tokio::select! {
            () = last_good.changed.notified() => {}
            result = leader.changed() => if result.is_err() { return },
            () = tokio::time::sleep_until(until) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn version(name: &str) -> LastGoodVersion {
        let document = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "uid": "u"}}).to_string();
        LastGoodVersion::parse(&document, None).unwrap()
    }

    fn state(desired: &[&str], stored: Option<&[&str]>) -> State {
        let versions = |names: &[&str]| -> LastGood { names.iter().map(|name| version(name)).collect() };
        let stored =
            stored.map(|names| StoredMap { resource_version: "5".into(), data: data(&versions(names)), owners: vec!["mine".into()] });
        State { armed: true, desired: Arc::new(versions(desired)), stored: Some(stored) }
    }

    #[test]
    fn what_is_kept_is_read_again_under_keys_that_a_config_map_allows() {
        let kept = vec![version("a"), version("b")];
        let data = data(&kept);
        let mut read = versions(&data);
        read.sort_by(|one, other| one.object.cmp(&other.object));
        assert_eq!(read, kept);
        let allowed = |key: &str| key.len() < 253 && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
        assert!(data.keys().all(|key| allowed(key)), "{data:?}");
        let odd = BTreeMap::from([("x".to_owned(), "{".to_owned()), ("y".to_owned(), r#"{"apiVersion": "v9", "kind": "Odd"}"#.to_owned())]);
        assert_eq!(versions(&odd), []);
    }

    #[test]
    fn the_chart_grants_the_config_map() {
        let options = InfrastructureOptions { instance: "clingfish".into(), ..InfrastructureOptions::default() };
        assert_eq!(&*map_name(&options).name, "clingfish-last-good");
        let role = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/charts/clingfish/templates/role.yaml")).unwrap();
        let rule = role.split("- apiGroups:").find(|rule| rule.contains("{{ $name }}-last-good")).unwrap();
        assert!(rule.contains("[configmaps]") && rule.contains("verbs: [list, watch, patch]"), "{rule}");
    }

    #[test]
    fn only_a_difference_is_written_and_nothing_before_everything_is_known() {
        let owner = |uid: &str| Some(OwnerReference { uid: uid.into(), ..OwnerReference::default() });
        let keys = |write: &Option<MapWrite>| match write {
            Some(MapWrite::Create(data)) => format!("create {}", data.len()),
            Some(MapWrite::Patch { owner: Some(owner), .. }) => format!("own {}", owner.uid),
            Some(MapWrite::Patch { data, .. }) => {
                format!(
                    "set {} remove {}",
                    data.values().filter(|value| !value.is_null()).count(),
                    data.values().filter(|value| **value == Value::Null).count()
                )
            }
            None => "nothing".to_owned(),
        };
        for (desired, stored, expected) in [
            (&[][..], None, "nothing"),
            (&["a"], None, "create 1"),
            (&["a"], Some(&["a"][..]), "nothing"),
            (&["a", "b"], Some(&["a", "c"]), "set 1 remove 1"),
            (&[], Some(&["a"]), "set 0 remove 1"),
            (&[], Some(&[]), "nothing"),
        ] {
            assert_eq!(keys(&due(&state(desired, stored), owner("mine").as_ref())), expected, "{desired:?} {stored:?}");
        }
        assert_eq!(due(&State { armed: false, ..state(&["a"], None) }, None), None);
        assert_eq!(due(&State { stored: None, ..state(&["a"], None) }, None), None);
        let orphaned = due(&state(&["a"], Some(&["a"])), owner("new").as_ref());
        assert_eq!(keys(&orphaned), "own new", "an owner that is gone would take it along");
    }
}
