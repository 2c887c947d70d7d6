//! Clingfish: a Kubernetes Gateway API implementation in one process that keeps every session on its pod.
//!
//! ARCHITECTURE.md has the layers, and the way of a request and of a change through them.
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "a test may fail by panicking")
)]

pub mod admin;
pub mod api;
pub mod app;
pub mod base;
pub mod cli;
pub mod controller;
pub mod doctor;
pub mod lb;
pub mod migrate;
pub mod plan;
pub mod proxy;
pub mod settings;
pub mod snapshot;
pub mod telemetry;
pub mod translate;
