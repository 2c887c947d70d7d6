//! HTTP/2 to hosts, on the `h2` crate: a connection has a task of its own that carries its frames, and each request on it runs inside the
//! request's own task (RFC 9113).

mod conduct;
mod connection;
mod error;
mod exchange;
mod head;
mod lease;
mod serve;
mod tunnel;
mod upload;
mod watched;

pub(in crate::proxy) use connection::{Connection, Failure};
pub(in crate::proxy) use error::StreamError;
pub(in crate::proxy) use exchange::{Answer, Exchange, ResponseBody, Switched};
pub(in crate::proxy) use head::RequestHead;
pub(in crate::proxy) use lease::Lease;
pub(in crate::proxy) use serve::serve;
pub(in crate::proxy) use tunnel::Tunnel;
