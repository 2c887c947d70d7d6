//! Objects that are no longer declared: a deletion counts once it has lasted a moment.
//!
//! A file is missing for an instant while `git checkout` writes it anew, while an editor renames it, or while it gets another name. What it
//! declares is still meant.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

use crate::base::ObjectRef;
use crate::translate::Change;

/// Time for which an object must be undeclared before it is deleted.
pub(super) const ABSENCE: Duration = Duration::from_millis(100);

/// Longest time for which a deletion waits for files that are being written.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// The objects that are undeclared at the moment, and the files that are gone, with the time since when.
#[derive(Debug, Default)]
pub(super) struct PendingDeletions {
    objects: BTreeMap<ObjectRef, Instant>,
    files: BTreeMap<Box<str>, Instant>,
    /// Nothing is deleted before this: files come and go faster than they are read.
    not_before: Option<Instant>,
}

/// What is gone for good.
#[derive(Debug, Default)]
pub(super) struct DueDeletions {
    pub(super) deletions: Vec<Change>,
    pub(super) files: Vec<Box<str>>,
}

// === impl PendingDeletions ===

impl PendingDeletions {
    /// Keeps deletions back and lets everything else pass; what is declared again stays.
    pub(super) fn hold(&mut self, changes: Vec<Change>, now: Instant) -> Vec<Change> {
        let mut passed = Vec::with_capacity(changes.len());
        for change in changes {
            if let Change::Delete(object) = change {
                self.objects.entry(object).or_insert(now);
                continue;
            }
            // Mostly nothing is missing, and there are many changes.
            if !self.objects.is_empty()
                && let Some(object) = change.object()
            {
                self.objects.remove(&object);
            }
            passed.push(change);
        }
        passed
    }

    /// The object is declared again, as it was.
    pub(super) fn returned(&mut self, object: &ObjectRef) {
        self.objects.remove(object);
    }

    /// The file is gone, for the moment at least.
    pub(super) fn file_left(&mut self, name: &str, now: Instant) {
        self.files.insert(name.into(), now);
    }

    /// Whether the file went a moment ago, and may come back.
    pub(super) fn may_return(&self, name: &str) -> bool {
        self.files.contains_key(name)
    }

    /// There is a file that is not read yet, or there was one a moment ago: it may declare what is missing.
    pub(super) fn put_off(&mut self, now: Instant) {
        let oldest = self.objects.values().chain(self.files.values()).min();
        if oldest.is_some_and(|since| *since + LONGEST_WAIT > now) {
            self.not_before = Some(now + ABSENCE);
        }
    }

    /// What is gone for good by now.
    pub(super) fn take_due(&mut self, now: Instant) -> DueDeletions {
        if self.not_before.is_some_and(|not_before| not_before > now) {
            return DueDeletions::default();
        }
        self.not_before = None;
        let objects = self.objects.extract_if(.., |_, since| *since + ABSENCE <= now);
        let deletions = objects.map(|(object, _)| Change::Delete(object)).collect();
        let files = self.files.extract_if(.., |_, since| *since + ABSENCE <= now);
        DueDeletions { deletions, files: files.map(|(name, _)| name).collect() }
    }

    /// When something is gone for good next.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let oldest = self.objects.values().chain(self.files.values()).min();
        oldest.map(|since| (*since + ABSENCE).max(self.not_before.unwrap_or(*since)))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::{self, Document};
    use crate::base::Kind;

    fn namespace(name: &str) -> ObjectRef {
        ObjectRef::new(Kind::Namespace, "", name)
    }

    fn apply(name: &str) -> Change {
        match api::decode(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})).unwrap() {
            Document::Object(object) => Change::apply(object),
            other => panic!("{other:?}"),
        }
    }

    fn delete(name: &str) -> Change {
        Change::Delete(namespace(name))
    }

    fn shown(changes: &[Change]) -> Vec<String> {
        changes
            .iter()
            .map(|change| format!("{}{}", if matches!(change, Change::Delete(_)) { "-" } else { "+" }, change.object().unwrap().name))
            .collect()
    }

    /// Hands changes in at given times and collects what comes out, until nothing is held any more.
    async fn replay(steps: Vec<(u64, Vec<Change>)>) -> Vec<(u64, Vec<String>)> {
        let begin = Instant::now();
        let (mut pending_deletions, mut seen) = (PendingDeletions::default(), Vec::new());
        let mut steps = steps.into_iter().peekable();
        while let Some(next) =
            steps.peek().map(|(at, _)| begin + Duration::from_millis(*at)).into_iter().chain(pending_deletions.next_due()).min()
        {
            tokio::time::sleep_until(next).await;
            let now = Instant::now();
            let ready = steps.next_if(|(at, _)| begin + Duration::from_millis(*at) <= now).map(|(_, changes)| changes).unwrap_or_default();
            let mut changes = pending_deletions.hold(ready, now);
            changes.extend(pending_deletions.take_due(now).deletions);
            if !changes.is_empty() {
                seen.push(((now - begin).as_millis() as u64, shown(&changes)));
            }
        }
        seen
    }

    fn at(time: u64, changes: &[&str]) -> (u64, Vec<String>) {
        (time, changes.iter().map(ToString::to_string).collect())
    }

    #[tokio::test(start_paused = true)]
    async fn a_deletion_counts_after_100_ms_and_all_else_at_once() {
        let seen = replay(vec![(0, vec![delete("a"), apply("b")]), (30, vec![apply("c"), delete("d")])]).await;
        assert_eq!(seen, [at(0, &["+b"]), at(30, &["+c"]), at(100, &["-a"]), at(130, &["-d"])]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_declared_again_in_between_was_never_away() {
        let seen = replay(vec![(0, vec![delete("a"), delete("b")]), (99, vec![apply("a")])]).await;
        assert_eq!(seen, [at(99, &["+a"]), at(100, &["-b"])]);
        // In one reading too, and each absence is measured by itself.
        let seen = replay(vec![(0, vec![delete("a"), apply("a")]), (50, vec![delete("a")]), (90, vec![apply("a"), delete("a")])]).await;
        assert_eq!(seen, [at(0, &["+a"]), at(90, &["+a"]), at(190, &["-a"])]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_version_that_cannot_be_decoded_is_declared_too() {
        let broken = api::decode(json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "spec": 7})).unwrap_err();
        let object = broken.object.clone().unwrap();
        let seen = replay(vec![(0, vec![Change::Delete(object)]), (10, vec![Change::Undecodable(broken)])]).await;
        assert_eq!(seen, [at(10, &["+default/a"])]);
    }

    #[tokio::test(start_paused = true)]
    async fn deletions_wait_for_files_that_are_not_read_yet() {
        let (mut pending_deletions, begin) = (PendingDeletions::default(), Instant::now());
        pending_deletions.put_off(begin);
        assert_eq!(pending_deletions.next_due(), None, "there is nothing to wait with");
        pending_deletions.hold(vec![delete("a"), delete("b")], begin);
        pending_deletions.file_left("a.yaml", begin);
        pending_deletions.put_off(begin + ABSENCE / 2);
        assert!(pending_deletions.take_due(begin + ABSENCE).deletions.is_empty());
        assert_eq!(pending_deletions.next_due(), Some(begin + ABSENCE * 3 / 2));
        pending_deletions.returned(&namespace("a"));
        let due = pending_deletions.take_due(begin + ABSENCE * 3 / 2);
        assert_eq!((shown(&due.deletions), due.files), (vec!["-b".to_owned()], vec!["a.yaml".into()]));
        assert_eq!(pending_deletions.next_due(), None);
        // But not for ever.
        pending_deletions.hold(vec![delete("a")], begin);
        pending_deletions.put_off(begin + LONGEST_WAIT);
        assert_eq!(shown(&pending_deletions.take_due(begin + LONGEST_WAIT).deletions), ["-a"]);
    }
}
