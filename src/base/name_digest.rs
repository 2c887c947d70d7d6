//! Names as numbers, where a name itself must not be told.

use xxhash_rust::xxh64::xxh64;

/// A number that stands for a name. It says nothing of the name to those who do not know it.
pub fn name_digest(name: &str) -> u64 {
    xxh64(name.as_bytes(), 0)
}
