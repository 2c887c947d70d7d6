//! The state directory of `standalone`: the last good versions of objects whose newest one cannot be read, and the maps of slots,
//! a file each.

use std::{
    fs, io,
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::Duration,
};

use serde_json::{Value, json};

use crate::api::AffinitySlots;
use crate::base::Message;
use crate::translate::{LastGood, LastGoodVersion, SlotWrite, Translation};

use super::slots_file::SlotsFile;

/// Name of the file.
const FILE: &str = "last-good.json";

/// Name of the file by which a process has the directory for itself.
const LOCK: &str = "lock";

/// Most bytes that are read: what is kept is far less.
const MAX_BYTES: u64 = 4 << 20;

/// Time until a write that failed is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// A directory that outlives the process. Dropping it ends the thread that writes.
#[derive(Debug)]
pub struct StateDirectory {
    /// What an earlier process kept.
    kept: LastGood,
    slots: SlotsFile,
    /// To the thread that writes.
    sender: mpsc::Sender<Arc<LastGood>>,
    state: Mutex<State>,
    /// Held as long as the process lives: two that write one file would lose each other's versions.
    _lock: fs::File,
}

/// What is written, and what ought to be.
#[derive(Debug, Default)]
struct State {
    /// Every file was read once: before, what is not wanted may only not be known yet.
    armed: bool,
    desired: Arc<LastGood>,
}

/// The state directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("--state-directory {}: {error}", path.display())]
pub struct StateError {
    path: PathBuf,
    error: io::Error,
}

// === impl StateDirectory ===

impl StateDirectory {
    /// Opens a directory, which is made where it does not exist, and reads what an earlier process kept.
    ///
    /// # Errors
    /// It cannot be made, nothing can be written there, another process uses it, or it is the directory of the manifests.
    pub fn open(path: &Path, manifests: &Path) -> Result<Self, StateError> {
        let failed = |error| StateError { path: path.to_owned(), error };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
        if fs::canonicalize(path).map_err(failed)? == fs::canonicalize(manifests).unwrap_or_default() {
            return Err(failed(io::Error::other("it is the directory of the manifests; expected one of its own")));
        }
        let lock = lock(path).map_err(failed)?;
        let (kept, problem) = match read(&path.join(FILE)) {
            Ok(kept) => (kept, None),
            Err(problem) => (Vec::new(), Some(problem)),
        };
        if let Some(problem) = problem {
            tracing::error!(
                "{}: {problem}; objects whose newest version cannot be read have no last good version",
                path.join(FILE).display()
            );
        } else {
            // Whether it can be written turns out now and not when it matters.
            write(path, &kept).map_err(failed)?;
        }
        let (sender, receiver) = mpsc::channel();
        let directory = path.to_owned();
        let written = kept.clone();
        thread::Builder::new().name("state".into()).spawn(move || follow(&directory, written, &receiver)).map_err(failed)?;
        let slots = SlotsFile::open(path).map_err(failed)?;
        Ok(Self { kept, slots, sender, state: Mutex::default(), _lock: lock })
    }

    /// What an earlier process kept.
    pub fn kept(&self) -> &LastGood {
        &self.kept
    }

    /// Maps of slots that an earlier process kept.
    pub fn slots(&self) -> Vec<AffinitySlots> {
        self.slots.kept.clone()
    }

    /// Keeps a map of slots.
    pub fn keep_slots(&self, write: &SlotWrite) {
        self.slots.keep(write.object());
    }

    /// Takes what a translation wants kept.
    pub fn desire(&self, translation: &Translation) {
        let mut state = self.lock();
        if Arc::ptr_eq(&state.desired, &translation.last_good) {
            return;
        }
        state.desired = Arc::clone(&translation.last_good);
        if state.armed {
            let _ = self.sender.send(Arc::clone(&state.desired));
        }
    }

    /// Every file was read once and translated: from now on what is not wanted is not kept.
    pub fn arm(&self) {
        let mut state = self.lock();
        state.armed = true;
        let _ = self.sender.send(Arc::clone(&state.desired));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes the directory for this process. The system gives it back when the process ends, however it ends.
fn lock(directory: &Path) -> io::Result<fs::File> {
    let mut options = fs::OpenOptions::new();
    // Read and written, a pipe that stands there is opened without waiting for its other end.
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let file = options.open(directory.join(LOCK))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(io::Error::other("another process uses it; give each process a directory of its own")),
        Err(fs::TryLockError::Error(error)) => Err(error),
    }
}

/// Writes what is wanted until nobody is left to want anything.
fn follow(directory: &Path, mut written: LastGood, wanted: &mpsc::Receiver<Arc<LastGood>>) {
    let mut next: Option<Arc<LastGood>> = None;
    let mut told = false;
    loop {
        let received = if next.is_some() { wanted.recv_timeout(RETRY) } else { wanted.recv().map_err(|_| RecvTimeoutError::Disconnected) };
        match received {
            Ok(newer) => next = Some(wanted.try_iter().last().unwrap_or(newer)),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        let Some(versions) = next.take().filter(|versions| **versions != written) else { continue };
        match write(directory, &versions) {
            Ok(()) => {
                written.clone_from(&versions);
                told = false;
            }
            Err(error) => {
                next = Some(versions);
                if !std::mem::replace(&mut told, true) {
                    let file = directory.join(FILE);
                    tracing::warn!(
                        "{} cannot be written: {error}; it is tried again, and a restart would lose what it ought to hold",
                        file.display()
                    );
                }
            }
        }
    }
}

/// Reads what was kept; nothing where there is no file.
fn read(path: &Path) -> Result<LastGood, Message> {
    // Before it is opened: a FIFO would make the process wait for somebody to write into it.
    let opened = fs::metadata(path).and_then(|metadata| if metadata.is_file() { fs::File::open(path) } else { Err(no_file()) });
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error.to_string().into()),
    };
    let mut text = String::new();
    io::Read::read_to_string(&mut io::Read::take(file, MAX_BYTES), &mut text).map_err(|error| error.to_string())?;
    parse(&text)
}

fn no_file() -> io::Error {
    io::Error::other("is no regular file; expected one, or nothing")
}

/// What a file holds; entries that this version of Clingfish cannot read are left out, with a word.
fn parse(text: &str) -> Result<LastGood, Message> {
    let entries: Vec<Value> = serde_json::from_str(text).map_err(|error| format!("is not what was written: {error}"))?;
    let mut kept = Vec::new();
    for entry in &entries {
        let file = entry.get("file").and_then(Value::as_str).map(Into::into);
        match entry.get("object").and_then(|object| LastGoodVersion::parse(&object.to_string(), file)) {
            Some(version) => kept.push(version),
            None => tracing::warn!("{FILE}: an entry is left out: it is no object that this version reads"),
        }
    }
    Ok(kept)
}

fn text(versions: &LastGood) -> String {
    let entry = |version: &LastGoodVersion| {
        let object: Value = serde_json::from_str(&version.document).unwrap_or_default();
        json!({"file": version.file, "object": object})
    };
    Value::Array(versions.iter().map(entry).collect()).to_string()
}

/// Writes beside and renames, so that there is always a whole file.
fn write(directory: &Path, versions: &LastGood) -> io::Result<()> {
    let beside = directory.join(format!("{FILE}.new"));
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(text(versions).as_bytes())?;
    file.sync_all()?;
    fs::rename(beside, directory.join(FILE))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(name: &str, file: Option<&str>) -> LastGoodVersion {
        let document = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "uid": "u"}}).to_string();
        LastGoodVersion::parse(&document, file.map(Into::into)).unwrap()
    }

    #[test]
    fn what_is_no_file_is_not_waited_for() {
        let directory = std::env::temp_dir().join(format!("clingfish-state-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let path = directory.join(FILE);
        assert_eq!(read(&path).unwrap(), []);
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0).unwrap();
        assert!(read(&path).unwrap_err().contains("regular file"));
        fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn a_directory_is_for_one_process_until_that_ends() {
        let directory = std::env::temp_dir().join(format!("clingfish-state-lock-{}", std::process::id()));
        let open = || StateDirectory::open(&directory, Path::new("elsewhere"));
        let first = open().unwrap();
        assert!(open().unwrap_err().to_string().contains("another process uses it"));
        drop(first);
        open().unwrap();
        fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn what_is_written_is_read_again() {
        let versions = vec![version("a", None), version("b", Some("x.yaml"))];
        assert_eq!(parse(&text(&versions)).unwrap(), versions);
        assert!(parse("{").is_err() && parse("5").is_err());
        let odd = r#"[5, {"object": {"kind": "Secret", "apiVersion": "v1", "metadata": {"name": "s"}}}, {"object": "x"}]"#;
        assert_eq!(parse(odd).unwrap(), []);
    }
}
