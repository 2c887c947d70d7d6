//! What an event of the directory asks for.

use std::{
    collections::BTreeSet,
    ffi::{OsStr, OsString},
    fs,
    path::Path,
};

use notify::{
    Event, EventKind,
    event::{AccessKind, AccessMode, CreateKind, ModifyKind, RemoveKind, RenameMode},
};

use super::content::is_manifest;

/// What has to be read again.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Reread {
    pub(super) names: BTreeSet<OsString>,
    /// Files that have left their names. One that has its name again is being written, or has an event of its own.
    pub(super) gone: BTreeSet<OsString>,
    pub(super) everything: bool,
}

// === impl Reread ===

impl Reread {
    /// What an event asks for: mostly nothing, since a writer's every write is one.
    pub(super) fn after(event: &notify::Result<Event>, directory: &Path) -> Self {
        let mut reread = Self::default();
        match event {
            Ok(event) => reread.add_event(event, directory),
            Err(error) => {
                tracing::warn!(%error, "watching {} failed; everything is read again", directory.display());
                reread.everything = true;
            }
        }
        reread
    }

    pub(super) fn add(&mut self, mut more: Self) {
        self.everything |= more.everything;
        self.names.append(&mut more.names);
        self.gone.append(&mut more.gone);
    }

    /// A file that is being written is read when its writer closes it.
    fn add_event(&mut self, event: &Event, directory: &Path) {
        // The kernel's queue was full: events were lost.
        if event.need_rescan() {
            self.everything = true;
            return;
        }
        for path in &event.paths {
            let inside = path.parent() == Some(directory);
            let name = path.file_name();
            match name {
                Some(name) if inside && is_manifest(name) && disappears(event.kind) => {
                    self.gone.insert(name.to_owned());
                }
                Some(name) if inside && is_manifest(name) && is_settled(event.kind, path) => {
                    self.names.insert(name.to_owned());
                }
                // A ConfigMap's volume turns the link `..data`; files are links through it.
                Some(name) if name == OsStr::new("..data") && inside && appears(event.kind) => self.everything = true,
                // The directory itself, as seen from the one it is in.
                _ if path == directory && (appears(event.kind) || disappears(event.kind)) => self.everything = true,
                _ => {}
            }
        }
    }
}

/// Whether the file is complete after the event.
fn is_settled(kind: EventKind, path: &Path) -> bool {
    match kind {
        // Told after `From` and `To`. Read for them, the file may by now be in the middle of its next writing.
        EventKind::Modify(ModifyKind::Name(RenameMode::Both)) => false,
        EventKind::Access(AccessKind::Close(AccessMode::Write)) | EventKind::Modify(ModifyKind::Name(_)) => true,
        EventKind::Modify(ModifyKind::Metadata(_)) => true,
        // A created regular file is about to be written, unless it is a second link to a complete one. One that is gone again was there.
        EventKind::Create(_) => fs::symlink_metadata(path).map_or(true, |metadata| metadata.is_symlink() || links(&metadata) > 1),
        EventKind::Any | EventKind::Access(_) | EventKind::Modify(_) | EventKind::Remove(_) | EventKind::Other => false,
    }
}

fn appears(kind: EventKind) -> bool {
    matches!(
        kind,
        EventKind::Create(CreateKind::Any | CreateKind::File | CreateKind::Folder | CreateKind::Other)
            | EventKind::Modify(ModifyKind::Name(RenameMode::To))
    )
}

fn disappears(kind: EventKind) -> bool {
    matches!(
        kind,
        EventKind::Remove(RemoveKind::Any | RemoveKind::File | RemoveKind::Folder | RemoveKind::Other)
            | EventKind::Modify(ModifyKind::Name(RenameMode::From))
    )
}

#[cfg(unix)]
fn links(metadata: &fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::nlink(metadata)
}

#[cfg(not(unix))]
fn links(_metadata: &fs::Metadata) -> u64 {
    1
}
