//! The client's leg: reads requests from a connection and writes their answers, with one folder for each protocol. Requests leave it as
//! `http::request::Parts` with a `ClientBody`, and answers come back as a head and a `ResponseBody`. Types of a protocol do not pass this
//! boundary.

mod body;
pub(super) mod connection;
pub(super) mod datagram;
pub(super) mod datagram_socket;
mod error;
mod http1;
mod http2;
mod io;
mod linger;
mod stream;
mod tls;
mod tls_records;

pub(super) use body::ClientBody;
pub(super) use error::ClientBodyError;
