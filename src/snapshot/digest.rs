//! A number that two snapshots share if they serve the same.

use std::io::{self, Write};

use xxhash_rust::xxh64::Xxh64;

use super::{dump::Dump, root::Snapshot};

/// So many bits of the hash are kept: a metric's value is a float, which holds whole numbers up to 2^53.
const BITS: u32 = 48;

/// Hash of everything that the dump shows, whatever the way to it: replicas with the same objects have the same digest. It takes as long as
/// writing the dump, and no memory for it.
pub fn digest(snapshot: &Snapshot) -> u64 {
    let mut hash = Hashed(Xxh64::new(0));
    // It holds nothing that JSON cannot hold, and a hash takes everything.
    let _ = serde_json::to_writer(&mut hash, &Dump::of(snapshot));
    hash.0.digest() & ((1 << BITS) - 1)
}

struct Hashed(Xxh64);

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
