//! What the files of a directory hold, and which of them have to be read once more.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::{OsStr, OsString},
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::time::Instant;

use crate::base::{is_out_of_descriptors, text::word};
use crate::controller::manifests::{FileChange, Manifests, Notice, NoticeBlocks};
use crate::translate::{Change, LastGood};

use super::{
    open::{ReadError, read_regular},
    pending_deletions::PendingDeletions,
};

/// The manifests of a directory.
#[derive(Debug, Default)]
pub(super) struct Content {
    directory: PathBuf,
    manifests: Manifests,
    pending_deletions: PendingDeletions,
    /// Names of which nothing is served, with what is said of each: they are not UTF-8, or links to nothing.
    aside: BTreeMap<OsString, Notice>,
    /// Files that could not be read at the moment.
    unread: BTreeSet<OsString>,
    /// Reads that found no descriptor left, since somebody asked.
    out_of_descriptors: u64,
}

// === impl Content ===

impl Content {
    /// Nothing is read yet.
    pub(super) fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), ..Self::default() }
    }

    /// The same; `kept`: what an earlier process kept of it, where something is kept.
    pub(super) fn with_kept(mut self, kept: Option<&LastGood>) -> Self {
        if let Some(kept) = kept {
            self.manifests.restore(kept);
        }
        self
    }

    /// Reads every file of the directory; files that are no longer there are removed.
    ///
    /// # Errors
    /// The directory cannot be listed: nothing was read.
    pub(super) fn read_all(&mut self) -> io::Result<Vec<Change>> {
        let mut names: BTreeSet<OsString> = self.manifests.names().map(|name| OsString::from(&**name)).collect();
        names.extend(self.aside.keys().cloned());
        let listing = fs::read_dir(&self.directory).inspect_err(|error| self.note(error))?;
        for entry in listing {
            let name = entry?.file_name();
            if is_manifest(&name) {
                names.insert(name);
            }
        }
        Ok(self.read_some(names))
    }

    /// Whether nothing has the name.
    pub(super) fn is_missing(&self, name: &OsStr) -> bool {
        fs::symlink_metadata(self.directory.join(name)).is_err()
    }

    /// Reads these files, and those that have to be read again because of them.
    pub(super) fn read_some(&mut self, mut names: BTreeSet<OsString>) -> Vec<Change> {
        let mut changes = Vec::new();
        while let Some(name) = names.pop_first() {
            let change = self.read(name);
            change.returned.iter().for_each(|object| self.pending_deletions.returned(object));
            changes.extend(self.pending_deletions.hold(change.changes, Instant::now()));
            names.extend(change.reread.iter().map(|name| OsString::from(&**name)));
        }
        changes
    }

    /// The deletions that count by now.
    pub(super) fn due_deletions(&mut self) -> Vec<Change> {
        let now = Instant::now();
        if self.pending_deletions.next_due().is_none_or(|due| due > now) {
            return Vec::new();
        }
        if self.has_unread_file() {
            self.pending_deletions.put_off(now);
        }
        let due = self.pending_deletions.take_due(now);
        due.files.iter().for_each(|name| self.manifests.forget(name));
        due.deletions
    }

    /// Whether there is a file of which nothing is known yet: a created file is read when its writer closes it.
    fn has_unread_file(&self) -> bool {
        let names = fs::read_dir(&self.directory).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.file_name()));
        let is_known = |name: &OsStr| self.aside.contains_key(name) || name.to_str().is_some_and(|name| self.manifests.knows(name));
        names.filter(|name| is_manifest(name)).any(|name| !is_known(&name))
    }

    /// When deletions count next.
    pub(super) fn next_deletion(&self) -> Option<Instant> {
        self.pending_deletions.next_due()
    }

    fn read(&mut self, name: OsString) -> FileChange {
        self.unread.remove(&name);
        self.aside.remove(&name);
        let path = self.directory.join(&name);
        let Some(text) = name.to_str() else {
            if fs::symlink_metadata(path).is_ok() {
                let notice = format!("{}: the name is not UTF-8; expected one that is; the file is not served", escaped(&name));
                self.aside.insert(name, Notice::refused(notice));
            }
            return FileChange::default();
        };
        match read_regular(&path) {
            Ok(content) => self.manifests.update(text, &content),
            Err(ReadError::Gone) => {
                let now = Instant::now();
                if self.manifests.knows(text) {
                    self.pending_deletions.file_left(text, now);
                } else {
                    // It was there, and was gone again before it could be read.
                    self.pending_deletions.put_off(now);
                }
                let change = self.manifests.remove(text);
                if fs::symlink_metadata(path).is_ok() {
                    let notice = format!("{}: is a link to a file that does not exist; it is not served", word(text));
                    self.aside.insert(name, Notice::aside(notice));
                }
                change
            }
            Err(error @ (ReadError::NotRegular(_) | ReadError::TooLarge)) => self.manifests.unreadable(text, &error),
            Err(ReadError::System(error)) => {
                self.note(&error);
                let change = self.manifests.unreadable(text, &ReadError::System(error));
                self.unread.insert(name);
                change
            }
        }
    }

    /// Files to be read again without anybody touching them.
    pub(super) fn unread(&self) -> &BTreeSet<OsString> {
        &self.unread
    }

    /// Reads that found no descriptor left, since this was last asked.
    pub(super) fn take_out_of_descriptors(&mut self) -> u64 {
        std::mem::take(&mut self.out_of_descriptors)
    }

    /// What is to be said about the files.
    pub(super) fn notices(&self) -> NoticeBlocks {
        let mut notices = self.manifests.notices();
        // A link to nothing may be about to be turned, or to go.
        let settled = self.aside.iter().filter(|(name, _)| !name.to_str().is_some_and(|name| self.pending_deletions.may_return(name)));
        let aside: Arc<[Notice]> = settled.map(|(_, notice)| notice.clone()).collect();
        if !aside.is_empty() {
            notices.push(aside);
        }
        notices
    }

    fn note(&mut self, error: &io::Error) {
        self.out_of_descriptors += u64::from(is_out_of_descriptors(error));
    }
}

/// `*.yaml`, `*.yml`, `*.json` whose name does not begin with a dot.
pub(super) fn is_manifest(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    !name.starts_with(b".") && [".yaml", ".yml", ".json"].iter().any(|extension| name.ends_with(extension.as_bytes()))
}

/// A name for people: what is not UTF-8, and what moves a cursor, is escaped.
pub(super) fn escaped(name: &OsStr) -> String {
    let quoted = format!("{name:?}");
    quoted.trim_matches('"').to_owned()
}
