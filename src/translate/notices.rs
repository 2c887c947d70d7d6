//! Notices: what an operator should know and no status says, such as duplicates and ignored documents.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Serialize, Serializer};

use crate::base::{Message, ObjectName, ObjectRef};
use crate::snapshot::{BackendName, Hostname};

/// What a notice is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Topic {
    /// An object whose newest version cannot be decoded.
    Refused(ObjectRef),
    /// An object.
    Object(ObjectRef),
    /// Last good versions for which there is no room.
    LastGood,
    /// How long the certificates of a Gateway are still valid.
    Expiry(ObjectName),
    /// The cluster of a backend.
    Backend(BackendName),
    /// A hostname of a listener.
    Hostname { gateway: ObjectName, listener: Arc<str>, hostname: Hostname },
}

/// Notices by what they are about, so that each is there once and as long as it holds. There may be as many as objects: a translation touches
/// those that it changes, and no other.
#[derive(Debug, Default)]
pub struct Notices {
    by_topic: BTreeMap<Topic, Vec<Message>>,
    count: usize,
    /// What this translation changed, as it was before.
    before: BTreeMap<Topic, Vec<Message>>,
    fresh: Vec<Message>,
}

// === impl Notices ===

impl Notices {
    /// All of them, in a deterministic order.
    pub fn iter(&self) -> impl Iterator<Item = &Message> {
        self.by_topic.values().flatten()
    }

    /// Those that the last translation added.
    pub fn fresh(&self) -> &[Message] {
        &self.fresh
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// A translation begins.
    pub(super) fn begin(&mut self) {
        self.fresh = Vec::new();
    }

    /// A translation ends: what it said and took back is not told.
    pub(super) fn end(&mut self) {
        for (topic, before) in std::mem::take(&mut self.before) {
            let now = self.by_topic.get(&topic).into_iter().flatten();
            self.fresh.extend(now.filter(|notice| !before.contains(notice)).cloned());
        }
    }

    /// Replaces what there is to say on a topic.
    pub(super) fn set(&mut self, topic: Topic, notices: Vec<String>) {
        let notices: Vec<Message> = notices.into_iter().map(Into::into).collect();
        if self.by_topic.get(&topic).map_or(&[][..], Vec::as_slice) == notices {
            return;
        }
        self.count += notices.len();
        let old = if notices.is_empty() { self.by_topic.remove(&topic) } else { self.by_topic.insert(topic.clone(), notices) };
        let old = old.unwrap_or_default();
        self.count -= old.len();
        self.before.entry(topic).or_insert(old);
    }

    /// One notice about nothing, for tests of those who read notices.
    #[cfg(test)]
    pub(crate) fn of(text: String) -> Self {
        let mut notices = Self::default();
        notices.set(Topic::Object(ObjectRef::new(crate::base::Kind::Namespace, "", "")), vec![text]);
        notices.end();
        notices
    }
}

impl Serialize for Notices {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Kind;

    #[test]
    fn what_is_said_once_is_fresh_once() {
        let topic = |name: &str| Topic::Object(ObjectRef::new(Kind::Gateway, "n", name));
        let texts = |all: &[&str]| all.iter().map(ToString::to_string).collect::<Vec<_>>();
        let mut notices = Notices::default();
        for (name, said, fresh, all) in [
            ("b", &["1", "2"][..], &["1", "2"][..], &["1", "2"][..]),
            ("a", &["3"], &["3"], &["3", "1", "2"]),
            ("b", &["2", "4"], &["4"], &["3", "2", "4"]),
            ("b", &["2", "4"], &[], &["3", "2", "4"]),
            ("a", &[], &[], &["2", "4"]),
        ] {
            notices.begin();
            notices.set(topic(name), texts(&["said and taken back"]));
            notices.set(topic(name), texts(said));
            notices.end();
            assert_eq!(notices.fresh(), fresh, "{name} {said:?}");
            assert_eq!(notices.iter().map(Message::as_str).collect::<Vec<_>>(), all, "{name} {said:?}");
            assert_eq!(notices.len(), all.len());
        }
    }
}
