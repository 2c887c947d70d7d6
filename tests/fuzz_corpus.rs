//! What fuzzing has found worth keeping, through the very targets of `fuzz/`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "a test may fail by panicking")]

#[path = "../fuzz/src/targets/mod.rs"]
#[allow(unreachable_pub, reason = "the fuzz crate needs them public")]
mod targets;

use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicBool, Ordering::SeqCst},
};

/// A target that has no corpus tests nothing.
const LEAST_INPUTS: usize = 3;

static PANICKED: AtomicBool = AtomicBool::new(false);

/// A panic of the proxy's own threads ends no test by itself.
fn watch_all_threads() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        PANICKED.store(true, SeqCst);
        usual(info);
    }));
}

#[test]
fn the_rules_hold_for_the_whole_corpus() {
    watch_all_threads();
    for (name, run) in targets::ALL {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
        let mut inputs: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        inputs.sort();
        assert!(inputs.len() >= LEAST_INPUTS, "{}", folder.display());
        for input in inputs {
            println!("{}", input.display());
            run(&fs::read(&input).unwrap());
            assert!(!PANICKED.load(SeqCst), "a thread of the proxy panicked");
        }
    }
}
