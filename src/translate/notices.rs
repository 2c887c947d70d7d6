//! What an operator should read: duplicates, ignored documents, deviations.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};

use crate::base::{Message, ObjectRef};
use crate::snapshot::BackendName;

/// What a notice is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Topic {
    /// An object whose newest version cannot be decoded.
    Refused(ObjectRef),
    /// An object.
    Object(ObjectRef),
    /// The cluster of a backend.
    Backend(BackendName),
}

/// Notices by what they are about, so that each is there once and as long as it holds. There may be as many as objects: a translation touches
/// those that it changes, and no other.
#[derive(Debug, Default)]
pub struct Notices {
    by_topic: BTreeMap<Topic, Vec<Message>>,
    count: usize,
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

    /// Replaces what there is to say on a topic.
    pub(super) fn set(&mut self, topic: Topic, notices: Vec<String>) {
        let notices: Vec<Message> = notices.into_iter().map(Into::into).collect();
        let old = if notices.is_empty() { self.by_topic.remove(&topic) } else { self.by_topic.insert(topic, notices.clone()) };
        let old = old.unwrap_or_default();
        self.count = self.count + notices.len() - old.len();
        self.fresh.extend(notices.into_iter().filter(|notice| !old.contains(notice)));
    }

    /// One notice about nothing, for tests of those who read notices.
    #[cfg(test)]
    pub(crate) fn of(text: String) -> Self {
        let mut notices = Self::default();
        notices.set(Topic::Object(ObjectRef::new(crate::base::Kind::Namespace, "", "")), vec![text]);
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
            notices.set(topic(name), texts(said));
            assert_eq!(notices.fresh(), fresh, "{name} {said:?}");
            assert_eq!(notices.iter().map(Message::as_str).collect::<Vec<_>>(), all, "{name} {said:?}");
            assert_eq!(notices.len(), all.len());
        }
    }
}
