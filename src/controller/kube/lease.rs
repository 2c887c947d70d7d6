//! Leader election: the holder of a Lease writes into the cluster.
//!
//! An old holder's time is measured here, from when its last renewal was seen, and not by comparing its clock with ours. A holder that cannot
//! renew stops leading before anybody else may begin.

use std::{sync::Arc, time::Duration};

use k8s_openapi::{api::coordination::v1::Lease, apimachinery::pkg::apis::meta::v1::OwnerReference};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::{Map, Value, json};
use tokio::{sync::watch, time::Instant};

use crate::base::Message;

use super::{
    client::{CallError, FIELD_MANAGER, call, chain},
    installs::OwnInstall,
    outage::Outage,
};

/// Without a renewal for this long a Lease may be taken over.
const DURATION: Duration = Duration::from_secs(15);

/// Whatever duration stands in a Lease, it may be taken over after this long: one that was written by mistake must not lock everybody out.
const LONGEST: Duration = Duration::from_secs(60);

/// A holder that could not renew for this long no longer leads.
const RENEW_DEADLINE: Duration = Duration::from_secs(10);

/// Time between two looks at the Lease: most of what an idle process asks of the API server.
pub(super) const PERIOD: Duration = Duration::from_secs(3);

/// Who holds the Lease while an install is let go.
const RELEASER: &str = "clingfish release";

/// So often a Lease that somebody else changes meanwhile is seized.
const SEIZES: u32 = 10;

/// What is read of a Lease.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Record {
    holder: String,
    /// The holder's own words: only whether it changes matters.
    renewed: String,
    duration: Option<Duration>,
    transitions: i32,
    resource_version: String,
}

/// A Lease as it was last seen to change.
#[derive(Clone, Debug)]
struct Observation {
    record: Record,
    since: Instant,
}

/// What to do about a Lease.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Decision {
    /// There is none.
    Create,
    /// It is ours.
    Renew,
    /// Nobody holds it, or its holder has not renewed it in time.
    TakeOver,
    /// Somebody else leads.
    Wait,
}

/// The Lease of an install and this process' identity.
#[derive(Clone, Debug)]
pub(super) struct LeaseSettings {
    /// Namespace of the Lease.
    pub(super) namespace: Box<str>,
    /// Name of the Lease.
    pub(super) name: Box<str>,
    /// Name of this process: the pod's.
    pub(super) identity: Box<str>,
    /// The object with which it is deleted.
    pub(super) owner: Option<OwnerReference>,
    /// What other installs learn from it.
    pub(super) install: OwnInstall,
    /// Told of failures.
    pub(super) outage: Arc<Outage>,
}

// === impl Record ===

impl From<&Lease> for Record {
    fn from(lease: &Lease) -> Self {
        let spec = lease.spec.clone().unwrap_or_default();
        Self {
            holder: spec.holder_identity.unwrap_or_default(),
            renewed: spec.renew_time.map(|time| time.0.to_string()).unwrap_or_default(),
            duration: spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok()).map(Duration::from_secs),
            transitions: spec.lease_transitions.unwrap_or_default(),
            resource_version: lease.metadata.resource_version.clone().unwrap_or_default(),
        }
    }
}

// === impl Observation ===

impl Observation {
    /// The Lease is now this; the time counts from when holder or renewal last changed.
    fn after(before: Option<Self>, record: Record, now: Instant) -> Self {
        let unchanged = before.filter(|before| before.record.holder == record.holder && before.record.renewed == record.renewed);
        Self { since: unchanged.map_or(now, |before| before.since), record }
    }
}

/// What to do about the Lease. Pure.
fn decide(observed: Option<&Observation>, identity: &str, now: Instant) -> Decision {
    let Some(Observation { record, since }) = observed else { return Decision::Create };
    if record.holder == identity {
        return Decision::Renew;
    }
    let expired = now.saturating_duration_since(*since) >= record.duration.unwrap_or(DURATION).min(LONGEST);
    if record.holder.is_empty() || expired { Decision::TakeOver } else { Decision::Wait }
}

/// Whether this process leads at `now`, having last renewed at `renewed`.
fn leads(renewed: Option<Instant>, now: Instant) -> bool {
    renewed.is_some_and(|renewed| now.saturating_duration_since(renewed) < RENEW_DEADLINE)
}

/// Competes for the Lease until `stop` changes, then releases it; tells `holder`. After an error it tries again: without the Lease this
/// process only serves. `farewell`: what a holder does before it releases the Lease.
pub(super) async fn compete(
    client: Client,
    settings: LeaseSettings,
    holder: watch::Sender<bool>,
    mut stop: watch::Receiver<bool>,
    farewell: impl Future<Output = ()>,
) {
    let api: Api<Lease> = Api::namespaced(client, &settings.namespace);
    let mut state = Candidate { api, settings, observed: None, is_marked: false, renewed: None, told: None };
    while !*stop.borrow_and_update() {
        let began = Instant::now();
        let result = state.turn(began).await;
        state.tell(result);
        let leads = leads(state.renewed, Instant::now());
        holder.send_if_modified(|holder| std::mem::replace(holder, leads) != leads);
        // A deadline may fall between two turns.
        let until = state.renewed.filter(|_| leads).map_or(began + PERIOD, |renewed| (began + PERIOD).min(renewed + RENEW_DEADLINE));
        tokio::select! {
            () = tokio::time::sleep_until(until.max(began + PERIOD / 4)) => {}
            result = stop.changed() => if result.is_err() { break },
        }
    }
    if holder.send_replace(false) {
        farewell.await;
    }
    state.release().await;
}

/// Takes the Lease from whoever holds it, for the end of an install: then nobody else writes for a minute. Returns whether there is one.
///
/// # Errors
/// The API server does not answer, or refuses.
pub(super) async fn seize(api: &Api<Lease>, name: &str) -> Result<bool, CallError> {
    let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    let mut tries = 0;
    loop {
        let Some(lease) = call(api.get_opt(name)).await? else { return Ok(false) };
        let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string();
        let spec = json!({"holderIdentity": RELEASER, "renewTime": now, "leaseDurationSeconds": LONGEST.as_secs()});
        let patch = json!({"metadata": {"resourceVersion": lease.metadata.resource_version}, "spec": spec});
        tries += 1;
        match call(api.patch(name, &parameters, &Patch::Merge(patch))).await {
            Ok(_) => return Ok(true),
            Err(error) if error.code() == Some(409) && tries < SEIZES => {}
            Err(error) => return Err(error),
        }
    }
}

struct Candidate {
    api: Api<Lease>,
    settings: LeaseSettings,
    observed: Option<Observation>,
    /// Whether the Lease shows other installs what it must.
    is_marked: bool,
    renewed: Option<Instant>,
    told: Option<Message>,
}

// === impl Candidate ===

impl Candidate {
    /// One look, and one write where it is due.
    async fn turn(&mut self, now: Instant) -> Result<(), CallError> {
        // The holder knows the Lease from its own last write.
        if !leads(self.renewed, now) {
            self.look(now).await?;
        }
        let decision = decide(self.observed.as_ref(), &self.settings.identity, now);
        let written = match decision {
            Decision::Wait => {
                self.renewed = None;
                return Ok(());
            }
            Decision::Create => self.create().await,
            Decision::Renew | Decision::TakeOver => self.write(decision == Decision::TakeOver).await,
        };
        match written {
            Ok(lease) => {
                self.is_marked = self.settings.install.has_marked(&lease);
                self.observed = Some(Observation::after(self.observed.take(), Record::from(&lease), now));
                self.renewed = Some(now);
                Ok(())
            }
            Err(error) if matches!(error.code(), Some(404 | 409)) => {
                // Somebody else was faster, or it was deleted: look at it anew.
                self.look(now).await?;
                if self.observed.as_ref().is_none_or(|observed| observed.record.holder != *self.settings.identity) {
                    self.renewed = None;
                }
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    async fn look(&mut self, now: Instant) -> Result<(), CallError> {
        let lease = call(self.api.get_opt(&self.settings.name)).await?;
        self.observed = lease.map(|lease| Observation::after(self.observed.take(), Record::from(&lease), now));
        Ok(())
    }

    async fn create(&self) -> Result<Lease, CallError> {
        let owners: Vec<&OwnerReference> = self.settings.owner.iter().collect();
        let mut metadata = json!({"name": self.settings.name, "namespace": self.settings.namespace, "ownerReferences": owners});
        if let Some(metadata) = metadata.as_object_mut() {
            metadata.extend(self.marks());
        }
        let document = json!({
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": metadata,
            "spec": self.spec(Some(0)),
        });
        let lease: Lease = serde_json::from_value(document).map_err(kube::Error::SerdeError)?;
        let parameters = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        call(self.api.create(&parameters, &lease)).await
    }

    async fn write(&self, takes_over: bool) -> Result<Lease, CallError> {
        let record = self.observed.as_ref().map(|observed| observed.record.clone()).unwrap_or_default();
        let spec = self.spec(takes_over.then(|| record.transitions.saturating_add(1)));
        let mut metadata = Map::from_iter([("resourceVersion".to_owned(), json!(record.resource_version))]);
        if !self.is_marked {
            metadata.extend(self.marks());
        }
        self.patch(&json!({"metadata": metadata, "spec": spec})).await
    }

    fn marks(&self) -> Map<String, Value> {
        self.settings.install.marks().as_object().cloned().unwrap_or_default()
    }

    fn spec(&self, transitions_if_acquired: Option<i32>) -> Value {
        let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string();
        match transitions_if_acquired {
            None => json!({"holderIdentity": self.settings.identity, "renewTime": now, "leaseDurationSeconds": DURATION.as_secs()}),
            Some(transitions) => json!({
                "holderIdentity": self.settings.identity, "renewTime": now, "leaseDurationSeconds": DURATION.as_secs(),
                "acquireTime": now, "leaseTransitions": transitions,
            }),
        }
    }

    async fn patch(&self, patch: &Value) -> Result<Lease, CallError> {
        let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        call(self.api.patch(&self.settings.name, &parameters, &Patch::Merge(patch))).await
    }

    /// Gives the Lease up, so that the next leader need not wait for it to expire.
    async fn release(&self) {
        let Some(observed) = self.observed.as_ref().filter(|observed| observed.record.holder == *self.settings.identity) else { return };
        let spec = json!({"holderIdentity": "", "leaseDurationSeconds": 1});
        let patch = json!({"metadata": {"resourceVersion": observed.record.resource_version}, "spec": spec});
        match self.patch(&patch).await {
            Ok(_) => tracing::info!(lease = %self.settings.name, "the Lease is released"),
            Err(error) => {
                tracing::warn!(lease = %self.settings.name, error = &*chain(&error), "the Lease could not be released; it will expire")
            }
        }
    }

    /// Logs an error once while it lasts.
    fn tell(&mut self, result: Result<(), CallError>) {
        let what = format!("Lease {}", self.settings.name);
        match result {
            Ok(()) => {
                self.settings.outage.works(&what);
                self.told = None;
            }
            Err(error) => {
                let words = chain(&error);
                if self.told.as_ref() != Some(&words) {
                    let _ = self.settings.outage.failed(&what, &error);
                    self.told = Some(words);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(holder: &str, renewed: &str) -> Record {
        Record { holder: holder.into(), renewed: renewed.into(), duration: Some(DURATION), ..Record::default() }
    }

    #[test]
    fn a_lease_is_taken_when_nobody_holds_it_or_its_holder_is_silent() {
        let now = Instant::now();
        let seconds = Duration::from_secs;
        assert_eq!(decide(None, "me", now), Decision::Create);
        for (holder, duration, age, expected) in [
            ("me", Some(15), 100, Decision::Renew),
            ("", Some(15), 0, Decision::TakeOver),
            ("other", Some(15), 0, Decision::Wait),
            ("other", Some(15), 14, Decision::Wait),
            ("other", Some(15), 15, Decision::TakeOver),
            ("other", Some(60), 15, Decision::Wait),
            ("other", None, 15, Decision::TakeOver),
            ("other", Some(86_400), 59, Decision::Wait),
            ("other", Some(86_400), 60, Decision::TakeOver),
        ] {
            let record = Record { duration: duration.map(seconds), ..record(holder, "t") };
            let observed = Observation { record, since: now };
            assert_eq!(decide(Some(&observed), "me", now + seconds(age)), expected, "{holder} after {age} s");
        }
    }

    #[test]
    fn silence_counts_from_when_the_last_renewal_was_seen_whatever_its_clock_says() {
        let now = Instant::now();
        let later = now + Duration::from_secs(9);
        let first = Observation::after(None, record("other", "1970"), now);
        assert_eq!(first.since, now);
        assert_eq!(Observation::after(Some(first.clone()), record("other", "1970"), later).since, now);
        assert_eq!(Observation::after(Some(first.clone()), record("other", "1969"), later).since, later);
        assert_eq!(Observation::after(Some(first), record("third", "1970"), later).since, later);
    }

    #[test]
    fn a_holder_that_cannot_renew_stops_before_anybody_else_may_begin() {
        let now = Instant::now();
        assert!(!leads(None, now));
        assert!(leads(Some(now), now + Duration::from_millis(9_999)));
        assert!(!leads(Some(now), now + RENEW_DEADLINE));
        assert!(RENEW_DEADLINE + PERIOD < DURATION);
    }
}
