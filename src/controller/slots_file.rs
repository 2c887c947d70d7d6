//! Maps of slots in the state directory: so sessions stay on their pods when a process that is its own leader starts again.

use std::{
    collections::BTreeMap,
    fs, io,
    io::{Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
    time::Duration,
};

use serde_json::Value;

use crate::api::{AffinitySlots, Document, Object, decode, object_name};
use crate::base::{Message, ObjectName};

/// Name of the file.
const FILE: &str = "slots.json";

/// Most bytes that are read: a hundred maps of the largest size.
const MAX_BYTES: u64 = 64 << 20;

/// Time until a write that failed is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// The maps that an earlier process kept, and the way to those that this one keeps.
#[derive(Debug)]
pub(super) struct SlotsFile {
    pub(super) kept: Vec<AffinitySlots>,
    sender: mpsc::Sender<AffinitySlots>,
}

// === impl SlotsFile ===

impl SlotsFile {
    /// Reads what was kept, and starts the thread that writes. A file that cannot be read is no error: sessions move once.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub(super) fn open(directory: &Path) -> io::Result<Self> {
        let path = directory.join(FILE);
        let kept = read(&path).unwrap_or_else(|problem| {
            tracing::error!("{}: {problem}; slots are dealt out anew", path.display());
            Vec::new()
        });
        let (sender, receiver) = mpsc::channel();
        let maps = kept.iter().map(|slots| (object_name(&slots.metadata), slots.clone())).collect();
        thread::Builder::new().name("slots".into()).spawn(move || follow(&path, maps, &receiver))?;
        Ok(Self { kept, sender })
    }

    /// Keeps a map.
    pub(super) fn keep(&self, slots: AffinitySlots) {
        let _ = self.sender.send(slots);
    }
}

/// Writes what is to be kept until nobody is left who keeps anything.
fn follow(path: &Path, mut maps: BTreeMap<ObjectName, AffinitySlots>, kept: &mpsc::Receiver<AffinitySlots>) {
    let mut failed = false;
    loop {
        let first = match failed {
            true => match kept.recv_timeout(RETRY) {
                Ok(slots) => Some(slots),
                Err(mpsc::RecvTimeoutError::Timeout) => None,
                Err(mpsc::RecvTimeoutError::Disconnected) => return,
            },
            false => match kept.recv() {
                Ok(slots) => Some(slots),
                Err(mpsc::RecvError) => return,
            },
        };
        maps.extend(first.into_iter().chain(kept.try_iter()).map(|slots| (object_name(&slots.metadata), slots)));
        let result = write(path, &maps);
        if let (Err(error), false) = (&result, failed) {
            tracing::warn!("{} cannot be written: {error}; it is tried again, and a restart would move sessions", path.display());
        }
        failed = result.is_err();
    }
}

fn read(path: &Path) -> Result<Vec<AffinitySlots>, Message> {
    // Before it is opened: a FIFO would make the process wait for somebody to write into it.
    let opened = fs::metadata(path).and_then(|metadata| {
        if metadata.is_file() { fs::File::open(path) } else { Err(io::Error::other("is no regular file; expected one, or nothing")) }
    });
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error.to_string().into()),
    };
    let mut text = String::new();
    file.take(MAX_BYTES).read_to_string(&mut text).map_err(|error| error.to_string())?;
    let documents: Vec<Value> = serde_json::from_str(&text).map_err(|error| format!("is not what was written: {error}"))?;
    Ok(documents.into_iter().filter_map(slots).collect())
}

/// What this version of Clingfish can read.
fn slots(document: Value) -> Option<AffinitySlots> {
    match decode(document) {
        Ok(Document::Object(object)) => match *object {
            Object::AffinitySlots(slots) => Some(slots),
            _ => None,
        },
        Ok(Document::List(_) | Document::Other(_)) | Err(_) => None,
    }
}

/// Writes beside and renames, so that there is always a whole file.
fn write(path: &Path, maps: &BTreeMap<ObjectName, AffinitySlots>) -> io::Result<()> {
    let documents: Vec<&AffinitySlots> = maps.values().collect();
    let text = serde_json::to_string(&documents)?;
    let beside: PathBuf = path.with_extension("json.new");
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(beside, path)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_kept_is_there_for_the_next_process() {
        let directory = std::env::temp_dir().join(format!("clingfish-slots-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let path = directory.join(FILE);
        assert_eq!(read(&path).unwrap(), []);
        let document = json!({"apiVersion": "clingfish.dev/v1alpha1", "kind": "AffinitySlots", "metadata": {"name": "service-a", "namespace": "n"},
            "spec": {"slots": [{"number": 3, "holder": {"pod": "a", "since": 5}}]}});
        let map = slots(document).unwrap();
        write(&path, &BTreeMap::from([(object_name(&map.metadata), map.clone())])).unwrap();
        assert_eq!(read(&path).unwrap(), [map]);
        fs::write(&path, "{").unwrap();
        assert!(read(&path).is_err());
        fs::remove_dir_all(&directory).unwrap();
    }
}
