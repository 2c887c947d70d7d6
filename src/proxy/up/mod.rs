//! The hosts' leg: gets connections to hosts, writes requests and reads answers, with one folder for each protocol.

pub(super) mod h1;
pub(super) mod host_stream;
pub(super) mod http2;
pub(super) mod pool;
pub(super) mod upstream;
