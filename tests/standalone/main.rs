//! A gateway as `clingfish standalone` runs it, in this process: from YAML in a directory to answers of real HTTP servers.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test may fail by panicking and says its seed and figures"
)]
#![expect(unreachable_pub, reason = "the modules of a test binary export to each other only")]

mod absent;
mod admin;
mod broken;
mod canary;
mod certificates;
mod demo;
mod descriptors;
mod drain;
mod explain;
mod gloo;
mod guide;
mod messages;
mod migrate;
mod profiles;
mod reload;
mod series;
mod state;
mod support;
mod validate;
