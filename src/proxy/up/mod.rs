//! The hosts' leg: gets connections to hosts, writes requests and reads answers, with one folder for each protocol. A request comes as a head that
//! is encoded once and a body of any type, and goes as a head and an `UpstreamBody`; a connection is an `ActiveConnection` or a `HostStream`. Types
//! of a protocol do not pass this boundary: what is used above stands here, and the rest is private.

mod answer;
mod body;
mod dial;
mod encoded;
mod exchange;
mod h1;
mod host_pool;
mod host_stream;
mod hosts;
mod http2;
mod outbound;
mod pool;

pub(super) use answer::{Answer, HostSide, Switched};
pub(super) use body::{UpstreamBody, UpstreamError};
pub(super) use dial::{Secure, connect, connect_http2, dial};
pub(super) use encoded::Encoded;
pub(super) use exchange::exchange;
pub(super) use host_stream::HostStream;
pub(super) use hosts::Hosts;
pub(super) use outbound::{BodyLength, Outbound};
pub(super) use pool::{ActiveConnection, Awaited};
