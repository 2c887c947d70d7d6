//! What somebody else undoes: it is written again, but with waits, so that two writers do not busy the API server. Pure.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use serde_json::{Map, Value};
use tokio::time::Instant;

use crate::base::{Backoff, ObjectName};

use super::client::FIELD_MANAGER;

/// So often one and the same patch is written without a wait.
const FREE_WRITES: u32 = 2;
/// Waits after the writes beyond that.
const WAIT_FIRST: Duration = Duration::from_secs(2);
const WAIT_MOST: Duration = Duration::from_secs(120);
/// A patch that was not due again for this long has held.
const FORGOTTEN: Duration = Duration::from_secs(300);

/// The last patch of each object that had one lately.
#[derive(Debug, Default)]
pub(super) struct Contests {
    by_object: BTreeMap<ObjectName, Contest>,
}

#[derive(Debug)]
struct Contest {
    patch: Value,
    writes: u32,
    last: Instant,
    until: Instant,
    backoff: Backoff,
}

/// What to do about a patch that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Write it.
    Write,
    /// Write it; it was undone before, and waits for this long when it is undone again.
    WriteContested(Duration),
    /// Its wait is not over.
    Wait,
}

// === impl Contests ===

impl Contests {
    /// A patch of an object is due. `random` is uniform in 0..1.
    pub(super) fn turn(&mut self, object: &ObjectName, patch: &Value, now: Instant, random: f64) -> Turn {
        self.by_object.retain(|_, contest| now.saturating_duration_since(contest.last.max(contest.until)) < FORGOTTEN);
        let fresh = || Contest { patch: patch.clone(), writes: 0, last: now, until: now, backoff: Backoff::new(WAIT_FIRST, WAIT_MOST) };
        let contest = self.by_object.entry(object.clone()).or_insert_with(fresh);
        if contest.patch != *patch {
            *contest = fresh();
        }
        if contest.until > now {
            return Turn::Wait;
        }
        contest.last = now;
        contest.writes = contest.writes.saturating_add(1);
        if contest.writes <= FREE_WRITES {
            return Turn::Write;
        }
        let wait = contest.backoff.next_wait(random);
        contest.until = now + wait;
        Turn::WriteContested(wait)
    }

    /// When waits end.
    pub(super) fn waits(&self) -> impl Iterator<Item = Instant> {
        self.by_object.values().map(|contest| contest.until)
    }
}

/// The fields that a merge patch writes, such as `spec.type`.
pub(super) fn fields(patch: &Value) -> Vec<String> {
    let parts = patch.as_object().into_iter().flatten();
    parts
        .flat_map(|(part, fields)| fields.as_object().into_iter().flat_map(Map::keys).map(move |field| format!("{part}.{field}")))
        .collect()
}

/// The name of the manager that wrote one of the fields of a patch last, other than ourselves.
pub(super) fn rival(managed: &[ManagedFieldsEntry], patch: &Value) -> Option<String> {
    let fields = fields(patch);
    let owns = |entry: &ManagedFieldsEntry| {
        let owned = entry.fields_v1.as_ref().map(|owned| &owned.0);
        fields
            .iter()
            .filter_map(|field| field.split_once('.'))
            .any(|(part, field)| owned.and_then(|owned| owned.get(format!("f:{part}"))?.get(format!("f:{field}"))).is_some())
    };
    let others = managed.iter().filter(|entry| entry.manager.as_deref() != Some(FIELD_MANAGER) && owns(entry));
    others.max_by_key(|entry| entry.time.as_ref().map(|time| time.0))?.manager.clone()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn service() -> ObjectName {
        ObjectName::new("system", "clingfish-http")
    }

    #[test]
    fn what_is_undone_again_and_again_waits_longer_and_longer() {
        let mut contests = Contests::default();
        let patch = json!({"spec": {"type": "LoadBalancer"}});
        let begin = Instant::now();
        let mut now = begin;
        let mut writes = 0;
        // Undone at once, each time, for ten minutes.
        while now < begin + Duration::from_secs(600) {
            writes += u32::from(contests.turn(&service(), &patch, now, 1.0) != Turn::Wait);
            now += Duration::from_millis(100);
        }
        assert!((5..=14).contains(&writes), "{writes} writes in ten minutes");
    }

    #[test]
    fn other_patches_other_objects_and_what_has_held_do_not_wait() {
        let mut contests = Contests::default();
        let now = Instant::now();
        let (one, other) = (json!({"spec": {"type": "NodePort"}}), json!({"spec": {"ports": []}}));
        let turn =
            |contests: &mut Contests, patch: &Value, seconds| contests.turn(&service(), patch, now + Duration::from_secs(seconds), 1.0);
        assert_eq!([turn(&mut contests, &one, 0), turn(&mut contests, &one, 0)], [Turn::Write; 2]);
        assert_eq!(turn(&mut contests, &one, 0), Turn::WriteContested(Duration::from_secs(2)));
        assert_eq!(turn(&mut contests, &one, 1), Turn::Wait);
        assert_eq!(contests.waits().max(), Some(now + Duration::from_secs(2)));
        assert_eq!(contests.turn(&ObjectName::new("system", "clingfish-web"), &one, now, 1.0), Turn::Write);
        assert_eq!(turn(&mut contests, &one, 2), Turn::WriteContested(Duration::from_secs(4)));
        assert_eq!(turn(&mut contests, &one, 400), Turn::Write, "it held for five minutes");
        assert_eq!([turn(&mut contests, &one, 400), turn(&mut contests, &other, 400)], [Turn::Write; 2]);
    }

    #[test]
    fn the_rival_is_who_wrote_a_field_of_the_patch_last() {
        let entry = |manager: &str, time: &str, fields: Value| -> ManagedFieldsEntry {
            serde_json::from_value(
                json!({"manager": manager, "time": time, "operation": "Update", "fieldsType": "FieldsV1", "fieldsV1": fields}),
            )
            .unwrap()
        };
        let managed = [
            entry("clingfish", "2026-01-01T00:00:09Z", json!({"f:spec": {"f:type": {}}})),
            entry("old", "2026-01-01T00:00:01Z", json!({"f:spec": {"f:type": {}}})),
            entry("edge-lb", "2026-01-01T00:00:02Z", json!({"f:spec": {"f:type": {}, "f:ports": {}}})),
            entry("labels", "2026-01-01T00:00:08Z", json!({"f:metadata": {"f:labels": {}}})),
        ];
        let patch = json!({"spec": {"type": "NodePort"}});
        assert_eq!((fields(&patch), rival(&managed, &patch).as_deref()), (vec!["spec.type".to_owned()], Some("edge-lb")));
        assert_eq!(rival(&managed, &json!({"metadata": {"annotations": {}}})), None);
    }
}
