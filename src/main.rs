//! The `clingfish` command.

use std::process::ExitCode;

use clap::Parser as _;
use clingfish::{app, cli::Cli};

// What it is told (background thread, quick return of memory) is built in: see .cargo/config.toml.
#[cfg(not(target_env = "msvc"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    app::run(Cli::parse())
}
