//! What a worker knows and counts of what is under way: connections, requests, flows, and how much of everything there may be.

pub(super) mod access;
pub(super) mod activity;
pub(super) mod admission;
pub(super) mod breaker;
pub(super) mod budget;
pub(super) mod config;
pub(super) mod conn;
pub(super) mod descriptors;
pub(super) mod detour;
pub(super) mod error;
pub(super) mod flight;
pub(super) mod flows;
pub(super) mod handshakes;
pub(super) mod peer;
pub(super) mod recency;
pub(super) mod slots;
pub(super) mod tasks;
pub(super) mod timing;
pub(super) mod tls_fault;
