//! The data plane: threads that accept, plan, forward and answer, each on its own.
//!
//! A request passes one file after the other: `listeners` -> `connection` -> `request` (plan) -> `forward` (attempts) -> `upstream`
//! (`pool`) -> `response_body` -> `guard`, which counts and logs it when it ends. No step takes a lock or arms a timer: the tick of `life` looks
//! at deadlines.

mod access;
mod activity;
mod admission;
mod body_copy;
mod bound;
mod breaker;
mod budget;
mod config;
mod conn;
mod connection;
mod context;
mod datagram;
mod datagram_socket;
mod date;
mod descriptors;
mod detour;
mod down;
mod error;
mod flight;
mod flows;
mod forward;
mod frame_allowance;
mod frames;
mod guard;
mod h1;
mod handshakes;
mod headers;
mod host_stream;
mod http2;
mod io;
mod life;
mod listeners;
mod mirror;
pub mod opening;
mod peer;
mod pool;
mod proxy_protocol;
mod recency;
mod replay;
mod reply;
mod request;
mod request_body;
mod response_body;
mod retry;
mod running;
mod slots;
mod sockets;
mod spare;
mod stream;
mod timing;
mod tls;
mod tls_fault;
mod tls_records;
mod trailers;
mod upgrade;
mod upstream;
mod worker;

pub use bound::Bound;
pub use config::{BackendLimits, Ceilings, Http2Ping, Limits, ProxyConfig};
pub use error::{ProxyError, Retry, Verdict};
pub use running::{Running, StartError, start};
pub use tls_fault::TlsFault;
