//! The last good versions of objects whose newest one cannot be read: which they are, and how they come back after a restart.

use std::collections::BTreeMap;

use crate::api::{DecodeError, Object};
use crate::base::ObjectRef;
use crate::translate::{LastGoodVersion, Unparsed};

use super::Resources;

impl Resources {
    /// Versions that an earlier process kept: one of them serves when the newest version of its object turns out to be unreadable.
    pub fn restore(&mut self, versions: impl IntoIterator<Item = LastGoodVersion>) {
        self.dormant.extend(versions.into_iter().map(|version| (version.object.clone(), version)));
    }

    /// Every object was seen once: what was kept of others is of objects that are gone.
    pub fn forget_unused(&mut self) {
        self.dormant.clear();
    }

    /// The versions that only this process knows: those that serve in the place of an unreadable one. Secrets are never among them.
    pub fn last_good_versions(&self) -> impl Iterator<Item = LastGoodVersion> + '_ {
        let refused = self.refused.keys().filter(|object| self.contains(object)).map(|object| (object, None));
        let unparsed = self.unparsed.iter().flat_map(|(file, objects)| objects.iter().map(move |object| (object, Some(file))));
        // Of an object whose file cannot be parsed the file is to be remembered, too.
        let all: BTreeMap<_, _> = refused.chain(unparsed).collect();
        let versions = all.into_iter().filter(|(object, _)| !object.kind.is_read_by_name());
        versions.filter_map(|(object, file)| Some(LastGoodVersion { file: file.cloned(), ..self.version(object)? }))
    }

    /// The version of an object that an earlier process kept, if it is of this very object.
    pub(super) fn wake(&mut self, error: &DecodeError, object: &ObjectRef) -> Option<Object> {
        let version = self.dormant.remove(object).filter(|_| !self.contains(object))?;
        if version.uid != error.uid { None } else { version.decode() }
    }

    /// The newest version of a file cannot be parsed, or can be again.
    pub(super) fn put_unparsed(&mut self, unparsed: Unparsed) {
        self.changes.last_good = true;
        let Unparsed { file, mut objects } = unparsed;
        objects.sort_unstable();
        for object in &objects {
            let is_of_file = self.dormant.get(object).is_some_and(|version| version.file.as_ref() == Some(&file));
            if is_of_file
                && !self.contains(object)
                && let Some(version) = self.dormant.remove(object).and_then(|version| version.decode())
            {
                self.put(version);
            }
        }
        if objects.is_empty() {
            self.unparsed.remove(&file);
        } else {
            self.unparsed.insert(file, objects);
        }
    }

    /// Whether the object comes from a file whose newest version cannot be parsed.
    pub(super) fn is_unparsed(&self, object: &ObjectRef) -> bool {
        self.unparsed.values().any(|objects| objects.binary_search(object).is_ok())
    }

    fn version(&self, object: &ObjectRef) -> Option<LastGoodVersion> {
        if object.kind.is_read_by_name() {
            return None;
        }
        LastGoodVersion::of(object.clone(), &self.shelf(object.kind).document(object)?)
    }
}
