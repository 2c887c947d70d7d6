//! The real proxy on port 0 between raw clients and scripted upstreams: what goes over the wire, byte by byte.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "a test may fail by panicking")]

mod access_log;
mod bodies;
mod breakers;
mod ceilings;
mod connections;
mod datagrams;
mod early_answers;
mod filters;
mod framing;
mod grpc;
mod hold;
mod host_tls;
mod http2;
mod http2_abuse;
mod http2_frames;
mod http2_hosts;
mod http2_hosts_abuse;
mod http2_limits;
mod interim;
mod limits;
mod listeners;
mod mirrors;
mod moved_streams;
mod paths;
mod proxy_protocol;
mod resting;
mod retries;
mod streams;
mod support;
mod tls;
mod tls_clients;
mod tls_pressure;
mod traces;
mod trailers;
mod upgrades;
