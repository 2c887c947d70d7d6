//! Sends the same requests through two running proxies and compares which backend answered.
//!
//! `envoy-driver backends N` serves N ports on every loopback address and prints them;
//! `envoy-driver compare PLAN` replays a plan and prints the differences.

mod answer;
mod backends;
mod compare;
mod connection;
mod http1;
mod http2;
mod plan;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("cannot start: {error}")),
    };
    let local = tokio::task::LocalSet::new();
    match words.as_slice() {
        ["backends", count] => match count.parse() {
            Ok(count) => match local.block_on(&runtime, backends::serve(count)) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => fail(&format!("backends: {error}")),
            },
            Err(_) => fail(&format!("`{count}` is not a number of ports")),
        },
        ["compare", file] => match plan::read(file) {
            Ok(plan) => match local.block_on(&runtime, compare::run(plan)) {
                0 => ExitCode::SUCCESS,
                _ => ExitCode::FAILURE,
            },
            Err(error) => fail(&format!("{file}: {error}")),
        },
        _ => fail("usage: envoy-driver backends N | envoy-driver compare PLAN"),
    }
}

fn fail(message: &str) -> ExitCode {
    eprintln!("envoy-driver: {message}");
    ExitCode::from(2)
}
