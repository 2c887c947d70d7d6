//! The bodies of the fuzz targets; `tests/fuzz_corpus.rs` runs the same on the corpus.

pub mod targets;

#[path = "../../tests/translate_incremental.rs"]
#[allow(dead_code, unused_imports, reason = "its tests are of no use here")]
mod incremental;

/// A random history of objects: folding its changes gives what translating from scratch gives.
pub fn history(data: &[u8]) {
    incremental::run(data);
}
