//! `clingfish demo --affinity` as a process: what is typed becomes of the pods, and what it does to sessions is told.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Command, Stdio},
};

#[test]
fn the_scene_is_played_by_lines_where_there_is_no_terminal() {
    let mut demo = Command::new(env!("CARGO_BIN_EXE_clingfish"));
    let mut demo = demo
        .args(["demo", "--affinity", "--port", "0", "--admin", "127.0.0.1:0", "--workers", "1"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut keys = demo.stdin.take().unwrap();
    keys.write_all(b"+\n-\nq\n").unwrap();
    let lines: Vec<_> = BufReader::new(demo.stdout.take().unwrap()).lines().map(Result::unwrap).collect();
    assert!(demo.wait().unwrap().success(), "{lines:#?}");
    for (begin, moves) in [("3 -> 4 pods, cart-5 came: ", true), ("4 -> 3 pods, cart-5 went: ", true)] {
        let line = lines.iter().find(|line| line.starts_with(begin)).unwrap_or_else(|| panic!("{begin}: {lines:#?}"));
        assert!(line.contains(", 0 of "), "no request failed: {line}");
        assert!(line.contains(" of 24 sessions moved") && (line.contains(": 0 of 24") != moves), "{line}");
    }
    let folder = lines.iter().find_map(|line| line.split_once("while it runs: ")).expect("the folder is told").1;
    assert!(!std::path::Path::new(folder).exists(), "{folder} is still there");
}
