//! How connections begin, before anything is decided on them: the header of a load balancer and a ClientHello. Pure: it is handed what came.
//!
//! Public, since `fuzz/` tries it with anything.

mod hello;
mod proxy_header;

pub use hello::{HelloProgress, HelloReader, MAX_HELLO};
pub use proxy_header::{Ends, HeaderProgress, MAX_HEADER, parse_header};
