//! A directory of manifests: read once, or followed by inotify. No polling, and no waiting for quiet: what is ready is taken.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
    thread,
};

use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _,
    event::{AccessKind, AccessMode, CreateKind, ModifyKind, RemoveKind, RenameMode},
};

use crate::translate::Change;

use super::manifests::{FileChange, Manifests, Notice};

/// What changed in the directory.
#[derive(Debug, Default)]
pub struct Update {
    /// Changes of objects, in order.
    pub changes: Vec<Change>,
    /// All current notices about the files.
    pub notices: Vec<Notice>,
}

/// The directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// It cannot be listed.
    #[error("directory {}: {error}; expected a directory of *.yaml, *.yml and *.json files", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The system's words.
        error: io::Error,
    },
    /// It cannot be watched.
    #[error("directory {}: changes cannot be watched: {error}; the limits of inotify (fs.inotify.max_user_watches, max_user_instances) may be reached", path.display())]
    Watch {
        /// The directory.
        path: PathBuf,
        /// The watcher's words.
        error: notify::Error,
    },
    /// The thread that follows it cannot be started.
    #[error("the thread that watches the directory cannot be started: {0}")]
    Thread(#[from] io::Error),
}

/// A directory whose changes are followed until it is dropped.
#[derive(Debug)]
pub struct Directory {
    events: mpsc::Sender<Message>,
}

/// What the following thread is told.
enum Message {
    Reread(Reread),
    Stop,
}

/// What has to be read again.
#[derive(Debug, Default, PartialEq, Eq)]
struct Reread {
    names: BTreeSet<String>,
    everything: bool,
}

/// The state of the following thread.
struct Follower {
    path: PathBuf,
    manifests: Manifests,
    watcher: RecommendedWatcher,
}

/// Reads a directory once.
///
/// # Errors
/// It cannot be listed.
pub fn read_directory(path: &Path) -> Result<Update, FilesError> {
    let mut manifests = Manifests::new();
    let changes = read_all(path, &mut manifests).map_err(|error| FilesError::Directory { path: path.to_owned(), error })?;
    Ok(Update { changes, notices: manifests.notices() })
}

// === impl Directory ===

impl Directory {
    /// Reads the directory and hands every later change to `sink`, which is called on a thread of its own.
    ///
    /// # Errors
    /// The directory cannot be listed or watched.
    pub fn follow(path: &Path, sink: impl FnMut(Update) + Send + 'static) -> Result<(Self, Update), FilesError> {
        // Events name absolute paths.
        let path = &std::path::absolute(path).map_err(|error| FilesError::Directory { path: path.to_owned(), error })?;
        let (sender, events) = mpsc::channel();
        let handler = sender.clone();
        let watch_error = |error| FilesError::Watch { path: path.to_owned(), error };
        let directory = path.to_owned();
        let watcher = notify::recommended_watcher(move |event| {
            let reread = Reread::after(&event, &directory);
            if reread != Reread::default() {
                let _ = handler.send(Message::Reread(reread));
            }
        });
        let mut follower = Follower { path: path.to_owned(), manifests: Manifests::new(), watcher: watcher.map_err(watch_error)? };
        // Watched first, read second: nothing is missed in between.
        let listable = fs::read_dir(path).map(drop);
        listable.map_err(|error| FilesError::Directory { path: path.to_owned(), error })?;
        follower.watch().map_err(watch_error)?;
        let changes = read_all(path, &mut follower.manifests).map_err(|error| FilesError::Directory { path: path.to_owned(), error })?;
        let first = Update { changes, notices: follower.manifests.notices() };
        thread::Builder::new().name("manifests".into()).spawn(move || follower.run(&events, sink))?;
        Ok((Self { events: sender }, first))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = self.events.send(Message::Stop);
    }
}

// === impl Follower ===

impl Follower {
    /// Watches the directory, and the one it is in: the directory itself may be replaced, or be a link that is turned.
    fn watch(&mut self) -> notify::Result<()> {
        if let Some(parent) = self.path.parent() {
            // Helps only when the directory itself is replaced.
            let _ = self.watcher.watch(parent, RecursiveMode::NonRecursive);
        }
        self.watcher.watch(&self.path, RecursiveMode::NonRecursive)
    }

    fn run(mut self, events: &mpsc::Receiver<Message>, mut sink: impl FnMut(Update)) {
        let mut notices = self.manifests.notices();
        while let Ok(first) = events.recv() {
            let mut reread = Reread::default();
            for message in std::iter::once(first).chain(events.try_iter()) {
                match message {
                    Message::Stop => return,
                    Message::Reread(more) => reread.add(more),
                }
            }
            let changes = self.read(reread);
            let new_notices = self.manifests.notices();
            if !changes.is_empty() || new_notices != notices {
                notices.clone_from(&new_notices);
                sink(Update { changes, notices: new_notices });
            }
        }
    }

    fn read(&mut self, reread: Reread) -> Vec<Change> {
        let mut changes = Vec::new();
        if reread.everything {
            // The path may stand for another directory by now.
            let _ = self.watcher.unwatch(&self.path);
            if let Err(error) = self.watch() {
                tracing::warn!(%error, "{} cannot be watched; what was read last keeps serving until it is back", self.path.display());
                return changes;
            }
            match read_all(&self.path, &mut self.manifests) {
                Ok(all) => changes = all,
                Err(error) => tracing::warn!(%error, "{} cannot be listed; what was read last keeps serving", self.path.display()),
            }
        } else {
            read_some(&self.path, reread.names, &mut self.manifests, &mut changes);
        }
        changes
    }
}

// === impl Reread ===

impl Reread {
    /// What an event asks for: mostly nothing, since a writer's every write is one.
    fn after(event: &notify::Result<Event>, directory: &Path) -> Self {
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

    fn add(&mut self, mut more: Self) {
        self.everything |= more.everything;
        self.names.append(&mut more.names);
    }

    /// A file that is being written is read when its writer closes it.
    fn add_event(&mut self, event: &Event, directory: &Path) {
        if event.need_rescan() {
            self.everything = true;
            return;
        }
        for path in &event.paths {
            let inside = path.parent() == Some(directory);
            let name = path.file_name().and_then(OsStr::to_str);
            match name {
                Some(name) if inside && is_manifest(name) && is_settled(event.kind, path) => {
                    self.names.insert(name.to_owned());
                }
                // A ConfigMap's volume turns the link `..data`; files are links through it.
                Some("..data") if inside && appears(event.kind) => self.everything = true,
                // The directory itself, as seen from the one it is in.
                _ if path == directory && (appears(event.kind) || disappears(event.kind)) => self.everything = true,
                _ => {}
            }
        }
    }
}

/// Whether the file is complete (or gone) after the event.
fn is_settled(kind: EventKind, path: &Path) -> bool {
    match kind {
        // Told after `From` and `To`. Read for them, the file may by now be in the middle of its next writing.
        EventKind::Modify(ModifyKind::Name(RenameMode::Both)) => false,
        EventKind::Access(AccessKind::Close(AccessMode::Write)) | EventKind::Modify(ModifyKind::Name(_)) | EventKind::Remove(_) => true,
        EventKind::Modify(ModifyKind::Metadata(_)) => true,
        // A created regular file is about to be written, unless it is a second link to a complete one.
        EventKind::Create(_) => fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_symlink() || links(&metadata) > 1),
        EventKind::Any | EventKind::Access(_) | EventKind::Modify(_) | EventKind::Other => false,
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

/// `*.yaml`, `*.yml`, `*.json` whose name does not begin with a dot.
fn is_manifest(name: &str) -> bool {
    !name.starts_with('.') && [".yaml", ".yml", ".json"].iter().any(|extension| name.ends_with(extension))
}

/// Reads every file of the directory; files that are no longer there are removed.
fn read_all(path: &Path, manifests: &mut Manifests) -> io::Result<Vec<Change>> {
    let mut names: BTreeSet<String> = manifests.names().map(ToString::to_string).collect();
    for entry in fs::read_dir(path)? {
        if let Ok(name) = entry?.file_name().into_string()
            && is_manifest(&name)
        {
            names.insert(name);
        }
    }
    let mut changes = Vec::new();
    read_some(path, names, manifests, &mut changes);
    Ok(changes)
}

/// Reads these files, and those that have to be read again because of them.
fn read_some(path: &Path, mut names: BTreeSet<String>, manifests: &mut Manifests, changes: &mut Vec<Change>) {
    while let Some(name) = names.pop_first() {
        let file = path.join(&name);
        let change = match fs::read(&file) {
            Ok(content) => manifests.update(&name, &content),
            Err(error) if error.kind() == io::ErrorKind::NotFound => manifests.remove(&name),
            Err(_) if file.is_dir() => manifests.remove(&name),
            Err(error) => {
                manifests.unreadable(&name, &error);
                FileChange::default()
            }
        };
        changes.extend(change.changes);
        names.extend(change.reread.iter().map(|name: &Arc<str>| name.to_string()));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// A directory that is removed with its content.
    struct Temporary(PathBuf);

    impl Temporary {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("clingfish-files-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        /// Writes beside and renames, as careful writers do.
        fn put(&self, name: &str, text: &str) {
            let beside = self.0.join(format!("{name}.new"));
            fs::write(&beside, text).unwrap();
            fs::rename(beside, self.0.join(name)).unwrap();
        }
    }

    impl Drop for Temporary {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn namespace(name: &str) -> String {
        format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}}}\n")
    }

    fn shown(changes: &[Change]) -> Vec<String> {
        let show = |change: &Change| match change {
            Change::Apply(object) => format!("+{}", object.object_ref().name),
            Change::Route(route) => format!("+{}", route.name()),
            Change::Delete(object) => format!("-{}", object.name),
            Change::Undecodable(error) => error.to_string(),
        };
        changes.iter().map(show).collect()
    }

    /// Collects changes until these have come, in this order.
    fn expect(updates: &mpsc::Receiver<Update>, expected: &[&str]) {
        let mut seen = Vec::new();
        while seen.len() < expected.len() {
            match updates.recv_timeout(Duration::from_secs(10)) {
                Ok(update) => seen.extend(shown(&update.changes)),
                Err(_) => break,
            }
        }
        assert_eq!(seen, expected);
    }

    fn follow(path: &Path) -> (Directory, mpsc::Receiver<Update>, Update) {
        let (sender, updates) = mpsc::channel();
        let (directory, first) = Directory::follow(path, move |update| drop(sender.send(update))).unwrap();
        (directory, updates, first)
    }

    #[test]
    fn only_manifests_are_read() {
        for (name, expected) in [
            ("a.yaml", true),
            ("a.yml", true),
            ("a.json", true),
            (".a.yaml", false),
            ("a.yaml.new", false),
            ("a.YAML", false),
            ("a", false),
        ] {
            assert_eq!(is_manifest(name), expected, "{name}");
        }
    }

    #[test]
    fn a_missing_directory_is_an_error_that_names_it() {
        let error = read_directory(Path::new("/nonexistent/x")).unwrap_err().to_string();
        assert!(error.starts_with("directory /nonexistent/x: "), "{error}");
    }

    #[test]
    fn renames_writes_links_and_removals_are_followed() {
        let temporary = Temporary::new("follow");
        temporary.put("a.yaml", &namespace("a"));
        fs::write(temporary.0.join(".hidden.yaml"), namespace("hidden")).unwrap();
        let (_directory, updates, first) = follow(&temporary.0);
        assert_eq!(shown(&first.changes), ["+a"]);
        temporary.put("b.yaml", &namespace("b"));
        expect(&updates, &["+b"]);
        fs::write(temporary.0.join("b.yaml"), namespace("b2")).unwrap();
        expect(&updates, &["+b2", "-b"]);
        fs::rename(temporary.0.join("b.yaml"), temporary.0.join("b.off")).unwrap();
        expect(&updates, &["-b2"]);
        #[cfg(unix)]
        std::os::unix::fs::symlink(temporary.0.join("b.off"), temporary.0.join("l.yaml")).unwrap();
        expect(&updates, &["+b2"]);
        fs::remove_file(temporary.0.join("a.yaml")).unwrap();
        expect(&updates, &["-a"]);
    }

    #[cfg(unix)]
    #[test]
    fn a_config_map_volume_turns_its_link() {
        use std::os::unix::fs::symlink;
        let temporary = Temporary::new("configmap");
        let version = |version: &str, name: &str| {
            fs::create_dir(temporary.0.join(version)).unwrap();
            fs::write(temporary.0.join(version).join("a.yaml"), namespace(name)).unwrap();
        };
        version("..1", "one");
        symlink("..1", temporary.0.join("..data")).unwrap();
        symlink("..data/a.yaml", temporary.0.join("a.yaml")).unwrap();
        let (_directory, updates, first) = follow(&temporary.0);
        assert_eq!(shown(&first.changes), ["+one"]);
        version("..2", "two");
        symlink("..2", temporary.0.join("..data_tmp")).unwrap();
        fs::rename(temporary.0.join("..data_tmp"), temporary.0.join("..data")).unwrap();
        expect(&updates, &["+two", "-one"]);
    }

    #[cfg(unix)]
    #[test]
    fn the_directory_itself_may_be_a_link_that_is_turned() {
        use std::os::unix::fs::symlink;
        let temporary = Temporary::new("turned");
        for name in ["one", "two"] {
            fs::create_dir(temporary.0.join(name)).unwrap();
            fs::write(temporary.0.join(name).join("a.yaml"), namespace(name)).unwrap();
        }
        symlink("one", temporary.0.join("current")).unwrap();
        let (_directory, updates, first) = follow(&temporary.0.join("current"));
        assert_eq!(shown(&first.changes), ["+one"]);
        symlink("two", temporary.0.join("next")).unwrap();
        fs::rename(temporary.0.join("next"), temporary.0.join("current")).unwrap();
        expect(&updates, &["+two", "-one"]);
        // And the new one is watched.
        fs::write(temporary.0.join("two/b.yaml"), namespace("b")).unwrap();
        expect(&updates, &["+b"]);
    }

    #[test]
    fn a_broken_file_is_a_notice_and_no_change() {
        let temporary = Temporary::new("broken");
        temporary.put("a.yaml", &namespace("a"));
        let (_directory, updates, _first) = follow(&temporary.0);
        temporary.put("a.yaml", "kind: [");
        let update = updates.recv_timeout(Duration::from_secs(10)).unwrap();
        assert!(update.changes.is_empty());
        assert!(update.notices[0].text.starts_with("a.yaml:1"), "{:?}", update.notices);
        temporary.put("a.yaml", &namespace("a"));
        let update = updates.recv_timeout(Duration::from_secs(10)).unwrap();
        assert!(update.changes.is_empty() && update.notices.is_empty(), "{update:?}");
    }
}
