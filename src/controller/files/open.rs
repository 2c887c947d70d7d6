//! Reading one file, whatever stands under its name.

use std::{
    fs::{self, File, FileType, Metadata, OpenOptions},
    io::{self, Read as _},
    path::Path,
};

/// Most bytes of a file of manifests.
pub(super) const MOST_BYTES: u64 = 16 << 20;

/// A file was not read.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    /// Nothing has the name, or it is a link to nothing.
    #[error("there is no such file")]
    Gone,
    /// It is something else than a regular file.
    #[error("is {0}; expected a regular file, or a link to one")]
    NotRegular(&'static str),
    /// It is larger than any manifest.
    #[error("is larger than {} MiB, which is the most for a file of manifests; split it", MOST_BYTES >> 20)]
    TooLarge,
    /// The system refuses at the moment.
    #[error("cannot be read: {0}; it is tried again")]
    System(#[from] io::Error),
}

/// The content of a regular file. Links are followed: the files of a ConfigMap are links.
///
/// # Errors
/// See `ReadError`; no error takes time or memory.
pub(super) fn read_regular(path: &Path) -> Result<Vec<u8>, ReadError> {
    // Checked before it is opened: opening a FIFO or a device has an effect on its other end. The check needs no descriptor.
    match fs::metadata(path) {
        Ok(metadata) => check(&metadata)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(ReadError::Gone),
        Err(error) => return Err(error.into()),
    }
    let file = match open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(ReadError::Gone),
        Err(error) => return Err(error.into()),
    };
    let metadata = file.metadata()?;
    // And again: it may have been replaced in between.
    check(&metadata)?;
    // It may grow while it is read, and files of /proc have no size.
    let mut content = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0));
    file.take(MOST_BYTES + 1).read_to_end(&mut content)?;
    if content.len() as u64 > MOST_BYTES { Err(ReadError::TooLarge) } else { Ok(content) }
}

fn check(metadata: &Metadata) -> Result<(), ReadError> {
    if !metadata.is_file() {
        return Err(ReadError::NotRegular(describe(metadata.file_type())));
    }
    if metadata.len() > MOST_BYTES { Err(ReadError::TooLarge) } else { Ok(()) }
}

/// Opens without waiting: a FIFO that has just taken the file's place has nobody at its other end.
fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    {
        use rustix::fs::OFlags;
        use std::os::unix::fs::OpenOptionsExt as _;
        let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
        options.custom_flags(i32::try_from(flags.bits()).unwrap_or(0));
    }
    options.open(path)
}

#[cfg(unix)]
fn describe(kind: FileType) -> &'static str {
    use std::os::unix::fs::FileTypeExt as _;
    match kind {
        kind if kind.is_dir() => "a directory",
        kind if kind.is_fifo() => "a FIFO",
        kind if kind.is_socket() => "a socket",
        kind if kind.is_char_device() || kind.is_block_device() => "a device",
        _ => "no file",
    }
}

#[cfg(not(unix))]
fn describe(kind: FileType) -> &'static str {
    if kind.is_dir() { "a directory" } else { "no file" }
}
