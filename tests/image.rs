//! The container image: it is built from all that cargo reads here.
#![allow(clippy::panic, reason = "tests")]

use std::{fs, path::Path};

/// What shapes the binary. `.cargo` too: jemalloc is configured there.
const READ_BY_CARGO: [&str; 5] = [".cargo", "Cargo.lock", "Cargo.toml", "benches", "src"];

#[test]
fn the_build_context_has_all_that_shapes_the_binary() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let ignored = fs::read_to_string(root.join(".dockerignore")).unwrap_or_else(|error| panic!(".dockerignore: {error}"));
    for name in READ_BY_CARGO {
        assert!(root.join(name).exists(), "{name} is gone: take it out of this list and of .dockerignore");
        assert!(ignored.lines().any(|line| line.strip_prefix('!') == Some(name)), "the image would be built without {name}");
    }
    for name in ["build.rs", "rust-toolchain.toml"] {
        assert!(!root.join(name).exists(), "{name} shapes the binary: add it to this list");
    }
}
