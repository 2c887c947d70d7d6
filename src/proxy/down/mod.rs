//! The client's leg: reads requests from a connection and writes their answers, with one folder for each protocol. Requests leave it as
//! `http::request::Parts` with a `ClientBody`, and answers come back as a head and a `ResponseBody`. Types of a protocol do not pass this
//! boundary.

mod body;
mod error;
pub(super) mod http1;
pub(super) mod http2;
mod linger;

pub(super) use body::ClientBody;
pub(super) use error::ClientBodyError;
