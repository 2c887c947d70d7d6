//! The container image: it is built from all that cargo reads here.
#![allow(clippy::panic, reason = "tests")]

use std::{collections::BTreeSet, fs, path::Path};

/// What shapes the binary. cargo's configuration too: jemalloc's is there.
const READ_BY_CARGO: [&str; 5] = [".cargo/config.toml", "Cargo.lock", "Cargo.toml", "benches", "src"];

#[test]
fn the_build_context_is_what_shapes_the_binary_and_no_more() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join(".dockerignore")).unwrap_or_else(|error| panic!(".dockerignore: {error}"));
    let mut lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    assert_eq!(lines.next(), Some("*"), "everything is left out first: the last line that matches wins");
    let let_in: BTreeSet<_> = lines.map(|line| line.strip_prefix('!').unwrap_or_else(|| panic!("{line}: expected !NAME"))).collect();
    assert_eq!(let_in, BTreeSet::from(READ_BY_CARGO));
    for name in READ_BY_CARGO {
        assert!(root.join(name).exists(), "{name} is gone: take it out of this list and of .dockerignore");
    }
    for name in ["build.rs", "rust-toolchain.toml"] {
        assert!(!root.join(name).exists(), "{name} shapes the binary: add it to this list");
    }
}
