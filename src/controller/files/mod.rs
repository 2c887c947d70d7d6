//! A directory of manifests: read once, or followed by inotify without polling. Additions and changes count at once. A deletion waits a
//! moment, since files are missing for an instant while they are replaced.

mod content;
mod documents;
mod open;
mod pending_deletions;
mod reread;
#[cfg(test)]
mod tests;

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::Duration,
};

use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::time::Instant;

use crate::base::Backoff;
use crate::telemetry::{DescriptorUse, Metrics};
use crate::translate::{Change, LastGood};

use super::manifests::NoticeBlocks;
use content::Content;
pub use documents::{Documents, read_documents};
use reread::Reread;

/// Waits between tries to read what could not be read.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_MOST: Duration = Duration::from_secs(5);

/// What changed in the directory.
#[derive(Debug, Default)]
pub struct Update {
    /// Changes of objects, in order.
    pub changes: Vec<Change>,
    /// All current notices about the files.
    pub notices: NoticeBlocks,
    /// Something could not be read, and is tried again: if it never was read, this is not all there is.
    pub unread: bool,
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

/// The state of the following thread.
struct Follower {
    path: PathBuf,
    content: Content,
    watcher: RecommendedWatcher,
    metrics: Arc<Metrics>,
    retry: Retry,
}

/// When what could not be read is read again.
struct Retry {
    /// The directory itself could not be watched or listed.
    everything: bool,
    due: Option<Instant>,
    backoff: Backoff,
}

/// Reads a directory once.
///
/// # Errors
/// It cannot be listed.
pub fn read_directory(path: &Path) -> Result<Update, FilesError> {
    let mut content = Content::new(path);
    let changes = content.read_all().map_err(|error| FilesError::Directory { path: path.to_owned(), error })?;
    Ok(Update { changes, notices: content.notices(), unread: !content.unread().is_empty() })
}

// === impl Directory ===

impl Directory {
    /// Reads the directory and hands every later change to `sink`, which is called on a thread of its own. What cannot be read at the moment
    /// is read again until it can be. `kept`: what an earlier process kept of it; `None` where nothing is kept.
    ///
    /// # Errors
    /// The directory cannot be listed or watched.
    pub fn follow(
        path: &Path,
        kept: Option<&LastGood>,
        metrics: &Arc<Metrics>,
        sink: impl FnMut(Update) + Send + 'static,
    ) -> Result<(Self, Update), FilesError> {
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
        let mut follower = Follower {
            path: path.to_owned(),
            content: Content::new(path).with_kept(kept),
            watcher: watcher.map_err(watch_error)?,
            metrics: Arc::clone(metrics),
            retry: Retry { everything: false, due: None, backoff: Backoff::new(RETRY_FIRST, RETRY_MOST) },
        };
        // Watched first, read second: nothing is missed in between.
        let listable = fs::read_dir(path).map(drop);
        listable.map_err(|error| FilesError::Directory { path: path.to_owned(), error })?;
        follower.watch().map_err(watch_error)?;
        let changes = follower.content.read_all().map_err(|error| FilesError::Directory { path: path.to_owned(), error })?;
        let first = Update { changes, notices: follower.content.notices(), unread: follower.is_incomplete() };
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
        let mut notices = self.content.notices();
        self.settle();
        while let Some(first) = self.next(events) {
            let mut reread = Reread::default();
            for message in first.into_iter().chain(events.try_iter()) {
                match message {
                    Message::Stop => return,
                    Message::Reread(more) => reread.add(more),
                }
            }
            if self.retry.is_due() {
                let (names, everything) = (self.content.unread().clone(), self.retry.everything);
                reread.add(Reread { names, everything, ..Reread::default() });
            }
            let mut changes = self.read(reread);
            changes.extend(self.content.due_deletions());
            self.settle();
            let new_notices = self.content.notices();
            if !changes.is_empty() || new_notices != notices {
                notices.clone_from(&new_notices);
                sink(Update { changes, notices: new_notices, unread: self.is_incomplete() });
            }
        }
    }

    /// Waits for an event, or until something is to be read again or deleted (`Some(None)`); `None` where nobody is left to tell.
    fn next(&self, events: &mpsc::Receiver<Message>) -> Option<Option<Message>> {
        let due = self.retry.due.into_iter().chain(self.content.next_deletion()).min();
        let Some(due) = due else { return events.recv().ok().map(Some) };
        match events.recv_timeout(due.saturating_duration_since(Instant::now())) {
            Ok(message) => Some(Some(message)),
            Err(RecvTimeoutError::Timeout) => Some(None),
            Err(RecvTimeoutError::Disconnected) => None,
        }
    }

    fn read(&mut self, reread: Reread) -> Vec<Change> {
        if !reread.everything {
            let gone = reread.gone.into_iter().filter(|name| self.content.is_missing(name));
            return self.content.read_some(reread.names.into_iter().chain(gone).collect());
        }
        let told = self.retry.everything;
        // The path may stand for another directory by now.
        let _ = self.watcher.unwatch(&self.path);
        let read = match self.watch() {
            Ok(()) => self.content.read_all().map_err(|error| format!("cannot be listed: {error}")),
            Err(error) => Err(format!("cannot be watched: {error}")),
        };
        self.retry.everything = read.is_err();
        read.unwrap_or_else(|error| {
            if !told {
                tracing::warn!("{} {error}; what was read last keeps serving, and it is tried again", self.path.display());
            }
            Vec::new()
        })
    }

    /// Plans the next try for what could not be read, and counts why.
    fn settle(&mut self) {
        for _ in 0..self.content.take_out_of_descriptors() {
            self.metrics.process().out_of_descriptors(DescriptorUse::File);
        }
        self.retry.plan(self.is_incomplete());
    }

    /// Whether something is to be read again.
    fn is_incomplete(&self) -> bool {
        self.retry.everything || !self.content.unread().is_empty()
    }
}

// === impl Retry ===

impl Retry {
    fn is_due(&self) -> bool {
        self.due.is_some_and(|due| due <= Instant::now())
    }

    /// The next try: of what is still missing after a try, later than the one before.
    fn plan(&mut self, incomplete: bool) {
        if !incomplete {
            self.due = None;
            self.backoff.reset();
        } else if self.due.is_none_or(|due| due <= Instant::now()) {
            self.due = Some(Instant::now() + self.backoff.next_wait(fastrand::f64()));
        }
    }
}
