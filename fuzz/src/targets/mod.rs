//! One target a file: `run` takes bytes and panics where a rule does not hold.

pub mod cookie;
pub mod frames;
pub mod hello;
pub mod objects;
pub mod path;
mod recorder;
pub mod regex;
pub mod request;
mod scene;
mod strict;
pub mod tables;

#[path = "../../../tests/dataplane/support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the data-plane tests use the rest")]
mod support;

/// A target's name and body.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const ALL: &[Target] = &[
    ("cookie", cookie::run),
    ("frames", frames::run),
    ("hello", hello::run),
    ("objects", objects::run),
    ("path", path::run),
    ("regex", regex::run),
    ("request", request::run),
    ("tables", tables::run),
];
