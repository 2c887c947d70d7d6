//! The data plane: threads that accept, plan, forward and answer, each on its own.
//!
//! A request walks down one file a step: `listeners` -> `connection` -> `request` (plan) -> `forward` (attempts) -> `upstream` (`pool`)
//! -> `body` -> what is counted and logged when `flight` ends. Nothing on this way takes a lock or arms a timer: deadlines are looked at
//! by the tick of `worker`.

mod access;
mod admission;
mod body;
mod bound;
mod breaker;
mod budget;
mod config;
mod connection;
mod date;
mod descriptors;
mod detour;
mod down;
mod error;
mod flight;
mod forward;
mod h1;
mod handshakes;
mod headers;
mod io;
mod listeners;
mod pool;
mod replay;
mod reply;
mod request;
mod retry;
mod running;
mod slots;
mod spare;
mod timing;
mod tls;
mod trailers;
mod upgrade;
mod upstream;
mod worker;

pub use bound::Bound;
pub use config::{BackendLimits, Ceilings, Limits, ProxyConfig};
pub use error::{ProxyError, Retry, Verdict};
pub use running::{Running, StartError, start};
