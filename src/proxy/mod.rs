//! The data plane: threads that accept, plan, forward and answer, each on its own.
//!
//! A worker's life (`life`, `listeners`) takes connections in. `down` speaks with clients, and hands requests and streams to `flow`, which
//! decides and makes attempts; `up` speaks with hosts. Below them are `worker`, what a thread's tasks share, `state`, the parts of that, and `wire`,
//! what both legs read and write.
//!
//! A request passes one file after the other: `listeners` -> `down/connection` -> `flow/request` (plan) -> `flow/forward` (attempts) ->
//! `up/exchange` (`up/pool`) -> `flow/response_body` -> `flow/guard`, which counts and logs it when it ends. No step takes a lock or arms a
//! timer: the tick of `life` looks at deadlines.

mod bound;
mod down;
mod flow;
mod life;
mod listeners;
mod running;
mod sockets;
mod state;
mod up;
mod wire;
mod worker;

pub use bound::Bound;
pub use running::{Running, StartError, start};
pub use state::{
    config::{BackendLimits, Ceilings, Http2Ping, Limits, ProxyConfig},
    error::{ProxyError, Retry, Verdict},
    tls_fault::TlsFault,
};
pub use wire::opening;
