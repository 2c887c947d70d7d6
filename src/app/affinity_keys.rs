//! The keys of affinity tags of a gateway that no cluster feeds: of a file, of the state directory, or of this process alone.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::base::AffinityKeys;
use crate::settings::Settings;

/// Name of the file in the state directory.
const FILE: &str = "affinity-keys";

/// The keys cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("affinity keys, {}: {why}", path.display())]
pub struct KeysError {
    path: PathBuf,
    why: Box<str>,
}

/// The keys. The state directory, which is made for this process alone, gets a file of them if it has none.
///
/// # Errors
/// A file cannot be read or made, or holds no keys; what it holds is not quoted.
pub(super) fn keys(settings: &Settings) -> Result<Option<Arc<AffinityKeys>>, KeysError> {
    let text = match (&settings.affinity_keys, &settings.state_directory) {
        (Some(path), _) => return read(path).map(Some),
        (None, Some(directory)) => return kept(&directory.join(FILE)).map(Some),
        (None, None) => AffinityKeys::generate(),
    };
    tracing::info!("sessions of policies with hold: WhileAlive lose their pods at the end of this process; see --affinity-keys");
    Ok(text.and_then(|text| AffinityKeys::parse(&text).ok()).map(Arc::new))
}

fn read(path: &Path) -> Result<Arc<AffinityKeys>, KeysError> {
    let text = fs::read_to_string(path).map_err(|error| failed(path, &error))?;
    AffinityKeys::parse(&text).map(Arc::new).map_err(|expected| KeysError { path: path.to_owned(), why: expected.into() })
}

fn kept(path: &Path) -> Result<Arc<AffinityKeys>, KeysError> {
    if path.exists() {
        return read(path);
    }
    let text = AffinityKeys::generate().ok_or_else(|| failed(path, &io::Error::other("the system has no random numbers")))?;
    let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut file| writeln!(file, "{text}")).map_err(|error| failed(path, &error))?;
    read(path)
}

fn failed(path: &Path, error: &io::Error) -> KeysError {
    KeysError { path: path.to_owned(), why: error.to_string().into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("clingfish-keys-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        path
    }

    #[test]
    fn a_state_directory_keeps_the_keys_that_were_made() {
        let directory = directory("kept");
        let file = directory.join(FILE);
        let first = kept(&file).unwrap();
        assert_eq!(kept(&file).unwrap(), first);
        fs::write(&file, "hush").unwrap();
        let error = kept(&file).unwrap_err().to_string();
        assert!(error.contains("64 hexadecimal") && !error.contains("hush"), "{error}");
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn a_file_that_was_asked_for_has_to_be_there() {
        let directory = directory("asked");
        let error = read(&directory.join("none")).unwrap_err().to_string();
        assert!(error.contains("none"), "{error}");
        fs::remove_dir_all(directory).unwrap();
    }
}
