//! The client's leg: what reads requests off a connection and writes their answers, one file or folder a protocol. Requests go up as
//! `http::request::Parts` with a `ClientBody`, and answers come back as a head and a `ResponseBody`: no name of a protocol's own passes this boundary.

mod body;
pub(super) mod http1;
pub(super) mod http2;
mod linger;

pub(super) use body::{ClientBody, ClientBodyError};
