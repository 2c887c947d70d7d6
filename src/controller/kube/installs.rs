//! Other installs with our controllerName. Two that write would undo each other's statuses for ever, so only the oldest one writes: the others
//! serve what they have, and say so.
//!
//! Each install marks its Lease with its controllerName and its age, and its leader looks for other Leases with these marks.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, Client, api::ListParams};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::telemetry::Metrics;
use crate::translate::infrastructure::INSTALL_ANNOTATION;

use super::client::{CallError, call, chain};

/// Time between two looks at the Leases of others.
const INTERVAL: Duration = Duration::from_secs(10);

/// So many looks in a row must miss an older install before it counts as gone: its Lease may have been deleted by mistake, and is made again
/// within seconds.
const MISSED_LOOKS: u32 = 2;

/// Label by which Leases of installs are found.
const LABEL: (&str, &str) = ("app.kubernetes.io/managed-by", "clingfish");
pub(super) const LEASES: &str = "app.kubernetes.io/managed-by=clingfish";
const CONTROLLER_ANNOTATION: &str = "clingfish.dev/controller-name";
const INSTALLED_ANNOTATION: &str = "clingfish.dev/installed";

/// An install, as its Lease shows it. The order is that of age.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Install {
    /// When it was installed. Its Lease may be younger.
    installed: Timestamp,
    /// Namespace and name.
    name: String,
}

/// Our own install.
#[derive(Clone, Debug)]
pub(super) struct OwnInstall {
    /// Our controllerName.
    pub(super) controller_name: Arc<str>,
    /// Namespace and name.
    pub(super) name: String,
    /// When the chart's ConfigMap was made; `None`: there is none, and the Lease's own age counts.
    pub(super) installed: Option<Timestamp>,
}

/// Whether this install may write.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Standing {
    /// Nobody has looked yet.
    #[default]
    Unknown,
    /// No older install has our controllerName.
    First,
    /// This one has, and was missed by so many looks since.
    After { older: Install, missed: u32 },
}

// === impl Install ===

impl Install {
    /// The install of a Lease that has this controllerName.
    fn of(lease: &Lease, controller_name: &str) -> Option<Self> {
        let annotations = lease.metadata.annotations.as_ref()?;
        if annotations.get(CONTROLLER_ANNOTATION).map(String::as_str) != Some(controller_name) {
            return None;
        }
        let marked = annotations.get(INSTALLED_ANNOTATION).and_then(|written| written.parse().ok());
        let installed = marked.or_else(|| lease.metadata.creation_timestamp.as_ref().map(|time| time.0))?;
        Some(Self { installed, name: annotations.get(INSTALL_ANNOTATION)?.clone() })
    }
}

// === impl OwnInstall ===

impl OwnInstall {
    /// Labels and annotations of our Lease.
    pub(super) fn marks(&self) -> Value {
        let mut annotations =
            BTreeMap::from([(CONTROLLER_ANNOTATION, self.controller_name.to_string()), (INSTALL_ANNOTATION, self.name.clone())]);
        annotations.extend(self.installed.map(|installed| (INSTALLED_ANNOTATION, installed.to_string())));
        json!({"labels": {LABEL.0: LABEL.1}, "annotations": annotations})
    }

    /// Whether a Lease has our marks.
    pub(super) fn has_marked(&self, lease: &Lease) -> bool {
        let standing = json!({"labels": lease.metadata.labels, "annotations": lease.metadata.annotations});
        let has = |part: &str| {
            let marks = self.marks();
            let wanted = marks.get(part).and_then(Value::as_object).into_iter().flatten();
            wanted.into_iter().all(|(key, value)| standing.get(part).and_then(|part| part.get(key)) == Some(value))
        };
        has("labels") && has("annotations")
    }

    /// Whether what this controllerName has written is ours. An install that never had a Lease has written nothing, so another one's is not.
    pub(super) fn is_first(&self, leases: &[Lease]) -> bool {
        let installs: Vec<_> = leases.iter().filter_map(|lease| Install::of(lease, &self.controller_name)).collect();
        let is_known = installs.iter().any(|install| install.name == self.name);
        if is_known { self.older(leases).is_none() } else { installs.is_empty() }
    }

    /// The oldest install with our controllerName that is older than ours. Our own Lease is among them; without it nothing can be said.
    fn older(&self, leases: &[Lease]) -> Option<Install> {
        let installs: Vec<_> = leases.iter().filter_map(|lease| Install::of(lease, &self.controller_name)).collect();
        let own = installs.iter().find(|install| install.name == self.name)?;
        installs.iter().filter(|install| install.name != self.name && *install < own).min().cloned()
    }
}

// === impl Standing ===

impl Standing {
    /// After a look that found this older install, or none.
    fn after(self, found: Option<Install>) -> Self {
        match (self, found) {
            (_, Some(older)) => Self::After { older, missed: 0 },
            (Self::After { older, missed }, None) if missed + 1 < MISSED_LOOKS => Self::After { older, missed: missed + 1 },
            (_, None) => Self::First,
        }
    }

    /// After a look that failed. What cannot be looked up must not stop all writes: the right may be missing.
    fn after_failure(self, error: &CallError) -> Self {
        match self {
            Self::Unknown if error.code() == Some(403) => Self::First,
            known => known,
        }
    }

    fn older(&self) -> Option<&Install> {
        match self {
            Self::After { older, .. } => Some(older),
            Self::Unknown | Self::First => None,
        }
    }
}

/// Lets this process lead while it holds the Lease and no older install has our controllerName. Never ends.
pub(super) async fn follow_installs(
    client: Client,
    own: OwnInstall,
    mut holder: watch::Receiver<bool>,
    leader: watch::Sender<bool>,
    metrics: Arc<Metrics>,
) {
    let api: Api<Lease> = Api::all(client);
    let ours = ListParams::default().labels(LEASES);
    let mut standing = Standing::default();
    loop {
        // Another holder may have looked at something else meanwhile: who begins looks anew.
        if !*holder.borrow_and_update() {
            standing = Standing::default();
            lead(&leader, &metrics, &standing, false);
            if holder.changed().await.is_err() {
                return;
            }
            continue;
        }
        tokio::select! {
            result = call(api.list(&ours)) => standing = judged(standing, result.map(|list| list.items), &own),
            result = holder.changed() => if result.is_err() { return } else { continue },
        }
        lead(&leader, &metrics, &standing, standing == Standing::First);
        tokio::select! {
            () = tokio::time::sleep(INTERVAL) => {}
            result = holder.changed() => if result.is_err() { return },
        }
    }
}

fn judged(standing: Standing, looked: Result<Vec<Lease>, CallError>, own: &OwnInstall) -> Standing {
    let before = standing.older().cloned();
    let next = match looked {
        Ok(leases) => standing.after(own.older(&leases)),
        Err(error) => {
            tracing::debug!(error = &*chain(&error), "the Leases of other installs cannot be listed");
            standing.after_failure(&error)
        }
    };
    match (before, next.older()) {
        (before, Some(older)) if before.as_ref() != Some(older) => tracing::error!(
            "the install {} has the controllerName {} too, and is older: this install, {}, writes no status and no Service. Uninstall \
             one of them, or give this one another controllerName and GatewayClass (values controllerName and gatewayClass.name). If the \
             other one is gone, delete its Lease",
            older.name,
            own.controller_name,
            own.name
        ),
        (Some(before), None) => tracing::info!("the install {} with the same controllerName is gone", before.name),
        _ => {}
    }
    next
}

fn lead(leader: &watch::Sender<bool>, metrics: &Metrics, standing: &Standing, leads: bool) {
    metrics.cluster().set_leader(leads);
    metrics.cluster().set_controller_name_conflict(standing.older().is_some());
    if leader.send_if_modified(|leader| std::mem::replace(leader, leads) != leads) {
        let words =
            if leads { "this process is the leader now: it writes statuses and Services" } else { "this process is no longer the leader" };
        tracing::info!("{words}");
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    fn own(name: &str, installed: Option<&str>) -> OwnInstall {
        OwnInstall { controller_name: "c".into(), name: name.into(), installed: installed.map(|time| time.parse().unwrap()) }
    }

    /// The Lease of an install, made at this time.
    fn lease(own: &OwnInstall, made: &str) -> Lease {
        let mut metadata = own.marks();
        metadata["creationTimestamp"] = made.into();
        serde_json::from_value(json!({"metadata": metadata})).unwrap()
    }

    fn older(own: &OwnInstall, leases: &[Lease]) -> Option<String> {
        own.older(leases).map(|install| install.name)
    }

    #[test]
    fn of_two_installs_with_one_controller_name_exactly_the_older_writes() {
        let (early, late) = ("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z");
        // Two namespaces, two names in one, the same second, and a Lease that was deleted and made again.
        for (one, other, made) in [
            (own("a/clingfish", Some(early)), own("b/clingfish", Some(late)), [early, late]),
            (own("b/clingfish", Some(early)), own("a/clingfish", Some(late)), [early, late]),
            (own("a/clingfish", Some(early)), own("a/edge-clingfish", Some(late)), [early, late]),
            (own("a/clingfish", Some(early)), own("b/clingfish", Some(early)), [early, early]),
            (own("a/clingfish", Some(early)), own("b/clingfish", Some(late)), ["2026-01-03T00:00:00Z", late]),
            (own("b/clingfish", None), own("a/clingfish", None), [early, late]),
        ] {
            let leases = [lease(&one, made[0]), lease(&other, made[1])];
            assert_eq!((older(&one, &leases), older(&other, &leases)), (None, Some(one.name.clone())), "{} {}", one.name, other.name);
        }
    }

    #[test]
    fn statuses_are_those_of_the_first_install_also_if_another_one_never_had_a_lease() {
        let (first, second) = (own("a/clingfish", Some("2026-01-01T00:00:00Z")), own("b/clingfish", Some("2026-01-02T00:00:00Z")));
        let leases = [lease(&first, "2026-01-01T00:00:00Z"), lease(&second, "2026-01-02T00:00:00Z")];
        assert!(first.is_first(&leases) && !second.is_first(&leases));
        assert!(!second.is_first(&leases[..1]) && second.is_first(&[]) && second.is_first(&leases[1..]));
    }

    #[test]
    fn installs_with_other_controller_names_and_other_leases_do_not_count() {
        let ours = own("b/clingfish", Some("2026-01-02T00:00:00Z"));
        let other = OwnInstall { controller_name: "other".into(), ..own("a/clingfish", Some("2026-01-01T00:00:00Z")) };
        let leases = [lease(&other, "2026-01-01T00:00:00Z"), Lease::default(), lease(&ours, "2026-01-02T00:00:00Z")];
        assert_eq!(older(&ours, &leases), None);
    }

    #[test]
    fn leases_are_found_by_the_label_that_they_have() {
        assert_eq!(LEASES, format!("{}={}", LABEL.0, LABEL.1));
    }

    #[test]
    fn marks_are_seen_where_they_stand_and_missed_where_one_is_another() {
        let ours = own("b/clingfish", Some("2026-01-02T00:00:00Z"));
        let mut marked = lease(&ours, "2026-01-02T00:00:00Z");
        assert!(ours.has_marked(&marked) && !ours.has_marked(&Lease::default()));
        marked.metadata.annotations.as_mut().unwrap().insert("x".into(), "y".into());
        assert!(ours.has_marked(&marked), "marks of others are none of our business");
        assert!(!OwnInstall { controller_name: "d".into(), ..ours }.has_marked(&marked));
    }

    #[test]
    fn an_older_install_is_gone_only_after_two_looks_without_it() {
        let older = Install { installed: "2026-01-01T00:00:00Z".parse().unwrap(), name: "a/clingfish".into() };
        let first = Standing::default().after(Some(older.clone()));
        let missed = first.after(None);
        assert_eq!(missed, Standing::After { older: older.clone(), missed: 1 });
        assert_eq!(missed.clone().after(None), Standing::First);
        assert_eq!(missed.after(Some(older.clone())), Standing::After { older, missed: 0 });
        assert_eq!(Standing::default().after(None), Standing::First);
    }

    #[test]
    fn without_the_right_to_look_writes_go_on_and_an_outage_changes_nothing() {
        let refused = CallError::Api(kube::Error::Api(Box::new(Status { code: 403, ..Status::default() })));
        assert_eq!(Standing::Unknown.after_failure(&refused), Standing::First);
        assert_eq!(Standing::Unknown.after_failure(&CallError::Deadline), Standing::Unknown);
        let older = Install { installed: Timestamp::UNIX_EPOCH, name: "a/b".into() };
        let after = Standing::After { older, missed: 1 };
        assert_eq!(after.clone().after_failure(&refused), after);
    }
}
