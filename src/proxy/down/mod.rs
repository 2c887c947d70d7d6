//! The client's leg: takes connections, reads requests from them and writes their answers, with one folder for each protocol. It calls `flow`:
//! requests go there as `base::head::request::Parts` with a `ClientBody`, and answers come back as a head and a `ResponseBody`. Types of a protocol do
//! not pass this boundary.

mod body;
pub(super) mod connection;
pub(super) mod datagram;
pub(super) mod datagram_socket;
mod greeting;
mod http1;
mod http2;
mod io;
mod linger;
mod tls;
mod tls_records;
