//! What a proxy answered.

use std::net::SocketAddr;

/// What a proxy answered.
pub struct Answer {
    pub status: u16,
    /// `ip:port` of the backend; empty for the proxy's own answers.
    pub backend: String,
    pub set_cookies: Vec<String>,
    /// The client's end of the connection, which a generated cookie depends on.
    pub client: SocketAddr,
}
