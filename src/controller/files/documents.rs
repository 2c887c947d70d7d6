//! The documents of a directory, read once.

use std::{collections::BTreeSet, ffi::OsString, fs, path::Path};

use serde_json::Value;

use crate::base::text::word;
use crate::controller::manifests::{Notice, documents};

use super::{
    FilesError,
    content::{escaped, is_manifest},
    open::{ReadError, read_regular},
};

/// What the files of a directory hold, as it is written.
#[derive(Debug, Default)]
pub struct Documents {
    /// In order of the files' names, and as they stand in each.
    pub documents: Vec<Value>,
    /// What could not be read.
    pub notices: Vec<Notice>,
}

/// Reads the documents of a directory, by the rules for files of manifests: regular files and links to such, of a bounded size.
///
/// # Errors
/// It cannot be listed.
pub fn read_documents(path: &Path) -> Result<Documents, FilesError> {
    let listing = fs::read_dir(path).and_then(|listing| listing.map(|entry| Ok(entry?.file_name())).collect());
    let names: BTreeSet<OsString> = listing.map_err(|error| FilesError::Directory { path: path.to_owned(), error })?;
    let mut read = Documents::default();
    for name in names.into_iter().filter(|name| is_manifest(name)) {
        let Some(text) = name.to_str() else {
            let notice = format!("{}: the name is not UTF-8; expected one that is; nothing of the file is read", escaped(&name));
            read.notices.push(Notice::refused(notice));
            continue;
        };
        match read_regular(&path.join(&name)) {
            Ok(content) => read.documents.extend(documents(text, &content, &mut read.notices)),
            Err(ReadError::System(error)) => {
                read.notices.push(Notice::refused(format!("{}: cannot be read: {error}; nothing of the file is read", word(text))));
            }
            Err(error @ (ReadError::Gone | ReadError::NotRegular(_) | ReadError::TooLarge)) => {
                read.notices.push(Notice::refused(format!("{}: {error}; nothing of the file is read", word(text))));
            }
        }
    }
    Ok(read)
}
