//! One target a file: `run` takes bytes and panics where a rule does not hold.

pub mod calls;
pub mod client_hello;
pub mod cookie;
pub mod datagrams;
pub mod frames;
pub mod hello;
pub mod objects;
pub mod path;
pub mod proxy_header;
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
    ("calls", calls::run),
    ("client_hello", client_hello::run),
    ("cookie", cookie::run),
    ("datagrams", datagrams::run),
    ("frames", frames::run),
    ("hello", hello::run),
    ("objects", objects::run),
    ("path", path::run),
    ("proxy_header", proxy_header::run),
    ("regex", regex::run),
    ("request", request::run),
    ("tables", tables::run),
];
